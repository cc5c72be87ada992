"""`humanseg archive export` and `import-labels`: training exports and label imports."""

from __future__ import annotations

from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from humanseg.cli.archive_common import Json, Since, Until, moment, plain_errors, reader
from humanseg.cli.console import CommandError, err, print_json

if TYPE_CHECKING:
    from rich.progress import Progress


class Format(str, Enum):
    """What an export can be."""

    folder = "folder"
    webdataset = "webdataset"
    coco = "coco"
    label_studio = "label-studio"


def export(
    to: Annotated[Path, typer.Option(help="Output folder; run the command again to resume.", metavar="DIR")],
    since: Since,
    until: Until = "",
    fmt: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.folder,
    corrected_only: Annotated[
        bool, typer.Option("--corrected-only", help="Only photos with a corrected mask.")
    ] = False,
    ids: Annotated[
        Path | None,
        typer.Option(help="Only these request ids, one per line, e.g. from `query --csv`.", metavar="FILE"),
    ] = None,
    choose: Annotated[
        int | None,
        typer.Option(
            min=1, help="Choose the N most useful photos to label (active learning); needs the extra `train`."
        ),
    ] = None,
    model: Annotated[
        Path, typer.Option(help="The model for --choose, the one in production: a .mar, or weights.", metavar="FILE")
    ] = Path("model_store/human_segmentation.mar"),
    pool: Annotated[int, typer.Option(min=1, help="Size of the candidate pool for --choose.")] = 2000,
    seed: Annotated[int, typer.Option(help="Random seed of --choose.")] = 0,
    held_out: Annotated[
        float, typer.Option(min=0, max=1, help="Share of photos in the val split, selected by content hash.")
    ] = 0.1,
    as_json: Json = False,
) -> None:
    """Export photos and masks for training, without duplicates. Corrected masks take precedence.

    `humanseg train --data DIR` trains on the result. For ground truth use --corrected-only, because
    uncorrected masks are the model's own predictions.
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
                raise CommandError("--choose cannot be combined with --ids or --corrected-only")
            chosen = _choose(model, choose, pool, seed, first, moment(until), bar)
            only = set(chosen)
        result = run(
            reader(),
            to,
            since=first,
            until=moment(until),
            now=datetime.now(timezone.utc),
            fmt=fmt.value,
            corrected_only=corrected_only,
            only=only,
            chosen_as=chosen,
            held_out_share=held_out,
            progress=lambda number, total: bar.update(task, completed=number, total=total),
        )
    if as_json:
        print_json(vars(result))
    else:
        typer.echo(
            f"{result.photos} photos in {to} ({result.fetched} fetched, {result.skipped} already there), "
            f"{result.corrected} with corrected masks, {result.train} train and {result.held_out} val"
        )
        if choose is not None:
            typer.echo(
                f"Next: label {to} (with Label Studio: --format label-studio), then "
                f"humanseg archive import-labels {to} --by NAME",
                err=True,
            )
    for problem in result.problems:
        typer.echo(f"skipped: {problem}", err=True)
    if result.problems:
        raise typer.Exit(1)


def _choose(
    model: Path, count: int, pool: int, seed: int, since: datetime, until: datetime | None, bar: Progress
) -> dict[str, dict[str, Any]]:
    """The reason and probability of each chosen photo, by request id."""
    from tempfile import TemporaryDirectory

    from humanseg.loop.choose import pick
    from humanseg.training.encoder import load_encoder

    task = bar.add_task("scored", total=None)
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
        raise CommandError("there are no unlabelled photos in this time range; choose an earlier --since")
    reasons = [str(row["why"]) for row in picked.chosen.values()]
    counts = ", ".join(f"{reasons.count(why)} {why}" for why in dict.fromkeys(sorted(reasons)))
    typer.echo(f"chose {len(reasons)} of {picked.photos} photos ({picked.scored} scored): {counts}", err=True)
    return picked.chosen


def _read_ids(path: Path) -> set[str]:
    """Read ids from a file, one per line; a CSV header `request_id` is skipped."""
    from humanseg.archive.capture.record import check_request_id

    lines = {line.strip() for line in path.read_text().splitlines()} - {"", "request_id"}
    return {check_request_id(line) for line in lines}


def import_labels(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="An edited export, PNGs, or JSON of Label Studio, CVAT or another COCO tool."
        ),
    ],
    by: Annotated[
        str, typer.Option(help="Annotator's name, if the file has none.", envvar="USER", show_default=False)
    ],
    accept_unchanged: Annotated[
        bool, typer.Option("--accept-unchanged", help="Import unchanged masks, too: a person has confirmed them.")
    ] = False,
    label: Annotated[
        list[str] | None, typer.Option(help="Label that means person. Default: person. Repeatable.")
    ] = None,
    empty_is_nobody: Annotated[
        bool,
        typer.Option("--empty-is-nobody", help="Treat photos without a region as empty; otherwise they are skipped."),
    ] = False,
    least_agreement: Annotated[
        float, typer.Option(min=0, max=1, help="Minimum IoU between masks of one photo by several annotators.")
    ] = 0.7,
    as_json: Json = False,
) -> None:
    """Import corrected masks as labels, which replace the model's masks in later exports. Imports all or none."""
    from humanseg.archive.read.label_import import import_labels as run
    from humanseg.labels.drawn import Options

    options = Options(empty_is_nobody=empty_is_nobody)
    if label:
        options = Options(label, empty_is_nobody)
    with plain_errors():
        now = datetime.now(timezone.utc)
        result = run(
            reader(),
            source,
            by=by,
            now=now,
            accept_unchanged=accept_unchanged,
            options=options,
            least_agreement=least_agreement,
        )
    if as_json:
        print_json(vars(result))
    elif not result.problems:
        typer.echo(f"{len(result.uploaded)} corrected masks uploaded, {len(result.unchanged)} unchanged skipped")
        for photo in result.skipped:
            typer.echo(f"skipped: {photo}", err=True)
        typer.echo("Next: humanseg train --archive 90d --init WEIGHTS --out runs/next", err=True)
    if result.problems:
        raise CommandError("nothing was imported:\n" + "\n".join(result.problems))
