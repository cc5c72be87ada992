"""Measures weights on whole data sets; writes JSON, sheets of photos and a reliability plot.

`OUT/evaluation.json` contains every metric with its 95 % bootstrap confidence interval, and every photo's metrics;
`OUT/NAME.png` shows the worst, the median and the best photos of each set with their masks, `OUT/reliability.png`
plots the confidence against the IoU.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from humanseg.segmentation.graph import Graph
from humanseg.segmentation.models import reference
from humanseg.segmentation.photo import Pixels
from humanseg.segmentation.pipeline import segment
from humanseg.segmentation.weights import Weights
from humanseg.training import by_kind, metrics, reliability
from humanseg.training.by_kind import Row
from humanseg.training.changes import Mask, MeasuredPhoto, agreement
from humanseg.training.measure import Engine, Result, measure_samples
from humanseg.training.metrics import Score
from humanseg.training.reliability import Pair
from humanseg.training.samples import DataError, Sample, check
from humanseg.training.sheets import COLUMNS, sheet

FIGURES: dict[str, Callable[[Sequence[Score]], float]] = {
    "mean_iou": lambda scores: sum(score.iou for score in scores) / len(scores),
    "p10_iou": lambda scores: metrics.summary(scores)["p10_iou"],
    "pooled_iou": metrics.pooled_iou,
    "boundary_f": lambda scores: sum(score.boundary_f for score in scores) / len(scores),
}
EMPTY_FIGURES: dict[str, Callable[[Sequence[Score]], float]] = {
    "share_over_1_percent": metrics.over_one_percent,
    "mean_coverage": lambda scores: sum(score.coverage for score in scores) / len(scores),
}


@dataclass(frozen=True)
class SetReport:
    """The measurements of one data set: `figures` maps a name to (value, low, high) of its 95 % interval."""

    name: str
    photos: int
    nobody: bool  # no photo of the set has a person
    figures: dict[str, tuple[float, float, float]]
    results: list[Result]
    changes: dict[str, tuple[float, float]]  # see humanseg.training.changes; empty if not requested

    @property
    def pairs(self) -> list[Pair]:
        """(confidence, IoU) of the photos with a detected person."""
        return [(result.confidence, result.iou) for result in self.results if result.predicted.any()]


def evaluate(
    weights: Weights | Graph,
    sets: Sequence[tuple[str, list[Sample]]],
    out: Path | None = None,
    *,
    threshold: float | None = None,
    engine: Engine | None = None,
    quality: str = "fast",
    changed: bool = False,
) -> list[SetReport]:
    """Measure each named set; with `changed` also its robustness.

    Raises DataError, listing every invalid file, before the first measurement.
    """
    problems = [line for _, samples in sets for line in check(samples)]
    if problems:
        raise DataError("\n".join(problems))

    run = engine or reference(weights)

    def mask(pixels: Pixels) -> Mask:
        return segment(run, weights.spec, pixels, threshold=threshold, quality=quality).mask > 0

    reports = []
    for name, samples in sets:
        if samples:
            results = measure_samples(weights, samples, threshold, run, quality)
            photos = (
                [MeasuredPhoto(result.pixels, result.predicted, result.true) for result in results] if changed else []
            )
            reports.append(report_set(name, results, agreement(mask, photos)))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for report in reports:
            sheet(extremes(report), out / f"{report.name.replace('/', '_')}.png")
        content = {
            "weights_sha256": weights.sha256,
            "architecture": weights.architecture,
            "input_size": weights.spec.long_side,
            "threshold": weights.spec.threshold if threshold is None else threshold,
            "quality": quality,
            "sets": [as_plain(report) for report in reports],
            "kinds": [asdict(row) for row in kinds(reports)],
        }
        reliability.plot(
            {report.name: report.pairs for report in reports if not report.nobody}, out / "reliability.png"
        )
        (out / "evaluation.json").write_text(json.dumps(content, indent=2) + "\n")
    return reports


def kinds(reports: Sequence[SetReport]) -> list[Row]:
    """The table by slice, over all sets with people."""
    shown = [result for report in reports if not report.nobody for result in report.results if result.true.any()]
    return by_kind.table((by_kind.kinds(item.photo, item.pixels, item.true), item.score) for item in shown)


def report_set(name: str, results: list[Result], changes: dict[str, tuple[float, float]] | None = None) -> SetReport:
    """The metrics of one set; photos without people are measured by false positives."""
    scores: list[Score] = [result.score for result in results]
    nobody = not any(result.true.any() for result in results)
    wanted = EMPTY_FIGURES if nobody else FIGURES
    figures = {key: (figure(scores), *metrics.interval(scores, figure)) for key, figure in wanted.items()}
    return SetReport(name, len(results), nobody, figures, results, changes or {})


def extremes(report: SetReport) -> list[Result]:
    """Two rows each of the worst, the median and the best photos, worst first."""
    key = (lambda result: -result.score.coverage) if report.nobody else (lambda result: result.iou)
    ordered = sorted(report.results, key=key)
    count = 2 * COLUMNS
    if len(ordered) <= 3 * count:
        return ordered
    middle = len(ordered) // 2 - count // 2
    return ordered[:count] + ordered[middle : middle + count] + ordered[-count:]


def as_plain(report: SetReport) -> dict[str, Any]:
    """A report as plain values for JSON."""
    return {
        "set": report.name,
        "photos": report.photos,
        "figures": {
            key: {"value": round(value, 4), "low": round(low, 4), "high": round(high, 4)}
            for key, (value, low, high) in report.figures.items()
        },
        "calibration_error": round(reliability.calibration_error(report.pairs), 4),
        "reliability": [asdict(item) for item in reliability.bins(report.pairs)],
        "changes": {
            name: {"iou_with_unchanged": round(own, 4), "iou_with_drawn": round(drawn, 4)}
            for name, (own, drawn) in report.changes.items()
        },
        "per_photo": [
            {
                "photo": result.photo.name,
                "iou": round(result.iou, 4),
                "boundary_f": round(result.score.boundary_f, 4),
                "coverage": round(result.score.coverage, 4),
                "confidence": round(result.confidence, 4),
            }
            for result in report.results
        ],
    }
