"""`humanseg compare`: the gate before `humanseg release`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from humanseg.cli.console import CommandError, err, out, print_json, print_table

app = typer.Typer()
STATUS = {"better": 0, "not worse": 0, "worse": 1, "can't tell": 3}  # 2 is a wrong command line


@app.command()
def compare(
    old: Annotated[Path, typer.Argument(help="The model in production: a .mar, or weights.")],
    new: Annotated[Path, typer.Argument(help="The candidate: a .mar, or weights.")],
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR", help="Photos with masks, or a COCO JSON. An archive export includes sampling weights."
        ),
    ] = None,
    empty: Annotated[list[str] | None, typer.Option(metavar="DIR", help="Photos (img/) without people.")] = None,
    held_out: Annotated[
        float | None, typer.Option(min=0, max=1, help="Measure only on this held-out share of --data.")
    ] = None,
    report: Annotated[Path, typer.Option(help="File for the HTML report.", metavar="FILE")] = Path("comparison.html"),
    mean: Annotated[float, typer.Option(min=0, help="Allowed drop of the mean IoU.")] = 0.002,
    kind: Annotated[float, typer.Option(min=0, help="Allowed drop of the mean IoU of a slice.")] = 0.01,
    slower: Annotated[float, typer.Option(min=0, help="Allowed factor of the time per photo.")] = 1.1,
    threads: Annotated[int, typer.Option(min=1, help="Engine threads.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Compare two models on the same photos: paired differences, overall and by slice, and a verdict.

    Exit status 0: better or not worse. 1: worse, or an error. 3: too few photos to decide; prints the number needed.
    """
    from tempfile import TemporaryDirectory

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from humanseg.training.candidates import load_candidate
    from humanseg.training.compare import measure
    from humanseg.training.compare_report import headline, write_report
    from humanseg.training.paired import Margins, judge
    from humanseg.training.samples import Source, find_samples, split

    sources = [Source(Path(text)) for text in data or ()] + [Source(Path(text), kind="empty") for text in empty or ()]
    if not sources:
        raise CommandError("no photos given: name a folder with --data DIR")
    samples = [sample for source in sources for sample in find_samples(source)]
    if held_out is not None:
        samples = split(samples, held_out)[1]
    columns = TextColumn("photos"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with TemporaryDirectory(prefix="compare-") as scratch, Progress(*columns, console=err()) as bar:
        task = bar.add_task("photos", total=len(samples))
        candidates = [
            load_candidate(path, Path(scratch) / name, threads=threads) for name, path in (("old", old), ("new", new))
        ]
        measured = measure(
            candidates[0], candidates[1], samples, progress=lambda done, total: bar.update(task, completed=done)
        )
        margins = Margins(mean=mean, kind=kind, time=slower)
        verdict = judge(measured.paired, margins)
        names = [source.path.resolve().name for source in sources]
        figures = write_report(report, candidates[0], candidates[1], names, measured, verdict, margins)
    note_copy(report, [request_id for row in figures["per_photo"] for request_id in row["request_ids"]])
    if as_json:
        print_json(figures)
    else:
        rows = [
            (
                check.name,
                check.figure.photos,
                f"{check.figure.old:.4f}",
                f"{check.figure.new:.4f}",
                f"{check.figure.difference:+.4f}",
                f"{check.figure.low:+.4f} to {check.figure.high:+.4f}",
                check.state,
            )
            for check in verdict.checks
        ]
        print_table("", ("metric", "photos", "old", "new", "difference", "95 % interval", "verdict"), rows)
        out().print(f"{headline(verdict)} Report: {report}", markup=False, soft_wrap=True)
    if verdict.state in ("better", "not worse"):
        what = f"--mar {new}" if new.suffix == ".mar" else f"--weights {new} --version V"
        err().print(f"Next: humanseg release {what} --gate {report}", markup=False, soft_wrap=True)
    raise typer.Exit(STATUS[verdict.state])


def note_copy(report: Path, request_ids: list[str]) -> None:
    """Record in the archive that the report shows these photos, so that `erase` can list the report."""
    if not request_ids:
        return
    from datetime import datetime, timezone

    from humanseg.archive.read.export_notes import register
    from humanseg.cli.archive_common import plain_errors, reader

    try:
        with plain_errors():
            register(reader(), report, "comparison", request_ids, datetime.now(timezone.utc))
    except (CommandError, ModuleNotFoundError) as error:
        says = f"The archive could not record that {report} shows its photos ({error})"
        err().print(f"{says}: delete the report yourself when you erase one of them.", markup=False, soft_wrap=True)
