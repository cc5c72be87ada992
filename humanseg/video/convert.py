"""The video pipeline: frames -> network -> smoothing -> picture -> clip, bounded and in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from humanseg.segmentation.frame import to_frame_size
from humanseg.segmentation.photo import Photo, Pixels
from humanseg.segmentation.picture import draw
from humanseg.segmentation.pipeline import at_photo_size
from humanseg.segmentation.regions import MAIN, keep_regions
from humanseg.segmentation.result import Segmentation
from humanseg.segmentation.spec import Spec
from humanseg.video.backdrop import Backdrop
from humanseg.video.decode import Frame, frames
from humanseg.video.encode import ClipWriter, FolderWriter, Writer, codec_for
from humanseg.video.errors import ClipTooLarge
from humanseg.video.kinds import CONTAINERS, LINES
from humanseg.video.lines import LinesWriter
from humanseg.video.probe import ClipInfo
from humanseg.video.resume import Unfinished
from humanseg.video.steady import Steady
from humanseg.video.stream import in_order

FRAMES_IN_FLIGHT = 128_000_000  # maximum bytes of frames in flight, but at least one frame
RUN_UP = 8  # frames that a resumed run segments again, to restore the smoothing


@dataclass(frozen=True)
class Network:
    """Segments frames.

    spec: of the network. threshold: its default, 0..1. version: of the model.
    ask: maps a frame, uint8 [h, w, 3] RGB, to the probability of a person, uint8 [h, w]. Called by up to `parallel`
    threads concurrently.
    finest: the frames that `ask` gets are at most this many times as long as the network's.
    """

    spec: Spec
    threshold: float
    version: str
    ask: Callable[[Pixels], Pixels]
    parallel: int = 1
    finest: int = 1


@dataclass(frozen=True)
class Look:
    """The requested result of a clip.

    output: as of a photo. threshold: None uses the network's. keep: see `humanseg.segmentation.regions`.
    """

    output: str
    backdrop: Backdrop
    threshold: float | None = None
    keep: str = MAIN


@dataclass(frozen=True)
class Target:
    """The destination. container: "webm", "mp4" or "mov"; "png" for a folder of pictures; LINES for output "json"."""

    path: Path
    container: str


@dataclass(frozen=True)
class Outcome:
    """frames: in the result. resumed: frames of an earlier run. broken: why the clip ended early."""

    frames: int
    resumed: int
    broken: str | None


@dataclass(frozen=True)
class _Request:
    """A frame at its own size, at the network's size, and as it is sent."""

    frame: Frame
    small: Pixels
    sent: Pixels


class _Sink(Protocol):
    """Writes the result of one clip."""

    def write(self, frame: Frame, segmentation: Segmentation) -> None:
        """The next frame."""
        ...

    def close(self) -> None:
        """Finish the result."""
        ...


@dataclass(frozen=True)
class _Drawing:
    """Draws each frame for a writer of pictures."""

    writer: Writer
    look: Look

    def write(self, frame: Frame, segmentation: Segmentation) -> None:
        height, width = frame.pixels.shape[:2]
        photo = Photo(frame.pixels, width, height, "video")
        behind = self.look.backdrop(frame.time, (width, height))
        self.writer.write(draw(photo, segmentation, self.look.output, behind), frame.time, frame.duration)

    def close(self) -> None:
        self.writer.close()


def convert(
    info: ClipInfo,
    target: Target,
    look: Look,
    network: Network,
    *,
    options: Mapping[str, str] = {},
    force: bool = False,
    longest: Fraction | None = None,
    seen: Callable[[Frame, Segmentation], None] = lambda frame, segmentation: None,
    progress: Callable[[int], None] = lambda _: None,
    warn: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Convert the clip `info` to `target`. After any exception, the finished part is kept and plays.

    Args:
        info: the clip, read by `probe`.
        target: the destination.
        look: the requested result.
        network: segments the frames.
        options: everything that affects the result; a run resumes only if they are equal.
        force: overwrite an existing result.
        longest: seconds; a longer clip is rejected, whatever its header says.
        seen: called with each frame and its segmentation, before it is drawn.
        progress: called with the number of finished frames, after each.
        warn: called with problems that do not stop the conversion.

    Raises:
        ClipError: the clip cannot be read, or the result cannot be made.
        Whatever `network.ask` raises.
    """
    if target.container in CONTAINERS:
        codec_for(target.container, look.output)
    broken: list[str] = []
    source = frames(info, broken.append)
    first = next(source)  # before writing: a clip without frames leaves no file
    unfinished = Unfinished(target.path, target.container, info.path, options)
    finished = resumed = unfinished.begin(force=force)
    progress(finished)
    size = (first.pixels.shape[1], first.pixels.shape[0])
    threshold = look.threshold or network.threshold
    sink = _sink(target, look, size, info, network, unfinished, finished, warn)
    try:
        steady = Steady()
        kept: NDArray[np.float32] | None = None
        requests = _requests(_from(first, source, finished - RUN_UP, size, longest), network)
        ahead = max(1, min(2 * network.parallel, FRAMES_IN_FLIGHT // first.pixels.nbytes))
        answers = in_order(requests, lambda each: network.ask(each.sent), parallel=network.parallel, ahead=ahead)
        for request, answer in answers:
            probability = steady(answer.astype(np.float32) * np.float32(1 / 255), request.small)
            kept = keep_regions(probability, threshold, look.keep, kept)
            if request.frame.index < finished:
                continue
            height, width = request.frame.pixels.shape[:2]
            segmentation = at_photo_size(kept, width, height, threshold=threshold, keep="all")
            seen(request.frame, segmentation)
            sink.write(request.frame, segmentation)
            finished += 1
            progress(finished)
    finally:
        sink.close()
        if finished == 0:  # no frames, no playable clip
            unfinished.drop()
    unfinished.finish()
    for fault in broken:
        warn(fault)
    return Outcome(finished, resumed, broken[0] if broken else None)


def _sink(
    target: Target,
    look: Look,
    size: tuple[int, int],
    info: ClipInfo,
    network: Network,
    unfinished: Unfinished,
    finished: int,
    warn: Callable[[str], None],
) -> _Sink:
    if target.container == LINES:
        return LinesWriter(target.path, network.spec.calibration, finished)
    if target.container == "png":
        return _Drawing(FolderWriter(target.path, finished), look)
    before = unfinished.packets()
    writer = ClipWriter(target.path, target.container, look.output, size, info, before=before, warn=warn)
    unfinished.copied()
    return _Drawing(writer, look)


def _from(
    first: Frame, rest: Iterator[Frame], begin: int, size: tuple[int, int], longest: Fraction | None
) -> Iterator[Frame]:
    """The frames from number `begin` on, all scaled to the first frame's size."""
    for frame in _chained(first, rest):
        if longest is not None and frame.time > longest:
            raise ClipTooLarge(f"The clip lasts longer than the limit of {float(longest):.0f} s.")
        if frame.index < begin:
            continue
        if frame.pixels.shape[1::-1] != size:
            scaled = np.asarray(cv2.resize(frame.pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
            frame = Frame(frame.index, scaled, frame.time, frame.duration)
        yield frame


def _chained(first: Frame, rest: Iterator[Frame]) -> Iterator[Frame]:
    yield first
    yield from rest


def _requests(source: Iterator[Frame], network: Network) -> Iterator[_Request]:
    for frame in source:
        small = to_frame_size(frame.pixels, network.spec)
        sent = small if network.finest == 1 else _at_most(frame.pixels, network.finest * network.spec.long_side)
        yield _Request(frame, small, sent)


def _at_most(pixels: Pixels, long_side: int) -> Pixels:
    """`pixels`, uint8 [h, w, 3], scaled down to a long side of at most `long_side`."""
    height, width = pixels.shape[:2]
    scale = long_side / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
