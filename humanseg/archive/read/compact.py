"""Merges the small segments and tables of closed days into large ones.

It can be killed at any time and run again: replaced segments that were not deleted yet are found through the tables
that list them, and a rewritten segment without a table is deleted. A concurrent reader sees each record exactly once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import groupby

from humanseg.archive.read.reader import Damaged, Gone, Reader
from humanseg.archive.read.rewriting import Lease, finish, lease, rewrite
from humanseg.archive.read.shelf import Listed, Shelf

SEGMENT_BYTES = 256 * 1024**2
CLOSED_AFTER = timedelta(hours=2)  # past midnight, until servers have shipped their records


@dataclass
class Compacted:
    """The result of a run: segments merged and written, leftover objects deleted, damaged segments."""

    merged: int = 0
    into: int = 0
    leftovers: int = 0
    problems: list[str] = field(default_factory=list)


def compact(
    reader: Reader,
    since: datetime | None = None,
    until: datetime | None = None,
    *,
    now: datetime,
    segment_bytes: int = SEGMENT_BYTES,
    progress: Callable[[str], None] = lambda day: None,
) -> Compacted:
    """Merges the segments of each closed hour of since..until, up to `segment_bytes` each; raises Busy."""
    result = Compacted()
    closed = (now - CLOSED_AFTER).astimezone(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    last = closed if until is None else min(until, closed)
    with lease(reader) as held:
        for shelf in (reader.records, reader.labels, reader.corrections):
            days = {*shelf.days(since, last), *shelf.days(since, last, "segments")}
            for day in sorted(days):
                progress(day)
                _compact_day(reader, shelf, day, held, segment_bytes, result)
    return result


def _compact_day(reader: Reader, shelf: Shelf, day: str, held: Lease, segment_bytes: int, result: Compacted) -> None:
    segments = {segment.name.text: segment for segment in shelf.listed(day, "segments")}
    tables = shelf.listed(day)
    result.leftovers += len(finish(reader, shelf, tables, segments, held).versions)
    living = [table for table in shelf.living(tables) if table.name.text in segments]
    for _, hour in groupby(living, key=lambda table: table.name.partition):
        for batch in _batches(list(hour), {name: segment.size for name, segment in segments.items()}, segment_bytes):
            try:
                rewrite(reader, shelf, batch, held)
            except (Damaged, Gone) as error:
                result.problems.append(str(error))
                continue
            result.merged += len(batch)
            result.into += 1


def _batches(tables: list[Listed], sizes: dict[str, int], most: int) -> list[list[Listed]]:
    """Groups of two or more neighbours that fit into one segment."""
    batches: list[list[Listed]] = [[]]
    size = 0
    for table in tables:
        if batches[-1] and size + sizes[table.name.text] > most:
            batches.append([])
            size = 0
        batches[-1].append(table)
        size += sizes[table.name.text]
    return [batch for batch in batches if len(batch) > 1]
