"""Replay: what another model would have answered to the archive's photos. No user waits for it.

Photos go the way of serving (decode, frame, engine, mask), without TorchServe between. Each segment of the archive
becomes one Parquet file of the same name, written whole: a replay that was cut off goes on with what is missing, and
no record is counted twice. A segment that `compact` or `erase` replaced meanwhile is replayed under its new name, and
the file of the old one goes: what was erased is not kept here. DuckDB joins these files with the archive's own tables
by `request_id`.
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
from humanseg.archive.read.export import register
from humanseg.archive.read.reader import Reader
from humanseg.archive.read.shelf import TRIES, Listed
from humanseg.common.files import write_whole
from humanseg.loop.predictions import FIGURES, Window, predict, summary_of
from humanseg.training.encoder import Encoder

ABOUT = "replay.json"  # what the folder is of
Predicted = tuple[Listed, pa.Table | None]  # None: the segment has been rewritten since it was listed
Work = Callable[[list[Listed]], Iterable[Predicted]]  # in any order; a segment that is left out has failed


@dataclass(frozen=True)
class Replayed:
    """segments: done now. skipped: there already. photos, problems: of those done now. failed: names of segments."""

    segments: int = 0
    skipped: int = 0
    photos: int = 0
    problems: int = 0
    failed: tuple[str, ...] = ()
    seconds: float = 0.0


def here(reader: Reader, encoder: Encoder, window: Window) -> Work:
    """The work done by this process, one segment after the other."""

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
    """Replay the photos of `window` into the folder `to`; again, to go on.

    asked: the words for the window, see `resumed`. progress: is told of segments that are done, of all.

    Raises:
        ValueError: the folder is of another model or another time.
        ArchiveError: segments are rewritten all the time.
    """
    _claim(to, weights_sha256, window, asked)
    started = time.monotonic()
    now = datetime.now(timezone.utc)
    until = min(window.until or now, now)
    register(reader, to, "replay", [], now, period=(window.since, until))  # before the first mask lies here
    done = Replayed()
    for again in range(TRIES):
        days = reader.records.days(window.since, window.until)
        living = {one.name.text: one for day in days for one in reader.records.tables(day)}
        _leave_only(to, set(living))
        todo = [one for text, one in living.items() if not _file(to, text).is_file()]
        if not again:
            done = replace(done, skipped=len(living) - len(todo))
        missing = {one.name.text for one in todo}
        rewritten = False
        for listed, rows in work(todo):
            missing.discard(listed.name.text)
            if rows is None:
                rewritten = True
                continue
            _write(to, listed, rows)
            problems = len(rows) - rows["problem"].null_count
            done = replace(
                done,
                segments=done.segments + 1,
                photos=done.photos + len(rows),
                problems=done.problems + problems,
            )
            progress(done.skipped + done.segments, len(living))
        if not rewritten:
            return replace(done, failed=tuple(sorted(missing)), seconds=time.monotonic() - started)
    raise ArchiveError("the archive is being rewritten all the time; run this again later, and it goes on")


def resumed(to: Path, asked: str) -> Window | None:
    """The window of the replay in `to` if it was begun with the same words: 7d is another time each day."""
    path = to / ABOUT
    found = json.loads(path.read_text()) if path.is_file() else {}
    if found.get("asked") != asked:
        return None
    until = found["until"] and datetime.fromisoformat(found["until"])
    return Window(datetime.fromisoformat(found["since"]), until)


def summary(to: Path) -> dict[str, Any]:
    """Figures of all that lies in `to`."""
    return summary_of(pq.read_table(path, columns=FIGURES) for path in sorted(to.glob("*.parquet")))


def _claim(to: Path, weights_sha256: str, window: Window, asked: str) -> None:
    """Make the folder one of this model and time, or find that it is."""
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
    found = json.loads(path.read_text())
    for name, value in about.items():
        if found.get(name) != value:
            raise ValueError(f"{to} is a replay with {name} {found.get(name)}; give another folder")


def _leave_only(to: Path, names: set[str]) -> None:
    """Delete the files of segments that are no longer there: their records have moved, or were erased."""
    for path in to.glob("*.parquet"):
        if path.stem not in names and parse_name(path.name):
            path.unlink()


def _write(to: Path, listed: Listed, rows: pa.Table) -> None:
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd")
    write_whole(_file(to, listed.name.text), sink.getvalue())


def _file(to: Path, text: str) -> Path:
    return to / f"{text}.parquet"
