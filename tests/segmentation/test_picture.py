"""Pictures of any size: PNG comes back as it was, and drawing and writing take little memory beside the picture."""

from __future__ import annotations

import tracemalloc
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from humanseg.segmentation.photo import Photo
from humanseg.segmentation.picture import NEEDS_PHOTO, blend, draw
from humanseg.segmentation.png import STRIP, write_png
from humanseg.segmentation.result import Segmentation


@pytest.mark.parametrize("shape", [(1, 1), (3, 5, 3), (1500, 1000), (700, 800, 4), (3, STRIP + 7), (2, STRIP, 3)])
def test_every_strip_comes_back_as_it_was(shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert np.array_equal(np.asarray(Image.open(BytesIO(write_png(picture)))), picture)


def test_a_large_picture_is_not_copied() -> None:
    picture = np.zeros((3000, 4000, 4), np.uint8)
    tracemalloc.start()
    write_png(picture)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < picture.nbytes / 8


@pytest.mark.parametrize("output", NEEDS_PHOTO)
def test_a_large_picture_is_drawn_in_little_more_memory_than_its_own(output: str) -> None:
    height, width = 1500, 2000
    photo = Photo(np.zeros((height, width, 3), np.uint8), width, height, "jpeg")
    segmentation = Segmentation(np.zeros((32, 32), np.float32), np.zeros((height, width), np.uint8), 0.5)
    tracemalloc.start()
    draw(photo, segmentation, output)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / (height * width) < 10  # bytes a pixel, of which 3 or 4 are the picture


def test_a_blend_in_strips_is_that_of_the_whole() -> None:
    random = np.random.default_rng(1)
    front, back = random.integers(0, 256, (2, 900, 1000, 3), dtype=np.uint8)
    alpha = random.integers(0, 256, (900, 1000), dtype=np.uint8)
    share = alpha[..., None] / 255
    assert np.abs(blend(front, back, alpha) - (front * share + back * (1 - share))).max() <= 1
