"""Converts decoded frames to RGB: matrix, range, depth, transparency, and HDR to SDR.

swscale applies the frame's matrix (BT.601, BT.709, BT.2020) and range (full, limited). If the frame has none, the
default is BT.709 from 720 lines on and BT.601 below, as in players.

HDR is tone-mapped, not clipped: the light is linearised (PQ: SMPTE ST 2084; HLG: ARIB STD-B67, with the system gamma
of ITU-R BT.2100 for 1000 cd/m2), brought from BT.2020 to BT.709 primaries (BT.2087), rolled off above diffuse white
(203 cd/m2, BT.2408), and coded for an SDR screen.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from humanseg.segmentation.photo import Pixels

UNSPECIFIED = 2
RGB_MATRIX = 0
BT709, BT601, BT2020 = 1, 5, 9
BT2020_PRIMARIES = 9
PQ, HLG = 16, 18
DIFFUSE_WHITE = 203.0  # cd/m2
KNEE = 0.6  # linear light, 1 = diffuse white: darker values are unchanged
HIGHEST = 1000.0 / DIFFUSE_WHITE  # upper end of the roll-off

# BT.2087: linear RGB of BT.2020 to that of BT.709.
TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)


def is_hdr(frame: av.VideoFrame) -> bool:
    """Whether the frame's light is coded as PQ or HLG."""
    return frame.color_trc in (PQ, HLG)


class Scaler:
    """Converts the frames of one clip to another size and pixel format, in this thread.

    PyAV's `VideoFrame.reformat` makes a swscale context for each frame, with threads that live until the garbage
    collector finds the frame: a hundred and more at a time.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame, format: str, **options: Any) -> av.VideoFrame:
        """Convert a frame. options: of `VideoReformatter.reformat`."""
        return self._reformatter.reformat(frame, format=format, threads=1, **options)


def to_rgb(frame: av.VideoFrame, width: int, height: int, scaler: Scaler) -> Pixels:
    """The frame as sRGB-like pixels, uint8 [height, width, 3]; transparent pixels are composited on white."""
    if frame.colorspace in (UNSPECIFIED, RGB_MATRIX) and "rgb" not in frame.format.name:
        frame.colorspace = BT709 if frame.height >= 720 else BT601
    if is_hdr(frame):
        wide = scaler(frame, "rgb48le", width=width, height=height).to_ndarray()
        return tone_mapped(np.asarray(wide, np.uint16), frame.color_trc, frame.color_primaries)
    if _has_alpha(frame):
        straight = np.asarray(scaler(frame, "rgba", width=width, height=height).to_ndarray(), np.uint8)
        return _on_white(straight)
    return np.asarray(scaler(frame, "rgb24", width=width, height=height).to_ndarray(), np.uint8)


def _has_alpha(frame: av.VideoFrame) -> bool:
    name = frame.format.name
    return name == "pal8" or name.startswith(("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya"))


def _on_white(straight: Pixels) -> Pixels:
    alpha = straight[..., 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(straight[..., :3])
    share = alpha.astype(np.uint16)
    blended: Pixels = ((straight[..., :3] * share + 255 * (255 - share) + 127) // 255).astype(np.uint8)
    return blended


def tone_mapped(wide: NDArray[np.uint16], transfer: int, primaries: int = BT2020_PRIMARIES) -> Pixels:
    """HDR pixels, uint16 [h, w, 3] as coded (PQ or HLG), to SDR: uint8 [h, w, 3].

    The curves are tables of 4096 steps, because HDR video has 10 to 12 bits.
    """
    linear = _to_light(transfer)[wide >> 4]
    if transfer == HLG:  # the system gamma acts on the luminance of the scene
        luminance = linear @ np.array([0.2627, 0.678, 0.0593], np.float32)
        linear = linear * np.power(np.maximum(luminance, 1e-6), 0.2)[..., None] * HIGHEST
    if primaries == BT2020_PRIMARIES:
        linear = np.asarray(cv2.transform(linear, TO_BT709), np.float32)
    linear = np.maximum(linear, 0)
    brightest = linear.max(axis=2, keepdims=True)  # one factor for all three channels keeps the hue
    linear = linear * (_rolled_off(brightest) / np.maximum(brightest, 1e-6))
    coded: Pixels = _to_code()[np.clip(linear * 4095 + 0.5, 0, 4095).astype(np.uint16)]
    return coded


def _rolled_off(light: NDArray[np.float32]) -> NDArray[np.float32]:
    over = np.minimum(light, HIGHEST) - KNEE
    room = 1 - KNEE
    # x / (x + room), scaled so that the highest light becomes exactly 1; its slope at the knee is 1 or a little more.
    bent = KNEE + room * (over / (over + room)) * ((HIGHEST - KNEE + room) / (HIGHEST - KNEE))
    return np.where(light > KNEE, bent, light).astype(np.float32)


@cache
def _to_light(transfer: int) -> NDArray[np.float32]:
    """Code value to linear light: 1 = diffuse white for PQ; the scene's light, 0..1, for HLG."""
    code = np.arange(4096) / 4095
    if transfer == PQ:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
        power = code ** (1 / m2)
        light = 10_000 / DIFFUSE_WHITE * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    return light.astype(np.float32)


@cache
def _to_code() -> Pixels:
    """Linear light 0..1 in 4096 steps to the signal of an SDR screen with gamma 2.4 (BT.1886)."""
    light = np.arange(4096) / 4095
    table: Pixels = np.rint(255 * light ** (1 / 2.4)).astype(np.uint8)
    return table
