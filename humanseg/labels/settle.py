"""Merges several annotators' masks of one photo."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from itertools import combinations

import numpy as np

from humanseg.labels.drawn import DrawnMask, LabelError, Mask

LEAST_AGREEMENT = 0.7  # mean pairwise IoU of the annotators' masks
_BEGINNING = datetime.min.replace(tzinfo=timezone.utc)


def settle(
    masks: Sequence[DrawnMask], least_agreement: float = LEAST_AGREEMENT
) -> tuple[Mask | None, str | None, float]:
    """Merge all annotations of one photo into (mask, annotators, agreement 0..1).

    An annotation marked as ground truth takes precedence. Per annotator the newest one counts. Several annotators are
    merged by majority vote per pixel.

    Raises:
        LabelError: their masks have different sizes, or agree by less than `least_agreement`.
    """
    chosen = [mask for mask in masks if mask.truth] or list(masks)
    newest: dict[str | None, DrawnMask] = {}
    for mask in sorted(chosen, key=lambda mask: _moment(mask.time)):
        newest[mask.annotator] = mask
    rows = list(newest.values())
    if len(rows) == 1:
        return rows[0].mask, rows[0].annotator, 1.0
    shapes = {row.mask.shape for row in rows if row.mask is not None}
    if len(shapes) > 1:
        raise LabelError("the annotators' masks have different sizes")
    who = ", ".join(sorted(row.annotator or "?" for row in rows))
    if not shapes:
        return None, who, 1.0
    shape = shapes.pop()
    drawn = [np.zeros(shape, bool) if row.mask is None else row.mask > 0 for row in rows]
    agreement = float(np.mean([_iou(first, second) for first, second in combinations(drawn, 2)]))
    if agreement < least_agreement:
        raise LabelError(
            f"the masks of {who} agree by {agreement:.2f}, below {least_agreement:g}; "
            "mark one annotation as ground truth, or cancel the wrong one"
        )
    votes = np.sum(drawn, axis=0)
    return np.where(2 * votes > len(drawn), np.uint8(255), np.uint8(0)), who, agreement


def _iou(first: np.ndarray, second: np.ndarray) -> float:  # type: ignore[type-arg]
    either = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / either if either else 1.0


def _moment(time: datetime | None) -> datetime:
    if time is None:
        return _BEGINNING
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)
