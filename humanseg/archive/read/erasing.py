"""Erases records: from segments, all object versions, corrected masks and spool copies.

A segment is rewritten without the erased records (rewriting.py). Several ids of one segment cost one rewrite.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from humanseg.archive.capture.correction import decode
from humanseg.archive.capture.names import parse_name, segment_key, table_key
from humanseg.archive.capture.record import StoredRecord, check_request_id, parse_time
from humanseg.archive.capture.segment import Whole, scan
from humanseg.archive.capture.spool import Spool, claimed, records_of, remove_folder, segment_name
from humanseg.archive.errors import ArchiveError
from humanseg.archive.read.export_notes import notes, photo_name
from humanseg.archive.read.reader import Gone, Reader
from humanseg.archive.read.rewriting import (
    Deleted,
    Lease,
    delete_versions,
    finish,
    lease,
    remove,
    rewrite,
    versions_under,
)
from humanseg.archive.read.shelf import Listed, Shelf
from humanseg.archive.ship import groups
from humanseg.archive.ship.table import KINDS, to_parquet

SPOOL_SECONDS = 60.0  # maximum duration of an upload in progress
MOST_PARTS = 32  # records of one request, ID-0, ID-1, ...: the limit of KServe instances; a clip has fewer frames


@dataclass
class Erased:
    """What was erased of one record: object versions by key, and spool segments. `exports` still contain copies.

    `photo`: the file name of its photo in exports, if the record was found.
    """

    request_id: str
    photo: str = ""
    versions: dict[str, int] = field(default_factory=dict)
    spooled: list[str] = field(default_factory=list)
    exports: list[dict[str, Any]] = field(default_factory=list)

    @property
    def found(self) -> bool:
        """Whether the record was found."""
        return bool(self.versions or self.spooled)


def erase(reader: Reader, spool: Spool, request_ids: list[str]) -> list[Erased]:
    """Erases the records of `request_ids` and reports for each what was erased and who exported it.

    The id of a request with several records (frames of a clip, KServe instances) stands for all of them; each one
    that existed is listed. The spool is erased first, so that no uploader uploads a deleted record again.

    Raises:
        ArchiveError: an upload holds a spool copy for too long, another process rewrites the archive, or the store
        refused a deletion.
        ValueError: an invalid id.
    """
    parts = {
        check_request_id(request_id): [f"{request_id}-{number}" for number in range(MOST_PARTS)]
        for request_id in request_ids
    }
    results = {name: Erased(name) for request_id in parts for name in (request_id, *parts[request_id])}
    times: dict[str, datetime] = {}
    half_put = _from_spool(spool, results)
    with lease(reader) as held:
        for shelf in (reader.records, reader.corrections):
            remove(reader, shelf, half_put)
        for shelf in (reader.records, reader.labels, reader.corrections):
            times |= _from_shelf(reader, shelf, results, held)
    _note_exports(reader, results, times)
    return [result for request_id in parts for result in _of_request(results, request_id, parts[request_id])]


def _of_request(results: dict[str, Erased], request_id: str, parts: list[str]) -> list[Erased]:
    erased = [part for part in (results[name] for name in (request_id, *parts)) if part.found]
    return erased or [results[request_id]]


# ---------------------------------------------------------------------- the spool


def _from_spool(spool: Spool, results: dict[str, Erased]) -> list[str]:
    """Removes the records from every segment in the spool.

    Returns the names of groups that contained them: their tar may already be in the bucket, without a table.
    """
    half_put: list[str] = []
    until = time.monotonic() + SPOOL_SECONDS
    if spool.open_segments():
        spool.request_flush()
    while holders := [path for path in spool.files() if _holds(path, results)]:
        spool.seal_orphans()
        for path in holders:
            if path.parent.parent == spool.root:
                _from_segment(path, results, open_=path in spool.open_segments())
            else:
                half_put += _from_group(path.parent, results)
        if time.monotonic() > until:
            raise ArchiveError(f"{holders[0]} has been uploading for {SPOOL_SECONDS:.0f} s; retry later")
        time.sleep(0.05)
    for folder in spool.rejected():
        damaged = folder / "damaged.bin"
        if damaged.is_file() and (
            ids := [photo_id for photo_id in results if photo_id.encode() in damaged.read_bytes()]
        ):
            remove_folder(folder)
            for photo_id in ids:
                results[photo_id].spooled.append(folder.name)
    return half_put


def _holds(path: Path, results: dict[str, Erased]) -> bool:
    try:
        return any(record.photo_id in results for record in records_of(path))
    except FileNotFoundError:
        return False


def _from_segment(path: Path, results: dict[str, Erased], *, open_: bool) -> None:
    if open_:
        return  # its writer is about to seal it
    with claimed(path) as mine:
        if mine:
            _cut_out(path, results)


def _from_group(folder: Path, results: dict[str, Erased]) -> list[str]:
    with claimed(folder) as mine:
        if not mine:
            return []  # it is about to be in the bucket
        renamed = groups.rename(folder)  # the bucket may have other bytes under its old name
        for part in groups.parts_of(renamed):
            _cut_out(part, results)
        if not groups.parts_of(renamed):
            remove_folder(renamed)
    return [segment_name(folder).text]


def _cut_out(path: Path, results: dict[str, Erased]) -> None:
    named = {
        record.request_id: photo_name(record.photo_sha256)
        for record in records_of(path)
        if isinstance(record, StoredRecord)
    }
    kept, gone = groups.without(path.read_bytes(), set(results))
    if gone:
        groups.replace_or_remove(path, kept)
    for photo_id in gone:
        results[photo_id].spooled.append(path.name)
        results[photo_id].photo = named.get(photo_id, "")


# ---------------------------------------------------------------------- the bucket


@dataclass(frozen=True)
class _Inventory:
    """All objects under a shelf's root: tables and segments by name, and old versions by key."""

    tables: dict[str, Listed]
    segments: dict[str, Listed]
    old: dict[str, list[str]]


def _take_inventory(reader: Reader, shelf: Shelf) -> _Inventory:
    tables: dict[str, Listed] = {}
    segments: dict[str, Listed] = {}
    old: dict[str, list[str]] = {}
    pages = reader.store.client.get_paginator("list_object_versions")
    for kind in ("segments", "records"):  # corrections are below the root of the records, too
        for item in (
            item
            for page in pages.paginate(Bucket=reader.store.destination.bucket, Prefix=f"{shelf.root}/{kind}/")
            for item in page.get("Versions", [])
        ):
            name = parse_name(item["Key"])
            if name is None:
                continue
            if item["IsLatest"]:
                where = tables if item["Key"].endswith(".parquet") else segments
                where[name.text] = Listed(item["Key"], int(item["Size"]), name)
            else:
                old.setdefault(item["Key"], []).append(item["VersionId"])
    return _Inventory(tables, segments, old)


def _from_shelf(reader: Reader, shelf: Shelf, results: dict[str, Erased], held: Lease) -> dict[str, datetime]:
    """Removes the records, or labels, from the bucket; returns the times of the removed records."""
    there = _take_inventory(reader, shelf)
    finish(reader, shelf, list(there.tables.values()), there.segments, held)
    there = _take_inventory(reader, shelf)
    if shelf is not reader.labels and _commit(reader, shelf, there, results):
        there = _take_inventory(reader, shelf)
    ids = pc.field(shelf.photo_id).isin(list(results))
    records = shelf is reader.records  # a label has the time of its import
    columns = [shelf.photo_id, "segment", *(["time", "photo_sha256"] if records else [])]
    rows = shelf.dataset(there.tables.values()).to_table(columns=columns, filter=ids)
    by_segment: dict[str, set[str]] = {}
    for row in rows.to_pylist():
        if records:
            results[row["request_id"]].photo = photo_name(row["photo_sha256"])
        name = parse_name(row["segment"])
        assert name is not None
        by_segment.setdefault(name.text, set()).add(row[shelf.photo_id])
    for text, gone in sorted(by_segment.items()):
        try:
            deleted = rewrite(reader, shelf, [there.tables[text]], held, without=frozenset(results), check=False)
        except Gone:  # nothing is left of the others, either
            deleted = remove(reader, shelf, [text])
        _note(results, gone, deleted)
    _from_old_versions(reader, shelf, there, results)
    return {row["request_id"]: row["time"] for row in rows.to_pylist()} if records else {}


def _commit(reader: Reader, shelf: Shelf, there: _Inventory, results: dict[str, Erased]) -> bool:
    """Writes the missing tables of segments that contain data of a photo, so that they are rewritten like the others.

    An uploader was interrupted before their table. If it is alive, its uploads have no effect: the segment is
    replaced.
    """
    committed = False
    for text in there.segments.keys() - there.tables.keys():
        segment = there.segments[text]
        samples = [part for part in scan(reader.get(segment.key), decode) if isinstance(part, Whole)]
        if any(part.sample.photo_id in results for part in samples):
            row = next(kind.row for kind in KINDS if kind.schema is shelf.schema)
            rows = [row(part, segment.key) for part in samples]
            reader.store.put_new(table_key(shelf.root, segment.name), to_parquet(rows, shelf.schema))
            committed = True
    return committed


def _from_old_versions(reader: Reader, shelf: Shelf, there: _Inventory, results: dict[str, Erased]) -> None:
    """Finds records that were deleted or overwritten by hand, through old versions of their tables."""
    for key, versions in there.old.items():
        name = parse_name(key)
        if name is None or not key.endswith(".parquet"):
            continue
        gone = set()
        for version in versions:
            table = pq.read_table(io.BytesIO(reader.get(key, version)), columns=[shelf.photo_id])
            gone |= set(table[shelf.photo_id].to_pylist()) & set(results)
        if gone:
            deleted = Deleted()
            keys = (key, segment_key(shelf.root, name))
            for candidate in keys if name.text not in there.tables else keys[:1]:
                existing = [version for version in versions_under(reader, candidate) if version[0] == candidate]
                if name.text in there.tables:
                    existing = [version for version in existing if version[1] in versions]
                delete_versions(reader, existing)
                deleted.versions[candidate] = len(existing)
            _note(results, gone, deleted)


def _note(results: dict[str, Erased], ids: set[str], deleted: Deleted) -> None:
    for photo_id in ids:
        for key, number in deleted.versions.items():
            results[photo_id].versions[key] = results[photo_id].versions.get(key, 0) + number


def _note_exports(reader: Reader, results: dict[str, Erased], times: dict[str, datetime]) -> None:
    for note in notes(reader).values():
        shown = set(note["request_ids"])
        if "since" in note:
            since, until = parse_time(note["since"]), parse_time(note["until"])
            shown |= {photo_id for photo_id, time in times.items() if since <= time < until}
        for photo_id in shown & results.keys():
            results[photo_id].exports.append({name: value for name, value in note.items() if name != "request_ids"})
