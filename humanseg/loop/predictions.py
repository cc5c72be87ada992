"""A model's predictions for one segment of the archive, one row per record, and statistics of such tables."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from humanseg.archive.errors import ArchiveError
from humanseg.archive.read.reader import Damaged, Gone, Reader, parallel
from humanseg.archive.read.shelf import Listed
from humanseg.segmentation import rle
from humanseg.segmentation.errors import PhotoError
from humanseg.segmentation.photo import read_photo
from humanseg.training.choosing import disagreement
from humanseg.training.encoder import Encoder, embed

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
        ("embedding", pa.list_(pa.float16())),  # see `humanseg.training.encoder.embed`
        ("seconds", pa.float64()),
        ("sampling_probability", pa.float64()),
        ("clip_id", pa.string()),  # of a clip's frame
        ("problem", pa.string()),  # why there is no prediction
    ]
)
COLUMNS = [
    *("request_id", "time", "weights_sha256", "coverage", "confidence", "sampling_probability", "photo_sha256"),
    *("photo_bytes", "mask_sha256", "mask_bytes", "segment", "photo_offset", "mask_offset", "clip_id"),
]
STATISTICS = ["request_id", "disagreement", "sampling_probability", "seconds", "problem"]  # the columns of a summary


@dataclass(frozen=True)
class Window:
    """The records with since <= time < until; without `until`, all later ones."""

    since: datetime
    until: datetime | None = None


def predict(reader: Reader, encoder: Encoder, listed: Listed, window: Window) -> pa.Table | None:
    """The predictions for one segment's photos in the window; None if it was rewritten after it was listed.

    Raises ArchiveError if its table exists and can't be read.
    """
    where = pc.field("time") >= pa.scalar(window.since, _TIME)
    if window.until is not None:
        where &= pc.field("time") < pa.scalar(window.until, _TIME)
    try:
        rows = reader.records.dataset([listed]).to_table(columns=COLUMNS, filter=where).to_pylist()
    except OSError as error:  # pyarrow's S3 client has no finer ones
        if listed.key in (segment.key for segment in reader.records.listed(f"{listed.name.time:%Y-%m-%d}")):
            raise ArchiveError(f"{listed.key} can't be read: {error}") from error
        return None

    def fetch(row: dict[str, Any]) -> tuple[dict[str, Any], tuple[bytes, bytes] | str]:
        try:
            return row, reader.photo_and_mask(row)
        except (Gone, Damaged) as error:
            return row, str(error)

    predictions = [_predict(encoder, row, parts) for row, parts in parallel(fetch, rows)]
    return pa.Table.from_pylist(predictions, schema=SCHEMA)


def _predict(encoder: Encoder, row: dict[str, Any], parts: tuple[bytes, bytes] | str) -> dict[str, Any]:
    about = {
        "request_id": row["request_id"],
        "time": row["time"],
        "weights_sha256": encoder.candidate.weights_sha256,
        "served_weights_sha256": row["weights_sha256"],
        "served_coverage": row["coverage"],
        "served_confidence": row["confidence"],
        "sampling_probability": row["sampling_probability"],
        "clip_id": row["clip_id"],
    }
    if isinstance(parts, str):
        return {**about, "problem": parts}
    photo, mask = parts
    started = time.perf_counter()
    try:
        segmentation, features = encoder.segment(read_photo(photo).pixels)
    except PhotoError as error:
        return {**about, "problem": str(error)}
    seconds = time.perf_counter() - started
    summary = segmentation.summary(encoder.candidate.spec.calibration)
    served = np.asarray(Image.open(io.BytesIO(mask)).convert("L"))
    if served.shape != segmentation.mask.shape:
        return {
            **about,
            "problem": f"the mask that was served is {served.shape}, its photo {segmentation.mask.shape}",
        }
    return {
        **about,
        "coverage": summary.coverage,
        "confidence": summary.confidence,
        "disagreement": disagreement(served, segmentation.mask),
        "mask_rle": rle.encode(segmentation.mask)["counts"],
        "embedding": embed(features),
        "seconds": seconds,
    }


def summary_of(tables: Iterable[pa.Table], most: int = 10) -> dict[str, Any]:
    """Statistics of a replay, weighted by 1 / sampling_probability, and the photos with the largest disagreement.

    tables: the columns STATISTICS of its files.
    """
    whole = pa.concat_tables([SCHEMA.empty_table().select(STATISTICS), *tables])
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
