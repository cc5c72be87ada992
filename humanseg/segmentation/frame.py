"""Converts a photo's pixels to the network's frame and input, and its output to the probability of a person.

The frame is the resized picture, RGB in 0..1 for every network: the mask's edges are later refined along it.
`to_input` applies the network's own format (mean, std, BGR, NHWC).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from humanseg.segmentation.mask import along_edges
from humanseg.segmentation.photo import Pixels
from humanseg.segmentation.regions import sure_regions
from humanseg.segmentation.spec import Spec

Batch = NDArray[np.float32]


def frame_shape(height: int, width: int, spec: Spec) -> tuple[int, int]:
    """(height, width) of the frame for a photo.

    With resize "fit" its long side is the spec's and its short side a multiple of `spec.multiple`: of the multiples
    the nearest to the photo's own aspect ratio. 4:3, 3:2 and 2:1 fit 384 pixels exactly.

    >>> [frame_shape(*shape, Spec((384, 384))) for shape in ((1200, 1600), (1920, 1080), (3, 5000))]
    [(288, 384), (384, 224), (32, 384)]
    """
    if spec.resize != "fit":
        return spec.input_size[1], spec.input_size[0]
    size, step = spec.long_side, spec.multiple
    long_side, short_side = max(height, width), min(height, width)
    steps = int(short_side * size / (long_side * step) + 0.5)
    short = min(size, step * max(1, steps))
    return (size, short) if height > width else (short, size)


def shown(height: int, width: int, spec: Spec) -> tuple[slice, slice]:
    """Rows and columns of the frame that contain the photo: all of them, except the padding of resize "pad".

    >>> shown(100, 200, Spec((64, 64), resize="pad"))
    (slice(16, 48, None), slice(0, 64, None))
    """
    frame_height, frame_width = frame_shape(height, width, spec)
    if spec.resize != "pad":
        return slice(0, frame_height), slice(0, frame_width)
    share = min(frame_height / height, frame_width / width)
    rows, columns = (max(1, round(side * share)) for side in (height, width))
    top, left = (frame_height - rows) // 2, (frame_width - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)


def to_frame(pixels: Pixels, spec: Spec) -> Batch:
    """Resize `pixels`, uint8 [h, w, 3] RGB, to the network's frame: float32 [3, H, W] in 0..1, see `frame_shape`.

    With resize "fit" nothing is padded: black bars cost time and make the masks worse (model card). Shrinking
    averages over areas, which avoids aliasing.
    """
    photo_height, photo_width = pixels.shape[:2]
    small = to_frame_size(pixels, spec)
    if spec.resize == "pad":
        rows, columns = shown(photo_height, photo_width, spec)
        whole = np.zeros((*frame_shape(photo_height, photo_width, spec), 3), np.uint8)
        whole[rows, columns] = small
        small = whole
    planes = small.transpose(2, 0, 1).astype(np.float32)  # [3, H, W]
    planes *= np.float32(1 / 255)
    return planes


def to_frame_size(pixels: Pixels, spec: Spec) -> Pixels:
    """Resize `pixels`, uint8 [h, w, 3] RGB, to their size in the frame: uint8 [H, W, 3], without padding.

    Pixels of that size are returned unchanged: sending this instead of the photo gives the same result.
    """
    photo_height, photo_width = pixels.shape[:2]
    rows, columns = shown(photo_height, photo_width, spec)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    how = cv2.INTER_AREA if max(height, width) < max(photo_height, photo_width) else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=how), np.uint8)


def photo_map(output: Batch, frame: Batch, spec: Spec, height: int, width: int) -> Batch:
    """An engine's output, float32 [H, W] in 0..1, for the `frame` of a photo of `height` x `width`.

    Only the photo's part, with edges refined along the photo's, and without regions below the spec's `peak`.
    """
    if spec.resize == "pad":
        rows, columns = shown(height, width, spec)
        output, frame = output[rows, columns], frame[:, rows, columns]
    return sure_regions(along_edges(output, frame), spec.threshold, spec.peak)


def to_input(frames: Batch, spec: Spec) -> Batch:
    """Convert frames, float32 [N, 3, H, W] RGB in 0..1, to the network's input: NCHW or NHWC, see `Spec`."""
    x = frames[:, ::-1] if spec.channel_order == "BGR" else frames
    factor = np.array([255 * spec.scale / std for std in spec.std], np.float32)
    offset = np.array([mean / std for mean, std in zip(spec.mean, spec.std, strict=True)], np.float32)
    if not np.allclose(factor, 1, rtol=1e-6):
        x = x * factor[:, None, None]
    if offset.any():
        x = x - offset[:, None, None]
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1) if spec.layout == "NHWC" else x)


def to_probability(output: NDArray[Any], spec: Spec, shape: tuple[int, ...]) -> Batch:
    """A network's output for N frames of `shape` (H, W) to the probability of a person, float32 [N, H, W] in 0..1.

    output: [N, C, h, w], [N, h, w, C] (see `Spec.output_layout`) or [N, h, w], at any resolution. NaN counts as 0.
    """
    channels = output[:, None] if output.ndim == 3 else output
    if spec.output_layout == "NHWC" and output.ndim == 4:
        channels = channels.transpose(0, 3, 1, 2)
    wanted = spec.person_channel if spec.background_channel is None else spec.background_channel
    one = channels[:, wanted].astype(np.float32, copy=False)
    if spec.output_activation == "sigmoid":
        one = sigmoid(one)
    elif spec.output_activation == "softmax":
        one = sigmoid(one - _log_sum_exp(np.delete(channels, wanted, axis=1).astype(np.float32)))
    if spec.background_channel is not None:
        one = 1 - one
    if spec.output_activation == "none":
        one = one.clip(0, 1)
    if np.isnan(one).any():
        one = np.nan_to_num(one, nan=0.0)
    if one.shape[1:] != shape:
        one = np.stack([cv2.resize(item, shape[::-1], interpolation=cv2.INTER_LINEAR) for item in one])
    return one


def sigmoid(logits: Batch) -> Batch:
    """Logits to probabilities in 0..1. OpenVINO's sigmoid takes ten times as long, a twentieth of the whole pass."""
    answer: Batch = np.tanh(logits * np.float32(0.5))  # cannot overflow
    answer *= np.float32(0.5)
    answer += np.float32(0.5)
    return answer


def _log_sum_exp(logits: Batch) -> Batch:
    """log(sum(exp)) over the channels of [N, C, H, W]: [N, H, W].

    The softmax of one channel is the sigmoid of its logit minus this value of all others.
    """
    highest = logits.max(axis=1, keepdims=True)
    summed: Batch = np.log(np.exp(logits - highest).sum(axis=1)) + highest[:, 0]
    return summed
