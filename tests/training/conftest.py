"""Small data sets for the training tests: drawn figures on coloured ground, made from a seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

MakeData = Callable[..., Path]


def draw(random: np.random.Generator, height: int = 96, width: int = 72) -> tuple[np.ndarray, np.ndarray]:
    """An RGB picture with one figure of a head and a body, and its mask 0/255."""
    ground = random.integers(0, 255, (4, 4, 3)).astype(np.uint8)
    pixels = cv2.resize(ground, (width, height), interpolation=cv2.INTER_CUBIC)
    mask = np.zeros((height, width), np.uint8)
    x, y = int(random.integers(width // 3, 2 * width // 3)), int(random.integers(height // 5, height // 3))
    cv2.circle(mask, (x, y), height // 9, 255, -1)
    cv2.ellipse(mask, (x, y + height // 3), (width // 6, height // 4), 0, 0, 360, 255, -1)
    pixels[mask > 0] = random.integers(0, 255, 3)
    return pixels, mask


@pytest.fixture
def make_data(tmp_path: Path) -> MakeData:
    """A function that writes a folder with img/ and mask/ and returns it."""

    def make(name: str = "data", photos: int = 8, seed: int = 0) -> Path:
        folder = tmp_path / name
        (folder / "img").mkdir(parents=True)
        (folder / "mask").mkdir()
        random = np.random.default_rng(seed)
        for index in range(photos):
            pixels, mask = draw(random)
            cv2.imwrite(str(folder / "img" / f"{index:02d}.jpg"), pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
            cv2.imwrite(str(folder / "mask" / f"{index:02d}.png"), mask)
        return folder

    return make
