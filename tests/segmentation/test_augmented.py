"""Test-time augmentation: never more than four passes, finer where people are small, the rest as it was."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from humanseg.segmentation.augmented import FINEST, PARTS, SMALL, predict_augmented, small_parts
from humanseg.segmentation.frame import frame_shape, to_frame
from humanseg.segmentation.mask import along_edges
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
    assert engine.batches == [2]
    assert probability.shape == frame_shape(300, 400, SPEC)


def test_the_mean_with_the_mirror_image_has_no_side() -> None:
    def leaning(batch: np.ndarray) -> np.ndarray:
        return np.broadcast_to(np.linspace(0, 0.4, batch.shape[3], dtype=np.float32), (len(batch), *batch.shape[2:]))

    probability = predict_augmented(leaning, SPEC, discs(300, 400), 0.5)
    assert np.allclose(probability, 0.2, atol=1e-5)


@pytest.mark.parametrize("count", range(0, 12))
def test_a_crowd_takes_four_passes_at_the_most(count: int) -> None:
    random = np.random.default_rng(count)
    places = [(int(x), int(y), int(r)) for x, y, r in random.integers((40, 40, 25), (960, 660, 60), (count, 3))]
    engine = Brightness()
    probability = predict_augmented(engine, SPEC, discs(700, 1000, *places), 0.5)
    assert sum(engine.batches) <= 4
    assert probability.min() >= 0
    assert probability.max() <= 1


def test_what_is_far_from_small_people_stays_as_it_was() -> None:
    photo = discs(1200, 1600, (300, 500, 60))
    photo[:, 1200:] = 90
    engine = Brightness()
    probability = predict_augmented(engine, SPEC, photo, 0.5)
    frame = to_frame(photo, SPEC)
    straight, mirrored = Brightness()(np.stack([frame, frame[:, :, ::-1]]))
    whole = along_edges((straight + mirrored[:, ::-1]) / 2, frame)
    wanted = cv2.resize(whole, probability.shape[::-1], interpolation=cv2.INTER_LINEAR)
    right = probability.shape[1] // 2
    assert np.array_equal(probability[:, right:], wanted[:, right:])
    assert not np.array_equal(probability[:, :right], wanted[:, :right])


def blobs(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """A map float32 [288, 384] with 1 in each box (x, y, width, height)."""
    probability = np.zeros((288, 384), np.float32)
    for x, y, width, height in boxes:
        probability[y : y + height, x : x + width] = 1
    return probability


def test_parts_are_few_small_apart_and_hold_their_people() -> None:
    row = [(20 + 70 * index, 100, 18, 40) for index in range(5)]
    parts = small_parts(blobs(*row), 0.5)
    assert 1 <= len(parts) <= PARTS
    assert all(part.extent <= SMALL for part in parts)
    assert not any(part is not other and part.touches(other) for part in parts for other in parts)
    held = [(x / 384, y / 288) for x, y, _, _ in row]
    assert all(any(p.left <= x <= p.right and p.top <= y <= p.bottom for p in parts) for x, y in held)


@pytest.mark.parametrize(
    "boxes",
    [[], [(0, 0, 384, 288)], [(10, 5, 100, 280)], [(50, 50, 3, 3)]],
    ids=["nobody", "all of it", "tall", "a speck"],
)
def test_nothing_small_means_no_parts(boxes: list[tuple[int, int, int, int]]) -> None:
    assert small_parts(blobs(*boxes), 0.5) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (33, 2000), (40, 40)])
def test_photos_of_any_shape(shape: tuple[int, int]) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert segment(Brightness(), SPEC, photo, threshold=0.5, quality="best").mask.shape == shape


def test_two_parts_of_one_shape_are_one_batch() -> None:
    engine = Brightness()
    predict_augmented(engine, SPEC, discs(1200, 1600, (300, 500, 60), (1300, 500, 60)), 0.5)
    assert engine.batches == [2, 2]
