"""Masks: edges between the network's pixels, regions, alpha, facts, and COCO's run lengths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from humanseg.segmentation import rle
from humanseg.segmentation.frame import to_frame
from humanseg.segmentation.mask import (
    BoundingBox,
    along_edges,
    binary_mask,
    bounding_box,
    confidence,
    coverage,
    soft_alpha,
    to_photo_size,
)
from humanseg.segmentation.spec import Spec


def disc(side: int, x: float, y: float, radius: float) -> np.ndarray:
    """The area that a disc covers of each pixel, roughly: float32 [side, side] in 0..1."""
    rows, columns = np.mgrid[:side, :side] + 0.5
    return np.clip(radius - np.hypot(columns - x, rows - y) + 0.5, 0, 1).astype(np.float32)


def test_the_edge_runs_between_the_networks_pixels() -> None:
    """A disc at 64x64 upsampled 16 times agrees with the true disc far better than blocks of 16 pixels do."""
    mask = binary_mask(to_photo_size(disc(64, 31.3, 32.7, 20.2), 1024, 1024), 0.5)
    truth = disc(1024, 31.3 * 16, 32.7 * 16, 20.2 * 16) > 0.5
    iou = (truth & (mask > 0)).sum() / (truth | (mask > 0)).sum()
    assert iou > 0.995


@pytest.mark.parametrize(("width", "height"), [(900, 300), (300, 900), (7, 2000), (1, 1)])
def test_the_mask_fits_the_photo_to_its_corners(width: int, height: int) -> None:
    frame = to_frame(np.zeros((height, width, 3), np.uint8), Spec((256, 256)))
    upsampled = to_photo_size(along_edges(np.ones(frame.shape[1:], np.float32), frame), width, height)
    assert upsampled.shape == (height, width)
    assert (upsampled == 255).all()


def test_the_edge_moves_to_where_the_photo_turns() -> None:
    """The network's blurred edge runs a pixel beside the photo's; drawn along it, it comes nearer."""
    photo = np.zeros((64, 64, 3), np.uint8)
    photo[:, 30:] = 200
    frame = to_frame(photo, Spec((64, 64)))
    columns = np.arange(64, dtype=np.float32)
    blurred = np.tile(1 / (1 + np.exp(31.2 - columns)), (64, 1)).astype(np.float32)
    assert (blurred > 0.5)[0].argmax() == 32
    drawn = along_edges(blurred, frame)
    assert ((drawn > 0.5).argmax(axis=1) < 32).all()
    assert drawn[:, 30].mean() - drawn[:, 29].mean() > 1.5 * (blurred[0, 30] - blurred[0, 29])


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))
def test_drawn_along_edges_it_stays_a_probability(height: int, width: int, seed: int) -> None:
    noise = np.random.default_rng(seed)
    frame = to_frame(noise.integers(0, 256, (height, width, 3), np.uint8), Spec((96, 96)))
    drawn = along_edges(noise.random(frame.shape[1:], np.float32), frame)
    assert drawn.shape == frame.shape[1:]
    assert drawn.dtype == np.float32
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_a_photo_of_one_colour_leaves_a_certain_answer_as_it_is() -> None:
    frame = to_frame(np.full((64, 64, 3), 90, np.uint8), Spec((64, 64)))
    for certain in (0.0, 1.0):
        answer = np.full((64, 64), certain, np.float32)
        assert along_edges(answer, frame) == pytest.approx(certain)


def test_threshold_is_open_at_its_value() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for threshold in (0.001, 0.25, 0.5, 0.999):
        assert ((binary_mask(levels, threshold) == 255) == (levels / 255 > threshold)).all(), threshold


def test_alpha_is_solid_inside_soft_at_the_edge_and_clear_outside() -> None:
    levels = np.arange(256, dtype=np.uint8)[None]
    for threshold in (0.2, 0.5, 0.8):
        alpha = soft_alpha(levels, threshold)[0]
        assert (alpha[0], alpha[255]) == (0, 255)
        assert abs(int(alpha[round(threshold * 255)]) - 127) < 5
        assert (np.diff(alpha.astype(int)) >= 0).all()


def test_facts_of_a_known_mask() -> None:
    mask = np.zeros((10, 20), np.uint8)
    mask[2:6, 5:15] = 255
    assert coverage(mask) == 40 / 200
    assert bounding_box(mask) == BoundingBox(5, 2, 10, 4)
    assert bounding_box(np.zeros((3, 3), np.uint8)) is None


def test_the_margin_stays_inside_the_photo() -> None:
    assert BoundingBox(1, 50, 100, 40).grown(0.05, 104, 200) == BoundingBox(0, 45, 104, 50)


def test_confidence_is_the_soft_iou_of_probability_and_mask() -> None:
    sure = np.zeros((10, 10), np.float32)
    sure[:5] = 1
    assert confidence(sure, 0.5) == 1.0
    unsure = np.where(sure > 0, 0.8, 0.1).astype(np.float32)
    assert confidence(unsure, 0.5) == pytest.approx(50 * 0.8 / (50 + 50 * 0.1))
    assert confidence(np.full((4, 4), 0.1, np.float32), 0.5) == pytest.approx(0.9)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
@given(arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_pycocotools_reads_our_run_lengths(person: np.ndarray) -> None:
    encoded = rle.encode(person.astype(np.uint8) * 255)
    assert (coco.decode(encoded).astype(bool) == person).all()
    assert encoded["counts"] == coco.encode(np.asfortranarray(person.astype(np.uint8)))["counts"].decode()


def test_run_lengths_of_a_worked_example() -> None:
    mask = np.zeros((4, 3), np.uint8)
    mask[1:3, 1] = 255
    assert rle.run_lengths(mask) == [5, 2, 5]
    assert rle.run_lengths(np.full((2, 2), 255, np.uint8)) == [0, 4]
