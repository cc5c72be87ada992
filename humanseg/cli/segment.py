"""`humanseg segment`: segment photos and clips with a server; a second run resumes."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from humanseg.cli import s3
from humanseg.cli.clips import container_for, is_a_clip
from humanseg.cli.console import CommandError
from humanseg.cli.jobs import Job, Results, Source
from humanseg.cli.options import ApiKey, AsJson, Timeout, Url, connect
from humanseg.cli.photos import CLIPS, to_folder, to_one
from humanseg.cli.results import STDOUT, Bucket, OneFile, Stdout
from humanseg.cli.resume_log import ResumeLog
from humanseg.cli.segment_choices import FORMAT, SUFFIX, Crop, Format, Keep, Output, Quality
from humanseg.cli.segment_report import report
from humanseg.cli.segment_run import Run
from humanseg.cli.sources import gather, is_single
from humanseg.common.effects import without_effect

app = typer.Typer()


@app.command()
def segment(
    photos: Annotated[
        list[str],
        typer.Argument(
            help="Photos, clips, folders, patterns like '*.jpg', - for standard input, https:// addresses, "
            "s3://bucket/key or s3://bucket/folder/."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "-o",
            "--out",
            help="Output file for one photo, folder for several; - for standard output; s3://bucket/key or folder/.",
        ),
    ],
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
    keep: Annotated[
        Keep | None, typer.Option(help="main: without passers-by (default); all; largest: one region.")
    ] = None,
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
    format = format or (None if output is Output.json else FORMAT.get(Path(out).suffix.lower()))
    options: dict[str, Any] = {
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
    if out == STDOUT and as_json:
        raise CommandError("--json and -o - would both write to standard output; leave one of them out")
    server = connect(url, api_key=api_key, timeout=timeout)
    identity = {name: str(value) for name, value in options.items() if value is not None}
    identity |= {"model": server.model} | ({"version": server.version} if server.version else {})
    with server, tempfile.TemporaryDirectory(prefix="humanseg-") as folder:
        scratch = Path(folder)
        many = _is_folder(photos, out)
        local = not (out == STDOUT or out.startswith(s3.SCHEME))
        gathered = gather(photos, Path(out) if local else None, scratch, timeout=timeout)
        if local and len(photos) == 1 and _becomes_folder(gathered.sources, out, options["format"]):
            many = False
        jobs, place = _jobs(gathered.sources, out, None if local else scratch, many, options)
        clips = [job for job in jobs if _is_clip(job.source, options["format"])]
        for chosen, clip in ((clips, True), ([job for job in jobs if job not in clips], False)):
            if chosen:
                refuse(options, clip=clip)
        run = Run(server, options, _results(out, place, many, identity), parallel, force)
        run.tally.failed += gathered.failed
        still = run.open_jobs(jobs)
        if chosen := [job for job in still if job not in clips]:
            run.photos(chosen)
        if chosen := [job for job in still if job in clips]:
            run.clips(chosen)
        report(run.tally, run.results, as_json=as_json, results_on_stdout=out == STDOUT)
    if not run.tally.all_done:
        raise typer.Exit(1)


def refuse(options: Mapping[str, Any], *, clip: bool) -> None:
    """Raise CommandError for an option that would change nothing in the result."""
    archive = None if options["archive"] is None else "yes" if options["archive"] else "no"
    given = {name: None if value is None else str(value) for name, value in {**options, "archive": archive}.items()}

    def spell(name: str, value: str) -> str:
        return f"--{name}" if name == "archive" else f"--{name} {value}"

    for name in ("archive", "label"):
        if clip and given[name] not in (None, "no"):
            raise CommandError(
                f"{spell(name, str(given[name]))} is for photos: this command sends a clip's frames one by one, "
                "and they are not archived"
            )
    if reason := without_effect(given, clip=clip, spell=spell):
        raise CommandError(reason)


def _is_folder(sources: list[str], out: str) -> bool:
    """Whether the results go into a folder: always for several photos, for one if `out` is a folder."""
    single = len(sources) == 1 and is_single(sources[0])
    if out == STDOUT:
        if not single:
            raise CommandError("-o - writes the result of one photo or clip; use a folder for several")
        return False
    if out.startswith(s3.SCHEME):
        folder = s3.parse(out).is_folder
        if not (single or folder):
            raise CommandError(f"{out} is one object; for several photos use a prefix that ends with /")
        return folder
    return not single or Path(out).is_dir() or out.endswith("/")


def _becomes_folder(sources: list[Source], out: str, format: str | None) -> bool:
    """Whether the result is the frames of one clip, so that `out` is their folder."""
    ends_like_a_picture = Path(out).suffix.lower() in (".png", ".webp", ".jpg", ".jpeg")
    return len(sources) == 1 and format == "png" and not ends_like_a_picture and _is_clip(sources[0], format)


def _jobs(
    sources: list[Source], out: str, scratch: Path | None, many: bool, options: Mapping[str, Any]
) -> tuple[list[Job], Path]:
    """The jobs, and the local file or folder of their results: `out`, or a path in `scratch`."""
    wanted, output = options["format"], options["output"]

    def suffix(source: Source) -> str:
        if _is_clip(source, wanted):
            container = container_for(wanted, Path(), output)
            if container == "png" and scratch is not None:
                raise CommandError("the frames of a clip can only be written to a local folder: use -o FOLDER")
            return "" if container == "png" else f".{container}"
        return ".json" if output == "json" else SUFFIX.get(wanted or "png", ".png")

    place = Path(out) if scratch is None else scratch / "out"
    if many:
        return to_folder(sources, place, suffix), place
    if scratch is not None:
        place = place / f"result{Path(out).suffix if out != STDOUT else suffix(sources[0]) if sources else ''}"
    return [job for source in sources for job in to_one(source, place)], place


def _results(out: str, place: Path, many: bool, identity: Mapping[str, str]) -> Results:
    if out == STDOUT:
        return Stdout()
    if out.startswith(s3.SCHEME):
        return Bucket(s3.parse(out), place, identity)
    return ResumeLog(place, identity) if many else OneFile()


def _is_clip(source: Source, container: str | None) -> bool:
    """Whether a source is a clip: by its first bytes, or by its name if it is not downloaded yet."""
    if source.download:
        return source.path.suffix in CLIPS
    return is_a_clip(source.path, container)
