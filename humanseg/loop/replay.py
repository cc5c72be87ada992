"""Replay: runs another model on archived photos, offline.

Photos pass the serving pipeline (decode, frame, engine, mask) without TorchServe. Each segment of the archive becomes
one Parquet file of the same name, written atomically: an interrupted replay resumes with the missing segments, and no
record is counted twice. A segment that `compact` or `erase` replaced is replayed under its new name and the file of
the old one is deleted, with the predictions for erased records. DuckDB joins these files with the archive's own
tables by `request_id`.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from humanseg.archive.capture.names import parse_name
from humanseg.archive.errors import ArchiveError
from humanseg.archive.read.export_notes import register
from humanseg.archive.read.reader import Reader
from humanseg.archive.read.shelf import TRIES, Listed
from humanseg.common.files import write_whole
from humanseg.loop.predictions import STATISTICS, Window, predict, summary_of
from humanseg.training.encoder import Encoder

ABOUT = "replay.json"  # the model and time range of the folder
Predicted = tuple[Listed, pa.Table | None]  # None: the segment was rewritten after it was listed
Work = Callable[[list[Listed]], Iterable[Predicted]]  # in any order; an omitted segment has failed


@dataclass(frozen=True)
class Replayed:
    """segments: processed now. skipped: already there. photos, problems: of those processed now. failed: names."""

    segments: int = 0
    skipped: int = 0
    photos: int = 0
    problems: int = 0
    failed: tuple[str, ...] = ()
    seconds: float = 0.0


def here(reader: Reader, encoder: Encoder, window: Window) -> Work:
    """Process the segments sequentially in this process."""

    def work(segments: list[Listed]) -> Iterator[Predicted]:
        for listed in segments:
            yield listed, predict(reader, encoder, listed, window)

    return work


def replay(
    reader: Reader,
    weights_sha256: str,
    to: Path,
    window: Window,
    work: Work,
    *,
    asked: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Replayed:
    """Replay the photos of `window` into the folder `to`; a repeated call resumes.

    asked: the window as the user wrote it, see `resumed`. progress: called with the numbers of finished and of all
    segments.

    Raises:
        ValueError: the folder belongs to another model or time range.
        ArchiveError: segments are rewritten continuously.
    """
    _claim(to, weights_sha256, window, asked)
    started = time.monotonic()
    now = datetime.now(timezone.utc)
    until = min(window.until or now, now)
    register(reader, to, "replay", [], now, period=(window.since, until))  # before the first mask is stored here
    result = Replayed()
    for again in range(TRIES):
        days = reader.records.days(window.since, window.until)
        living = {table.name.text: table for day in days for table in reader.records.tables(day)}
        _leave_only(to, set(living))
        todo = [table for text, table in living.items() if not _file(to, text).is_file()]
        if not again:
            result = replace(result, skipped=len(living) - len(todo))
        missing = {table.name.text for table in todo}
        rewritten = False
        for listed, rows in work(todo):
            missing.discard(listed.name.text)
            if rows is None:
                rewritten = True
                continue
            _write(to, listed, rows)
            problems = len(rows) - rows["problem"].null_count
            result = replace(
                result,
                segments=result.segments + 1,
                photos=result.photos + len(rows),
                problems=result.problems + problems,
            )
            progress(result.skipped + result.segments, len(living))
        if not rewritten:
            return replace(result, failed=tuple(sorted(missing)), seconds=time.monotonic() - started)
    raise ArchiveError("the archive is being rewritten continuously; run this again later to resume")


def resumed(to: Path, asked: str) -> Window | None:
    """The window of the replay in `to` if it was started with the same text: the meaning of 7d changes daily."""
    path = to / ABOUT
    notes = json.loads(path.read_text()) if path.is_file() else {}
    if notes.get("asked") != asked:
        return None
    until = notes["until"] and datetime.fromisoformat(notes["until"])
    return Window(datetime.fromisoformat(notes["since"]), until)


def summary(to: Path) -> dict[str, Any]:
    """Statistics of all predictions in `to`."""
    return summary_of(pq.read_table(path, columns=STATISTICS) for path in sorted(to.glob("*.parquet")))


def _claim(to: Path, weights_sha256: str, window: Window, asked: str) -> None:
    """Mark the folder with this model and time range, or verify its mark."""
    to.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = {
        "weights_sha256": weights_sha256,
        "since": window.since.isoformat(),
        "until": window.until.isoformat() if window.until else None,
    }
    path = to / ABOUT
    if not path.is_file():
        write_whole(path, json.dumps({**about, "asked": asked}, indent=1))
        return
    note = json.loads(path.read_text())
    for name, value in about.items():
        if note.get(name) != value:
            raise ValueError(f"{to} contains a replay with {name} {note.get(name)}; use another folder")


def _leave_only(to: Path, names: set[str]) -> None:
    """Delete the files of segments that no longer exist: their records were moved or erased."""
    for path in to.glob("*.parquet"):
        if path.stem not in names and parse_name(path.name):
            path.unlink()


def _write(to: Path, listed: Listed, rows: pa.Table) -> None:
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd")
    write_whole(_file(to, listed.name.text), sink.getvalue())


def _file(to: Path, text: str) -> Path:
    return to / f"{text}.parquet"
