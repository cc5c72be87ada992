"""Converts Arrow tables of the archive to the columns for drift detection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

# All columns for drift detection; a table may lack some.
NAMES = (
    *("request_id", "time", "width", "height", "sent_format", "label", "coverage", "confidence"),
    *("brightness", "contrast", "sharpness"),
    *("sampling_reason", "sampling_probability", "clip_id"),
    *("passed_over_declined", "passed_over_sampled_out", "passed_over_dropped"),
)


def columns_of(tables: Iterable[pa.Table], predictions: pa.Table | None = None) -> dict[str, NDArray[Any]]:
    """The rows of all `tables` as numpy columns, without photos archived on request.

    Such photos have no known sampling probability: people choose what they send.
    Frames of clips are excluded, too: the frames of one clip are not independent samples.
    predictions: columns `request_id` and `embedding` of a replay; other photos have NaN in `embedding`.
    """
    parts = list(tables)
    if not parts:
        return {}
    whole = pa.concat_tables(parts, promote_options="default")
    if "clip_id" in whole.column_names:
        whole = whole.filter(pc.field("clip_id").is_null()).drop_columns("clip_id")
    columns = {name: _numpy(whole.column(name)) for name in NAMES if name in whole.column_names}
    ids = columns.pop("request_id", None)
    if predictions is not None and ids is not None:
        columns["embedding"] = _embeddings(whole.column("request_id"), predictions)
    if "sampling_reason" in columns:
        sampled = columns.pop("sampling_reason") != "request"
        columns = {name: values[sampled] for name, values in columns.items()}
    return columns


def _numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    if pa.types.is_timestamp(column.type):
        return np.asarray(column.cast(pa.timestamp("us")).to_numpy())
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _embeddings(ids: pa.ChunkedArray, predictions: pa.Table) -> NDArray[np.float32]:
    """The embedding of each id, [N, D]; NaN if the replay has none."""
    known = predictions.filter(pc.is_valid(predictions["embedding"]))
    places = pc.fill_null(pc.index_in(ids, value_set=known["request_id"].combine_chunks()), -1).to_numpy()
    if not len(known):
        return np.full((len(ids), 1), np.nan, np.float32)
    vectors = known["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    vectors = vectors.astype(np.float32).reshape(len(known), -1)
    return np.where((places >= 0)[:, None], vectors[places], np.float32(np.nan))
