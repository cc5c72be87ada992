"""Encodes pictures to a clip or a folder of PNGs.

| result       | with transparency           | without             |
|--------------|-----------------------------|---------------------|
| `.webm`      | VP9 with an alpha plane     | VP9                 |
| `.mov`       | ProRes 4444                 | H.264               |
| `.mp4`       | refused                     | H.264               |
| a folder     | PNGs                        | PNGs                |

Colours are written and tagged as BT.709, limited range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av
import cv2
import numpy as np

from humanseg.segmentation.photo import Pixels
from humanseg.segmentation.png import write_png
from humanseg.video.colour import Scaler
from humanseg.video.errors import ResultRefused
from humanseg.video.probe import ClipInfo
from humanseg.video.sound import Sound

BT709, LIMITED = 1, 1
LIST = "frames.ffconcat"  # the PNGs with their timestamps, for FFmpeg and PyAV


@dataclass(frozen=True)
class Codec:
    """An encoder, its pixel format, and its options."""

    name: str
    pixels: str
    options: dict[str, str]


# No B-frames and no delayed frames: packet n is frame n, so that a run can resume.
VP9 = {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "lag-in-frames": "0", "auto-alt-ref": "0", "b": "0"}
CODECS = {
    ("webm", False): Codec("libvpx-vp9", "yuv420p", {**VP9, "crf": "28"}),
    ("webm", True): Codec("libvpx-vp9", "yuva420p", {**VP9, "crf": "28"}),
    ("mp4", False): Codec("libx264", "yuv420p", {"preset": "veryfast", "crf": "18", "bf": "0"}),
    ("mov", False): Codec("libx264", "yuv420p", {"preset": "veryfast", "crf": "18", "bf": "0"}),
    ("mov", True): Codec("prores_ks", "yuva444p10le", {"profile": "4444", "alpha_bits": "16", "vendor": "apl0"}),
}
LONGEST_SIDE = {"libvpx-vp9": 16_384, "libx264": 16_384, "prores_ks": 16_384}
FRAGMENTS = {"movflags": "+hybrid_fragmented"}  # playable at any moment, an ordinary file after closing


class Writer(Protocol):
    """Writes the pictures of one clip."""

    def write(self, picture: Pixels, time: Fraction, duration: Fraction) -> None:
        """The next picture: uint8 [h, w], [h, w, 3] RGB or [h, w, 4] RGBA; times in seconds, growing."""
        ...

    def close(self) -> None:
        """Finish the file."""
        ...


def codec_for(container: str, output: str) -> Codec:
    """The codec of an output ("mask", "cutout", ...) in "webm", "mp4" or "mov". Raises ResultRefused."""
    codec = CODECS.get((container, output == "cutout"))
    if codec is None:
        raise ResultRefused("MP4 has no transparency, which output=cutout needs. Use WebM, MOV, or a folder of PNGs.")
    return codec


class ClipWriter:
    """Encodes into a WebM, MP4 or MOV file, with the sound of `info`.

    `before` are the packets of an earlier run, which are written first.
    """

    def __init__(
        self,
        path: Path,
        container: str,
        output: str,
        size: tuple[int, int],
        info: ClipInfo,
        *,
        before: Iterable[Any] = (),
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        codec = codec_for(container, output)
        self._width, self._height = encoded_size(size, codec)
        self._alpha, self._pixels = output == "cutout", codec.pixels
        self._base = time_base(container, info)
        options = {} if container == "webm" else FRAGMENTS
        self._file = av.open(str(path), "w", format=container, container_options=options)
        stream: Any = self._file.add_stream(codec.name, rate=info.rate or 25, options=codec.options)
        stream.width, stream.height, stream.pix_fmt = self._width, self._height, codec.pixels
        context = stream.codec_context
        context.time_base = self._base
        context.thread_count = 2
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED
        self._stream = stream
        self._sound = Sound(info, container, self._file, warn) if info.sound else None
        self._scaler = Scaler()
        self._tick = -1
        self._file.start_encoding()
        for packet in before:
            if self._sound:
                self._sound.until(packet.pts * packet.time_base)
            self._tick = round(packet.pts * packet.time_base / self._base)
            packet.stream = stream
            self._file.mux(packet)

    def write(self, picture: Pixels, time: Fraction, duration: Fraction) -> None:
        """See `Writer`."""
        if self._sound:
            self._sound.until(time)
        frame = av.VideoFrame.from_ndarray(self._fitted(picture), "rgba" if self._alpha else "rgb24")
        planes = self._scaler(frame, self._pixels, dst_colorspace=BT709, dst_color_range=LIMITED)
        self._tick = max(self._tick + 1, round(time / self._base))
        planes.pts, planes.time_base = self._tick, self._base
        planes.duration = max(1, round(duration / self._base))
        for packet in self._stream.encode(planes):
            self._file.mux(packet)

    def close(self) -> None:
        """See `Writer`."""
        for packet in self._stream.encode(None):
            self._file.mux(packet)
        if self._sound:
            self._sound.until(None)
        self._file.close()
        if self._sound:
            self._sound.close()

    def _fitted(self, picture: Pixels) -> Pixels:
        if picture.ndim == 2:
            picture = np.asarray(cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB), np.uint8)
        down, right = self._height - picture.shape[0], self._width - picture.shape[1]
        if down or right:
            picture = np.pad(picture, ((0, down), (0, right), (0, 0)), "edge")
        return spread(picture) if self._alpha else picture


def encoded_size(size: tuple[int, int], codec: Codec) -> tuple[int, int]:
    """(width, height) as encoded: H.264 with 4:2:0 colour needs even sizes, so an odd edge is repeated once."""
    if max(size) > LONGEST_SIDE[codec.name]:
        raise ResultRefused(
            f"A clip of {size[0]}x{size[1]} exceeds the limit of {LONGEST_SIDE[codec.name]} pixels per side."
        )
    width, height = size
    return (width + width % 2, height + height % 2) if codec.name == "libx264" else (width, height)


def time_base(container: str, info: ClipInfo) -> Fraction:
    """The result's time base: the clip's own if the container supports it, to avoid rounding."""
    if container == "webm":
        return Fraction(1, 1000)
    own = info.time_base
    return own if own.denominator <= 1_000_000 and own.numerator < 100_000 else Fraction(1, 90_000)


def spread(straight: Pixels) -> Pixels:
    """A cut-out, uint8 [h, w, 4], with the person's colours extended by two pixels into the transparent area.

    Lossy codecs mix the colours of neighbours: black neighbours would darken the person's edge.
    """
    colours = np.asarray(cv2.dilate(straight, np.ones((5, 5), np.uint8)), np.uint8)
    colours[..., 3] = 0
    cv2.copyTo(straight, straight[..., 3], colours)
    return colours


class FolderWriter:
    """Writes numbered PNGs into a folder, and `frames.ffconcat` with their times.

    number: of the first picture, from 0; more than 0 resumes a folder that has the previous ones.
    """

    def __init__(self, folder: Path, number: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._number = folder, number
        if number == 0:
            (folder / LIST).write_text("ffconcat version 1.0\n")

    def write(self, picture: Pixels, time: Fraction, duration: Fraction) -> None:
        """See `Writer`."""
        name = picture_name(self._number)
        partial = self._folder / f".{name}"
        partial.write_bytes(write_png(np.ascontiguousarray(picture)))
        with (self._folder / LIST).open("a") as file:
            file.write(f"file {name}\nduration {float(duration):.6f}\n")
        partial.rename(self._folder / name)
        self._number += 1

    def close(self) -> None:
        """See `Writer`."""


def picture_name(number: int) -> str:
    """The file of picture `number`, from 0: `00000001.png` is the first."""
    return f"{number + 1:08d}.png"
