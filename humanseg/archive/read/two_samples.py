"""Two-sample tests for weighted samples of photos: tests, effect sizes, and multiple-testing correction.

A photo that was kept with probability p represents 1 / p photos. Tables of critical values do not cover such weights.
Here the null distribution is estimated from the sample itself: each photo's contribution to the statistic is
multiplied with an independent normal number (the multiplier bootstrap, van der Vaart and Wellner 1996, chapter 2.9).
Sums of such products over a cell are normal with the cell's summed squares as variance, so that the cost of a draw
depends on the number of cells, not of photos. Photos are assumed to be independent, which a hundred from one person
are not.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DRAWS = 1200
CELLS = 100  # bins of numbers, cut at quantiles of both samples together
CATEGORIES = 30  # rarer ones are merged into one
EMBEDDED = 250  # photos of each sample whose embeddings are compared
LEAST = 50  # minimum effective number of photos (Kish) for a test


@dataclass(frozen=True)
class Sample:
    """Values of one variable, [N] numbers or texts or [N, D] embeddings, and the weight of each photo, above 0."""

    values: NDArray[np.generic]
    weights: Floats

    @property
    def effective(self) -> float:
        """Kish's effective number of photos: N for equal weights."""
        squares = float((self.weights**2).sum())
        return float(self.weights.sum()) ** 2 / squares if squares else 0.0


@dataclass(frozen=True)
class Outcome:
    """A test's result. effect: 0 (identical) to 1; p: the p-value."""

    effect: float
    p: float


def compare_numbers(first: Sample, second: Sample, seed: int = 0) -> Outcome:
    """Kolmogorov-Smirnov distance: the largest difference between the samples' shares of photos below a value."""
    both = np.concatenate([first.values, second.values]).astype(np.float64)
    cuts = np.unique(np.quantile(both, np.linspace(0, 1, CELLS + 1), method="inverted_cdf"))
    cells = [np.searchsorted(cuts, sample.values.astype(np.float64), side="left") for sample in (first, second)]
    shares, spreads = _cells(cells, (first, second), len(cuts) + 1)
    statistic = np.abs(np.cumsum(shares[0] - shares[1])).max()
    null = np.abs(np.cumsum(_null(shares, spreads, seed), axis=1)).max(axis=1)
    return Outcome(float(statistic), _p(statistic, null))


def compare_categories(first: Sample, second: Sample, seed: int = 0) -> Outcome:
    """Total variation distance: the share of photos that would have to change their category."""
    names, places = np.unique(np.concatenate([first.values, second.values]), return_inverse=True)
    if len(names) > CATEGORIES:
        common = np.argsort(-np.bincount(places))[: CATEGORIES - 1]
        rank = np.full(len(names), CATEGORIES - 1)
        rank[common] = np.arange(CATEGORIES - 1)
        places = rank[places]
    cells = [places[: len(first.values)], places[len(first.values) :]]
    shares, spreads = _cells(cells, (first, second), min(len(names), CATEGORIES))
    statistic = 0.5 * np.abs(shares[0] - shares[1]).sum()
    null = 0.5 * np.abs(_null(shares, spreads, seed)).sum(axis=1)
    return Outcome(float(statistic), _p(statistic, null))


def compare_shares(first: tuple[Floats, Floats], second: tuple[Floats, Floats], seed: int = 0) -> Outcome:
    """The difference of two ratios sum(part) / sum(whole), each photo with a part and a whole, [N] each."""
    statistics, spread = [], 0.0
    for part, whole in (first, second):
        total = whole.sum()
        ratio = part.sum() / total
        statistics.append(float(ratio))
        spread += float(((part - ratio * whole) ** 2).sum() / total**2)
    difference = abs(statistics[0] - statistics[1])
    null = np.abs(np.random.default_rng(seed).normal(0, np.sqrt(spread), DRAWS))
    return Outcome(difference, _p(difference, null))


def compare_embeddings(first: Sample, second: Sample, seed: int = 0) -> Outcome:
    """Energy distance (Szekely and Rizzo 2004) of two samples of vectors, [N, D].

    The effect is the square root of the distance above chance, relative to its maximum. The null draws are
    the wild bootstrap of a degenerate V-statistic (Leucht and Neumann 2013).
    """
    random = np.random.default_rng(seed)
    parts, signs = [], []
    for sample, side in ((first, 1.0), (second, -1.0)):
        count = min(EMBEDDED, len(sample.values))
        chosen = random.choice(len(sample.values), count, replace=False)
        parts.append(sample.values[chosen].astype(np.float32))  # twice as fast, and precise enough for distances
        signs.append(side * sample.weights[chosen] / sample.weights[chosen].sum())
    points, sign = np.concatenate(parts), np.concatenate(signs).astype(np.float32)
    points -= points.mean(axis=0)  # float32 has too few digits for a large common mean
    squares = (points**2).sum(1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * points @ points.T, 0))
    statistic = float(-sign @ distances @ sign)
    drawn = random.standard_normal((DRAWS // 2, len(sign)), np.float32)
    for part in (slice(0, len(parts[0])), slice(len(parts[0]), None)):
        drawn[:, part] -= (drawn[:, part] @ np.abs(sign[part]))[:, None]
    drawn *= sign
    null = -np.einsum("bi,bi->b", drawn @ distances, drawn)
    between = float(signs[0] @ distances[: len(parts[0]), len(parts[0]) :] @ -signs[1])
    effect = np.sqrt(max(0.0, statistic - float(null.mean())) / (2 * between)) if between else 0.0
    return Outcome(float(effect), _p(statistic, null))


def adjust(chances: list[float]) -> list[float]:
    """Benjamini-Hochberg (1995) adjusted p-values: below 0.05, the false discovery rate is 1 in 20.

    >>> [round(q, 3) for q in adjust([0.01, 0.04, 0.03, 0.5])]
    [0.04, 0.053, 0.053, 0.5]
    """
    if not chances:
        return []
    order = np.argsort(chances)
    ranked = np.asarray(chances)[order] * len(chances) / np.arange(1, len(chances) + 1)
    adjusted = np.minimum.accumulate(ranked[::-1])[::-1].clip(max=1)
    out = np.empty(len(chances))
    out[order] = adjusted
    return [float(value) for value in out]


def _cells(
    cells: list[NDArray[np.intp]], samples: tuple[Sample, Sample], number: int
) -> tuple[list[Floats], list[Floats]]:
    """The share of each cell in each sample, and the standard deviation of its part of the multiplier draws."""
    shares, spreads = [], []
    for where, sample in zip(cells, samples, strict=True):
        weights = sample.weights / sample.weights.sum()
        shares.append(np.bincount(where, weights, number).astype(np.float64))
        spreads.append(np.sqrt(np.bincount(where, weights**2, number)))
    return shares, spreads


def _null(shares: list[Floats], spreads: list[Floats], seed: int) -> Floats:
    """Draws of the difference of shares under the null hypothesis, [DRAWS, cells]."""
    sides = []
    for normals, share, spread in zip(_normals(seed), shares, spreads, strict=True):
        drawn = normals[:, : len(share)] * spread
        sides.append(drawn - share * drawn.sum(axis=1, keepdims=True))
    return np.asarray(sides[0] - sides[1])


@functools.lru_cache(maxsize=1)
def _normals(seed: int) -> Floats:
    """Draws shared by all variables, [2, DRAWS, cells]: they are most of a test's cost."""
    return np.random.default_rng(seed).normal(size=(2, DRAWS, CELLS + 2))


def _p(statistic: float, null: Floats) -> float:
    return float((1 + np.count_nonzero(null >= statistic - 1e-12)) / (1 + len(null)))
