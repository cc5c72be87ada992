"""Small calculations on results that tables and plots share. A `Found` is what one part of run.py saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

Found = Mapping[str, Any]
PHOTOS = ("small", "typical", "phone")
OURS, OURS_OFF = "ours", "ours, archive off"
# Photos a second of a server that answered none: under one in a load of 3 s or more. Ratios to it are lower bounds.
SLOWEST = 1 / 3


def middle(rows: Sequence[Found], key: str) -> float:
    """Median over rounds."""
    return median(row[key] for row in rows)


def ratio_to_limit(results: Found, server: str, photo: str) -> float:
    """Median over rounds of throughput as a share of the limit of the same round."""
    pairs = zip(results["servers"][server][photo], results["limit"][photo], strict=True)
    return median(seen["rate"] / limit["rate"] for seen, limit in pairs)


def ratio_of(rows: Sequence[Found], others: Sequence[Found]) -> float:
    """Median over rounds of one throughput by another of the same round; a lower bound where the other is 0."""
    pairs = zip(rows, others, strict=True)
    return median(seen["rate"] / max(beside["rate"], SLOWEST) for seen, beside in pairs)


def best_peer(results: Found, photo: str, stack: str) -> str | None:
    """The name of the fastest peer with that stack, "torch" or "ours"; None where none started."""
    names = [name for name in results["servers"] if name.endswith(f", {stack}")]
    return max(names, key=lambda name: middle(results["servers"][name][photo], "rate"), default=None)


def shares_of_others(results: Any) -> list[float]:
    """Every "others" figure anywhere in the results: the share of the cores in other hands, 0..1."""
    if isinstance(results, dict):
        own = [results["others"]] if isinstance(results.get("others"), float) else []
        return own + [share for value in results.values() for share in shares_of_others(value)]
    if isinstance(results, list):
        return [share for value in results for share in shares_of_others(value)]
    return []
