"""Erasing what one person sent: every version of every object, corrected masks, spool copies."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

from humanseg.archive.capture.record import check_request_id
from humanseg.archive.capture.spool import Entry, Spool
from humanseg.archive.errors import ArchiveError
from humanseg.archive.read.reader import Reader, parallel

CLAIM_SECONDS = 60.0  # as long as an upload under way may take


@dataclass
class Erased:
    """What is gone of one record: object versions by key, and spool folders. `exports` hold copies still."""

    request_id: str
    versions: dict[str, int] = field(default_factory=dict)
    spooled: list[str] = field(default_factory=list)
    exports: list[dict[str, Any]] = field(default_factory=list)

    @property
    def found(self) -> bool:
        """Whether there was anything."""
        return bool(self.versions or self.spooled)


def erase(reader: Reader, spool: Spool, request_ids: list[str]) -> list[Erased]:
    """Erases the records of `request_ids` and says, for each, what is gone and who exported it.

    The spool comes first, so that no shipper uploads again what was deleted.

    Raises:
        ArchiveError: a spool copy is held by an upload that does not end, or the store refused a deletion.
        ValueError: an id that can't be one.
    """
    for request_id in request_ids:
        check_request_id(request_id)
    results = [Erased(request_id) for request_id in request_ids]
    for result in results:
        _from_spool(spool, result)
    versions = _versions_of(reader, set(request_ids))
    for result in results:
        for key, version in versions.get(result.request_id, []):
            _delete(reader, key, version)
            result.versions[key] = result.versions.get(key, 0) + 1
    _note_exports(reader, results)
    return results


def _from_spool(spool: Spool, result: Erased) -> None:
    for entry in (*spool.ready(), *spool.rejected()):
        if entry.request_id == result.request_id and _claim_and_remove(spool, entry):
            result.spooled.append(entry.path.name)


def _claim_and_remove(spool: Spool, entry: Entry) -> bool:
    until = time.monotonic() + CLAIM_SECONDS
    while entry.path.exists():
        with spool.claim(entry) as mine:
            if mine:
                spool.remove(entry)
                return True
        if time.monotonic() > until:
            raise ArchiveError(f"{entry.path} is being uploaded for {CLAIM_SECONDS:.0f} s; try again")
        time.sleep(0.05)
    return False  # shipped in the meantime: it is in the bucket now


def _versions_of(reader: Reader, request_ids: set[str]) -> dict[str, list[tuple[str, str]]]:
    """(key, version id) of all versions and delete markers of these records and their labels.

    The day is not asked for: a record that was deleted once has no current object that would tell its day,
    but may have old versions. So the version list of all hours is searched, one request for each hour and id.
    """
    prefix = reader.store.target.prefix
    hours = [hour for day in _folders(reader, f"{prefix}/v1/") for hour in _folders(reader, day)]
    places = [f"{hour}{one}/" for hour in hours for one in request_ids]
    places += [f"{prefix}/labels/v1/{one}/" for one in request_ids]
    found: dict[str, list[tuple[str, str]]] = {}
    for place, versions in zip(places, parallel(lambda p: _versions(reader, p), places), strict=True):
        found.setdefault(place.rstrip("/").rsplit("/", 1)[-1], []).extend(versions)
    return found


def _folders(reader: Reader, prefix: str) -> list[str]:
    pages = reader.store.client.get_paginator("list_object_versions").paginate(
        Bucket=reader.store.target.bucket, Prefix=prefix, Delimiter="/"
    )
    found = {one["Prefix"] for page in pages for one in page.get("CommonPrefixes", [])}
    return sorted(found | set(reader.folders_under(prefix)))


def _versions(reader: Reader, prefix: str) -> list[tuple[str, str]]:
    pages = reader.store.client.get_paginator("list_object_versions").paginate(
        Bucket=reader.store.target.bucket, Prefix=prefix
    )
    return [
        (item["Key"], item["VersionId"])
        for page in pages
        for item in (*page.get("Versions", []), *page.get("DeleteMarkers", []))
    ]


def _delete(reader: Reader, key: str, version: str) -> None:
    reader.store.client.delete_object(Bucket=reader.store.target.bucket, Key=key, VersionId=version)


def _note_exports(reader: Reader, results: list[Erased]) -> None:
    root = f"{reader.store.target.prefix}/exports/v1/"
    keys = [
        f"{folder.key}/{name}"
        for folder in reader.folders_in(root)
        for name in folder.sizes
        if name.endswith(".json")
    ]
    for data in parallel(reader.get, keys):
        note = json.loads(data)
        listed = set(note.pop("request_ids"))
        for result in results:
            if result.request_id in listed:
                result.exports.append(note)
