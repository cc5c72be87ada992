"""The verdict on two models, from figures alone: better, worse on dark photos only, noise, and all that is asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from humanseg.training.compare import reliability
from humanseg.training.paired import BINS, Margins, Paired, calibration_error, judge, needed, resample


def paired(
    difference: np.ndarray,
    *,
    empty: int = 0,
    weights: np.ndarray | None = None,
    kinds: dict[str, np.ndarray] | None = None,
) -> Paired:
    """Photos whose new IoU differs by `difference`; the last `empty` ones show nobody."""
    count = len(difference)
    random = np.random.default_rng(7)
    old = random.uniform(0.7, 0.9, count)
    coverage = np.where(np.arange(count) < count - empty, 0.3, 0.0)
    bins = np.zeros((count, BINS, 3))
    bins[:, 0, 0] = bins[:, -1] = 0.5
    return Paired(
        old={"iou": old, "boundary_f": old, "coverage": coverage},
        new={"iou": old + difference, "boundary_f": old, "coverage": coverage.copy()},
        people=np.arange(count) < count - empty,
        weights=np.ones(count) if weights is None else weights,
        old_bins=bins,
        new_bins=bins.copy(),
        seconds=np.stack([random.uniform(0.02, 0.03, count)] * 2, axis=1),
        kinds=kinds or {},
    )


def noise(count: int, spread: float, shift: float = 0.0) -> np.ndarray:
    drawn = np.random.default_rng(3).normal(0, spread, count)
    return drawn - drawn.mean() + shift


def test_a_better_model_passes() -> None:
    verdict = judge(paired(noise(200, 0.02, 0.01)))
    assert verdict.state == "better"
    mean = verdict.checks[0].figure
    assert mean.difference == pytest.approx(0.01)
    assert mean.low == pytest.approx(0.01 - 1.96 * 0.02 / np.sqrt(200), abs=6e-4)


def test_a_model_that_is_worse_only_on_dark_photos_fails_by_name() -> None:
    light = np.array(["dark"] * 30 + ["bright"] * 270)
    change = noise(300, 0.02) + np.where(light == "dark", -0.05, 0.012)
    verdict = judge(paired(change, kinds={"light": light}))
    assert verdict.checks[0].state == "better", "in the mean it is"
    assert verdict.state == "worse"
    assert [check.name for check in verdict.checks if check.state == "worse"] == ["light: dark"]


def test_noise_is_not_enough_to_tell_and_the_number_said_is_enough() -> None:
    change = noise(60, 0.03)
    verdict = judge(paired(change))
    assert verdict.state == "can't tell"
    assert verdict.needed == pytest.approx((1.96 * change.std() / 0.002) ** 2, rel=0.1)
    assert judge(paired(noise(int(1.1 * verdict.needed), 0.03)), draws=1000).state == "not worse"


@pytest.mark.slow
def test_chance_makes_no_kind_worse() -> None:
    random = np.random.default_rng(0)
    wrong = 0
    for seed in range(10):
        kinds = {f"kind {number}": random.integers(0, 3, 300).astype(str) for number in range(6)}
        drawn = np.random.default_rng(seed).normal(0.001, 0.05, 300)
        verdict = judge(paired(drawn, kinds=kinds), draws=400, seed=seed)
        wrong += any(check.state == "worse" for check in verdict.checks)
    assert wrong <= 2, f"{wrong} of 10 models that are no worse were said to be"


def test_a_worse_model_fails_and_few_photos_never_tell() -> None:
    assert judge(paired(noise(200, 0.02, -0.02))).state == "worse"
    assert judge(paired(np.full(20, 0.1))).state == "can't tell"
    nobody = judge(paired(np.zeros(5), empty=5))
    assert nobody.state == "can't tell"
    assert nobody.checks[0].says == "there are no photos with people"


def test_false_people_on_empty_photos_fail() -> None:
    comparison = paired(np.zeros(200), empty=60)
    assert judge(comparison).state == "not worse"
    coverage = comparison.new["coverage"].copy()
    coverage[-10:] = 0.05
    verdict = judge(replace(comparison, new={**comparison.new, "coverage": coverage}))
    assert [check.name for check in verdict.checks if check.state == "worse"] == ["empty photos with false people"]


def test_a_worse_calibration_and_a_slower_model_fail() -> None:
    comparison = paired(np.zeros(100))
    sure = comparison.new_bins.copy()
    sure[:, -1, 2] -= 0.05  # what it calls certain is wrong once in ten times
    verdict = judge(replace(comparison, new_bins=sure))
    assert [check.name for check in verdict.checks if check.state == "worse"] == ["calibration error"]
    slow = judge(replace(comparison, seconds=comparison.seconds * (1, 1.2)))
    assert [check.name for check in slow.checks if check.state == "worse"] == ["time per photo, ratio"]
    assert judge(replace(comparison, seconds=comparison.seconds * (1, 1.2)), Margins(time=1.3)).state == "not worse"


def test_weights_make_up_for_photos_that_were_kept_more_often() -> None:
    # The doubtful half was kept ten times as often, and only there is the new model worse.
    count = 1100
    doubtful = np.arange(count) < 1000
    change = noise(count, 0.002) + np.where(doubtful, -0.004, 0.002)
    plain = judge(paired(change)).checks[0].figure.difference
    weights = np.where(doubtful, 1.0, 10.0)
    weighted = judge(paired(change, weights=weights)).checks[0]
    assert plain == pytest.approx(-0.0035, abs=5e-4)
    assert weighted.figure.difference == pytest.approx(-0.001, abs=5e-4)
    assert weighted.state == "not worse"


def test_weighted_bootstrap_intervals_hold_what_they_promise() -> None:
    random = np.random.default_rng(1)
    held = 0
    for seed in range(100):
        chance = random.uniform(0.1, 1, 800)
        values = random.normal(0, 1, 800) + chance  # what is kept more often is larger
        kept = random.uniform(size=800) < chance
        means = resample(1 / chance[kept], values[kept][:, None], 400, seed)[:, 0]
        low, high = np.quantile(means, (0.025, 0.975))
        held += low <= 0.55 <= high
    assert held >= 88, f"{held} of 100 intervals hold the mean of all photos"


def test_reliability_counts_pixels_by_what_was_said() -> None:
    output = np.array([[0, 0, 255, 255], [0, 128, 128, 255]], np.uint8)
    true = output == 255
    bins = reliability(output, true)
    assert bins[:, 0].sum() == pytest.approx(1)
    assert bins[0].tolist() == [3 / 8, 0, 0]
    assert bins[-1].tolist() == [3 / 8, 3 / 8, 3 / 8]
    assert float(calibration_error(bins)) == pytest.approx(2 / 8 * 128 / 255)


def test_needed_shrinks_with_the_square() -> None:
    figure = judge(paired(noise(100, 0.03))).checks[0].figure
    assert needed(figure, Margins(mean=0.004)) == pytest.approx(needed(figure, Margins(mean=0.002)) / 4, rel=0.01)
