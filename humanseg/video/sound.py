"""Copies a clip's audio into the result, or transcodes it if the container does not support the codec."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av
from av.container import OutputContainer

from humanseg.video.probe import ClipInfo, error_text, open_clip

COPIED = {
    "webm": ("opus", "vorbis"),
    "mp4": ("aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"),
    "mov": ("aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be"),
}
ENCODER = {"webm": "libopus", "mp4": "aac", "mov": "aac"}
OPUS_RATE, OPUS_FRAME = 48_000, 960


def is_copied(codec: str, container: str) -> bool:
    """Whether a container ("webm", "mp4", "mov") supports the audio `codec`."""
    return codec in COPIED[container]


class Sound:
    """The first audio track of `info`, read by a separate demuxer, so that it never waits for frames.

    `until(time)` writes everything before that time. An error in the audio ends the audio, not the clip.
    """

    def __init__(self, info: ClipInfo, container: str, out: OutputContainer, warn: Callable[[str], None]) -> None:
        assert info.sound
        self._info, self._out, self._warn = info, out, warn
        self._source = open_clip(info.path)
        self._stream: Any = next(s for s in self._source.streams.audio if s.codec_context is not None)
        if is_copied(info.sound, container):
            self._packets = self._copied(out.add_stream_from_template(self._stream))
        else:
            opus = container == "webm"
            rate = OPUS_RATE if opus else self._stream.rate
            target: Any = out.add_stream(ENCODER[container], rate=rate)
            target.layout = "mono" if self._stream.layout.nb_channels == 1 else "stereo"
            target.bit_rate = 128_000
            self._packets = self._encoded(target, OPUS_FRAME if opus else 1024)
        self._next: tuple[Fraction, Any] | None = None
        self._ended = False

    def until(self, time: Fraction | None) -> None:
        """Write every packet that begins before `time` (seconds); None writes the rest."""
        try:
            while not self._ended:
                if self._next is None:
                    self._next = next(self._packets, None)
                    self._ended = self._next is None
                    continue
                if time is not None and self._next[0] >= time:
                    return
                packet, self._next = self._next[1], None
                self._out.mux(packet)
        except (av.error.FFmpegError, ValueError) as error:
            self._ended = True
            self._warn(f"the audio of {self._info.path.name} ends early ({error_text(error)})")

    def close(self) -> None:
        """Close the clip."""
        self._source.close()

    def _copied(self, target: Any) -> Iterator[tuple[Fraction, Any]]:
        shift = round(self._info.start / self._stream.time_base)
        for packet in self._source.demux(self._stream):
            if packet.size and packet.dts is not None:
                packet.pts = (packet.dts if packet.pts is None else packet.pts) - shift
                packet.dts -= shift
                time = packet.pts * packet.time_base
                packet.stream = target
                yield time, packet

    def _encoded(self, target: Any, size: int) -> Iterator[tuple[Fraction, Any]]:
        context = target.codec_context
        resampler = av.AudioResampler(context.format, context.layout, context.rate, size)
        base = Fraction(1, context.rate)
        at = 0
        began = False

        def sent(frame: Any) -> Iterator[tuple[Fraction, Any]]:
            for packet in target.encode(frame):
                yield packet.pts * packet.time_base, packet

        def resampled(frame: Any) -> Iterator[tuple[Fraction, Any]]:
            nonlocal at
            for part in resampler.resample(frame):
                part.pts, part.time_base = at, base
                at += part.samples
                yield from sent(part)

        for frame in self._source.decode(self._stream):
            if not began:
                began, at = True, round(((frame.time or 0) - self._info.start) / base)
            frame.pts = None
            yield from resampled(frame)
        if began:
            yield from resampled(None)
            yield from sent(None)
