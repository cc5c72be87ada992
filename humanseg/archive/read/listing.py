"""Filters records by time, model, confidence, label and clip, reading only columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow.compute as pc

from humanseg.archive.read.shelf import Shelf

COLUMNS = [
    "time",
    "request_id",
    "model_version",
    "width",
    "height",
    "coverage",
    "confidence",
    "sampling_reason",
    "label",
    "clip_seconds",
]


@dataclass(frozen=True)
class Filter:
    """The filter. `model` is a version or NAME/VERSION, `clip` an id; "" and 1.0 match everything."""

    since: datetime | None = None
    until: datetime | None = None
    model: str = ""
    below_confidence: float = 1.0
    label: str = ""
    clip: str = ""

    @property
    def where(self) -> pc.Expression | None:
        """The condition on rows, except the time."""
        conditions = []
        if self.model:
            name, _, version = self.model.rpartition("/")
            conditions.append(pc.field("model_version") == version)
            if name:
                conditions.append(pc.field("model_name") == name)
        if self.below_confidence < 1.0:
            conditions.append(pc.field("confidence") < self.below_confidence)
        if self.label:
            conditions.append(pc.field("label") == self.label)
        if self.clip:
            conditions.append(pc.field("clip_id") == self.clip)
        where: pc.Expression | None = None
        for condition in conditions:
            where = condition if where is None else where & condition
        return where


def rows(records: Shelf, wanted: Filter, limit: int, *, whole: bool) -> Iterator[dict[str, Any]]:
    """Rows by time, at most `limit`; with `whole` all columns, else those of `ls`."""
    columns = None if whole else COLUMNS
    for table in records.days_rows(wanted.since, wanted.until, columns=columns, where=wanted.where):
        for batch in table.sort_by([("time", "ascending"), ("request_id", "ascending")]).to_batches(10_000):
            for row in batch.to_pylist():
                if limit <= 0:
                    return
                limit -= 1
                yield row
