"""Data drift: tests each variable of the archive's table between two time windows.

    drift(reference, current)      two tables of columns to one finding per variable
    as_gauges(findings)            the same for Prometheus
No segment is read: pixel statistics (brightness, contrast, sharpness) were computed when the record was written, and
embeddings come from a replay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from humanseg.archive.read.two_samples import (
    LEAST,
    Outcome,
    Sample,
    adjust,
    compare_categories,
    compare_embeddings,
    compare_numbers,
    compare_shares,
)

Columns = Mapping[str, NDArray[Any]]
LEVEL = 0.05  # of the adjusted p
LEAST_EFFECT = 0.1  # a smaller change raises no alarm, however significant
BARS = 20


@dataclass(frozen=True)
class Finding:
    """One variable in both windows. effect: 0 (the same) to 1. q: p, adjusted for the number of variables.

    before, now: the weighted median, the most frequent category, or the share. bars: names, and the share of each
    window in each. note: why there is no test.
    """

    name: str
    effect: float
    p: float
    q: float
    alarm: bool
    before: str
    now: str
    photos: tuple[int, int]
    bars: tuple[list[str], list[float], list[float]] = ((), (), ())  # type: ignore[assignment]
    note: str = ""


def variables(table: Columns) -> dict[str, NDArray[Any]]:
    """The variables to compare, from the table's columns; missing columns are skipped.

    Expects numpy columns: numbers, texts ("" for null), `time` as datetime64[us], `embedding` as float [N, D].
    """
    columns: dict[str, NDArray[Any]] = {}
    for name in ("coverage", "confidence", "brightness", "contrast", "sharpness"):
        if name in table:
            columns[name] = table[name].astype(np.float64)
    if "width" in table and "height" in table:
        width, height = table["width"].astype(np.float64), table["height"].astype(np.float64)
        columns["megapixels"] = width * height / 1e6
        columns["shape (width / height)"] = width / height
    for name, title in (("sent_format", "format"), ("label", "label")):
        if name in table:
            columns[title] = np.array(["" if value is None else str(value) for value in table[name]], dtype=str)
    if "time" in table:
        hours = table["time"].astype("datetime64[h]").astype(np.int64) % 24
        columns["hour"] = np.array([f"{hour:02d}" for hour in hours], dtype=str)
    if "embedding" in table:
        columns["embedding"] = table["embedding"]
    return columns


def weights_of(table: Columns) -> NDArray[np.float64]:
    """How many photos each row stands for: 1 / sampling_probability."""
    count = len(next(iter(table.values())))
    if "sampling_probability" not in table:
        return np.ones(count)
    return np.asarray(1 / table["sampling_probability"].astype(np.float64))


def drift(
    reference: Columns, current: Columns, *, least_effect: float = LEAST_EFFECT, seed: int = 0
) -> list[Finding]:
    """Findings for all variables of both windows, largest change first.

    An alarm is a change that is statistically significant (q below LEVEL, over all variables) and large enough.
    """
    weights = weights_of(reference), weights_of(current)
    first, second = variables(reference), variables(current)
    findings = [_finding(name, first[name], second[name], weights, seed) for name in first if name in second]
    findings += _declined(reference, current, seed)
    tested = [finding for finding in findings if not finding.note]
    rest = [finding for finding in findings if finding.note]
    adjusted = [
        replace(finding, q=q, alarm=q < LEVEL and finding.effect >= least_effect)
        for finding, q in zip(tested, adjust([finding.p for finding in tested]), strict=True)
    ]
    return sorted(adjusted, key=lambda finding: (not finding.alarm, -finding.effect)) + rest


def _finding(
    name: str,
    before: NDArray[Any],
    now: NDArray[Any],
    weights: tuple[NDArray[np.float64], NDArray[np.float64]],
    seed: int,
) -> Finding:
    samples = []
    for values, weight in zip((before, now), weights, strict=True):
        known = (
            np.isfinite(values).reshape(len(values), -1).all(1)
            if values.dtype.kind == "f"
            else np.ones(len(values), bool)
        )
        samples.append(Sample(values[known], weight[known]))
    first, second = samples
    counts = len(first.values), len(second.values)
    effective = min(first.effective, second.effective)
    if effective < LEAST:
        note = f"too few photos: {effective:.0f} effective ones, {LEAST} are needed"
        return Finding(name, 0.0, 1.0, 1.0, False, "", "", counts, note=note)
    if before.ndim == 2:
        outcome = compare_embeddings(first, second, seed)
        return Finding(name, outcome.effect, outcome.p, 1.0, False, "", "", counts)
    numbers = before.dtype.kind == "f"
    test: Callable[[Sample, Sample, int], Outcome] = compare_numbers if numbers else compare_categories
    outcome = test(first, second, seed)
    says = [_median(sample) if numbers else _commonest(sample) for sample in samples]
    bars = _histogram(first, second) if numbers else _counts(first, second)
    return Finding(name, outcome.effect, outcome.p, 1.0, False, says[0], says[1], counts, bars)


def _declined(reference: Columns, current: Columns, seed: int) -> list[Finding]:
    """The share of photos whose sender declined. Each record counts those that its worker skipped before it."""
    names = ("passed_over_declined", "passed_over_sampled_out", "passed_over_dropped")
    if not all(name in table for table in (reference, current) for name in names):
        return []
    sides = []
    for table in (reference, current):
        part = table[names[0]].astype(np.float64)
        passed_over = np.stack([table[name].astype(np.float64) for name in names])  # [3, N]
        sides.append((part, 1.0 + passed_over.sum(axis=0)))
    if min(len(part) for part, _ in sides) < LEAST:
        return []
    outcome = compare_shares(sides[0], sides[1], seed)
    before, now = (f"{part.sum() / whole.sum():.3f}" for part, whole in sides)
    counts = len(sides[0][0]), len(sides[1][0])
    return [Finding("share declined", outcome.effect, outcome.p, 1.0, False, before, now, counts)]


def _median(sample: Sample) -> str:
    order = np.argsort(sample.values)
    heap = np.cumsum(sample.weights[order])
    return f"{float(sample.values[order][np.searchsorted(heap, heap[-1] / 2)]):.4g}"


def _commonest(sample: Sample) -> str:
    names, shares = _shares(sample)
    return f"{names[int(np.argmax(shares))] or '(none)'} {max(shares):.0%}"


def _shares(sample: Sample) -> tuple[list[str], NDArray[np.float64]]:
    names, places = np.unique(sample.values, return_inverse=True)
    return [str(name) for name in names], np.bincount(places, sample.weights) / sample.weights.sum()


def _histogram(first: Sample, second: Sample) -> tuple[list[str], list[float], list[float]]:
    both = np.concatenate([first.values, second.values]).astype(np.float64)
    low, high = np.quantile(both, (0.005, 0.995))
    edges = np.linspace(low, high if high > low else low + 1, BARS + 1)
    counts = []
    for sample in (first, second):
        values = sample.values.astype(np.float64).clip(edges[0], edges[-1])
        counts.append((np.histogram(values, edges, weights=sample.weights)[0] / sample.weights.sum()).tolist())
    return [f"{edge:.3g}" for edge in edges[:-1]], counts[0], counts[1]


def _counts(first: Sample, second: Sample) -> tuple[list[str], list[float], list[float]]:
    shares = [dict(zip(*_shares(sample), strict=True)) for sample in (first, second)]
    names = sorted(set(shares[0]) | set(shares[1]), key=lambda name: -shares[0].get(name, 0) - shares[1].get(name, 0))
    if all(name.isdecimal() for name in names):
        names.sort()
    names = names[: max(BARS, 24)]
    counts = [[float(side.get(name, 0)) for name in names] for side in shares]
    return [name or "(none)" for name in names], counts[0], counts[1]


def as_gauges(findings: list[Finding], time: float) -> str:
    """The findings in the Prometheus text format, for node_exporter's textfile collector. `time`: Unix seconds."""
    lines = []
    for gauge, says, value in (
        ("effect", "How much a variable of the photos has changed, 0 to 1.", lambda finding: finding.effect),
        ("q", "Its p value, adjusted for the number of variables.", lambda finding: finding.q),
        ("alarm", "1 if the change is large and significant.", lambda finding: float(finding.alarm)),
    ):
        lines += [f"# HELP humanseg_archive_drift_{gauge} {says}", f"# TYPE humanseg_archive_drift_{gauge} gauge"]
        lines += [
            f'humanseg_archive_drift_{gauge}{{variable="{finding.name}"}} {value(finding):g}'
            for finding in findings
            if not finding.note
        ]
    name = "humanseg_archive_drift_time_seconds"
    lines += [f"# HELP {name} Unix time of the last comparison.", f"# TYPE {name} gauge", f"{name} {time:.0f}"]
    return "\n".join(lines) + "\n"
