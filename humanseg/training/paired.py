"""Statistics of two models on the same photos: paired differences, confidence intervals, and a verdict. Arrays only.

Photos are weighted by their inverse sampling probability (Hajek's ratio estimator) and resampled with their weights
(Efron's bootstrap), so that the results are valid for all served photos.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
State = Literal["not worse", "worse", "can't tell", "better"]
BINS = 15  # of probability, for the calibration error
CHUNK = 500  # draws at once


@dataclass(frozen=True)
class Margins:
    """Allowed regressions of a new model. Differences are new minus old.

    mean: of the mean IoU, over all photos with a person. kind: of any slice's mean IoU, if significant. calibration:
    of the calibration error. false_people: of the share of empty photos with more than 1 % false positives. time:
    ratio of the time per photo.
    """

    mean: float = 0.002
    kind: float = 0.01
    calibration: float = 0.005
    false_people: float = 0.0
    time: float = 1.1
    least_photos: int = 30  # minimum for a verdict
    least_of_kind: int = 10


@dataclass(frozen=True)
class Interval:
    """A metric of both models. low and high: the 95 % confidence interval of `difference`."""

    photos: int
    old: float
    new: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """The measurements of two models on the same N photos.

    old, new: measures by name, each [N] (iou, boundary_f, coverage). people: bool [N], whether the photo has a
    person.
    weights: [N], above 0. old_bins, new_bins: [N, BINS, 3] of (share of pixels, sum of probability, sum of truth).
    seconds: [N, 2], time per photo. kinds: slice variables to the value of each photo, [N] of text.
    """

    old: Mapping[str, Values]
    new: Mapping[str, Values]
    people: NDArray[np.bool_]
    weights: Values
    old_bins: Values
    new_bins: Values
    seconds: Values
    kinds: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Check:
    """One check of the new model, and its result."""

    name: str
    state: State
    figure: Interval
    says: str


@dataclass(frozen=True)
class Verdict:
    """state: the verdict. needed: the number of photos with people for a decision, if there are too few."""

    state: State
    checks: tuple[Check, ...]
    needed: int | None = None


def judge(paired: Paired, margins: Margins | None = None, *, draws: int = 4000, seed: int = 0) -> Verdict:
    """Decide whether the new model may replace the old one."""
    margins = margins or Margins()
    checks = [_mean(paired, margins, draws, seed)]
    checks += _kinds(paired, margins, draws, seed)
    checks.append(_calibration(paired, margins, draws, seed))
    if not paired.people.all():
        checks.append(_false_people(paired, margins, draws, seed))
    checks.append(_time(paired, margins, draws, seed))
    if any(check.state == "worse" for check in checks):
        return Verdict("worse", tuple(checks))
    if checks[0].state == "can't tell":
        return Verdict("can't tell", tuple(checks), needed(checks[0].figure, margins))
    return Verdict(checks[0].state, tuple(checks))


def needed(mean: Interval, margins: Margins) -> int:
    """Photos with people needed for a decision, if both models are equal: the interval shrinks as 1 / sqrt(N)."""
    reach = (mean.high - mean.low) / 2
    return max(margins.least_photos, int(np.ceil(mean.photos * (reach / margins.mean) ** 2)))


def resample(weights: Values, columns: Values, draws: int, seed: int) -> Values:
    """Weighted means of `columns` [N, C] in `draws` bootstrap samples: [draws, C]; NaN where a column is not in one.

    A NaN in a column leaves that photo out of that column.
    """
    random = np.random.default_rng(seed)
    count = len(weights)
    there = ~np.isnan(columns)
    weighted = np.where(there, columns, 0.0) * weights[:, None]
    counted = there * weights[:, None]
    out = []
    for start in range(0, draws, CHUNK):
        rows = min(CHUNK, draws - start)
        places = random.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        drawn = np.bincount(places.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
        with np.errstate(invalid="ignore"):
            out.append((drawn @ weighted) / (drawn @ counted))
    return np.concatenate(out)


def interval(paired: Paired, name: str, keep: NDArray[np.bool_], draws: int, seed: int) -> Interval:
    """A metric's weighted mean for both models and its paired difference, over the photos of `keep`, bool [N]."""
    weights = paired.weights[keep]
    old, new = paired.old[name][keep], paired.new[name][keep]
    means = resample(weights, (new - old)[:, None], draws, seed)[:, 0]
    low, high = np.quantile(means, (0.025, 0.975))
    first, second = np.average(old, weights=weights), np.average(new, weights=weights)
    return Interval(int(keep.sum()), float(first), float(second), float(second - first), float(low), float(high))


def calibration_error(bins: Values) -> Values:
    """Expected calibration error (Guo et al. 2017) of weighted mean bins [..., BINS, 3]: [...]."""
    return np.asarray(np.abs(bins[..., 1] - bins[..., 2]).sum(-1))


def _mean(paired: Paired, margins: Margins, draws: int, seed: int) -> Check:
    name = "mean IoU"
    keep = paired.people
    if keep.sum() < 2:
        nothing = Interval(int(keep.sum()), np.nan, np.nan, 0.0, -1.0, 1.0)
        return Check(name, "can't tell", nothing, "there are no photos with people")
    result = interval(paired, "iou", keep, draws, seed)
    if result.photos < margins.least_photos:
        return Check(
            name,
            "can't tell",
            result,
            f"{result.photos} photos with people; at least {margins.least_photos} are needed",
        )
    if result.high < -margins.mean:
        return Check(name, "worse", result, f"significantly worse by more than {margins.mean:g}")
    if result.low >= -margins.mean:
        better = result.low > 0
        says = "significantly better" if better else f"significantly not worse by more than {margins.mean:g}"
        return Check(name, "better" if better else "not worse", result, says)
    return Check(name, "can't tell", result, f"undecided whether it is worse by more than {margins.mean:g}")


def _kinds(paired: Paired, margins: Margins, draws: int, seed: int) -> list[Check]:
    groups = []
    for kind, values in paired.kinds.items():
        for value in sorted(set(values[paired.people].tolist()) - {""}):
            keep = paired.people & (values == value)
            # a group of all photos repeats the mean
            if margins.least_of_kind <= keep.sum() < paired.people.sum():
                groups.append((f"{kind}: {value}", keep))
    if not groups:
        return []
    tail = 0.025 / len(groups)  # Bonferroni: otherwise one of 20 would seem worse by chance
    change = paired.new["iou"] - paired.old["iou"]
    columns = np.stack([np.where(keep, change, np.nan) for _, keep in groups], axis=1)  # [N, groups]
    means = resample(paired.weights, columns, max(draws, 200 * len(groups)), seed)
    checks = []
    for (name, keep), drawn in zip(groups, means.T, strict=True):
        weights = paired.weights[keep]
        old, new = (float(np.average(side["iou"][keep], weights=weights)) for side in (paired.old, paired.new))
        low, high = np.nanquantile(drawn, (tail, 1 - tail))
        result = Interval(int(keep.sum()), old, new, new - old, float(low), float(high))
        bad = result.difference < -margins.kind and result.high < 0
        says = f"significantly worse by more than {margins.kind:g}" if bad else ""
        checks.append(Check(name, "worse" if bad else "not worse", result, says))
    return checks


def _calibration(paired: Paired, margins: Margins, draws: int, seed: int) -> Check:
    count = len(paired.weights)
    both = np.concatenate([paired.old_bins.reshape(count, -1), paired.new_bins.reshape(count, -1)], axis=1)
    drawn = resample(paired.weights, both, draws, seed).reshape(-1, 2, BINS, 3)
    errors = calibration_error(drawn)  # [draws, 2]
    old, new = calibration_error(np.average(both, axis=0, weights=paired.weights).reshape(2, BINS, 3))
    low, high = np.quantile(errors[:, 1] - errors[:, 0], (0.025, 0.975))
    result = Interval(count, float(old), float(new), float(new - old), float(low), float(high))
    bad = result.difference > margins.calibration and result.low > 0
    says = f"the error grows significantly by more than {margins.calibration:g}" if bad else ""
    return Check("calibration error", "worse" if bad else "not worse", result, says)


def _false_people(paired: Paired, margins: Margins, draws: int, seed: int) -> Check:
    over = [{"over": (side["coverage"] > 0.01).astype(np.float64)} for side in (paired.old, paired.new)]
    empty = Paired(
        over[0],
        over[1],
        paired.people,
        paired.weights,
        paired.old_bins,
        paired.new_bins,
        paired.seconds,
        paired.kinds,
    )
    result = interval(empty, "over", ~paired.people, draws, seed)
    bad = result.low > margins.false_people
    says = "significantly more empty photos with false people" if bad else ""
    return Check("empty photos with false people", "worse" if bad else "not worse", result, says)


def _time(paired: Paired, margins: Margins, draws: int, seed: int) -> Check:
    ratios = paired.seconds[:, 1] / paired.seconds[:, 0]
    random = np.random.default_rng(seed)
    medians = [np.median(ratios[random.integers(0, len(ratios), len(ratios))]) for _ in range(min(draws, 1000))]
    low, high = np.quantile(medians, (0.025, 0.975))
    old, new = np.median(paired.seconds, axis=0)
    result = Interval(len(ratios), float(old), float(new), float(np.median(ratios)), float(low), float(high))
    bad = result.low > margins.time
    says = f"a photo takes more than {margins.time:g} times as long" if bad else ""
    return Check("time per photo, ratio", "worse" if bad else "not worse", result, says)
