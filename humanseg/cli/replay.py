"""`humanseg replay`: run another model on archived photos, through the serving pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from humanseg.cli.archive_common import Json, Since, Until, moment, plain_errors, reader
from humanseg.cli.console import CommandError, err, print_json

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
    as_json: Json = False,
) -> None:
    """Run another model on archived photos and compare it with the served answers: one Parquet file per segment."""
    from tempfile import TemporaryDirectory

    import pyarrow.parquet as pq
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from humanseg.loop.replay import replay as run
    from humanseg.loop.replay import summary_of
    from humanseg.training.candidates import load_candidate

    first = moment(since)
    if first is None:
        raise CommandError("--since: give a time, as in 7d")
    columns = TextColumn("segments"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with plain_errors(), TemporaryDirectory(prefix="replay-") as scratch, Progress(*columns, console=err()) as bar:
        task = bar.add_task("segments", total=None)
        done = run(
            reader(),
            load_candidate(mar, Path(scratch), threads=threads),
            to,
            since=first,
            until=moment(until),
            progress=lambda number, total: bar.update(task, completed=number, total=total),
        )
    found = {**vars(done), **summary_of(pq.read_table(path) for path in sorted(to.glob("*.parquet")))}
    if as_json:
        print_json(found)
        return
    typer.echo(
        f"{done.photos} photos of {done.segments} segments in {done.seconds:.1f} s, {done.skipped} already there"
    )
    if found["photos"]:
        typer.echo(
            f"of {found['photos']} photos, weighted: mean disagreement {found['mean_disagreement']:.4f}, "
            f"{found['share_over_10_percent']:.1%} differ by more than 0.1; most: "
            + ", ".join(one["request_id"] for one in found["most"][:3])
        )
    if found["problems"]:
        typer.echo(f"{found['problems']} photos could not be read; see the column `problem`", err=True)
