"""Replay: runs another model on archived photos, offline.

Photos pass the serving pipeline (decode, frame, engine, mask) without TorchServe. Each segment of the archive becomes
one Parquet file of the same name, written atomically: an interrupted replay resumes with the missing segments, and no
segment is counted twice. DuckDB joins these files with the archive's own tables by `request_id`.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from humanseg.archive.read.reader import Damaged, Gone, Reader, parallel
from humanseg.archive.read.shelf import Listed
from humanseg.common.files import write_whole
from humanseg.segmentation import rle
from humanseg.segmentation.errors import PhotoError
from humanseg.segmentation.photo import read_photo
from humanseg.training.candidates import Candidate
from humanseg.training.choosing import disagreement

ABOUT = "replay.json"  # the model and time range of the folder
_TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("time", _TIME),
        ("weights_sha256", pa.string()),
        ("served_weights_sha256", pa.string()),
        ("coverage", pa.float64()),
        ("confidence", pa.float64()),
        ("served_coverage", pa.float64()),
        ("served_confidence", pa.float64()),
        ("disagreement", pa.float64()),  # 1 - IoU with the mask that was served
        ("mask_rle", pa.string()),  # COCO's run-lengths at the photo's size
        ("seconds", pa.float64()),
        ("sampling_probability", pa.float64()),
        ("problem", pa.string()),  # why there is no prediction
    ]
)
COLUMNS = [
    *("request_id", "time", "weights_sha256", "coverage", "confidence", "sampling_probability", "photo_sha256"),
    *("photo_bytes", "mask_sha256", "mask_bytes", "segment", "photo_offset", "mask_offset"),
]


@dataclass(frozen=True)
class Replayed:
    """segments: processed now. skipped: already there. photos, problems: of those processed now."""

    segments: int
    skipped: int
    photos: int
    problems: int
    seconds: float


def replay(
    reader: Reader,
    candidate: Candidate,
    to: Path,
    *,
    since: datetime,
    until: datetime | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Replayed:
    """Replay the photos with since <= time < until into the folder `to`; a repeated call resumes.

    Raises ValueError if the folder belongs to another model or time range.
    """
    _claim(to, candidate, since, until)
    started = time.monotonic()
    tables = [one for day in reader.records.days(since, until) for one in reader.records.tables(day)]
    todo = [one for one in tables if not (to / f"{one.name.text}.parquet").is_file()]
    photos = problems = 0
    for number, listed in enumerate(todo, 1):
        rows = replay_segment(reader, candidate, listed, since, until)
        sink = io.BytesIO()
        pq.write_table(rows, sink, compression="zstd")
        write_whole(to / f"{listed.name.text}.parquet", sink.getvalue())
        photos += len(rows)
        problems += len(rows) - rows["problem"].null_count
        progress(len(tables) - len(todo) + number, len(tables))
    return Replayed(len(todo), len(tables) - len(todo), photos, problems, time.monotonic() - started)


def replay_segment(
    reader: Reader, candidate: Candidate, listed: Listed, since: datetime, until: datetime | None
) -> pa.Table:
    """The predictions for one segment's photos in the time range, one row per record."""
    where = pc.field("time") >= pa.scalar(since, _TIME)
    if until is not None:
        where &= pc.field("time") < pa.scalar(until, _TIME)
    rows = reader.records.dataset([listed]).to_table(columns=COLUMNS, filter=where).to_pylist()

    def fetch(row: dict[str, Any]) -> tuple[dict[str, Any], tuple[bytes, bytes] | str]:
        try:
            return row, reader.photo_and_mask(row)
        except (Gone, Damaged) as error:
            return row, str(error)

    return pa.Table.from_pylist(
        [_predict(candidate, row, found) for row, found in parallel(fetch, rows)], schema=SCHEMA
    )


def _predict(candidate: Candidate, row: dict[str, Any], found: tuple[bytes, bytes] | str) -> dict[str, Any]:
    about = {
        "request_id": row["request_id"],
        "time": row["time"],
        "weights_sha256": candidate.weights_sha256,
        "served_weights_sha256": row["weights_sha256"],
        "served_coverage": row["coverage"],
        "served_confidence": row["confidence"],
        "sampling_probability": row["sampling_probability"],
    }
    if isinstance(found, str):
        return {**about, "problem": found}
    photo, mask = found
    started = time.perf_counter()
    try:
        segmentation = candidate.segment(read_photo(photo).pixels)
    except PhotoError as error:
        return {**about, "problem": str(error)}
    seconds = time.perf_counter() - started
    summary = segmentation.summary(candidate.spec.calibration)
    served = np.asarray(Image.open(io.BytesIO(mask)).convert("L"))
    return {
        **about,
        "coverage": summary.coverage,
        "confidence": summary.confidence,
        "disagreement": disagreement(served, segmentation.mask),
        "mask_rle": rle.encode(segmentation.mask)["counts"],
        "seconds": seconds,
    }


def _claim(to: Path, candidate: Candidate, since: datetime, until: datetime | None) -> None:
    """Mark the folder with this model and time range, or verify its mark."""
    to.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = {
        "weights_sha256": candidate.weights_sha256,
        "since": since.isoformat(),
        "until": until.isoformat() if until else None,
    }
    path = to / ABOUT
    if not path.is_file():
        write_whole(path, json.dumps(about, indent=1))
        return
    found = json.loads(path.read_text())
    if found != about:
        other = next(name for name in about if found.get(name) != about[name])
        raise ValueError(f"{to} contains a replay with {other} {found.get(other)}; use another folder")


def summary_of(tables: Iterable[pa.Table], most: int = 10) -> dict[str, Any]:
    """Statistics of a replay, weighted by 1 / sampling_probability, and the photos with the largest disagreement."""
    whole = pa.concat_tables([SCHEMA.empty_table(), *tables])
    good = whole.filter(pc.is_null(whole["problem"]))
    if not len(good):
        return {
            "photos": 0,
            "problems": len(whole),
            "mean_disagreement": None,
            "share_over_10_percent": None,
            "most": [],
        }
    weights = 1 / good["sampling_probability"].to_numpy()
    apart = good["disagreement"].to_numpy()
    worst = good.sort_by([("disagreement", "descending")]).slice(0, most)
    return {
        "photos": len(good),
        "problems": len(whole) - len(good),
        "mean_disagreement": round(float(np.average(apart, weights=weights)), 5),
        "share_over_10_percent": round(float(np.average(apart > 0.1, weights=weights)), 5),
        "median_seconds": round(float(np.median(good["seconds"].to_numpy())), 5),
        "most": worst.select(["request_id", "disagreement"]).to_pylist(),
    }
