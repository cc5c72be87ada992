"""The video pipeline: frames -> network -> smoothing -> picture -> clip, bounded and in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from humanseg.segmentation.frame import to_frame_size
from humanseg.segmentation.photo import Photo, Pixels
from humanseg.segmentation.picture import draw
from humanseg.segmentation.pipeline import at_photo_size
from humanseg.segmentation.result import Segmentation
from humanseg.segmentation.spec import Spec
from humanseg.video.backdrop import Backdrop
from humanseg.video.decode import Frame, frames
from humanseg.video.encode import ClipWriter, FolderWriter, Writer, codec_for
from humanseg.video.errors import ClipTooLarge
from humanseg.video.probe import ClipInfo
from humanseg.video.resume import Unfinished
from humanseg.video.steady import Steady
from humanseg.video.stream import in_order

FRAMES_IN_FLIGHT = 128_000_000  # maximum bytes of frames in flight, but at least one frame
RUN_UP = 8  # frames that a resumed run segments again, to restore the smoothing
OUTPUTS = ("mask", "probability", "cutout", "overlay", "composite")


@dataclass(frozen=True)
class Network:
    """Segments frames.

    spec: of the network. threshold: its default, 0..1. version: of the model.
    ask: maps a frame of the network's size, uint8 [h, w, 3] RGB, to the probability of a person, uint8 [h, w]. Called
    by up to `parallel` threads concurrently.
    """

    spec: Spec
    threshold: float
    version: str
    ask: Callable[[Pixels], Pixels]
    parallel: int = 1


@dataclass(frozen=True)
class Look:
    """The requested result of a clip. threshold: None uses the network's. keep: "all" or "largest"."""

    output: str
    backdrop: Backdrop
    threshold: float | None = None
    keep: str = "all"


@dataclass(frozen=True)
class Target:
    """The destination. container: "webm", "mp4", "mov", or "png" for a folder of pictures."""

    path: Path
    container: str


@dataclass(frozen=True)
class Outcome:
    """frames: in the result. resumed: frames of an earlier run. broken: why the clip ended early."""

    frames: int
    resumed: int
    broken: str | None


@dataclass(frozen=True)
class _Asked:
    frame: Frame
    small: Pixels


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
    if target.container != "png":
        codec_for(target.container, look.output)
    broken: list[str] = []
    source = frames(info, broken.append)
    first = next(source)  # before writing: a clip without frames leaves no file
    unfinished = Unfinished(target.path, info.path, options, folder=target.container == "png")
    done = resumed = unfinished.begin(force=force)
    progress(done)
    size = (first.pixels.shape[1], first.pixels.shape[0])
    writer = _writer(target, look, size, info, unfinished, done, warn)
    try:
        steady = Steady()
        asked = _asked(_from(first, source, done - RUN_UP, size, longest), network.spec)
        ahead = max(1, min(2 * network.parallel, FRAMES_IN_FLIGHT // first.pixels.nbytes))
        answers = in_order(asked, lambda one: network.ask(one.small), parallel=network.parallel, ahead=ahead)
        for one, answer in answers:
            probability = steady(answer.astype(np.float32) * np.float32(1 / 255), one.small)
            if one.frame.index < done:
                continue
            segmentation = _segmented(one.frame, probability, look, network)
            seen(one.frame, segmentation)
            writer.write(_drawn(one.frame, segmentation, look), one.frame.time, one.frame.duration)
            done += 1
            progress(done)
    finally:
        writer.close()
        if done == 0:  # no frames, no playable clip
            unfinished.drop()
    unfinished.finish()
    for fault in broken:
        warn(fault)
    return Outcome(done, resumed, broken[0] if broken else None)


def _writer(
    target: Target,
    look: Look,
    size: tuple[int, int],
    info: ClipInfo,
    unfinished: Unfinished,
    done: int,
    warn: Callable[[str], None],
) -> Writer:
    if target.container == "png":
        return FolderWriter(target.path, done)
    before = unfinished.packets()
    writer = ClipWriter(target.path, target.container, look.output, size, info, before=before, warn=warn)
    unfinished.copied()
    return writer


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


def _asked(source: Iterator[Frame], spec: Spec) -> Iterator[_Asked]:
    for frame in source:
        yield _Asked(frame, to_frame_size(frame.pixels, spec))


def _segmented(frame: Frame, probability: NDArray[np.float32], look: Look, network: Network) -> Segmentation:
    height, width = frame.pixels.shape[:2]
    threshold = look.threshold or network.threshold
    return at_photo_size(probability, width, height, threshold=threshold, keep=look.keep)


def _drawn(frame: Frame, segmentation: Segmentation, look: Look) -> Pixels:
    """The picture of one frame: uint8 [h, w], [h, w, 3] or [h, w, 4]; see `humanseg.segmentation.picture.draw`."""
    height, width = frame.pixels.shape[:2]
    photo = Photo(frame.pixels, width, height, "video")
    return draw(photo, segmentation, look.output, look.backdrop(frame.time, (width, height)))
