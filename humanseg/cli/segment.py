"""`humanseg segment`: segment photos and clips with a server; a second run resumes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from humanseg.cli.clips import Made, behind_photos, container_for, in_front, is_a_clip, refuse, work
from humanseg.cli.console import CommandError, err, print_json, print_table
from humanseg.cli.options import ApiKey, AsJson, Timeout, Url, connect
from humanseg.cli.photos import Job, plan
from humanseg.cli.resume_log import ResumeLog, State
from humanseg.video.kinds import CONTAINERS

if TYPE_CHECKING:
    from humanseg.client import Client, Segmentation
    from humanseg.segmentation.photo import Pixels

app = typer.Typer()

SUFFIX = {"png": ".png", "webp": ".webp", "jpeg": ".jpg"}
FORMAT = {
    ".png": "png",
    ".webp": "webp",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webm": "webm",
    ".mp4": "mp4",
    ".mov": "mov",
}


class Output(str, Enum):
    """The kind of result."""

    mask = "mask"
    probability = "probability"
    cutout = "cutout"
    overlay = "overlay"
    composite = "composite"
    json = "json"


class Format(str, Enum):
    """The file format of the result: png, webp and jpeg for photos; webm, mp4, mov, and png in a folder for clips."""

    png = "png"
    webp = "webp"
    jpeg = "jpeg"
    webm = "webm"
    mp4 = "mp4"
    mov = "mov"


class Quality(str, Enum):
    """Speed or quality."""

    fast = "fast"
    best = "best"


class Keep(str, Enum):
    """Which person regions to keep."""

    all = "all"
    largest = "largest"


class Crop(str, Enum):
    """How to crop the result."""

    none = "none"
    person = "person"


@dataclass
class Tally:
    """The outcome of all jobs."""

    done: list[tuple[Job, Segmentation]] = field(default_factory=list)
    clips: list[Made] = field(default_factory=list)
    skipped: list[Job] = field(default_factory=list)
    failed: list[tuple[Job, str]] = field(default_factory=list)
    untried: list[Job] = field(default_factory=list)


@app.command()
def segment(
    photos: Annotated[list[str], typer.Argument(help="Photos, clips, folders, or patterns like '*.jpg'.")],
    out: Annotated[str, typer.Option("-o", "--out", help="Output file for one photo, folder for several.")],
    output: Annotated[Output, typer.Option(help="Kind of result.")] = Output.mask,
    format: Annotated[
        Format | None, typer.Option(help="File format. Default: from the suffix of -o, else png.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Between 0 and 1. Default: the model's own.")] = None,
    background: Annotated[
        str | None, typer.Option(help="For composite: '#rrggbb', 'blur', a picture, or a clip.")
    ] = None,
    quality: Annotated[
        Quality | None, typer.Option(help="best: test-time augmentation, slower, better for small people.")
    ] = None,
    keep: Annotated[Keep | None, typer.Option(help="Keep all person regions, or only the largest.")] = None,
    crop: Annotated[Crop | None, typer.Option(help="Crop the result to the person.")] = None,
    archive: Annotated[
        bool | None, typer.Option("--archive/--no-archive", help="Give or refuse consent to archive the photos.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="Label to store with the archived photos.")] = None,
    parallel: Annotated[
        int, typer.Option("-j", "--parallel", min=1, max=64, help="Number of concurrent requests.")
    ] = 4,
    force: Annotated[bool, typer.Option("--force", help="Redo every result, and overwrite existing files.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    timeout: Timeout = 120.0,
    as_json: AsJson = False,
) -> None:
    """Segment people in photos and clips: write a mask, a cut-out or another result for each.

    Results of a folder mirror its tree.

    Run the same command again to resume: finished results with the same options are skipped.

    Failures are listed in a table at the end, and the exit status is 1.
    """
    format = _format(format, output, out)
    asked: dict[str, Any] = {
        "output": output.value,
        "format": format.value if format else None,
        "threshold": threshold,
        "background": background,
        "quality": quality.value if quality else None,
        "keep": keep.value if keep else None,
        "crop": crop.value if crop else None,
        "archive": archive,
        "label": label,
    }
    jobs, folder = _plan(photos, out, output, format)
    server = connect(url, api_key=api_key, timeout=timeout)
    options = {name: str(value) for name, value in asked.items() if value is not None}
    options |= {"model": server.model} | ({"version": server.version} if server.version else {})
    tally = Tally()
    log = ResumeLog(folder, options) if folder else None
    todo = list(_open_jobs(jobs, log, tally, force))
    clips = [job for job in todo if is_a_clip(job.photo, asked["format"])]
    if clips:
        refuse(asked)
    with server:
        still = [job for job in todo if job not in clips]
        if still:
            _run(server, still, asked, parallel, log, tally)
        if clips:
            _run_clips(server, clips, asked, parallel, log, tally, force)
    _report(tally, as_json)
    if tally.failed or tally.untried or any(made.outcome.broken for made in tally.clips):
        raise typer.Exit(1)


def _plan(sources: list[str], out: str, output: Output, format: Format | None) -> tuple[list[Job], Path | None]:
    """Plan the jobs. A clip as pictures gets its own folder, which is `out` itself if there is only one clip."""
    wanted = format.value if format else None
    first = Path(sources[0])
    if len(sources) == 1 and wanted == "png" and first.is_file() and is_a_clip(first, wanted) and not _picture(out):
        return [Job(first, Path(out))], None

    def suffix(photo: Path) -> str:
        if is_a_clip(photo, wanted):
            container = container_for(wanted, Path(), output.value)
            return "" if container == "png" else f".{container}"
        return ".json" if output is Output.json else SUFFIX.get(wanted or "png", ".png")

    return plan(sources, out, suffix)


def _picture(out: str) -> bool:
    return Path(out).suffix.lower() in (".png", ".webp", ".jpg", ".jpeg")


def _format(format: Format | None, output: Output, out: str) -> Format | None:
    if output is Output.json:
        return None
    named = FORMAT.get(Path(out).suffix.lower())
    return format or (Format(named) if named else None)


def _open_jobs(jobs: Sequence[Job], log: ResumeLog | None, tally: Tally, force: bool) -> Iterator[Job]:
    for job in jobs:
        state = State.OPEN if log is None or force else log.state(job)
        if state is State.DONE:
            tally.skipped.append(job)
        elif state is State.FOREIGN:
            tally.failed.append(
                (job, f"{job.result} exists and was not written by this command; use --force to overwrite it")
            )
        else:
            yield job


def _run(
    server: Client,
    jobs: Sequence[Job],
    asked: Mapping[str, Any],
    parallel: int,
    log: ResumeLog | None,
    tally: Tally,
) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from humanseg.client import HumansegError, UnauthorizedError, UnreachableError

    behind = behind_photos(asked)
    queue = iter(jobs)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err(), transient=True) as bar, ThreadPoolExecutor(parallel) as pool:
        task = bar.add_task("Segmenting", total=len(jobs))
        running: dict[Future[Segmentation], Job] = {}
        try:
            while True:
                while len(running) < parallel and (job := next(queue, None)):
                    if log:
                        log.begin(job)
                    running[pool.submit(_one, server, job, asked, behind)] = job
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job = running.pop(future)
                    try:
                        answer = future.result()
                    except (HumansegError, OSError, ValueError) as error:
                        tally.failed.append((job, str(error)))
                        if isinstance(error, (UnauthorizedError, UnreachableError)):
                            tally.untried += queue  # all others would fail, too
                            queue = iter(())
                    else:
                        tally.done.append((job, answer))
                        if log:
                            log.finish(job, answer.model_version)
                    bar.advance(task)
        except KeyboardInterrupt:
            raise CommandError("interrupted; run the same command again to resume") from None


def _run_clips(
    server: Client,
    jobs: Sequence[Job],
    asked: Mapping[str, Any],
    parallel: int,
    log: ResumeLog | None,
    tally: Tally,
    force: bool,
) -> None:
    """Process one clip after another, each with `parallel` concurrent frames."""
    import av  # noqa: F401  (first: where the extra is missing, this is the name that says which one)

    from humanseg.client import HumansegError, UnauthorizedError, UnreachableError
    from humanseg.video.errors import ClipError
    from humanseg.video.resume import is_begun

    queue = iter(jobs)
    for job in queue:
        if log:
            log.begin(job)
        try:
            # A result in the log may be overwritten, unless it can be resumed.
            again = force or (log is not None and not is_begun(job.result))
            made = work(server, job, asked, parallel, force=again)
        except (ClipError, HumansegError, OSError, ValueError) as error:
            tally.failed.append((job, str(error)))
            if isinstance(error, (UnauthorizedError, UnreachableError)):
                tally.untried += queue
            continue
        tally.clips.append(made)
        for warning in made.warnings:
            err().print(f"warning: {warning}", highlight=False, markup=False)
        if log and not made.outcome.broken:
            log.finish(job, made.model_version)


def _one(server: Client, job: Job, asked: Mapping[str, Any], behind: Pixels | None) -> Segmentation:
    import dataclasses

    if asked["format"] in CONTAINERS:
        raise ValueError(f"a photo can't be written as {asked['format']}: use --format png, webp or jpeg")
    if behind is None:
        answer = server.segment(job.photo, **asked)
    else:
        cut = server.segment(job.photo, **{**asked, "output": "cutout", "format": "png", "background": None})
        answer = dataclasses.replace(cut, content=in_front(cut.content, behind, asked["format"] or "png"))
    job.result.parent.mkdir(parents=True, exist_ok=True)
    answer.save(job.result)
    return dataclasses.replace(
        answer, content=b"", document=None
    )  # without the bytes: a run may have thousands of photos


def _report(tally: Tally, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "done": [
                    {
                        "photo": str(job.photo),
                        "result": str(job.result),
                        "coverage": answer.coverage,
                        "person_found": answer.person_found,
                        "confidence": answer.confidence,
                        "model_version": answer.model_version,
                        "request_id": answer.request_id,
                    }
                    for job, answer in tally.done
                ],
                "clips": [
                    {
                        "clip": str(made.job.photo),
                        "result": str(made.job.result),
                        "frames": made.outcome.frames,
                        "resumed_at": made.outcome.resumed,
                        "warnings": list(made.warnings),
                        "model_version": made.model_version,
                    }
                    for made in tally.clips
                ],
                "skipped": [{"photo": str(job.photo), "result": str(job.result)} for job in tally.skipped],
                "failed": [{"photo": str(job.photo), "cause": cause} for job, cause in tally.failed],
                "untried": [str(job.photo) for job in tally.untried],
            }
        )
        return
    if tally.failed:
        print_table("Failed", ("photo", "cause"), [(job.photo, cause) for job, cause in tally.failed])
    parts = [f"{len(tally.done) + len(tally.clips)} done"]
    parts += [f"{len(tally.skipped)} skipped (already done)"] if tally.skipped else []
    parts += [f"{len(tally.failed)} failed"] if tally.failed else []
    parts += [f"{len(tally.untried)} not tried"] if tally.untried else []
    err().print(", ".join(parts), highlight=False)
