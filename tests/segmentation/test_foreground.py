"""Colours at a soft edge: the person's own come out of the mix, and nothing else changes."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pytest

from humanseg.segmentation.foreground import STRIP, foreground
from humanseg.segmentation.photo import Photo
from humanseg.segmentation.picture import draw
from humanseg.segmentation.result import Segmentation

RED, GREEN = np.array([200, 40, 30]), np.array([20, 160, 60])


def soft_disc(side: int) -> np.ndarray:
    """Alpha of a disc with a soft edge: uint8 [side, side]."""
    rows, columns = np.mgrid[0:side, 0:side] - (side - 1) / 2
    distance = side / 3 - np.hypot(rows, columns)
    return (np.clip(0.5 + distance / (side / 40), 0, 1) * 255).round().astype(np.uint8)


def mixed(alpha: np.ndarray, front: np.ndarray, behind: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.rint(front * share + behind * (1 - share)).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("side", [60, 400, 3000])
def test_the_rim_gets_the_colour_of_the_person(side: int) -> None:
    alpha = soft_disc(side)
    photo = mixed(alpha, RED, GREEN)
    soft = (alpha > 25) & (alpha < 255)
    before = np.abs(photo[soft] - RED).mean()
    after = np.abs(foreground(photo, alpha)[soft] - RED).mean()
    assert before > 30
    assert after < before / 3


def test_a_pattern_survives_where_half_of_it_shows() -> None:
    alpha = soft_disc(600)
    stripes = np.where((np.arange(600) // 20 % 2 == 0)[None, :, None], RED, np.array([230, 220, 40]))
    stripes = np.broadcast_to(stripes, (600, 600, 3))
    photo = mixed(alpha, stripes, GREEN)
    soft = (alpha > 127) & (alpha < 255)
    before = np.abs(photo[soft] - stripes[soft]).mean()
    after = np.abs(foreground(photo, alpha)[soft] - stripes[soft]).mean()
    assert after < 0.5 * before


def test_pixels_that_are_not_mixed_stay_bit_for_bit() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (300, 500, 3), dtype=np.uint8)
    alpha = np.zeros((300, 500), np.uint8)
    alpha[50:250, 100:400] = 255
    alpha = cv2.blur(alpha, (9, 9))
    whole = (alpha == 0) | (alpha == 255)
    given = photo.copy()
    colours = foreground(photo, alpha)
    assert np.array_equal(colours[whole], photo[whole])
    assert not np.array_equal(colours, photo)
    assert np.array_equal(photo, given)


@pytest.mark.parametrize("level", [0, 255])
def test_without_a_soft_edge_the_photo_is_not_even_copied(level: int) -> None:
    photo = np.zeros((20, 30, 3), np.uint8)
    assert foreground(photo, np.full((20, 30), level, np.uint8)) is photo


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (3, STRIP + 7), (40, 40)])
@pytest.mark.parametrize("level", [1, 128, 254])
def test_any_shape_and_an_alpha_that_is_soft_everywhere(shape: tuple[int, int], level: int) -> None:
    photo = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    colours = foreground(photo, np.full(shape, level, np.uint8))
    assert colours.shape == photo.shape
    assert colours.dtype == np.uint8


@pytest.mark.slow
def test_a_large_photo_takes_little_memory_beside_the_answer() -> None:
    alpha = soft_disc(3000)
    photo = mixed(alpha, RED, GREEN)
    tracemalloc.start()
    foreground(photo, alpha)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / alpha.size < 8  # bytes a pixel, of which 3 are the answer


@pytest.mark.parametrize("output", ["cutout", "composite"])
def test_a_person_on_white_has_no_rim_of_the_old_background(output: str) -> None:
    side = 384
    alpha = soft_disc(side).astype(np.float32) / 255
    photo = Photo(mixed(soft_disc(side), RED, np.zeros(3)), side, side, "png")
    segmentation = Segmentation(alpha, (alpha > 0.5).astype(np.uint8) * 255, 0.5)
    picture = draw(photo, segmentation, output).astype(np.float32)
    drawn = segmentation.alpha.astype(np.float32)[..., None] / 255
    on_white = picture[..., :3] * drawn + 255 * (1 - drawn) if output == "cutout" else picture
    wanted = RED * drawn + 255 * (1 - drawn)
    soft = (segmentation.alpha > 0) & (segmentation.alpha < 255)
    rim = photo.pixels * drawn + 255 * (1 - drawn)
    assert np.abs(on_white - wanted)[soft].mean() < 0.5 * np.abs(rim - wanted)[soft].mean()
