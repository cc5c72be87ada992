"""Notes in the bucket about who exported which photos, and where: `erase` lists them, and redacts its ids.

PREFIX/exports/v1/2026-11-20-HEX.json
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import uuid
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Any

from humanseg.archive.capture.record import rfc3339
from humanseg.archive.read.reader import Reader, parallel
from humanseg.archive.read.rewriting import delete_versions, lease, versions_under

NAME_LENGTH = 20


def photo_name(photo_sha256: str) -> str:
    """The file name of a photo in an export, without suffix."""
    return photo_sha256[:NAME_LENGTH]


def register(
    reader: Reader,
    place: Path,
    fmt: str,
    request_ids: Collection[str],
    now: datetime,
    *,
    period: tuple[datetime, datetime] | None = None,
) -> None:
    """Record in the bucket who copied these photos, and where, so that `erase` can list the copies.

    period: the copy also includes all photos with since <= time < until.
    """
    note = {
        "time": rfc3339(now),
        "by": getpass.getuser() if "USER" in os.environ else str(os.getuid()),
        "host": socket.gethostname(),
        "folder": str(place.resolve()),
        "format": fmt,
        "request_ids": sorted(request_ids),
        **({} if period is None else {"since": rfc3339(period[0]), "until": rfc3339(period[1])}),
    }
    _put(reader, note)


def notes(reader: Reader) -> dict[str, dict[str, Any]]:
    """All notes, by key."""
    keys = [key for key in reader.keys_under(_root(reader)) if key.endswith(".json")]
    return dict(zip(keys, map(json.loads, parallel(reader.get, keys)), strict=True))


def redact(reader: Reader, request_ids: Collection[str]) -> int:
    """Remove these ids from every note, in all its versions. Returns the number of changed notes.

    Raises:
        Busy: the archive is being rewritten; try again later.
        ArchiveError: the store refused a deletion.
    """
    gone, changed = set(request_ids), 0
    with lease(reader) as held:
        for key, note in notes(reader).items():
            if not gone & set(note["request_ids"]):
                continue
            changed += 1
            kept = [name for name in note["request_ids"] if name not in gone]
            if kept or "since" in note:
                _put(reader, {**note, "request_ids": kept})  # under a new key: an interrupted run is repeatable
            held.check()
            delete_versions(reader, versions_under(reader, key))
    return changed


def _put(reader: Reader, note: dict[str, Any]) -> None:
    key = f"{_root(reader)}{note['time'][:10]}-{uuid.uuid4().hex}.json"
    reader.store.put_new(key, json.dumps(note).encode())


def _root(reader: Reader) -> str:
    return f"{reader.store.destination.prefix}/exports/v1/"
