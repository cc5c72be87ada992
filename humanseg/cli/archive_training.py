"""`humanseg archive export` and `import-labels`: from the archive to training, and corrected masks back."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from humanseg.cli.archive_common import Json, Since, Until, moment, plain_errors, reader
from humanseg.cli.console import CommandError, err, print_json

if TYPE_CHECKING:
    from rich.progress import Progress


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
    choose: Annotated[
        int | None,
        typer.Option(min=1, help="Those most worth labelling, at most so many; needs humanseg[train]."),
    ] = None,
    model: Annotated[Path, typer.Option(help="The model that chooses: a .mar, or weights.", metavar="FILE")] = Path(
        "model_store/human_segmentation.mar"
    ),
    pool: Annotated[int, typer.Option(min=1, help="Photos that the model looks at to choose from.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the random part of the choice.")] = 0,
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
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=err()
        ) as bar,
    ):
        task = bar.add_task("photos", total=None)
        first = moment(since)
        assert first is not None
        only, chosen = _read_ids(ids) if ids else None, None
        if choose is not None:
            if ids or corrected_only:
                raise CommandError("--choose goes with neither --ids nor --corrected-only")
            chosen = _choose(model, choose, pool, seed, first, moment(until), bar)
            only = set(chosen)
        done = run(
            reader(),
            to,
            since=first,
            until=moment(until),
            now=datetime.now(timezone.utc),
            fmt=fmt,
            corrected_only=corrected_only,
            only=only,
            chosen_as=chosen,
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
        if choose is not None:
            typer.echo(
                f"Next: label {to} (with Label Studio: --format label-studio), then "
                f"humanseg archive import-labels {to} --by NAME",
                err=True,
            )
    for problem in done.problems:
        typer.echo(f"left out: {problem}", err=True)
    if done.problems:
        raise typer.Exit(1)


def _choose(
    model: Path, count: int, pool: int, seed: int, since: datetime, until: datetime | None, bar: Progress
) -> dict[str, dict[str, Any]]:
    """Why and with what probability each photo was chosen, by request id."""
    from tempfile import TemporaryDirectory

    from humanseg.loop.choose import pick
    from humanseg.training.encoder import load_encoder

    task = bar.add_task("looked at", total=None)
    with TemporaryDirectory(prefix="choose-") as scratch:
        picked = pick(
            reader(),
            load_encoder(model, Path(scratch)),
            count=count,
            since=since,
            until=until,
            pool=pool,
            seed=seed,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if not picked.chosen:
        raise CommandError("there are no photos in that time that nobody has labelled; give an earlier --since")
    reasons = [str(one["why"]) for one in picked.chosen.values()]
    counts = ", ".join(f"{reasons.count(why)} {why}" for why in dict.fromkeys(sorted(reasons)))
    typer.echo(f"chosen {len(reasons)} of {picked.photos} photos ({picked.looked_at} looked at): {counts}", err=True)
    return picked.chosen


def _read_ids(path: Path) -> set[str]:
    """Ids of a file, one a line; a header `request_id`, as CSV has, is left out."""
    from humanseg.archive.capture.record import check_request_id

    lines = {line.strip() for line in path.read_text().splitlines()} - {"", "request_id"}
    return {check_request_id(line) for line in lines}


def import_labels(
    source: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="An edited export, PNGs, or JSON of Label Studio, CVAT, any COCO tool."),
    ],
    by: Annotated[str, typer.Option(help="Who drew, where the file doesn't say.", envvar="USER", show_default=False)],
    accept_unchanged: Annotated[
        bool, typer.Option("--accept-unchanged", help="Unchanged masks count as looked at and right.")
    ] = False,
    label: Annotated[
        list[str] | None, typer.Option(help="Name of what counts as a person, if not person; again for more.")
    ] = None,
    empty_is_nobody: Annotated[
        bool, typer.Option("--empty-is-nobody", help="A photo without a region shows nobody; else it is skipped.")
    ] = False,
    least_agreement: Annotated[
        float, typer.Option(min=0, max=1, help="IoU by which several people's masks of one photo must agree.")
    ] = 0.7,
    as_json: Json = False,
) -> None:
    """Bring the masks that people drew back; they win over the model's in every later export. All, or none."""
    from humanseg.archive.read.label_import import import_labels as run
    from humanseg.labels.drawn import Options

    options = Options(empty_is_nobody=empty_is_nobody)
    if label:
        options = Options(label, empty_is_nobody)
    with plain_errors():
        now = datetime.now(timezone.utc)
        done = run(
            reader(),
            source,
            by=by,
            now=now,
            accept_unchanged=accept_unchanged,
            options=options,
            least_agreement=least_agreement,
        )
    if as_json:
        print_json(vars(done))
    elif not done.problems:
        typer.echo(f"{len(done.uploaded)} corrected masks uploaded, {len(done.unchanged)} unchanged left alone")
        for one in done.skipped:
            typer.echo(f"skipped: {one}", err=True)
        typer.echo("Next: humanseg train --archive 90d --init WEIGHTS --out runs/next", err=True)
    if done.problems:
        raise CommandError("nothing was uploaded:\n" + "\n".join(done.problems))
