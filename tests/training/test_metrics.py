"""The measures against independent implementations (torchmetrics, scikit-image, plain loops)."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch

import humanseg.training.metrics as metrics
from humanseg.training.metrics import Score, boundary_f, edge, interval, iou, pooled_iou, score, summary


def blobs(seed: int, shape: tuple[int, int] = (60, 80)) -> np.ndarray:
    from skimage.filters import gaussian

    noise = gaussian(np.random.default_rng(seed).normal(size=shape), 6)
    return noise > 0


def test_the_worked_example_in_the_docstring_holds() -> None:
    assert doctest.testmod(metrics).failed == 0
    assert doctest.testmod(metrics).attempted > 0


@pytest.mark.parametrize("seed", range(4))
def test_iou_agrees_with_torchmetrics(seed: int) -> None:
    from torchmetrics.functional.classification import binary_jaccard_index

    predicted, true = blobs(seed), blobs(seed + 100)
    expected = float(binary_jaccard_index(torch.from_numpy(predicted), torch.from_numpy(true).int()))
    assert iou(predicted, true) == pytest.approx(expected, abs=1e-6)


def test_two_empty_masks_agree_and_one_empty_mask_does_not() -> None:
    nothing, something = np.zeros((5, 5), bool), np.ones((5, 5), bool)
    assert iou(nothing, nothing) == 1.0
    assert iou(nothing, something) == 0.0
    assert boundary_f(nothing, nothing) == 1.0
    assert boundary_f(nothing, blobs(0)) == 0.0


def test_the_edge_is_scikit_images_inner_boundary() -> None:
    from skimage.segmentation import find_boundaries

    mask = blobs(3)
    np.testing.assert_array_equal(edge(mask), find_boundaries(mask, connectivity=1, mode="inner"))


@pytest.mark.parametrize("seed", range(3))
def test_boundary_f_agrees_with_a_plain_search_for_the_nearest_edge_pixel(seed: int) -> None:
    predicted, true = blobs(seed), blobs(seed) ^ (blobs(seed + 50) & blobs(seed + 60))
    tolerance = 0.02
    reach = tolerance * np.hypot(*predicted.shape)
    a, b = np.argwhere(edge(predicted)), np.argwhere(edge(true))
    distance = np.linalg.norm(a[:, None] - b[None], axis=2)
    precision, recall = (distance.min(1) <= reach).mean(), (distance.min(0) <= reach).mean()
    expected = 2 * precision * recall / (precision + recall)
    assert boundary_f(predicted, true, tolerance) == pytest.approx(expected, abs=1e-6)


def test_pooled_iou_weighs_pixels_and_mean_iou_weighs_photos() -> None:
    large = Score(both=900, either=1000, iou=0.9, boundary_f=1.0, coverage=0.5)
    small = Score(both=1, either=10, iou=0.1, boundary_f=1.0, coverage=0.001)
    figures = summary([large, small])
    assert figures["mean_iou"] == pytest.approx(0.5)
    assert figures["pooled_iou"] == pytest.approx(901 / 1010)
    assert figures["share_over_1_percent"] == 0.5


def test_the_interval_holds_the_value_and_narrows_with_more_photos() -> None:
    random = np.random.default_rng(0)
    scores = [score(blobs(int(seed)), blobs(int(seed) + 1)) for seed in random.integers(0, 50, 40)]
    low, high = interval(scores, pooled_iou)
    assert low <= pooled_iou(scores) <= high
    wide_low, wide_high = interval(scores[:8], pooled_iou)
    assert high - low < wide_high - wide_low
