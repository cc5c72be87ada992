"""The core as a library: a file of weights and a photo to pictures, with nothing of a server loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from humanseg.segmentation import PhotoError, Segmenter
from humanseg.segmentation.weights import WeightsError
from humanseg.serve.build_mar import DEFAULT_WEIGHTS
from tests.running import ROOT

PHOTO = ROOT / "tests" / "photos" / "astronaut.jpg"


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.load(DEFAULT_WEIGHTS)


def test_every_picture_of_a_photo_has_its_size(segmenter: Segmenter) -> None:
    segmentation = segmenter(PHOTO)
    size = (segmentation.summary.width, segmentation.summary.height)
    pictures = {
        "L": (segmentation.mask(), segmentation.probability()),
        "RGBA": (segmentation.cutout(),),
        "RGB": (segmentation.overlay(), segmentation.composite("#102030"), segmentation.composite("blur")),
    }
    for mode, drawn in pictures.items():
        for picture in drawn:
            assert (picture.mode, picture.size) == (mode, size)
    assert 0.1 < segmentation.summary.coverage < 0.9
    assert 0.5 < segmentation.summary.confidence <= 1


def test_bytes_and_a_path_give_the_same(segmenter: Segmenter) -> None:
    by_path, by_bytes = segmenter(str(PHOTO)), segmenter(PHOTO.read_bytes())
    assert np.array_equal(by_path.segmentation.mask, by_bytes.segmentation.mask)


def test_a_higher_threshold_finds_less(segmenter: Segmenter) -> None:
    assert segmenter(PHOTO, threshold=0.95).summary.coverage < segmenter(PHOTO, threshold=0.05).summary.coverage


def test_what_is_wrong_is_named(segmenter: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="not a picture"):
        segmenter(b"nothing that anybody could draw")
    with pytest.raises(PhotoError, match="megapixels"):
        segmenter(PHOTO, max_pixels=100)
    with pytest.raises(FileNotFoundError):
        segmenter(tmp_path / "gone.jpg")
    with pytest.raises(WeightsError, match="no such file"):
        Segmenter.load(tmp_path / "gone.safetensors")


def test_nothing_of_a_server_is_loaded() -> None:
    code = """
import sys
from humanseg.segmentation import Segmenter
names = ("handler", "ts", "boto3", "requests", "humanseg.archive", "humanseg.serve", "humanseg.client")
print([name for name in names if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
