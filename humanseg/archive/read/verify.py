"""Verifies the archive: reads every committed segment and compares it with its table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from humanseg.archive.capture.names import segment_key
from humanseg.archive.capture.segment import Whole, scan
from humanseg.archive.read.reader import Reader, is_gone, parallel
from humanseg.archive.read.shelf import Listed, Shelf
from humanseg.archive.ship.table import KINDS, Kind

SEGMENTS_AT_A_TIME = 2  # each is in memory


@dataclass
class Verified:
    """Counts of a verification. `problems` has (segment's key, problem).

    `uncommitted` are segments without a table: their upload is in progress, or their server was lost. They are not a
    problem.
    """

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
    """Reads every segment of the days since..until and compares it with its table, record by record."""
    result = Verified()
    for shelf, kind in zip((reader.records, reader.corrections), KINDS, strict=True):
        _verify_shelf(reader, shelf, kind, since, until, result, progress)
    return result


def _verify_shelf(
    reader: Reader,
    shelf: Shelf,
    kind: Kind,
    since: datetime | None,
    until: datetime | None,
    result: Verified,
    progress: Callable[[int], None],
) -> None:
    check = partial(_check, reader, shelf, kind)
    days = set(shelf.days(since, until)) | set(shelf.days(since, until, "segments"))
    for day in sorted(days):
        # The segments first: a table is uploaded after its segment.
        segments = {segment.key for segment in shelf.listed(day, "segments")}
        tables = shelf.listed(day)
        gone = shelf.replaced(tables)
        committed = {segment_key(shelf.root, table.name) for table in tables}
        replaced = {key for key in segments if key.rsplit("/", 1)[-1].removesuffix(".tar") in gone}
        result.uncommitted += sorted(segments - committed - replaced)
        living = [table for table in tables if table.name.text not in gone]
        for key, records, size, problems in parallel(check, living, SEGMENTS_AT_A_TIME):
            result.records += records
            result.bytes += size
            result.problems += [(key, problem) for problem in problems]
            progress(result.records)


def _check(reader: Reader, shelf: Shelf, kind: Kind, table: Listed) -> tuple[str, int, int, list[str]]:
    """The segment's key, the number of records in its table, its size, and its problems."""
    key = segment_key(shelf.root, table.name)
    try:
        rows = {row["request_id"]: row for row in shelf.dataset([table]).to_table().to_pylist()}
        data = reader.get(key)
    except ClientError as error:
        return key, 0, 0, ["is missing" if is_gone(error) else f"can't be read: {error}"]
    except Exception as error:  # an unreadable segment must not hide the state of the others
        return key, 0, 0, [f"can't be read: {error!r}"]
    stored = {}
    for item in scan(data, kind.stored.from_json):
        if isinstance(item, Whole):
            stored[item.sample.request_id] = kind.row(item, key)
    problems = [f"{photo_id} is damaged or missing" for photo_id in rows.keys() - stored.keys()]
    problems += [f"{photo_id} is not in the table" for photo_id in stored.keys() - rows.keys()]
    problems += [
        f"{photo_id} differs from its row"
        for photo_id in rows.keys() & stored.keys()
        if _differs(stored[photo_id], rows[photo_id])
    ]
    return key, len(rows), len(data), sorted(problems)


def _differs(stored: dict[str, Any], row: dict[str, Any]) -> bool:
    return any(row[name] != value for name, value in stored.items() if name != "replaces")
