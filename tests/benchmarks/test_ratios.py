"""The guard against getting slow: CPU time against CPU time in one process, interleaved, with room for noise.

The bounds are two to ten times what was measured (benchmarks/NOTES.md); no absolute time is asserted.
"""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from PIL import Image

from benchmarks.limit import Way
from benchmarks.photos import SIZES, make_photo
from humanseg.segmentation.photo import read_photo
from humanseg.segmentation.picture import encode

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.slow


def ratio(ours: Callable[[], object], other: Callable[[], object], rounds: int = 5) -> float:
    """Median over rounds of the CPU time of `one` by that of `other`."""
    ours(), other()
    ratios = []
    for _ in range(rounds):
        start = time.process_time()
        ours()
        half = time.process_time()
        other()
        ratios.append((half - start) / (time.process_time() - half))
    return median(ratios)


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Way:
    """The served model's way of a photo, without a server."""
    folder = tmp_path_factory.mktemp("model")
    with zipfile.ZipFile(ROOT / "model_store" / "human_segmentation.mar") as mar:
        mar.extractall(folder)
    return Way(folder)


@pytest.fixture(scope="module")
def phone() -> bytes:
    """A photo as large as a phone's."""
    return make_photo(SIZES["phone"])


def test_a_mask_is_packed_in_less_than_half_of_pillows_time(phone: bytes) -> None:
    y, x = np.mgrid[:3000, :4000]
    mask = np.where((x - 2000) ** 2 + (y - 1500) ** 2 < 1000**2, 255, 0).astype(np.uint8)

    def pillow() -> None:
        Image.fromarray(mask).save(BytesIO(), "PNG", compress_level=1)

    assert ratio(lambda: encode(mask, "png"), pillow) < 0.5  # measured: 0.03


def test_a_phone_photo_is_not_decoded_whole_when_only_its_mask_is_wanted(phone: bytes) -> None:
    assert ratio(lambda: read_photo(phone, least_side=256), lambda: read_photo(phone)) < 0.8  # measured: 0.45


def test_a_phone_photo_costs_at_most_a_few_typical_ones(way: Way, phone: bytes) -> None:
    typical = make_photo(SIZES["typical"])
    assert ratio(lambda: way.photo(phone, "mask"), lambda: way.photo(typical, "mask")) < 5  # aim: 2.5


def test_the_engine_is_not_slower_than_torch_eager(way: Way) -> None:
    import torch

    from humanseg.segmentation.weights import load_weights

    torch.set_num_threads(1)
    network = load_weights(ROOT / "model_store" / "human_segmentation.safetensors").network
    frame = torch.from_numpy(way.frame)

    def eager() -> None:
        with torch.inference_mode():
            network(frame)

    assert ratio(way.forward, eager) < 1.2  # measured: 0.3 to 0.7
