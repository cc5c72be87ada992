"""Small clips, drawn and encoded where they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from humanseg.segmentation.spec import Spec
from humanseg.video.convert import Network

BT709, LIMITED = 1, 1


def disc_frames(count: int, size: tuple[int, int] = (96, 64)) -> list[np.ndarray]:
    """A bright disc that moves over a dark ground: uint8 [h, w, 3] each."""
    width, height = size
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    pictures = []
    for index in range(count):
        inside = (across - width * (0.3 + 0.4 * index / max(1, count - 1))) ** 2 + (down - height / 2) ** 2
        picture = np.full((height, width, 3), (20, 40, 60), np.uint8)
        picture[inside < (height / 4) ** 2] = (230, 210, 220)
        pictures.append(picture)
    return pictures


def write_clip(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times: Sequence[int] | None = None,
    rate: int = 25,
    base: Fraction | None = None,
    matrix: int = BT709,
    colour_range: int = LIMITED,
    aspect: Fraction | None = None,
    rotation: float | None = None,
    mirrored: bool = False,
    sound: str | None = None,
    seconds: float | None = None,
    transfer: int | None = None,
    codec_options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encode `frames`, uint8 [h, w, 3] or uint16 (rgb48). times: of each frame, in ticks of `base` (1 / rate)."""
    every = list(frames)
    base = base or Fraction(1, rate)
    options = {"crf": "4", "preset": "veryfast"} if codec == "libx264" else {}
    with av.open(str(path), "w", container_options=container_options or {}) as out:
        stream: Any = out.add_stream(codec, rate=rate, options=codec_options or options)
        stream.height, stream.width = every[0].shape[:2]
        stream.pix_fmt = pixels
        context = stream.codec_context
        context.time_base = base
        if pixels != "rgb8":
            context.colorspace, context.color_range = matrix, colour_range
        if transfer:
            context.color_trc, context.color_primaries = transfer, 9
        if aspect:
            context.sample_aspect_ratio = aspect
        if rotation is not None or mirrored:
            stream.set_display_rotation(rotation or 0, hflip=mirrored)
        noise = _add_sound(out, sound) if sound else None
        for index, picture in enumerate(every):
            frame = av.VideoFrame.from_ndarray(picture, "rgb48le" if picture.dtype == np.uint16 else "rgb24")
            frame = frame.reformat(format=pixels, dst_colorspace=matrix, dst_color_range=colour_range)
            if transfer:
                frame.color_trc, frame.color_primaries = transfer, 9
            frame.pts, frame.time_base = (times[index] if times else index), base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if noise:
            _fill_sound(out, noise, seconds or len(every) / rate)
    return path


def write_sound(path: Path, codec: str = "aac", seconds: float = 1.0) -> Path:
    """A file of sound alone."""
    with av.open(str(path), "w") as out:
        _fill_sound(out, _add_sound(out, codec), seconds)
    return path


def _add_sound(out: Any, codec: str) -> Any:
    stream = out.add_stream(codec, rate=48_000)
    stream.layout = "stereo"
    return stream


def _fill_sound(out: Any, stream: Any, seconds: float) -> None:
    wave = (0.3 * np.sin(2 * np.pi * 440 * np.arange(int(48_000 * seconds)) / 48_000)).astype(np.float32)
    size = 960 if "opus" in stream.codec_context.name else 1024
    resampler = av.AudioResampler(stream.codec_context.format, "stereo", 48_000, size)
    whole = av.AudioFrame.from_ndarray(np.stack([wave, wave]), "fltp", "stereo")
    whole.sample_rate = 48_000
    for frame in (*resampler.resample(whole), *resampler.resample(None)):
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def shown(path: Path, form: str = "rgb24") -> list[tuple[Fraction, np.ndarray]]:
    """(time in seconds, pixels) of every frame of a result; with form="rgba" the alpha plane of VP9 as well."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        if context.name == "vp9" and form == "rgba":
            context = av.CodecContext.create("libvpx-vp9", "r")  # FFmpeg's own decoder leaves the alpha plane out
        frames = []
        for packet in container.demux(stream):
            for frame in context.decode(packet if packet.size else None):
                frames.append((frame.pts * stream.time_base, frame.to_ndarray(format=form)))
        return frames


def sound_packets(path: Path) -> list[bytes]:
    """The packets of the sound, as they lie in the file."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.audio[0]) if packet.size]


def bright(frame: np.ndarray) -> np.ndarray:
    """A network whose persons are what is bright: uint8 [h, w, 3] to uint8 [h, w]."""
    return np.where(frame.mean(axis=2) > 128, np.uint8(250), np.uint8(5))


BRIGHT = Network(spec=Spec((96, 96)), threshold=0.5, version="test", ask=bright, parallel=2)
