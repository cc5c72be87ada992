"""Which people stay in the mask: those the photo is about, all, or one."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from humanseg.segmentation.mask import bounding_box
from humanseg.segmentation.pipeline import at_photo_size, probability, segment
from humanseg.segmentation.regions import KEEP, keep_regions, largest_region, main_regions, sure_regions
from humanseg.segmentation.spec import Spec

Box = tuple[int, int, int, int]  # top, bottom, left, right

MAIN: Box = (20, 80, 30, 60)
FRIEND: Box = (30, 80, 70, 90)  # 56 % of MAIN's area
CHILD: Box = (50, 78, 10, 22)  # 19 %, on the same ground
BEHIND: Box = (24, 52, 10, 22)  # as large, and farther away
PASSER_BY: Box = (10, 20, 2, 12)  # 6 %


def people(*boxes: Box, level: float = 0.9) -> np.ndarray:
    probability = np.full((100, 100), 0.05, np.float32)
    for top, bottom, left, right in boxes:
        probability[top:bottom, left:right] = level
    return probability


def found(probability: np.ndarray, keep: str) -> np.ndarray:
    return at_photo_size(probability, 100, 100, threshold=0.5, keep=keep).mask > 0


def test_by_default_passers_by_are_left_out_and_main_people_stay() -> None:
    photo = people(MAIN, FRIEND, PASSER_BY)
    assert np.array_equal(at_photo_size(photo, 100, 100, threshold=0.5).mask > 0, people(MAIN, FRIEND) > 0.5)
    assert np.array_equal(found(photo, "all"), photo > 0.5)
    assert np.array_equal(found(photo, "largest"), people(MAIN) > 0.5)


def test_a_child_on_the_same_ground_stays_and_somebody_as_large_behind_does_not() -> None:
    assert np.array_equal(found(people(MAIN, CHILD), "main"), people(MAIN, CHILD) > 0.5)
    assert np.array_equal(found(people(MAIN, BEHIND), "main"), people(MAIN) > 0.5)
    assert np.array_equal(found(people(MAIN, (0, 40, 65, 95)), "main"), people(MAIN, (0, 40, 65, 95)) > 0.5)  # 67 %


def test_a_small_part_within_a_main_persons_box_stays() -> None:
    photo = people(MAIN)
    photo[45:50] = 0.05  # a table hides the waist
    photo[20:22, 30:60] = 0.05
    photo[14:18, 40:50] = 0.9  # hair above a headband: beside the box, and small
    photo[47, 50:53] = 0.9  # a finger on the table, within the box of neither part
    photo[60:62, 30:60] = 0.05
    legs = np.zeros_like(photo, bool)
    legs[62:80, 30:60] = True
    assert (found(photo, "main") & legs).sum() == legs.sum()
    inside = people(MAIN)
    inside[20:40, 40:60] = 0.05  # an arm bent around a gap, with a hand in it
    inside[28:32, 48:52] = 0.9
    assert np.array_equal(found(inside, "main"), inside > 0.5)


def test_one_person_alone_stays_however_small() -> None:
    for keep in KEEP:
        assert np.array_equal(found(people(PASSER_BY), keep), people(PASSER_BY) > 0.5)


def test_a_crowd_of_similar_people_stays() -> None:
    crowd = people(*((top, top + 8, left, left + 6) for top in (5, 30, 60) for left in range(2, 90, 12)))
    assert np.array_equal(found(crowd, "main"), crowd > 0.5)


def test_the_soft_edge_of_a_person_left_out_goes_with_them() -> None:
    """No faint outline of them stays in an alpha, a probability or the confidence."""
    photo = people(MAIN, PASSER_BY)
    photo[8:22, 0:14] = np.maximum(photo[8:22, 0:14], 0.4)  # the passer-by's edge, below the threshold
    kept = keep_regions(photo, 0.5, "main")
    assert kept[:24, :16].max() == 0
    assert np.array_equal(kept[20:80, 30:60], photo[20:80, 30:60])
    segmentation = at_photo_size(photo, 400, 300, threshold=0.5)
    assert not segmentation.alpha[:60, :50].any()
    assert (
        segmentation.summary().confidence
        > at_photo_size(photo, 400, 300, threshold=0.5, keep="all").summary().confidence
    )


def test_the_largest_is_one_of_two_equal_people() -> None:
    twins = people((10, 50, 10, 30), (10, 50, 60, 80))
    one = bounding_box(found(twins, "largest").astype(np.uint8) * 255)
    assert one is not None
    assert (one.width, one.height) == (20, 40)


def test_nobody_stays_nobody() -> None:
    for keep in KEEP:
        assert not found(people(), keep).any()
    assert not main_regions(np.zeros((5, 5), bool), 0.15, 0.4).any()
    assert not largest_region(np.zeros((1, 1), bool)).any()


@given(arrays(np.bool_, st.tuples(st.integers(1, 24), st.integers(1, 24))), st.sampled_from(KEEP))
def test_only_whole_regions_are_left_out_and_the_largest_never(person: np.ndarray, keep: str) -> None:
    probability = np.where(person, np.float32(0.8), np.float32(0.2))
    kept = keep_regions(probability, 0.5, keep) > 0.5
    assert not (kept & ~person).any()
    assert (kept & largest_region(person)).sum() == largest_region(person).sum()
    touching = np.zeros_like(person)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            moved = np.roll(np.pad(kept, 1), (down, right), (0, 1))[1:-1, 1:-1]
            touching |= moved
    assert not (touching & person & ~kept).any()


@pytest.mark.parametrize(("share", "stay"), [(0.0, True), (0.05, True), (0.06, False), (1.0, False)])
def test_the_share_is_of_the_largest_regions_area(share: float, stay: bool) -> None:
    person = people((0, 100, 0, 20), (0, 10, 60, 71)) > 0.5  # 2,000 and 110 pixels
    assert main_regions(person, share, share)[:, 60:].any() == stay


def test_in_a_clip_nobody_near_the_limit_comes_and_goes() -> None:
    """A passer-by who walks nearer, and wavers around 12 % of the main person's 1,800 pixels, appears once."""
    kept, visible = None, []
    for tall in (8, 10, 14, 20, 22, 20, 22, 20, 22, 16, 14, 10, 8):  # 4 to 12 %, and back
        kept = keep_regions(people(MAIN, (60, 60 + tall, 2, 12)), 0.5, "main", kept)
        visible.append(bool((kept[60:82, 2:12] > 0.5).any()))
    assert visible == [False] * 4 + [True] * 7 + [False] * 2
    other_size = keep_regions(people(MAIN, PASSER_BY)[:90], 0.5, "main", kept)
    assert not (other_size[10:20, 2:12] > 0.5).any()


def test_five_thousand_regions_take_no_more_memory_than_the_pixels() -> None:
    tile = np.zeros((8, 8), np.float32)
    tile[:3, :3] = 1  # a main person
    tile[5, 5] = 1  # a passer-by
    dots = np.tile(tile, (50, 50))
    tracemalloc.start()
    try:
        kept = keep_regions(dots, 0.5, "main")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kept.sum() == 50 * 50 * 9
    assert peak < 200 * dots.size


def test_a_region_that_is_nowhere_sure_is_nobody() -> None:
    dog = people((10, 40, 5, 25), level=0.8)
    photo = np.maximum(people(MAIN), dog)
    photo[25, 40] = 0.96  # one sure pixel is enough
    kept = sure_regions(photo, 0.5, 0.95)
    assert np.array_equal(kept > 0.5, people(MAIN) > 0.5)
    assert np.array_equal(kept[dog < 0.5], photo[dog < 0.5])
    assert not sure_regions(dog, 0.5, 0.95).max() > 0.5
    assert sure_regions(photo, 0.5, 0.0) is photo
    assert not sure_regions(np.zeros((8, 8), np.float32), 0.5, 0.95).any()


@pytest.mark.parametrize("quality", ["fast", "best"])
def test_the_peak_of_a_spec_counts_for_masks_and_probabilities(quality: str) -> None:
    pixels = np.full((64, 64, 3), 10, np.uint8)
    pixels[8:56, 8:40] = 255
    for level, seen in ((0.9, False), (0.97, True)):

        def run(batch: np.ndarray, level: float = level) -> np.ndarray:
            return np.where(batch.mean(axis=1) > 0.5, np.float32(level), np.float32(0.01))

        spec = Spec((64, 64), peak=0.95)
        assert segment(run, spec, pixels, quality=quality).mask.any() == seen
        assert (probability(run, spec, pixels, quality=quality) > 128).any() == seen
        assert segment(run, Spec((64, 64)), pixels, quality=quality).mask.any()


@given(
    arrays(np.float32, (9, 9), elements=st.floats(0, 1, width=32)),
    st.floats(0.1, 0.8),
    st.floats(0.1, 0.99),
)
def test_what_is_sure_stays_and_nothing_is_added(map_: np.ndarray, threshold: float, peak: float) -> None:
    kept = sure_regions(map_, threshold, peak)
    assert ((kept == map_) | (kept == 0)).all()
    assert np.array_equal(kept[map_ >= max(peak, threshold + 1e-3)], map_[map_ >= max(peak, threshold + 1e-3)])
    assert np.array_equal(kept[map_ <= threshold], map_[map_ <= threshold])
