"""Test-time augmentation: never more than four passes, finer where people are small, the rest as it was."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from humanseg.segmentation.augmented import FINEST, HALF, SMALL, predict_augmented, small_people
from humanseg.segmentation.frame import frame_shape
from humanseg.segmentation.pipeline import segment
from humanseg.segmentation.spec import Spec

SIZE = 384
SPEC = Spec((SIZE, SIZE))


class Brightness:
    """An engine that takes what is bright for a person, in blocks of 16 pixels, as a coarse network would."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.batches.append(len(batch))
        number, _, height, width = batch.shape
        blocks = batch.mean(axis=1).reshape(number, height // 16, 16, width // 16, 16).mean(axis=(2, 4))
        return np.ascontiguousarray(blocks.repeat(16, axis=1).repeat(16, axis=2))


def discs(height: int, width: int, *places: tuple[int, int, int]) -> np.ndarray:
    """White discs of (x, y, radius) on black: uint8 [height, width, 3]."""
    photo = np.zeros((height, width, 3), np.uint8)
    for x, y, radius in places:
        cv2.circle(photo, (x, y), radius, (255, 255, 255), -1)
    return photo


def overlap(mask: np.ndarray, true: np.ndarray) -> float:
    return float((mask & true).sum() / (mask | true).sum())


@pytest.mark.parametrize("places", [[(300, 500, 60)], [(300, 300, 50), (1200, 900, 60)]])
def test_small_people_get_a_finer_edge(places: list[tuple[int, int, int]]) -> None:
    photo = discs(1200, 1600, *places)
    true = photo[..., 0] > 0
    fast, best = (segment(Brightness(), SPEC, photo, threshold=0.5, quality=quality) for quality in ("fast", "best"))
    assert overlap(best.mask > 0, true) > overlap(fast.mask > 0, true) + 0.05
    assert best.mask.shape == fast.mask.shape == (1200, 1600)
    assert max(best.probability_map.shape) <= FINEST * SIZE


def test_who_fills_the_photo_is_only_mirrored() -> None:
    photo = discs(300, 400, (200, 150, 145))
    engine = Brightness()
    probability = predict_augmented(engine, SPEC, photo, 0.5)
    assert engine.batches == [1, 1]
    assert probability.shape == frame_shape(300, 400, SPEC)


def test_the_mean_with_the_mirror_image_has_no_side() -> None:
    def leaning(batch: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.linspace(0.6, 1, batch.shape[3], dtype=np.float32), (len(batch), *batch.shape[2:]))

    probability = predict_augmented(leaning, SPEC, discs(300, 400), 0.5)
    assert np.allclose(probability, 0.8, atol=1e-5)


@pytest.mark.parametrize("count", range(0, 12))
def test_a_crowd_takes_four_passes_at_the_most(count: int) -> None:
    random = np.random.default_rng(count)
    places = [(int(x), int(y), int(r)) for x, y, r in random.integers((40, 40, 25), (960, 660, 60), (count, 3))]
    engine = Brightness()
    probability = predict_augmented(engine, SPEC, discs(700, 1000, *places), 0.5)
    assert sum(engine.batches) <= 4
    assert probability.min() >= 0
    assert probability.max() <= 1


@pytest.mark.parametrize("x", [200, 800, 1400])
@pytest.mark.parametrize("lying", [True, False])
def test_each_half_is_seen_at_its_own_place(x: int, lying: bool) -> None:
    """Somebody whom only a closer pass shows is found in either half, and where both overlap."""
    photo = discs(1200, 1600, (400, 300, 80), (x, 900, 40))
    photo[820:, :] //= 2  # too dark for the first pass
    photo = photo if lying else np.ascontiguousarray(photo.transpose(1, 0, 2))
    whole = frame_shape(*photo.shape[:2], SPEC)

    def near_sighted(batch: np.ndarray) -> np.ndarray:
        frames = batch.mean(axis=1)
        return np.where(frames > 0.7, frames, 0) if frames.shape[1:] == whole else np.minimum(2 * frames, 1)

    found = segment(near_sighted, SPEC, photo, threshold=0.5, keep="all", quality="best").mask > 0
    assert overlap(found, photo[..., 0] > 0) > 0.85


def test_a_photo_that_shows_nobody_gets_no_closer_passes() -> None:
    engine = Brightness()
    assert not predict_augmented(engine, SPEC, discs(1200, 1600), 0.5).any()
    assert engine.batches == [1, 1]


def test_the_halves_join_without_a_seam() -> None:
    def level(batch: np.ndarray) -> np.ndarray:
        probability = np.full((len(batch), *batch.shape[2:]), 0.3, np.float32)
        probability[:, : probability.shape[1] // 3, : probability.shape[2] // 3] = 0.6  # somebody small
        return probability

    for shape in ((1200, 1600), (1600, 1200), (40, 900)):
        probability = predict_augmented(level, SPEC, discs(*shape), 0.5)
        assert np.allclose(probability[-probability.shape[0] // 4 :, -probability.shape[1] // 4 :], 0.3, atol=1e-4)
    assert 0.5 < HALF < SMALL


def blobs(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """A map float32 [288, 384] with 1 in each box (x, y, width, height)."""
    probability = np.zeros((288, 384), np.float32)
    for x, y, width, height in boxes:
        probability[y : y + height, x : x + width] = 1
    return probability


def test_the_crop_holds_as_many_small_people_as_fit() -> None:
    row = [(20 + 50 * index, 100, 18, 40) for index in range(5)]
    part = small_people(blobs(*row, (370, 270, 5, 8)), 0.5)
    assert part is not None
    assert part.extent <= SMALL
    for x, y, wide, tall in row:
        assert part.left <= x / 384 <= (x + wide) / 384 <= part.right
        assert part.top <= y / 288 <= (y + tall) / 288 <= part.bottom


@pytest.mark.parametrize(
    "boxes",
    [[], [(0, 0, 384, 288)], [(10, 5, 100, 280)], [(50, 50, 3, 3)]],
    ids=["nobody", "all of it", "tall", "a speck"],
)
def test_nothing_small_gets_no_crop(boxes: list[tuple[int, int, int, int]]) -> None:
    assert small_people(blobs(*boxes), 0.5) is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (33, 2000), (40, 40)])
def test_photos_of_any_shape(shape: tuple[int, int]) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert segment(Brightness(), SPEC, photo, threshold=0.5, quality="best").mask.shape == shape


def test_both_halves_are_one_batch_and_a_crop_follows() -> None:
    engine = Brightness()
    predict_augmented(engine, SPEC, discs(1200, 1600, (300, 500, 60)), 0.5)
    assert engine.batches == [1, 2, 1]
