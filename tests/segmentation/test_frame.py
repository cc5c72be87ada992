"""Photos to the network's frame and input, and its output back: shapes, values, and the way round."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from humanseg.segmentation.frame import frame_shape, shown, sigmoid, to_frame, to_input, to_probability
from humanseg.segmentation.spec import Spec


@pytest.mark.parametrize(("width", "height"), [(64, 48), (48, 64), (1, 1), (5000, 1), (1, 3000), (333, 777)])
def test_a_frame_is_the_whole_photo_and_nothing_else(width: int, height: int) -> None:
    frame = to_frame(np.full((height, width, 3), 200, np.uint8), Spec((256, 256)))
    assert frame.dtype == np.float32
    assert frame.shape == (3, *frame_shape(height, width, Spec((256, 256))))
    assert np.allclose(frame, 200 / 255)


@given(st.integers(1, 10_000), st.integers(1, 10_000), st.integers(1, 64).map(lambda n: 32 * n))
def test_a_frames_sides_are_what_the_network_takes_and_near_the_photos_own(
    height: int, width: int, size: int
) -> None:
    spec = Spec((size, size))
    shape = frame_shape(height, width, spec)
    assert max(shape) == size
    assert all(side % spec.multiple == 0 for side in shape)
    scale = size / max(height, width)
    for side, length in zip(shape, (height, width), strict=True):
        assert abs(side - length * scale) <= spec.multiple / 2 + 1e-6 or side == spec.multiple
    assert frame_shape(width, height, spec) == shape[::-1]


def test_a_frame_of_the_tutorials_size_is_the_tutorials_own() -> None:
    spec = Spec((240, 240), multiple=16)
    assert frame_shape(160, 240, spec) == (160, 240)
    assert frame_shape(300, 300, spec) == (240, 240)
    assert frame_shape(400, 100, spec) == (240, 64)


def test_stretched_every_photo_fills_the_frame() -> None:
    spec = Spec((64, 48), resize="stretch")
    half = np.zeros((300, 10, 3), np.uint8)
    half[150:] = 255
    frame = to_frame(half, spec)
    assert frame.shape == (3, 48, 64)
    assert not frame[:, :23].any()
    assert (frame[:, 25:] == 1).all()


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_padded_a_photo_keeps_its_shape_and_black_is_around_it(height: int, width: int) -> None:
    spec = Spec((96, 64), resize="pad")
    rows, columns = shown(height, width, spec)
    tall, wide = rows.stop - rows.start, columns.stop - columns.start
    assert 0 <= rows.start <= rows.stop <= 64
    assert 0 <= columns.start <= columns.stop <= 96
    assert tall == 64 or wide == 96
    share = min(64 / height, 96 / width)
    assert (tall, wide) == (max(1, round(height * share)), max(1, round(width * share)))


def test_what_is_padded_stays_outside_of_the_photo() -> None:
    spec = Spec((96, 64), resize="pad")
    frame = to_frame(np.full((100, 50, 3), 255, np.uint8), spec)
    rows, columns = shown(100, 50, spec)
    assert (frame[:, rows, columns] == 1).all()
    frame[:, rows, columns] = 0
    assert not frame.any()


def test_the_input_is_what_torchvision_s_normalize_makes() -> None:
    frames = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (torch.from_numpy(frames) - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    assert to_input(frames, Spec(mean=mean, std=std)) == pytest.approx(expected.numpy(), abs=1e-5)


def test_the_input_may_be_pixels_backwards_and_last() -> None:
    frames = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    spec = Spec(scale=1.0, mean=(127.5, 127.5, 127.5), channel_order="BGR", layout="NHWC")
    expected = frames[:, ::-1].transpose(0, 2, 3, 1) * 255 - 127.5
    assert to_input(frames, spec) == pytest.approx(expected, abs=1e-3)
    assert to_input(frames, Spec()) is not None
    assert np.array_equal(to_input(frames, Spec()), frames)


LOGITS = np.random.default_rng(1).normal(0, 4, (2, 3, 4, 5)).astype(np.float32)


def test_each_activation_is_torch_s() -> None:
    logits = torch.from_numpy(LOGITS)
    softmax, sigmoids = logits.softmax(1).numpy(), logits.sigmoid().numpy()
    for channel in range(3):
        person = Spec(output_activation="softmax", person_channel=channel)
        assert to_probability(LOGITS, person, (4, 5)) == pytest.approx(softmax[:, channel], abs=1e-6)
        background = Spec(output_activation="softmax", background_channel=channel)
        assert to_probability(LOGITS, background, (4, 5)) == pytest.approx(1 - softmax[:, channel], abs=1e-6)
        alone = Spec(output_activation="sigmoid", person_channel=channel)
        assert to_probability(LOGITS, alone, (4, 5)) == pytest.approx(sigmoids[:, channel], abs=1e-6)
        ready = Spec(output_activation="none", person_channel=channel)
        assert np.array_equal(to_probability(softmax, ready, (4, 5)), softmax[:, channel])


def test_an_output_may_have_its_channels_last_or_none_and_another_size() -> None:
    last = np.ascontiguousarray(LOGITS.transpose(0, 2, 3, 1))
    spec = Spec(person_channel=2)
    expected = to_probability(LOGITS, spec, (4, 5))
    assert np.array_equal(to_probability(last, Spec(person_channel=2, output_layout="NHWC"), (4, 5)), expected)
    assert np.array_equal(to_probability(LOGITS[:, 2], Spec(), (4, 5)), expected)
    assert to_probability(LOGITS, spec, (8, 10)).shape == (2, 8, 10)


def test_what_is_no_number_is_nobody() -> None:
    output = np.full((1, 1, 2, 2), np.nan, np.float32)
    assert not to_probability(output, Spec(), (2, 2)).any()


def test_the_sigmoid_is_torch_s_however_sure_the_network_is() -> None:
    logits = np.concatenate((np.linspace(-20, 20, 1001), [-1e4, -100, 100, 1e4])).astype(np.float32)
    expected = torch.sigmoid(torch.from_numpy(logits)).numpy()
    assert sigmoid(logits).dtype == np.float32
    assert sigmoid(logits) == pytest.approx(expected, abs=1e-6)
