"""The samples that training sees: repeatable, in the shapes that are served, and true to their masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from humanseg.segmentation.frame import frame_shape, to_frame
from humanseg.segmentation.spec import Spec
from humanseg.training import compose
from humanseg.training.augmentation import Box, fitted, hard_light
from humanseg.training.compose import put_distractor
from humanseg.training.losses import edge_band, segmentation_loss
from humanseg.training.objects import webp_pictures
from humanseg.training.samples import Source, find_samples
from humanseg.training.settings import Settings
from humanseg.training.stream import Pools, Stream

MakeData = Callable[..., Path]


@pytest.fixture
def stream(make_data: MakeData) -> Stream:
    people = find_samples(Source(make_data("people")))
    empty = find_samples(Source(make_data("empty", seed=1), kind="empty"))
    return Stream(Settings(size=64, scenes=0.4, empty=0.2), Pools([(people, 1.0)], [(empty, 1.0)]))


def test_a_sample_depends_on_the_seed_and_its_number_only(stream: Stream) -> None:
    later = Stream(stream.settings, stream.pools, start=7)
    for index in (2, 0, 1):
        for ours, theirs in zip(later[index], stream[7 + index], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    other = Stream(replace(stream.settings, seed=1), stream.pools)
    assert not torch.equal(other[7][0], stream[7][0])


def test_a_batch_has_one_of_the_shapes_that_are_served(stream: Stream) -> None:
    stream = Stream(replace(stream.settings, size=384, batch_size=2), stream.pools)
    kinds, shapes = set(), set()
    for index in range(0, 60, 2):
        first, second = stream[index], stream[index + 1]
        for step, other in zip(first, second, strict=True):
            assert step.shape == other.shape
        seen, clean, mask, taught = first
        assert seen.shape == clean.shape == (3, *mask.shape[1:])
        assert taught.shape == (1, 1, 1)
        for values in (seen, clean, mask):
            assert 0 <= float(values.min()) <= float(values.max()) <= 1
        shapes.add(tuple(mask.shape[1:]))
        kinds.add(bool(mask.any()))
    assert kinds == {True, False}  # people, and nobody
    assert shapes == {frame_shape(*sides, Spec((384, 384))) for sides in ((3, 2), (4, 3), (1, 1), (3, 4), (2, 3))}


def test_without_augmentation_it_is_what_serving_sees(stream: Stream) -> None:
    plain = Stream(replace(stream.settings, augment="none", size=128), stream.pools)
    for index in range(4):
        frame = to_frame(plain.pools.people[0][0][index].read()[0], Spec((128, 128)))
        seen, clean = plain[index][:2]
        assert frame.shape == (3, 128, 96)
        np.testing.assert_allclose(seen.numpy(), frame, atol=1.5 / 255)
        assert torch.equal(seen, clean)


def test_the_teacher_answers_for_soft_masks_more_than_for_drawn_ones_and_never_for_nobody(
    stream: Stream, make_data: MakeData
) -> None:
    soft = find_samples(Source(make_data("soft", seed=3), kind="soft"))
    photos = replace(stream.settings, scenes=0.0, empty=0.3)
    drawn = {Stream(photos, stream.pools).picture(number).taught for number in range(30)}
    taught = {
        Stream(photos, replace(stream.pools, people=[(soft, 1.0)])).picture(number).taught for number in range(30)
    }
    assert drawn == {0.0, photos.distil_drawn}
    assert taught == {0.0, photos.distil_soft}
    nobody = Stream(replace(photos, empty=1.0), stream.pools).picture(0)
    assert (nobody.taught, nobody.mask.any()) == (0.0, False)


def test_a_box_gets_the_shape_of_the_frame_inside_the_photo() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        photo = tuple(int(side) for side in random.integers(60, 900, 2))
        top, left = int(random.integers(0, photo[0] - 32)), int(random.integers(0, photo[1] - 32))
        bottom, right = int(random.integers(top + 32, photo[0] + 1)), int(random.integers(left + 32, photo[1] + 1))
        box = fitted(random, Box(left, top, right, bottom), photo, (384, 288))
        assert 0 <= box.left < box.right <= photo[1]
        assert 0 <= box.top < box.bottom <= photo[0]
        aspect = (box.right - box.left) / (box.bottom - box.top) / (288 / 384)
        assert 0.88 < aspect < 1.13


def test_hard_light_changes_the_picture_and_keeps_its_shape() -> None:
    pixels = np.random.default_rng(1).integers(60, 200, (40, 30, 3), dtype=np.uint8)
    mask = np.zeros((40, 30), np.uint8)
    mask[10:30, 10:20] = 255
    means = set()
    for seed in range(30):
        lit = hard_light(np.random.default_rng(seed), pixels, mask)
        assert (lit.shape, lit.dtype) == (pixels.shape, np.uint8)
        assert not np.array_equal(lit, pixels)
        means.add(round(float(lit.mean()) / 20))
    assert len(means) > 3


def test_distractors_are_seen_and_never_labelled(
    stream: Stream, make_data: MakeData, monkeypatch: pytest.MonkeyPatch
) -> None:
    pasted: list[bool] = []

    def counted(*arguments: Any) -> Any:
        before, (after, label) = arguments[1], put_distractor(*arguments)
        pasted.append(bool((before != after).any()))
        return after, label

    monkeypatch.setattr(compose, "put_distractor", counted)
    distractors = find_samples(Source(make_data("distractors", seed=2), kind="distractors"))
    pools = replace(stream.pools, distractors=[(distractors, 1.0)])
    nobody = Stream(replace(stream.settings, scenes=0.0, empty=1.0), pools)
    assert not any(nobody.picture(number).mask.any() for number in range(20))
    assert 5 < sum(pasted) < 60
    pasted.clear()
    scenes = Stream(replace(stream.settings, scenes=1.0, empty=0.0), pools)
    assert any([scenes.picture(number).mask.any() for number in range(20)])  # noqa: C419 - all 20 are wanted
    assert 2 <= sum(pasted) < 20


def test_a_thing_before_somebody_hides_them() -> None:
    canvas, label = np.zeros((50, 50, 3), np.uint8), np.full((50, 50), 255, np.uint8)
    distractor = np.full((90, 90, 3), 200, np.uint8), np.full((90, 90), 255, np.uint8)
    random = np.random.default_rng(1)
    pixels, hidden = put_distractor(random, canvas, label, distractor)
    assert np.array_equal(hidden == 0, pixels.any(axis=2))
    assert (hidden == 0).any()
    assert label.all()
    assert not canvas.any()


def test_the_edge_band_lies_along_the_edge_and_nowhere_else() -> None:
    target = torch.zeros(1, 1, 40, 40)
    target[..., 20:] = 1
    band = edge_band(target)[0, 0, 0].nonzero()[:, 0].tolist()
    assert band == list(range(16, 24))


def test_the_loss_falls_as_the_mask_gets_better_and_minds_the_edge() -> None:
    target = torch.zeros(2, 1, 40, 40)
    target[..., 20:] = 1
    right = (target - 0.5) * 12
    off_by_two = torch.roll(right, 2, dims=-1)
    assert float(segmentation_loss(right, target, 4.0)) < 0.05
    assert float(segmentation_loss(off_by_two, target, 4.0)) > 0.5
    near, far = right.clone(), right.clone()
    near[..., 17] = 6.0  # a false column beside the edge, and one far from it
    far[..., 3] = 6.0
    assert float(segmentation_loss(near, target, 4.0)) > float(segmentation_loss(far, target, 4.0))


def test_a_photo_with_nobody_costs_nothing_when_nothing_is_found() -> None:
    empty = torch.zeros(1, 1, 16, 16)
    assert float(segmentation_loss(empty - 12, empty, 4.0)) < 1e-4


def test_a_group_starts_from_a_photo_with_people(stream: Stream) -> None:
    person = stream.pools.people[0][0][0].read()
    background = np.zeros((90, 120, 3), np.uint8), np.full((90, 120), 255, np.uint8)
    pixels, mask = compose.scene(np.random.default_rng(3), (64, 96), background, lambda: person)
    assert pixels.shape == (64, 96, 3)
    assert (mask == 255).all()  # whoever is pasted in stands before people


def test_pictures_come_out_of_a_container_as_they_went_in() -> None:
    shades = [np.full((8, 12, 3), level, np.uint8) for level in (40, 200)]
    files = [cv2.imencode(".webp", shade, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes() for shade in shades]
    see_through = cv2.imencode(".webp", np.zeros((8, 12, 4), np.uint8))[1].tobytes()
    container = b"qres" + files[0] + b"RIFF....WAVE" + see_through + b"\0\0" + files[1]
    assert [int(picture[0, 0, 0]) for picture in webp_pictures(container)] == [40, 200]
