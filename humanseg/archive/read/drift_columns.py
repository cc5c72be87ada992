"""Converts Arrow tables of the archive to the columns for drift detection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

# All columns for drift detection; a table may lack some.
NAMES = (
    *("time", "width", "height", "sent_format", "label", "coverage", "confidence"),
    *("brightness", "contrast", "sharpness", "features"),
    *("sampling_reason", "sampling_probability"),
    *("passed_over_declined", "passed_over_sampled_out", "passed_over_dropped"),
)


def columns_of(tables: Iterable[pa.Table]) -> dict[str, NDArray[Any]]:
    """The rows of all `tables` as numpy columns, without photos archived on request.

    Such photos have no known sampling probability: people choose what they send.
    """
    found = list(tables)
    if not found:
        return {}
    whole = pa.concat_tables(found, promote_options="default")
    columns = {name: _numpy(whole.column(name)) for name in NAMES if name in whole.column_names}
    if "sampling_reason" in columns:
        sampled = columns.pop("sampling_reason") != "request"
        columns = {name: values[sampled] for name, values in columns.items()}
    return columns


def _numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    if pa.types.is_timestamp(column.type):
        return np.asarray(column.cast(pa.timestamp("us")).to_numpy())
    if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
        rows = column.to_pylist()
        width = max((len(row) for row in rows if row), default=1)
        return np.array([row or [np.nan] * width for row in rows], np.float64)
    return np.asarray(column.to_numpy(zero_copy_only=False))
