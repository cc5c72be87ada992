"""The samples that training sees: repeatable, letterboxed as serving does, and true to their masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from humanseg.segmentation.frame import to_frame
from humanseg.segmentation.spec import Spec
from humanseg.training import compose
from humanseg.training.compose import put_thing
from humanseg.training.losses import edge_band, segmentation_loss
from humanseg.training.samples import Source, find_samples
from humanseg.training.settings import Settings
from humanseg.training.stream import Pools, Stream
from humanseg.training.views import square

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


def test_samples_are_whole_squares_in_range_with_black_margins(stream: Stream) -> None:
    kinds = set()
    for index in range(40):
        photo, mask = stream[index]
        assert photo.shape == (3, 64, 64)
        assert mask.shape == (1, 64, 64)
        assert 0 <= float(photo.min()) <= float(photo.max()) <= 1
        assert 0 <= float(mask.min()) <= float(mask.max()) <= 1
        pixels, label = stream.picture(index)
        assert max(pixels.shape[:2]) == 64
        assert pixels.shape[:2] == label.shape
        assert float(mask.sum()) == pytest.approx(label.sum() / 255, rel=1e-4)
        kinds.add(bool(label.any()))
    assert kinds == {True, False}  # people, and nobody


def test_between_its_black_bars_the_square_is_what_serving_sees(stream: Stream) -> None:
    plain = Stream(replace(stream.settings, augment="none", size=128), stream.pools)
    for index in range(4):
        frame = to_frame(plain.pools.people[0][0][index].read()[0], Spec((128, 128)))
        assert frame.shape == (3, 128, 96)
        square = plain[index][0].numpy()
        np.testing.assert_allclose(square[:, :, 16:112], frame, atol=1.5 / 255)
        assert not square[:, :, :16].any()
        assert not square[:, :, 112:].any()


def test_things_are_seen_and_never_labelled(
    stream: Stream, make_data: MakeData, monkeypatch: pytest.MonkeyPatch
) -> None:
    pasted: list[bool] = []

    def counted(*arguments: Any) -> Any:
        before, (after, label) = arguments[1], put_thing(*arguments)
        pasted.append(bool((before != after).any()))
        return after, label

    monkeypatch.setattr(compose, "put_thing", counted)
    things = find_samples(Source(make_data("things", seed=2), kind="things"))
    pools = replace(stream.pools, things=[(things, 1.0)])
    nobody = Stream(replace(stream.settings, scenes=0.0, empty=1.0), pools)
    assert not any(nobody.picture(number)[1].any() for number in range(20))
    assert 5 < sum(pasted) < 60
    pasted.clear()
    scenes = Stream(replace(stream.settings, scenes=1.0, empty=0.0), pools)
    assert any([scenes.picture(number)[1].any() for number in range(20)])  # noqa: C419 - all 20 are wanted
    assert 2 <= sum(pasted) < 20


def test_a_thing_before_somebody_hides_them() -> None:
    canvas, label = np.zeros((50, 50, 3), np.uint8), np.full((50, 50), 255, np.uint8)
    thing = np.full((90, 90, 3), 200, np.uint8), np.full((90, 90), 255, np.uint8)
    random = np.random.default_rng(1)
    pixels, hidden = put_thing(random, canvas, label, thing)
    assert np.array_equal(hidden == 0, pixels.any(axis=2))
    assert (hidden == 0).any()
    assert label.all()
    assert not canvas.any()


def test_the_margin_is_split_evenly() -> None:
    out = square(np.full((64, 31, 3), 255, np.uint8), 64)
    assert np.flatnonzero(out[0, :, 0]).tolist() == list(range(16, 47))


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
