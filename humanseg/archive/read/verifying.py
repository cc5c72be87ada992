"""Is everything there, and is it what it was? Every committed record, object by object."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from humanseg.archive.capture.record import record_folder
from humanseg.archive.read.reader import Folder, Reader, parallel


@dataclass
class Verified:
    """Counts of a verification. `problems` has (folder's key, what is wrong); half records are no problem."""

    records: int = 0
    bytes: int = 0
    uncommitted: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


def verify(
    reader: Reader,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> Verified:
    """Reads every object of every record of the days since..until and compares it with its record.json.

    A folder without record.json is listed as uncommitted: an upload under way, or one whose spool was lost
    with its machine. It counts for nothing elsewhere.
    """
    result = Verified()
    for day in reader.days(since, until):
        for folder, size, problem in parallel(lambda one: _check(reader, one), reader.folders(day)):
            if not folder.committed:
                result.uncommitted.append(folder.key)
                continue
            result.records += 1
            result.bytes += size
            if problem:
                result.problems.append((folder.key, problem))
            progress(result.records)
    return result


def _check(reader: Reader, folder: Folder) -> tuple[Folder, int, str]:
    if not folder.committed:
        return folder, 0, ""
    try:
        about = reader.open(folder).about
        if record_folder(reader.store.target.prefix, about) != folder.key:
            return folder, 0, "lies under another key than its record.json says"
        problem = "; ".join(filter(None, (_differs(reader, folder, about[part]) for part in ("photo", "mask"))))
    except Exception as error:  # one record that can't be read must not hide the state of the others
        return folder, 0, f"can't be read: {error!r}"
    return folder, sum(folder.sizes.values()), problem


def _differs(reader: Reader, folder: Folder, part: dict[str, Any]) -> str:
    name = part["file"]
    if name not in folder.sizes:
        return f"{name} is missing"
    if folder.sizes[name] != part["bytes"]:
        return f"{name} has {folder.sizes[name]} bytes, not {part['bytes']}"
    if hashlib.sha256(reader.get(f"{folder.key}/{name}")).hexdigest() != part["sha256"]:
        return f"{name} has another SHA-256"
    return ""
