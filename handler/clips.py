"""Clips over HTTP: one at a time, in a separate process, with this worker's network.

TorchServe gives a worker one request at a time, so a clip occupies its worker until it is finished. Photos must not
wait for it: a server processes one clip at a time (others get 503), the other workers serve the photos, and a server
with one worker rejects clips. All CPU work except the network (decoding, drawing, encoding) runs in the child process
at low priority: the kernel schedules photos first.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from handler.archiving import PhotoArchive
from handler.errors import BadOption, Busy
from handler.options import Options, refuse_without_effect
from handler.request import PhotoRequest
from handler.response import Origin, Response
from humanseg.common.clip_command import clip_command
from humanseg.common.files import try_lock, write_whole
from humanseg.common.names import state_dir
from humanseg.segmentation.errors import TooLarge, UnsupportedFormat
from humanseg.segmentation.photo import Pixels
from humanseg.video.errors import ClipTooLarge
from humanseg.video.kinds import CONTAINERS, CONTENT_TYPE, LONGEST_START, is_clip, result_format

GIF = b"GIF8"
MAX_PIXELS = 8_900_000  # of a frame: 4K
MAX_RESULT = 250_000_000  # bytes; config.properties allows responses of 256 MB
PNGS = "humanseg segment clip.mp4 -o frames/ --format png"


@dataclass(frozen=True)
class ClipRoom:
    """A worker's resources for a clip.

    ask: maps a frame, uint8 [h, w, 3], and a quality to its probability, uint8 [h, w].
    spec: of the network, as a mapping.
    max_seconds: longer clips are rejected; 0 rejects all. deadline: time limit of one clip in seconds.
    """

    ask: Callable[[Pixels, str], Pixels]
    spec: dict[str, Any]
    threshold: float
    max_seconds: float
    deadline: float


def wants_clip(data: bytes, options: Options) -> bool:
    """Whether a request contains a clip. A GIF is a photo unless a clip's format is requested. Raises BadOption."""
    as_clip = options.format in CONTAINERS
    if is_clip(data[:LONGEST_START]) or (as_clip and data.startswith(GIF)):
        return True
    if as_clip:
        raise BadOption(f"format={options.format} is for clips, and this is a photo. Use png, webp or jpeg.")
    return False


def make_clip(request: PhotoRequest, room: ClipRoom, origin: Origin, archive: PhotoArchive) -> Response:
    """Process a clip, archive frames of it if the settings say so, and return its response.

    Raises:
        BadOption, Busy, TooLarge, UnsupportedFormat, ClipError: see `handler.errors.STATUS`.
    """
    options = request.options
    if request.kserve and options.output == "json":
        raise BadOption(
            "KServe's protocol answers one JSON document; a clip has one per frame. Use /predictions/NAME."
        )
    container = _container(options)
    command = clip_command(container, options.given())
    if find_spec("av") is None:
        raise UnsupportedFormat(f"This is a clip, and this server reads photos only. Run: {command}")
    if os.environ.get("SERVE_WORKERS") == "1":
        raise TooLarge(f"This server has one worker, which a clip would occupy. Run: {command}")
    if room.max_seconds == 0:
        raise TooLarge(f"This server does not accept clips. Run: {command}")
    from humanseg.video.child import ClipJob
    from humanseg.video.sampled import Sampled
    from humanseg.video.server_side import run

    threshold = options.threshold or room.threshold
    with _alone(), tempfile.TemporaryDirectory(prefix="clip-") as folder, _progress(options.progress) as progress:
        source, result = Path(folder) / "The clip", Path(folder) / f"result.{container}"
        source.write_bytes(request.photo)
        job = ClipJob(
            source=str(source),
            result=str(result),
            samples=folder if archive.wants_frames(options) else None,
            container=container,
            output=options.output,
            quality=options.quality,
            background=options.background,
            keep=options.keep,
            threshold=threshold,
            spec=room.spec,
            max_seconds=room.max_seconds,
            max_pixels=MAX_PIXELS,
            max_bytes=MAX_RESULT,
            cpu_seconds=int(2 * room.deadline),
        )
        try:
            outcome = run(
                job, lambda frame: room.ask(frame, options.quality), deadline=room.deadline, progress=progress
            )
        except ClipTooLarge as error:
            raise ClipTooLarge(f"{error} To process it without these limits: {command}") from None
        body = result.read_bytes()
        sampled = [Sampled.from_plain(sample) for sample in outcome["sampled"]]
        archived, records = archive.keep_frames(request, sampled, origin, datetime.now(timezone.utc))
    headers = {
        "x-frames": str(outcome["frames"]),
        "x-threshold": f"{threshold:g}",
        "x-model-version": origin.model_version,
        "x-archived": archived,
        "x-archived-frames": str(records),
    }
    if outcome["warnings"]:
        headers["x-warning"] = "; ".join(outcome["warnings"]).encode("ascii", "replace").decode()[:500]
    return Response(200, CONTENT_TYPE[container], body, headers)


def _container(options: Options) -> str:
    refuse_without_effect(options, clip=True)
    if options.output != "json" and options.format is not None and options.format not in CONTAINERS:
        raise BadOption(f"format={options.format} is for photos. For a clip use webm, mp4 or mov; for PNGs: {PNGS}")
    if options.output == "cutout" and options.format == "mp4":
        raise BadOption("format=mp4 has no transparency, which output=cutout needs. Use format=webm or format=mov.")
    return result_format(options.output, options.format)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold this server's only slot for a clip; the kernel frees it if this worker dies. Raises Busy."""
    state_dir().mkdir(parents=True, exist_ok=True)
    lock = try_lock(state_dir() / "clip.lock")
    if lock is None:
        raise Busy("The server is processing another clip. Retry in a few seconds.", 5)
    try:
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def _progress(token: str | None) -> Iterator[Callable[[int, int], None]]:
    """Return a function that stores the progress of a clip for `progress_response`."""
    if token is None:
        yield lambda finished, expected: None
        return
    path = _progress_file(token)

    def note(finished: int, expected: int) -> None:
        write_whole(path, json.dumps({"state": "working", "frames": finished, "of": expected}))

    note(0, 0)
    try:
        yield note
    finally:
        path.unlink(missing_ok=True)


def progress_response(token: str) -> Response:
    """The progress of the clip sent with the option `progress`: {"state", "frames", "of"}."""
    try:
        body = _progress_file(token).read_bytes()
    except FileNotFoundError:
        body = b'{"state": "unknown", "frames": 0, "of": 0}'
    return Response(200, "application/json", body, {"cache-control": "no-store"})


def _progress_file(token: str) -> Path:
    return state_dir() / f"clip-{token}.json"
