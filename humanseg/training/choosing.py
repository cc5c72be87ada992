"""Active learning: which photos to label, and the probability of each choice. Arrays only.

Three parts, in this order:
- near-duplicates by perceptual hash count once, and near-duplicates of labelled photos are dropped;
- a share for novelty: photos that differ most from the labelled ones, by greedy k-center in the encoder's features
(Sener and
  Savarese, "Active Learning for Convolutional Neural Networks", 2018). This part is deterministic: its photos have
  probability 1 and represent only themselves;
- a sample of all others with unequal probabilities: in proportion to uncertainty, to disagreement, and a uniform
part, so that every photo has a chance. Systematic sampling of a shuffled list gives exactly these probabilities
(Madow 1949). Statistics that weight each chosen photo with 1 / probability are unbiased for all photos (Horvitz and
Thompson 1952).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from humanseg.training.reliability import LEAST, Pair, learn

Floats = NDArray[np.float64]
Why = Literal["new", "doubt", "disagreement", "random"]
NEAR = 6  # maximum Hamming distance of near-duplicates' hashes, of 64 bits


@dataclass(frozen=True)
class Shares:
    """The shares of the criteria; the rest is drawn uniformly and must be positive."""

    new: float = 0.25
    doubt: float = 0.35
    disagreement: float = 0.2

    def __post_init__(self) -> None:
        if min(self.new, self.doubt, self.disagreement) < 0 or self.random < 0.05:
            raise ValueError(
                f"shares are new {self.new:g}, doubt {self.doubt:g}, disagreement {self.disagreement:g}; together "
                "they must leave at least 0.05 to the uniform part, or some photos could never be chosen"
            )

    @property
    def random(self) -> float:
        """The share of the uniform part."""
        return 1 - self.new - self.doubt - self.disagreement


@dataclass(frozen=True)
class Pool:
    """N unlabelled photos.

    doubt, disagreement: [N], 0..1. features: [N, D]. hashes: uint64 [N], perceptual.
    """

    doubt: Floats
    disagreement: Floats
    features: Floats
    hashes: NDArray[np.uint64]


@dataclass(frozen=True)
class Chosen:
    """A chosen photo: its index in the pool, reason, probability (above 0), and number of near-duplicates."""

    index: int
    why: Why
    probability: float
    alike: int


def choose(
    pool: Pool,
    count: int,
    *,
    labelled_features: Floats | None = None,
    labelled_hashes: NDArray[np.uint64] | None = None,
    shares: Shares | None = None,
    seed: int = 0,
) -> list[Chosen]:
    """Choose at most `count` photos of the pool, in pool order."""
    shares = shares or Shares()
    alike = near_duplicates(pool.hashes, labelled_hashes)
    left = np.flatnonzero(alike > 0)
    number = min(count, len(left))
    new = left[k_center(pool.features[left], round(shares.new * number), labelled_features)]
    rest = np.setdiff1d(left, new)
    chosen = [Chosen(int(index), "new", 1.0, int(alike[index])) for index in new]
    if len(rest) and number > len(new):
        parts: dict[Why, Floats] = {
            "doubt": shares.doubt * _evenly(pool.doubt[rest]),
            "disagreement": shares.disagreement * _evenly(pool.disagreement[rest]),
            "random": shares.random * np.full(len(rest), 1 / len(rest)),
        }
        names = list(parts)
        stacked = np.stack([parts[name] for name in names])  # [3, rest]
        chances = inclusion(stacked.sum(axis=0), number - len(new))
        random = np.random.default_rng(seed)
        for place in systematic(chances, seed):
            # the photo's main reason, as if each part were drawn separately
            why = names[int(random.choice(len(names), p=stacked[:, place] / stacked[:, place].sum()))]
            index = int(rest[place])
            chosen.append(Chosen(index, why, float(chances[place]), int(alike[index])))
    return sorted(chosen, key=lambda choice: choice.index)


def near_duplicates(hashes: NDArray[np.uint64], known: NDArray[np.uint64] | None = None) -> NDArray[np.intp]:
    """The number of photos that each one represents, [N]: 0 for a near-duplicate of an earlier or known photo."""
    alike = np.zeros(len(hashes), np.intp)
    kept: list[int] = []
    for index, value in enumerate(hashes):
        if known is not None and len(known) and int(np.bitwise_count(known ^ value).min()) <= NEAR:
            continue
        if kept:
            distances = np.bitwise_count(hashes[kept] ^ value)
            nearest = int(distances.argmin())
            if int(distances[nearest]) <= NEAR:
                alike[kept[nearest]] += 1
                continue
        kept.append(index)
        alike[index] = 1
    return alike


def k_center(features: Floats, count: int, known: Floats | None = None) -> NDArray[np.intp]:
    """Greedy k-center: indices of `count` photos, each the farthest from all known and previous ones.

    features: [N, D]. Without known ones the first is the farthest from the mean.
    """
    count = min(count, len(features))
    if count <= 0:
        return np.zeros(0, np.intp)
    centres = features.mean(axis=0, keepdims=True) if known is None or not len(known) else known
    nearest = np.full(len(features), np.inf)
    for centre in centres:
        nearest = np.minimum(nearest, ((features - centre) ** 2).sum(axis=1))
    chosen: list[int] = []
    for _ in range(count):
        farthest = int(nearest.argmax())
        chosen.append(farthest)
        nearest = np.minimum(nearest, ((features - features[farthest]) ** 2).sum(axis=1))
        nearest[farthest] = -1.0
    return np.array(chosen, np.intp)


def inclusion(sizes: Floats, count: int) -> Floats:
    """Probabilities in proportion to `sizes`, [N] above 0, none above 1, that sum to `count` (at most N)."""
    count = min(count, len(sizes))
    certain = np.zeros(len(sizes), bool)
    while True:
        left = count - int(certain.sum())
        chances = np.where(certain, 1.0, left * sizes / max(sizes[~certain].sum(), 1e-300))
        over = ~certain & (chances >= 1 - 1e-12)
        if not over.any():
            return chances
        certain |= over


def systematic(chances: Floats, seed: int) -> NDArray[np.intp]:
    """Systematic sampling of indices with exactly these probabilities: points at distance 1 on a shuffled list."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(chances))
    ends = np.cumsum(chances[order])
    number = round(float(ends[-1]))
    points = random.uniform() + np.arange(number)
    places = np.searchsorted(ends, points, side="right")
    return np.sort(order[np.minimum(places, len(order) - 1)])


def calibrated_doubt(confidence: Floats, known: Sequence[Pair] = ()) -> Floats:
    """How wrong a mask is expected to be, 1 - IoU, [N], from its confidence, [N].

    known: (confidence, IoU) of labelled photos. With 30 or more the confidence is calibrated on them; with fewer it
    is used as it is.
    """
    if len(known) < 2 * LEAST:
        return np.asarray(1 - confidence)
    meaning = learn(known)
    return np.array([1 - meaning(float(value)) for value in confidence])


def disagreement(first: NDArray[np.generic], second: NDArray[np.generic]) -> float:
    """1 - IoU of two masks [H, W], a person where not 0: of two versions, or of a photo and its mirror image."""
    old, new = np.asarray(first) > 0, np.asarray(second) > 0
    union = int(np.count_nonzero(old | new))
    return 1 - int(np.count_nonzero(old & new)) / union if union else 0.0


def _evenly(scores: Floats) -> Floats:
    """Normalise scores to sum to 1; uniform if all are 0."""
    total = float(scores.sum())
    return scores / total if total > 0 else np.full(len(scores), 1 / len(scores))


def why_counts(chosen: Sequence[Chosen]) -> dict[str, int]:
    """The number of choices by reason."""
    names = ("new", "doubt", "disagreement", "random")
    return {name: sum(choice.why == name for choice in chosen) for name in names}
