"""Reads a clip's header, and rejects clips before any decoding."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer

from humanseg.video.errors import BrokenClip, ClipTooLarge, NotAClip, UnsupportedClip

MAX_PIXELS = 50_000_000  # of a frame; 8K has 33 million
CLIPS = (
    "mov",
    "matroska",
    "avi",
    "flv",
    "live_flv",
    "mpeg",
    "mpegts",
    "mpegvideo",
    "gif",
    "asf",
    "ogg",
    "ivf",
    "h264",
    "hevc",
)
STILLS = ("png_pipe", "jpeg_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe", "image2")
# Only these demuxers are enabled: not playlists, which refer to other files and hosts.
ALLOWED = {"format_whitelist": ",".join((*CLIPS, *STILLS, "mp3", "aac", "wav", "flac")), "protocol_whitelist": "file"}


@dataclass(frozen=True)
class ClipInfo:
    """The properties of a clip from its header.

    width, height: of a stored frame, in pixels, before rotation and pixel aspect.
    time_base: seconds of one tick of the frames' times. start: the file's first timestamp, in seconds. seconds:
    duration, None if unknown. frames: expected number, None if unknown; an estimate unless `counted`. rate: average
    frames per second, None if unknown.
    aspect: width of a pixel over its height. sound: name of the audio codec, None without sound.
    """

    path: Path
    format: str
    codec: str
    width: int
    height: int
    time_base: Fraction
    start: Fraction
    seconds: float | None
    frames: int | None
    counted: bool
    rate: Fraction | None
    aspect: Fraction
    sound: str | None


def open_clip(path: Path) -> InputContainer:
    """Open the file with PyAV. Raises NotAClip or OSError."""
    if path.stat().st_size == 0:
        raise NotAClip(f"{path.name} is empty. Send the whole clip.")
    try:
        return av.open(os.fspath(path), "r", container_options=ALLOWED, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError)):
            raise
        raise NotAClip(
            f"{path.name} is not in a supported format ({error_text(error)}). "
            "Supported are MP4, MOV, WebM, Matroska, AVI, MPEG, FLV and GIF; copy a truncated file again."
        ) from None


def probe(path: Path, *, max_pixels: int = MAX_PIXELS) -> ClipInfo:
    """Read the header of a clip.

    Raises:
        NotAClip: not a media file, a still picture, audio only.
        UnsupportedClip: a codec unknown to FFmpeg.
        BrokenClip: a header without a size. ClipTooLarge: frames of more than `max_pixels`.
        OSError: the file cannot be opened.
    """
    with open_clip(path) as container:
        name = container.format.name
        if name in STILLS:
            what = name.removesuffix("_pipe").upper()
            raise NotAClip(f"{path.name} is a picture ({what}), not a clip. Use a picture's suffix, or send a clip.")
        stream = video_stream(container, path)
        context = stream.codec_context
        if context is None or not context.is_decoder:
            raise UnsupportedClip(f"{path.name} has an unsupported codec. Convert it to H.264 first.")
        width, height = context.width, context.height
        if width < 1 or height < 1:
            raise BrokenClip(f"{path.name} has no frame size in its header: it is damaged. Copy it again.")
        if width * height > max_pixels:
            raise ClipTooLarge(
                f"{path.name} has frames of {width}x{height}; the limit is {max_pixels / 1e6:g} megapixels. "
                "Scale it down first."
            )
        return ClipInfo(
            path=path,
            format=name,
            codec=context.name,
            width=width,
            height=height,
            time_base=stream.time_base or Fraction(1, 90_000),
            start=Fraction(container.start_time or 0, av.time_base),
            seconds=_seconds(container, stream),
            frames=_frames(container, stream),
            counted=stream.frames > 0,
            rate=_rate(stream),
            aspect=_aspect(stream),
            sound=_sound(container),
        )


def video_stream(container: InputContainer, path: Path) -> Any:
    """The first video stream, except cover art. Raises NotAClip."""
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if streams:
        return streams[0]
    if container.streams.audio:
        raise NotAClip(f"{path.name} contains audio only, no video.")
    raise NotAClip(f"{path.name} contains no video stream.")


def _seconds(container: InputContainer, stream: Any) -> float | None:
    if container.duration and container.duration > 0:
        return float(container.duration / av.time_base)
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return None


def _rate(stream: Any) -> Fraction | None:
    rate = stream.average_rate or stream.guessed_rate
    return rate if rate and 0 < rate < 100_000 else None


def _frames(container: InputContainer, stream: Any) -> int | None:
    if stream.frames > 0:
        return int(stream.frames)
    seconds, rate = _seconds(container, stream), _rate(stream)
    return max(1, round(seconds * float(rate))) if seconds and rate else None


def _aspect(stream: Any) -> Fraction:
    aspect = stream.sample_aspect_ratio
    return aspect if aspect and Fraction(1, 16) <= aspect <= 16 else Fraction(1)


def _sound(container: InputContainer) -> str | None:
    for stream in container.streams.audio:
        if stream.codec_context is not None:
            return str(stream.codec_context.name)
    return None


def error_text(error: BaseException) -> str:
    """The short reason of an FFmpeg error, without path and number."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__).splitlines()[0][:120]
