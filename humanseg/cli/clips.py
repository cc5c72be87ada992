"""Clips for `humanseg segment`: sends frames to a server, and puts a picture or clip behind the person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from humanseg.cli.console import CommandError, err
from humanseg.cli.jobs import Job
from humanseg.common.allocation import keep_freed_buffers
from humanseg.video.kinds import CONTAINERS, LINES, LONGEST_START, is_clip, result_format

if TYPE_CHECKING:
    from rich.progress import Progress, Task

    from humanseg.client import Client
    from humanseg.segmentation.photo import Pixels
    from humanseg.video.convert import Network, Outcome

GIF = b"GIF8"


@dataclass(frozen=True)
class Made:
    """A finished clip. warnings: problems that did not stop it."""

    job: Job
    outcome: Outcome
    model_version: str
    warnings: tuple[str, ...]


def is_a_clip(path: Path, container: str | None) -> bool:
    """Whether to process a file as a clip; a GIF only if the result is a clip (`container`)."""
    with path.open("rb") as file:
        start = file.read(LONGEST_START)
    return is_clip(start) or (start.startswith(GIF) and container in CONTAINERS)


def container_for(format: str | None, result: Path, output: str) -> str:
    """The result's container: "webm", "mp4", "mov", "png" for a folder of pictures, or LINES for output "json".

    Raises:
        CommandError: the format is for photos, or the result's suffix for something else.
    """
    ending = result.suffix.lower().removeprefix(".")
    if output == "json":
        if ending not in (LINES, "json", "ndjson", ""):
            raise CommandError(f"can't write JSON to {result.name}: use .{LINES}, which has a line for each frame")
        return LINES
    wanted = result_format(output, format or ending)
    if wanted not in (*CONTAINERS, "png") or ending == "png":
        raise CommandError(
            f"can't write a clip to {result.name}: use .webm, .mp4 or .mov, or --format png with a folder"
        )
    return wanted


def network(server: Client, parallel: int, quality: Literal["fast", "best"] | None) -> Network:
    """The network of `server`. Frames are sent uncompressed, and are never archived.

    They have the network's own size, or with quality "best" the size of the finest mask.
    """
    import cv2
    import numpy as np

    from humanseg.segmentation.augmented import FINEST
    from humanseg.segmentation.spec import KEYS, Spec
    from humanseg.video.convert import Network

    facts = server.facts()
    spec = Spec.from_mapping({name: value for name, value in facts["network"].items() if name in KEYS})

    def ask(frame: Pixels) -> Pixels:
        packed = cv2.imencode(".bmp", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1].tobytes()
        answer = server.segment(packed, output="probability", quality=quality, keep="all", archive=False)
        return cast("Pixels", cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_GRAYSCALE))

    finest = FINEST if quality == "best" else 1
    return Network(spec, spec.threshold, facts["version"], ask, parallel, finest)


def work(
    server: Client, job: Job, asked: Mapping[str, Any], parallel: int, *, force: bool, stays: bool = True
) -> Made:
    """Convert one clip. stays: whether an interrupted result stays for a second run to resume.

    Raises:
        CommandError: interrupted by Ctrl-C; the finished part is kept.
        ClipError, HumansegError, OSError: see `humanseg.video.convert.convert` and `humanseg.client.errors`.
    """
    from humanseg.segmentation.regions import MAIN
    from humanseg.video.backdrop import backdrop
    from humanseg.video.convert import Look, Target, convert
    from humanseg.video.probe import probe

    keep_freed_buffers()
    behind = asked["background"] or "#ffffff"
    container = container_for(asked["format"], job.result, asked["output"])
    look = Look(asked["output"], backdrop(_known(behind)), asked["threshold"], asked["keep"] or MAIN)
    info = probe(job.photo)
    asks = network(server, parallel, asked["quality"])
    options = {name: str(value) for name, value in asked.items() if value is not None and name != "archive"}
    options |= {"container": container, "model": f"{server.model} {asks.version}"}
    job.result.parent.mkdir(parents=True, exist_ok=True)
    warnings: list[str] = []
    finished = 0
    try:
        with _progress() as bar:
            task = bar.add_task(job.source.name.name, total=info.frames)

            def progress(frames: int) -> None:
                nonlocal finished
                finished = frames
                bar.update(task, completed=frames, total=max(frames, info.frames or 0))

            outcome = convert(
                info,
                Target(job.result, container),
                look,
                asks,
                options=options,
                force=force,
                progress=progress,
                warn=warnings.append,
            )
    except KeyboardInterrupt:
        there = f": {job.result} plays up to there; run the same command again to resume" if stays else ""
        raise CommandError(f"interrupted after {finished} frames{there}") from None
    return Made(job, outcome, asks.version, tuple(warnings))


def _known(background: str) -> str:
    from humanseg.video.backdrop import named_in

    if not named_in(background) and not Path(background).is_file():
        raise CommandError(f"--background {background} is not a colour (#rrggbb), blur, or an existing file")
    return background


def in_front(content: bytes, backdrop: Pixels, format: str) -> bytes:
    """Composite a cut-out (PNG bytes) onto a picture that is scaled to cover it, encoded as `format`."""
    import cv2
    import numpy as np

    from humanseg.segmentation.picture import blend, encode
    from humanseg.video.backdrop import covering

    decoded = np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED))
    straight = cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGBA)
    pixels, alpha = np.ascontiguousarray(straight[..., :3]), np.ascontiguousarray(straight[..., 3])
    height, width = alpha.shape
    colours, share = cast("Pixels", pixels), cast("Pixels", alpha)
    return encode(blend(colours, covering(backdrop, width, height), share), format)


def behind_photos(asked: Mapping[str, Any]) -> Pixels | None:
    """The picture of --background for photos; None for a colour, blur, or no background."""
    background = asked["background"]
    if background is None or asked["output"] != "composite" or not Path(background).is_file():
        return None
    import av  # noqa: F401

    from humanseg.video.backdrop import still

    return still(background)


def _progress() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:.1f} frames/s")

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Speed(), TimeRemainingColumn())
    return Progress(*columns, console=err(), transient=True)
