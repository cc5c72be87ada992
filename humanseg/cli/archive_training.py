"""`humanseg archive export` and `import-labels`: from the archive to training, and corrected masks back."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from humanseg.cli.archive_common import Json, Since, Until, moment, plain_errors, reader
from humanseg.cli.console import CommandError, err, print_json


def export(
    to: Annotated[Path, typer.Option(help="The folder to fill; running it again resumes.", metavar="DIR")],
    since: Since,
    until: Until = "",
    fmt: Annotated[str, typer.Option("--format", help="folder, webdataset, coco or label-studio.")] = "folder",
    corrected_only: Annotated[
        bool, typer.Option("--corrected-only", help="Only photos whose mask a person corrected.")
    ] = False,
    ids: Annotated[
        Path | None, typer.Option(help="Only these request ids, one a line, as of `query --csv`.", metavar="FILE")
    ] = None,
    held_out: Annotated[float, typer.Option(min=0, max=1, help="Share marked val, by the photo's hash.")] = 0.1,
    as_json: Json = False,
) -> None:
    """Fetch photos and masks for training; each different photo once, corrected masks first.

    `humanseg train --data DIR` trains on the result. Masks that nobody corrected are the model's own guesses:
    give --corrected-only for truth.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from humanseg.archive.read.export import export as run

    with (
        plain_errors(),
        Progress(
            TextColumn("photos"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=err()
        ) as bar,
    ):
        task = bar.add_task("photos", total=None)
        first = moment(since)
        assert first is not None
        done = run(
            reader(),
            to,
            since=first,
            until=moment(until),
            now=datetime.now(timezone.utc),
            fmt=fmt,
            corrected_only=corrected_only,
            only=_read_ids(ids) if ids else None,
            held_out_share=held_out,
            progress=lambda number, total: bar.update(task, completed=number, total=total),
        )
    if as_json:
        print_json(vars(done))
    else:
        typer.echo(
            f"{done.photos} photos in {to} ({done.fetched} fetched, {done.skipped} there already), "
            f"{done.corrected} with corrected masks, {done.train} train and {done.held_out} val"
        )
    for problem in done.problems:
        typer.echo(f"left out: {problem}", err=True)
    if done.problems:
        raise typer.Exit(1)


def _read_ids(path: Path) -> set[str]:
    """Ids of a file, one a line; a header `request_id`, as CSV has, is left out."""
    from humanseg.archive.capture.record import check_request_id

    lines = {line.strip() for line in path.read_text().splitlines()} - {"", "request_id"}
    return {check_request_id(line) for line in lines}


def import_labels(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An edited export, or a folder of ID.png masks.")],
    by: Annotated[str, typer.Option(help="Who corrected them.", envvar="USER", show_default=False)],
    accept_unchanged: Annotated[
        bool, typer.Option("--accept-unchanged", help="Unchanged masks count as looked at and right.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put corrected masks back; they win over the model's in every later export."""
    from humanseg.archive.read.labels import import_labels as run

    with plain_errors():
        now = datetime.now(timezone.utc)
        done = run(reader(), folder, by=by, now=now, accept_unchanged=accept_unchanged)
    if as_json:
        print_json(vars(done))
    elif not done.problems:
        typer.echo(f"{len(done.uploaded)} corrected masks uploaded, {len(done.unchanged)} unchanged left alone")
    if done.problems:
        raise CommandError("nothing was uploaded:\n" + "\n".join(done.problems))
