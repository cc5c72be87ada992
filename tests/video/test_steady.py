"""Steadied masks: half the flicker, no less exact, and nothing of the past after a cut."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from humanseg.video.steady import Steady

SIZE = (192, 144)


def textured(seed: int) -> np.ndarray:
    """A photograph's worth of texture: uint8 [h, w, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 255, (SIZE[1] // 6, SIZE[0] // 6, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC))


def moving(step: float, zoom: float = 1.0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(frame, true mask) of a textured disc over a textured ground."""
    ground, disc = textured(1), textured(2)
    whole = np.zeros(SIZE[::-1], np.uint8)
    cv2.circle(whole, (70, 72), 36, 255, -1)
    for index in range(16):
        scale = zoom**index
        place = np.array([[scale, 0, step * index + 70 * (1 - scale)], [0, scale, 72 * (1 - scale)]], np.float32)
        mask = cv2.warpAffine(whole, place, SIZE) > 127
        front = cv2.warpAffine(disc, place, SIZE, borderMode=cv2.BORDER_REFLECT)
        yield np.where(mask[..., None], front, ground), mask


def unsure(mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A network's probability that is right on average, and trembles in patches from frame to frame."""
    soft = cv2.GaussianBlur(np.where(mask, 0.75, 0.2).astype(np.float32), (0, 0), 2)
    patches = cv2.resize(random.normal(0, 0.3, (9, 12)).astype(np.float32), SIZE, interpolation=cv2.INTER_CUBIC)
    return np.clip(soft + patches, 0, 1).astype(np.float32)


@pytest.mark.parametrize(("step", "zoom"), [(0.0, 1.0), (1.5, 1.0), (0.0, 1.015)])
def test_half_the_flicker_and_no_less_exact(step: float, zoom: float) -> None:
    random, steady = np.random.default_rng(0), Steady()
    before: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    flicker, overlap = np.zeros(2), np.zeros(2)
    for frame, mask in moving(step, zoom):
        raw = unsure(mask, random)
        masks = (raw > 0.5, steady(raw, frame) > 0.5)
        overlap += [(one & mask).sum() / (one | mask).sum() for one in masks]
        if before is not None:
            alike = mask == before[2]  # where the truth did not change
            flicker += [(one != last)[alike].mean() for one, last in zip(masks, before[:2], strict=True)]
        before = (*masks, mask)
    assert flicker[1] < 0.5 * flicker[0]
    assert overlap[1] > overlap[0]


@pytest.mark.parametrize("scale", [2, 3])
def test_a_finer_probability_is_smoothed_like_one_of_the_networks_size(scale: int) -> None:
    random, steady, finer = np.random.default_rng(0), Steady(), Steady()
    large = (SIZE[0] * scale, SIZE[1] * scale)
    for frame, mask in moving(1.5):
        raw = unsure(mask, random)
        smoothed = steady(raw, frame)
        fine = finer(np.asarray(cv2.resize(raw, large, interpolation=cv2.INTER_LINEAR)), frame)
        assert fine.shape == large[::-1]
        again = cv2.resize(fine, SIZE, interpolation=cv2.INTER_AREA)
        assert np.abs(again - smoothed).mean() < 0.01
    assert np.abs(smoothed - raw).mean() > 0.05


def test_after_a_cut_nothing_is_left_of_the_past() -> None:
    steady = Steady()
    for _ in range(4):
        steady(np.ones(SIZE[::-1], np.float32), textured(3))
    now = np.full(SIZE[::-1], 0.1, np.float32)
    np.testing.assert_array_equal(steady(now, textured(4)), now)


def test_a_light_that_goes_on_is_no_cut() -> None:
    steady = Steady()
    dark = (textured(5) * 0.6).astype(np.uint8)
    steady(np.full(SIZE[::-1], 0.9, np.float32), dark)
    after = steady(np.full(SIZE[::-1], 0.5, np.float32), (dark * 1.3).astype(np.uint8))
    assert after.mean() > 0.7


def test_the_first_frame_and_a_new_size_are_taken_as_they_are() -> None:
    steady = Steady()
    first = np.full((32, 64), 0.3, np.float32)
    np.testing.assert_array_equal(steady(first, np.zeros((32, 64, 3), np.uint8)), first)
    other = np.full((64, 32), 0.8, np.float32)
    np.testing.assert_array_equal(steady(other, np.zeros((64, 32, 3), np.uint8)), other)
