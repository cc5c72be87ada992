"""Rewrites segments for `compact` and `erase`: write the new tar and table, then delete the old table and tar.

The new table lists the segments that it replaces, so a reader sees each record exactly once at every moment, and the
next run completes the work of a killed one. Only one process rewrites at a time: it holds a lease, an object created
with If-None-Match, which expires after LEASE_SECONDS unless it is renewed.
"""

from __future__ import annotations

import json
import socket
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import IO, Any

import pyarrow as pa
from botocore.exceptions import BotoCoreError, ClientError

from humanseg.archive.capture.names import parse_name, replacement_name, segment_key, table_key
from humanseg.archive.capture.record import parse_time, rfc3339
from humanseg.archive.capture.tar import BLOCK, END, padded
from humanseg.archive.errors import ArchiveError
from humanseg.archive.read.reader import Gone, Reader, cut, is_gone
from humanseg.archive.read.shelf import Listed, Shelf
from humanseg.archive.ship.table import RECORDS, table_bytes

LEASE_SECONDS = 300.0
DELETED_AT_A_TIME = 1000  # S3's own limit


class Busy(ArchiveError):
    """Another process is rewriting the archive."""


@dataclass
class Deleted:
    """The deleted object versions, by key."""

    versions: dict[str, int] = field(default_factory=dict)


# ---------------------------------------------------------------------- the lease


class Lease:
    """The lease for rewriting; `check` it before every irreversible step."""

    def __init__(self, reader: Reader) -> None:
        self._reader, self._token = reader, uuid.uuid4().hex
        self._key = f"{reader.store.destination.prefix}/rewriting.json"
        self._stop = threading.Event()

    def take(self) -> None:
        """Acquires the lease; raises Busy if another process holds it."""
        for _ in range(3):
            if self._reader.store.put_new(self._key, self._note()):
                threading.Thread(target=self._renew, daemon=True).start()
                return
            held = self._held()
            if held and parse_time(held["until"]) > datetime.now(timezone.utc):
                raise Busy(f"{held['host']} has been rewriting the archive since {held['since']}; retry later")
            self._delete()
        raise Busy("another process is rewriting the archive; retry later")

    def check(self) -> None:
        """Raises Busy if the lease has expired because this process was suspended."""
        if self._held().get("token") != self._token:
            raise Busy("this run lost its lease to another one; nothing is lost, run it again")

    def give_back(self) -> None:
        """Ends it."""
        self._stop.set()
        with suppress(ArchiveError, ClientError, BotoCoreError):
            self.check()
            self._delete()

    def _note(self) -> bytes:
        now = datetime.now(timezone.utc)
        until = rfc3339(now + timedelta(seconds=LEASE_SECONDS))
        note = {"token": self._token, "host": socket.gethostname(), "since": rfc3339(now), "until": until}
        return json.dumps(note).encode()

    def _held(self) -> dict[str, Any]:
        try:
            plan: dict[str, Any] = json.loads(self._reader.get(self._key))
        except ClientError as error:
            if not is_gone(error):
                raise
            return {}
        return plan

    def _renew(self) -> None:
        store = self._reader.store
        while not self._stop.wait(LEASE_SECONDS / 5):
            with suppress(ArchiveError, ClientError, BotoCoreError):
                self.check()
                store.client.put_object(Bucket=store.destination.bucket, Key=self._key, Body=self._note())

    def _delete(self) -> None:
        delete_versions(self._reader, versions_under(self._reader, self._key))


@contextmanager
def lease(reader: Reader) -> Iterator[Lease]:
    """Holds the lease for the duration of the block.

    Raises:
        Busy: another process holds it.
    """
    held = Lease(reader)
    held.take()
    try:
        yield held
    finally:
        held.give_back()


# ---------------------------------------------------------------------- rewriting


def rewrite(
    reader: Reader,
    shelf: Shelf,
    tables: list[Listed],
    held: Lease,
    *,
    without: frozenset[str] = frozenset(),
    check: bool = True,
) -> Deleted:
    """Merges the records of these segments (all of one hour), except the ids `without`, into one segment.

    Then deletes the old segments with all versions. If no record is left, no new segment is written.

    Raises:
        Damaged: `check` is set and a photo or mask does not match its row; nothing is changed.
        Gone: a segment exists in no version; nothing is changed.
    """
    rows = shelf.dataset(tables).to_table(columns=shelf.schema.names)
    ordered = rows.sort_by([("segment", "ascending"), ("mask_offset", "ascending")]).to_pylist()
    kept = [row for row in ordered if row[shelf.photo_id] not in without]
    if kept:
        with tempfile.TemporaryFile() as file:
            name = replacement_name(table.name for table in tables)
            key = segment_key(shelf.root, name)
            replaced = {table.name.text for table in tables} | set(shelf.replaced(tables))
            changed = {"segment": key, "replaces": ",".join(sorted(replaced))}
            new = [{**row, **changed} for row in _copy(reader, shelf, kept, file, check)]
            file.write(END)
            reader.store.put_new(key, file)
            held.check()
            table = pa.Table.from_pylist(new, schema=shelf.schema)
            reader.store.put_new(table_key(shelf.root, name), table_bytes(table))
    held.check()
    return remove(reader, shelf, [table.name.text for table in tables])


def remove(reader: Reader, shelf: Shelf, names: Iterable[str]) -> Deleted:
    """Deletes every version of the tables of these segments, and then of the segments."""
    deleted = Deleted()
    parsed = [name for name in map(parse_name, names) if name]
    for key_of in (table_key, segment_key):
        keys = {key_of(shelf.root, name) for name in parsed}
        places = {key.rpartition("/")[0] + "/" for key in keys} if len(keys) > 1 else keys
        versions = [
            version for place in sorted(places) for version in versions_under(reader, place) if version[0] in keys
        ]
        delete_versions(reader, versions)
        for key, _ in versions:
            deleted.versions[key] = deleted.versions.get(key, 0) + 1
    return deleted


def finish(reader: Reader, shelf: Shelf, tables: list[Listed], segments: Iterable[str], held: Lease) -> Deleted:
    """Deletes what a killed run replaced or wrote without committing, given all names of some days."""
    committed, there = {table.name.text for table in tables}, set(segments)
    replaced = {name for name in shelf.replaced(tables) if name in committed | there}
    replaced |= {name for name in there - committed if (parsed := parse_name(name)) and parsed.rewritten}
    if not replaced:
        return Deleted()
    held.check()
    return remove(reader, shelf, replaced)


def _copy(
    reader: Reader, shelf: Shelf, rows: list[dict[str, Any]], file: IO[bytes], check: bool
) -> Iterator[dict[str, Any]]:
    """Writes the records of `rows`, sorted by segment, to `file`; yields each row with its new offsets."""
    parts = ("photo", "mask") if shelf.schema is RECORDS else ("mask",)
    segment, data = "", b""
    for row in rows:
        if row["segment"] != segment:
            segment, data = row["segment"], _last_version(reader, row["segment"])
        start, end = row[f"{parts[0]}_offset"] - BLOCK, row["json_offset"] + padded(row["json_bytes"])
        if check:  # damaged data must not be copied as if it were valid
            for part in parts:
                cut(row, data, 0, part)
        shift = file.tell() - start
        file.write(data[start:end])
        yield {**row, **{name: value + shift for name, value in row.items() if name.endswith("_offset")}}


def _last_version(reader: Reader, key: str) -> bytes:
    """The object, or its last version; raises Gone if there is none."""
    try:
        return reader.get(key)
    except ClientError as error:
        if not is_gone(error):
            raise
        answer = reader.store.client.list_object_versions(Bucket=reader.store.destination.bucket, Prefix=key)
        versions = [version["VersionId"] for version in answer.get("Versions", []) if version["Key"] == key]
        if not versions:
            raise Gone(f"{key} is gone") from error
        return reader.get(key, versions[0])


# ---------------------------------------------------------------------- versions


def versions_under(reader: Reader, prefix: str) -> list[tuple[str, str]]:
    """(key, version id) of all versions and delete markers under a prefix."""
    pages = reader.store.client.get_paginator("list_object_versions").paginate(
        Bucket=reader.store.destination.bucket, Prefix=prefix
    )
    return [
        (item["Key"], item["VersionId"])
        for page in pages
        for item in (*page.get("Versions", []), *page.get("DeleteMarkers", []))
    ]


def delete_versions(reader: Reader, versions: list[tuple[str, str]]) -> None:
    """Permanently deletes these versions; raises ArchiveError if the store keeps one."""
    for start in range(0, len(versions), DELETED_AT_A_TIME):
        part = versions[start : start + DELETED_AT_A_TIME]
        answer = reader.store.client.delete_objects(
            Bucket=reader.store.destination.bucket,
            Delete={"Objects": [{"Key": key, "VersionId": version} for key, version in part], "Quiet": True},
        )
        if errors := answer.get("Errors", []):
            raise ArchiveError(f"{errors[0]['Key']} could not be deleted: {errors[0].get('Code')}")
