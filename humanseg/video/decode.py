"""Decodes a clip to frames: in order, upright, with square pixels and timestamps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np

from humanseg.segmentation.photo import Pixels
from humanseg.video.colour import Scaler, to_rgb
from humanseg.video.errors import BrokenClip, UnsupportedClip
from humanseg.video.probe import ClipInfo, error_text, open_clip, video_stream

THREADS = 2  # of the decoder; more only keep more frames in memory
LEAST = Fraction(1, 1000)  # seconds between two frames: the tick of WebM
JUMP = 1  # seconds of a backward jump that means that timestamps restarted


@dataclass(frozen=True)
class Frame:
    """One frame: uint8 [h, w, 3] RGB, upright, square pixels; `time` and `duration` in seconds, from 0 on."""

    index: int
    pixels: Pixels
    time: Fraction
    duration: Fraction


def square_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """(width, height) in square pixels. One side is stretched, so that no detail is lost.

    >>> square_size(720, 576, Fraction(16, 15)), square_size(720, 480, Fraction(8, 9))
    ((768, 576), (720, 540))
    """
    if aspect >= 1:
        return max(1, round(width * aspect)), height
    return width, max(1, round(height / aspect))


def frames(info: ClipInfo, warn: Callable[[str], None] = lambda _: None) -> Iterator[Frame]:
    """Yield every frame of the clip with strictly increasing timestamps.

    If the clip is damaged after its first frame, `warn` is called and the iterator ends.

    Raises:
        BrokenClip, UnsupportedClip: not one frame could be decoded.
    """
    index, packets = 0, 0
    last, end, shift = Fraction(-1), Fraction(0), -info.start
    usual = 1 / info.rate if info.rate else Fraction(1, 25)
    fault: str | None = None
    scaler = Scaler()
    with open_clip(info.path) as container:
        stream: Any = video_stream(container, info.path)
        stream.codec_context.thread_count = THREADS
        stream.thread_type = "AUTO"
        try:
            for packet in container.demux(stream, *container.streams.audio[:1]):
                end = max(end, _end(packet) - info.start)
                if packet.stream is not stream:
                    continue
                if packet.has_sidedata("encryption_info"):
                    raise UnsupportedClip(f"{info.path.name} is encrypted. Decrypt it first.")
                packets += packet.size > 0
                if packet.size and packet.is_corrupt:
                    fault = "it is truncated"
                for decoded in cast("list[av.VideoFrame]", packet.decode()):
                    own = _own_time(decoded, shift, last + usual)
                    if own < last - JUMP:  # two recordings in one file
                        shift += last + usual - own
                        own = last + usual
                    time = max(own, Fraction(0)) if index == 0 else max(own, last + LEAST)
                    duration = (decoded.duration or 0) * (decoded.time_base or 0) or usual
                    yield Frame(index, upright(decoded, info, scaler), time, Fraction(duration))
                    index, last = index + 1, time
        except (av.error.FFmpegError, MemoryError) as error:
            fault = error_text(error)
    if index == 0:
        reason = fault or "it contains no frames"
        raise BrokenClip(f"{info.path.name} contains no frame that can be decoded ({reason}).")
    fault = fault or _shortfall(info, packets, end)
    if fault is not None:
        warn(f"{info.path.name} is damaged after frame {index}, at {float(last):.2f} s ({fault})")


def _own_time(frame: av.VideoFrame, shift: Fraction, otherwise: Fraction) -> Fraction:
    return frame.time_base * frame.pts + shift if frame.pts is not None and frame.time_base else otherwise


def _end(packet: av.Packet[Any]) -> Fraction:
    return ((packet.pts or 0) + (packet.duration or 0)) * packet.time_base if packet.time_base else Fraction(0)


def _shortfall(info: ClipInfo, packets: int, end: Fraction) -> str | None:
    """Describe missing frames by the header; only for formats with exact headers."""
    if info.counted and info.format.startswith("mov") and packets < (info.frames or 0):
        return f"it has {packets} of the {info.frames} frames in its header"
    if info.format.startswith("matroska") and info.seconds and float(end) < 0.95 * info.seconds - 0.1:
        return f"it has {float(end):.2f} s of the {info.seconds:.2f} s in its header"
    return None


def upright(frame: av.VideoFrame, info: ClipInfo, scaler: Scaler) -> Pixels:
    """RGB as shown by a player: square pixels, rotated and mirrored by the display matrix."""
    width, height = square_size(frame.width, frame.height, info.aspect)
    pixels = to_rgb(frame, width, height, scaler)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return pixels
    a, b, _, c, d = np.frombuffer(bytes(cast(Any, matrix)), np.int32)[:5]  # x' = a x + c y, y' = b x + d y
    if abs(int(a)) < abs(int(b)):
        pixels, across, down = pixels.transpose(1, 0, 2), c, b
    else:
        across, down = a, d
    pixels = pixels[:, ::-1] if across < 0 else pixels
    return np.ascontiguousarray(pixels[::-1] if down < 0 else pixels)
