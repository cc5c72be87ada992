"""A confidence that keeps its word: bins, their error, what is learned, and the way into the answer."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from humanseg.segmentation.calibration import UNCHANGED, Calibration
from humanseg.segmentation.errors import WeightsError
from humanseg.segmentation.result import Segmentation
from humanseg.segmentation.segmenter import Segmenter
from humanseg.segmentation.unet import UNet
from humanseg.segmentation.weights import load_weights, save_weights
from humanseg.training.reliability import bins, calibration_error, learn, plot


def boastful(count: int, seed: int = 0) -> list[tuple[float, float]]:
    """Pairs of one who says 0.1 to 0.3 too much."""
    random = np.random.default_rng(seed)
    output = random.uniform(0.5, 1, count)
    return [
        (float(a), float(np.clip(a - b, 0, 1))) for a, b in zip(output, random.uniform(0.1, 0.3, count), strict=True)
    ]


def test_the_error_is_the_mean_distance_of_word_and_deed() -> None:
    assert calibration_error([(0.9, 0.9), (0.6, 0.6)]) == pytest.approx(0)
    assert calibration_error([(0.96, 0.76)] * 3 + [(0.6, 0.6)]) == pytest.approx(0.15)
    assert calibration_error([]) == 0


def test_every_pair_lies_in_one_bin() -> None:
    pairs = [(0.0, 0.1), (1.0, 1.0), (0.5, 0.4), *boastful(100)]
    groups = bins(pairs)
    assert sum(group.photos for group in groups) == len(pairs)
    assert all(group.low <= group.confidence <= group.high for group in groups)


def test_what_is_learned_keeps_its_word_on_other_photos() -> None:
    calibration = learn(boastful(400))
    others = boastful(400, seed=1)
    assert calibration_error(others) > 0.15
    assert calibration_error([(calibration(output), was) for output, was in others]) < 0.03


def test_a_calibration_never_ranks_photos_anew() -> None:
    calibration = learn(boastful(300))
    output = [calibration(value) for value in np.linspace(0, 1, 101)]
    assert output == sorted(output)
    assert 0 <= output[0] <= output[-1] <= 1


def test_too_few_photos_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        learn(boastful(10))


def test_it_is_kept_with_the_weights_and_served(tmp_path: Path) -> None:
    halved = Calibration(((0.0, 0.0), (1.0, 0.5)))
    path = tmp_path / "a.safetensors"
    save_weights(path, UNet((4, 8)).eval(), input_size=64, threshold=0.5, calibration=halved.text())
    assert load_weights(path).spec.calibration == halved
    photo = cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8))[1].tobytes()
    segmentation = Segmenter.load(path)(photo, threshold=0.01)
    assert segmentation.summary.confidence == pytest.approx(segmentation.segmentation.summary().confidence / 2)


def test_where_nobody_was_found_the_confidence_stays_as_it_is() -> None:
    nobody = Segmentation(np.full((8, 8), 0.1, np.float32), np.zeros((8, 8), np.uint8), 0.5)
    assert nobody.summary(Calibration(((0.0, 0.0), (1.0, 0.5)))).confidence == pytest.approx(0.9)


@pytest.mark.parametrize("text", ["", "0:0", "0:0 1", "0:0 0.5:0.9 1:0.8", "0:0 2:1", "0:a 1:1", "0.5:0 0.5:1"])
def test_a_damaged_calibration_names_the_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is the next one's
        Calibration.from_text(text)
    path = tmp_path / "a.safetensors"
    save_weights(path, UNet((4, 8)).eval(), input_size=64, threshold=0.5, calibration=text)
    with pytest.raises(WeightsError, match=r"a\.safetensors: calibration is"):
        load_weights(path)


def test_its_text_is_read_back() -> None:
    calibration = learn(boastful(100))
    assert Calibration.from_text(calibration.text()) == calibration
    assert Calibration.from_text(UNCHANGED.text()) == UNCHANGED


def test_the_plot_has_a_square_for_each_set(tmp_path: Path) -> None:
    plot({"one": boastful(50), "nobody": [], "two": boastful(20)}, tmp_path / "plot.png")
    picture = cv2.imread(str(tmp_path / "plot.png"))
    assert picture.shape[1] == 2 * picture.shape[0]
    assert picture.min() < 100
