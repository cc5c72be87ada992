"""Photos sorted by what can be measured in them, and masks of changed photos."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from humanseg.training.by_kind import jpeg_quality, kinds, table, tilt
from humanseg.training.changes import CHANGES, MeasuredPhoto, agreement
from humanseg.training.metrics import score


def bar(degrees: float, side: int = 300) -> np.ndarray:
    """A mask with one long bar that leans by `degrees` from upright."""
    mask = np.zeros((side, side), np.uint8)
    mask[side // 6 : -side // 6, side // 2 - 15 : side // 2 + 15] = 1
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), degrees, 1)
    return cv2.warpAffine(mask, turn, (side, side)) > 0


@pytest.mark.parametrize("degrees", [0, 12, 45, 90, -30])
def test_tilt_is_the_angle_of_the_long_axis(degrees: float) -> None:
    degrees_found = tilt(bar(degrees))
    assert degrees_found == pytest.approx(abs(degrees), abs=1.5)


def test_a_round_mask_has_no_tilt() -> None:
    disc = np.zeros((100, 100), np.uint8)
    cv2.circle(disc, (50, 50), 30, 1, -1)
    assert tilt(disc > 0) is None


@pytest.mark.parametrize("quality", [20, 30, 50, 75, 90, 95])
def test_the_quality_of_a_jpeg_is_read_from_its_tables(tmp_path: Path, quality: int) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    picture.save(tmp_path / "a.jpg", quality=quality)
    assert jpeg_quality(tmp_path / "a.jpg") == pytest.approx(quality, abs=1.5)
    picture.save(tmp_path / "a.png")
    assert jpeg_quality(tmp_path / "a.png") is None


def test_a_dark_flat_photo_is_of_such_kinds_and_their_figures_are_its_own(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    true = bar(0)
    bright, dark = random.integers(120, 256, (300, 300, 3), dtype=np.uint8), np.full((300, 300, 3), 20, np.uint8)
    photos = []
    for name, pixels, predicted in (("bright", bright, true), ("dark", dark, np.zeros_like(true))):
        path = tmp_path / f"{name}.png"
        Image.fromarray(pixels).save(path)
        photos.append((kinds(path, pixels, true), score(predicted, true)))
    assert photos[1][0].items() >= {"light": "dark", "contrast": "flat", "people": "one", "tilt": "below 10°"}.items()
    rows = {row.kind: row for row in table(photos)}
    assert (rows["light: dark"].mean_iou, rows["light: bright"].mean_iou) == (0.0, 1.0)
    assert rows["tilt: below 10°"].photos == 2
    assert rows["tilt: below 10°"].low <= rows["tilt: below 10°"].mean_iou == 0.5 <= rows["tilt: below 10°"].high


def test_changes_move_the_masks_of_a_method_that_they_disturb() -> None:
    true = bar(0)
    pixels = np.where(true[..., None], np.uint8(162), np.uint8(128)).repeat(3, axis=2)
    pixels = np.clip(pixels + np.random.default_rng(0).normal(0, 2, pixels.shape), 0, 255).astype(np.uint8)

    def by_brightness(photo: np.ndarray) -> np.ndarray:
        return photo.mean(axis=2) > 145

    result = agreement(by_brightness, [MeasuredPhoto(pixels, by_brightness(pixels), true)])
    assert set(result) == set(CHANGES)
    assert result["mirrored"] == result["grey"] == (1.0, 1.0)
    assert result["half size"][0] > 0.9
    assert result["dark"][0] == 0.0
    assert 0.1 < result["noise"][0] < result["half size"][0]


def test_without_photos_there_is_nothing_to_say() -> None:
    assert agreement(lambda photo: photo[..., 0] > 0, []) == {}
