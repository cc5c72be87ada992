"""`humanseg archive drift`: data drift of the archived photos."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from humanseg.cli.archive_common import Json, moment, plain_errors, reader
from humanseg.cli.console import CommandError, out, print_json, print_table

if TYPE_CHECKING:
    import pyarrow as pa

CHANGED = 3  # exit status; 1 is an error, 2 a wrong command line


def drift(
    reference: Annotated[str, typer.Option(help="Reference window: FROM..TO, e.g. 28d..7d.", metavar="FROM..TO")],
    current: Annotated[str, typer.Option(help="Window to test: FROM[..TO].", metavar="FROM[..TO]")],
    tables: Annotated[
        Path | None, typer.Option(help="Read Parquet files from this folder, not from the bucket.", metavar="DIR")
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="A replay of both windows: also test the encoder's embeddings.", metavar="DIR"),
    ] = None,
    least_effect: Annotated[float, typer.Option(min=0, max=1, help="Ignore changes with a smaller effect.")] = 0.1,
    report: Annotated[Path | None, typer.Option(help="Write an HTML report.", metavar="FILE")] = None,
    metrics: Annotated[
        Path | None, typer.Option(help="Write gauges for node_exporter's textfile collector.", metavar="FILE.prom")
    ] = None,
    as_json: Json = False,
) -> None:
    """Detect data drift between two time windows: light, sharpness, size, format, label, hour, confidence, and more.

    Exit status 0: no drift. 3: a large and statistically significant change.
    """
    from humanseg.archive.read.drift import as_gauges
    from humanseg.archive.read.drift import drift as find
    from humanseg.archive.read.drift_columns import columns_of
    from humanseg.archive.read.drift_report import as_html
    from humanseg.common.files import write_whole

    windows = [_window("--reference", reference), _window("--current", current)]
    with plain_errors():
        replayed = None if predictions is None else _replayed(predictions)
        sides = [columns_of(_rows(tables, *window), replayed) for window in windows]
    for name, side in zip(("--reference", "--current"), sides, strict=True):
        if not side or not len(next(iter(side.values()))):
            raise CommandError(f"{name} contains no photos; choose a longer window")
    findings = find(sides[0], sides[1], least_effect=least_effect)
    alarms = [finding.name for finding in findings if finding.alarm]
    if report is not None:
        write_whole(report, as_html(findings, *(_say(*window) for window in windows)).encode())
    if metrics is not None:
        write_whole(metrics, as_gauges(findings, time.time()).encode(), 0o644)
    if as_json:
        print_json([{name: value for name, value in vars(finding).items() if name != "bars"} for finding in findings])
    else:
        rows = [
            (
                finding.name,
                finding.before,
                finding.now,
                f"{finding.effect:.3f}",
                f"{finding.q:.4f}",
                "changed" if finding.alarm else finding.note,
            )
            for finding in findings
        ]
        print_table("", ("variable", "before", "now", "effect", "q", "verdict"), rows)
        says = f"Changed: {', '.join(alarms)}." if alarms else "No large and significant change."
        out().print(says, markup=False, soft_wrap=True)
    raise typer.Exit(CHANGED if alarms else 0)


def _window(option: str, text: str) -> tuple[datetime, datetime]:
    first, _, last = text.partition("..")
    since, until = moment(first), moment(last) or datetime.now(timezone.utc)
    if since is None or since >= until:
        raise CommandError(f"{option} {text!r}: give FROM..TO with FROM before TO, as in 28d..7d")
    return since, until


def _say(since: datetime, until: datetime) -> str:
    return f"{since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC"


def _replayed(folder: Path) -> pa.Table:
    """Ids and embeddings of a replay. Raises CommandError if they come from several models."""
    import pyarrow.dataset as ds

    rows = ds.dataset(sorted(folder.glob("*.parquet")), format="parquet")
    if "embedding" not in rows.schema.names:
        raise CommandError(f"{folder} contains no embeddings; run humanseg replay --to {folder}")
    table = rows.to_table(columns=["request_id", "embedding", "weights_sha256"])
    if len(table["weights_sha256"].unique()) > 1:
        raise CommandError(f"{folder} contains embeddings of several models; use the folder of one replay")
    return table


def _rows(folder: Path | None, since: datetime, until: datetime) -> Iterator[pa.Table]:
    """The rows with since <= time < until, with the columns that drift looks at."""
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    from humanseg.archive.read.drift_columns import NAMES

    if folder is None:
        shelf = reader().records
        yield from shelf.days_rows(since, until, columns=[name for name in NAMES if name in shelf.schema.names])
        return
    rows = ds.dataset(folder, format="parquet")
    known: list[Any] = [name for name in NAMES if name in rows.schema.names]
    yield rows.to_table(columns=known, filter=(pc.field("time") >= since) & (pc.field("time") < until))
