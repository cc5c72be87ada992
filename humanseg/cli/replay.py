"""`humanseg replay`: run another model on archived photos, through the serving pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from humanseg.cli.archive_common import Json, Since, Until, moment, plain_errors, reader
from humanseg.cli.console import CommandError, err, print_json
from humanseg.common.names import state_dir

app = typer.Typer()


@app.command()
def replay(
    mar: Annotated[Path, typer.Option(help="The model to run: a .mar, or weights.")],
    to: Annotated[
        Path, typer.Option(help="Folder for the predictions; run the command again to resume.", metavar="DIR")
    ],
    since: Since,
    until: Until = "",
    threads: Annotated[int, typer.Option(min=1, help="Engine threads.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Run on the Ray cluster at HOST:PORT, or auto; needs the extra `scale`."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run another model on archived photos and compare it with the served answers: one Parquet file per segment.

    Exit status 1: segments are missing; run the command again to retry them.
    """
    from tempfile import TemporaryDirectory

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from humanseg.loop.predictions import Window
    from humanseg.loop.replay import here, resumed, summary
    from humanseg.loop.replay import replay as run
    from humanseg.training.encoder import load_encoder

    first = moment(since)
    if first is None:
        raise CommandError("--since: give a time, as in 7d")
    asked = f"{since}..{until}"
    window = resumed(to, asked) or Window(first, moment(until))
    columns = TextColumn("segments"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with plain_errors(), TemporaryDirectory(prefix="replay-") as scratch, Progress(*columns, console=err()) as bar:
        task = bar.add_task("segments", total=None)
        archive = reader()
        # With Ray, too: an invalid model is rejected here and not on every node.
        encoder = load_encoder(mar, Path(scratch), threads=threads)
        if ray is None:
            work = here(archive, encoder, window)
        else:
            from humanseg.loop.on_ray import Job, Place, on_ray

            work = on_ray(ray, mar, Job(Place.of(state_dir()), window, mar.name, threads))
        result = run(
            archive,
            encoder.candidate.weights_sha256,
            to,
            window,
            work,
            asked=asked,
            progress=lambda number, total: bar.update(task, completed=number, total=total),
        )
    figures = {**vars(result), **summary(to)}
    if as_json:
        print_json(figures)
    else:
        typer.echo(
            f"{result.photos} photos of {result.segments} segments in {result.seconds:.1f} s, "
            f"{result.skipped} already there"
        )
        if figures["photos"]:
            typer.echo(
                f"of {figures['photos']} photos, weighted: mean disagreement {figures['mean_disagreement']:.4f}, "
                f"{figures['share_over_10_percent']:.1%} differ by more than 0.1; most: "
                + ", ".join(row["request_id"] for row in figures["most"][:3])
            )
        if figures["problems"]:
            typer.echo(f"{figures['problems']} photos could not be read; see the column `problem`", err=True)
    if result.failed:
        raise CommandError(
            f"{len(result.failed)} segments are missing ({result.failed[0]}, ...): they crashed their "
            "workers. Run the command again to retry them"
        )
