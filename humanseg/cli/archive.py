"""`humanseg archive ...`: ship, list, show, count, export, label, erase and check what was archived."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from humanseg.cli.archive_common import (
    CONFIG,
    Config,
    Json,
    Since,
    Until,
    moment,
    plain_errors,
    reader,
)
from humanseg.cli.archive_drift import drift
from humanseg.cli.archive_erase import erase
from humanseg.cli.archive_training import export, import_labels
from humanseg.cli.console import CommandError, err, print_json, print_table
from humanseg.common.names import state_dir

app = typer.Typer(
    no_args_is_help=True,
    help="What users sent: ship it, look at it, train on it, erase it. "
    "The bucket is that of ARCHIVE_BUCKET, or the embedded store of STATE_DIR.",
)
app.command()(export)
app.command("import-labels")(import_labels)
app.command()(drift)
app.command()(erase)


@app.command()
def ship(
    drain: Annotated[bool, typer.Option("--drain", help="Stop when the spool is empty, or at --deadline.")] = False,
    deadline: Annotated[float, typer.Option(min=0.0, help="Seconds that a drain may take.")] = 60.0,
    retry_rejected: Annotated[bool, typer.Option("--retry-rejected", help="Try again what S3 refused.")] = False,
    config: Config = CONFIG,
    as_json: Json = False,
) -> None:
    """Bring the spool of STATE_DIR to the bucket, beside running servers and other uploaders.

    Without --drain it goes on until it is stopped. Exit status 3: the deadline left segments in the spool,
    where the next start finds them.
    """
    from humanseg.archive.ship.command import ship_spool

    with plain_errors():
        done = ship_spool(
            state_dir(),
            config,
            deadline_seconds=deadline if drain else None,
            retry_rejected=retry_rejected,
            stop_signals=(signal.SIGTERM, signal.SIGINT),
        )
    left = done.left
    if as_json:
        print_json(
            {
                "shipped": done.shipped,
                "rejected": done.rejected,
                "left_segments": left.segments,
                "left_bytes": left.bytes,
                "left_rejected": left.rejected,
            }
        )
    else:
        kept = f"; {left.rejected} set aside stay in rejected/" if left.rejected else ""
        typer.echo(
            f"archive: shipped {done.shipped} records, left in the spool {left.segments} segments "
            f"({left.bytes / 1e6:.1f} MB){kept}"
        )
    if drain and left.segments:
        raise typer.Exit(3)


@app.command("ls")
def list_records(
    date: Annotated[str, typer.Option(help="Only this day (UTC), 2026-11-20.")] = "",
    since: Since = "",
    until: Until = "",
    model: Annotated[str, typer.Option(help="Only this model version, or NAME/VERSION.")] = "",
    below_confidence: Annotated[float, typer.Option(min=0, max=1, help="Only below this confidence.")] = 1.0,
    label: Annotated[str, typer.Option(help="Only with this x-label.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 1_000_000_000,
    as_json: Annotated[bool, typer.Option("--json", help="One record a line, whole.")] = False,
) -> None:
    """List committed records by time, from the tables alone."""
    from datetime import timedelta

    from humanseg.archive.read.listing import Filter, rows
    from humanseg.archive.read.reader import parse_day
    from humanseg.archive.ship.table import stored_record

    first, last = moment(since), moment(until)
    if date:
        first = moment(parse_day(date))
        last = first + timedelta(days=1) if first else None
    with plain_errors():
        found = rows(reader().records, Filter(first, last, model, below_confidence, label), limit, whole=as_json)
        if as_json:
            for row in found:
                typer.echo(stored_record(row).to_json())
            return
        table = [
            (
                f"{row['time']:%Y-%m-%dT%H:%M:%S}",
                row["request_id"],
                row["model_version"],
                f"{row['width']}x{row['height']}",
                f"{row['coverage']:.3f}",
                f"{row['confidence']:.3f}",
                row["sampling_reason"],
                row["label"] or "",
            )
            for row in found
        ]
    columns = ("time (UTC)", "request id", "version", "photo", "coverage", "confidence", "kept for", "label")
    print_table(f"{len(table)} records", columns, table)


@app.command()
def show(
    request_id: Annotated[str, typer.Argument(metavar="ID")],
    to: Annotated[Path | None, typer.Option(help="Write the picture here.", metavar="FILE.png")] = None,
    date: Annotated[str, typer.Option(help="Its day (UTC), which makes the search short.")] = "",
) -> None:
    """Show photo, mask and overlay of one record side by side, and print its JSON.

    The picture is written to ID.png here, or to --to, and opened where there is a desktop.
    """
    from humanseg.archive.read.picture import side_by_side
    from humanseg.archive.read.reader import parse_day
    from humanseg.archive.ship.table import stored_record

    with plain_errors():
        archive = reader()
        row = archive.find(request_id, parse_day(date) if date else None)
        if row is None:
            raise CommandError(f"no committed record {request_id} is in the archive")
        picture = side_by_side(*archive.photo_and_mask(row))
    typer.echo(stored_record(row).to_json())
    path = to or Path(f"{request_id}.png")
    path.touch(mode=0o600)
    path.write_bytes(picture)
    err().print(f"written: {path}")
    if to is None and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        typer.launch(str(path))


@app.command()
def query(
    sql: Annotated[str, typer.Argument(metavar="SELECT...")] = "",
    since: Annotated[str, typer.Option(help="Only the days from this time on, written as in ls.")] = "",
    until: Annotated[str, typer.Option(help="Only the days up to this time.")] = "",
    schema: Annotated[bool, typer.Option("--schema", help="Print the tables' columns instead.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV with a header.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object a line.")] = False,
) -> None:
    """Ask the archive in SQL (DuckDB): SELECT over the tables `records` and `labels`. Nothing can be changed.

    WHERE dt = '2026-11-20' reads that day alone. Opens no segment.
    """
    import csv
    import sys

    from humanseg.archive.read import query as run

    if bool(sql) == schema:
        raise CommandError("give a SELECT, or --schema")
    with plain_errors():
        if schema:
            found = run.Answer(["table", "column", "type"], list(run.schema(reader())))
        else:
            found = run.query(reader(), sql, moment(since), moment(until))
    if as_json:
        for row in found.rows:
            typer.echo(json.dumps(dict(zip(found.columns, row, strict=True)), default=str, ensure_ascii=False))
    elif as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(found.columns)
        writer.writerows(found.rows)
    else:
        rows = [tuple("" if value is None else str(value) for value in row) for row in found.rows]
        print_table(f"{len(rows)} rows", found.columns, rows)


@app.command()
def stats(
    since: Since = "30d",
    until: Until = "",
    png: Annotated[Path | None, typer.Option(help="Write the charts here.", metavar="FILE.png")] = None,
    as_json: Json = False,
) -> None:
    """Count the archive day by day: records, coverage, confidence, sizes, share declined."""
    from humanseg.archive.read.stats import COLUMNS, chart, count

    with plain_errors():
        days = count(reader().records.days_rows(moment(since), moment(until), columns=COLUMNS))
    if png:
        png.write_bytes(chart(days))
        err().print(f"written: {png}")
    if as_json:
        print_json([day.row() for day in days])
        return
    rows = [tuple(day.row().values()) for day in days]
    columns = tuple(days[0].row()) if days else ("day", "records")
    print_table("the archive by day", [name.replace("_", " ") for name in columns], rows)


@app.command()
def retention(
    days: Annotated[int | None, typer.Argument(min=1, help="Delete everything after so many days.")] = None,
    as_json: Json = False,
) -> None:
    """Set the lifecycle rules of the archive's prefix; without DAYS, print the bucket's rules."""
    from humanseg.archive.read.retention import get_rules, set_retention

    with plain_errors():
        store = reader().store
        rules = get_rules(store) if days is None else set_retention(store, days)
    if as_json:
        print_json(rules)
        return
    rows = [
        (
            rule.get("ID", ""),
            rule.get("Filter", {}).get("Prefix", ""),
            rule.get("Expiration", {}).get("Days", ""),
            rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays", ""),
            rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation", ""),
        )
        for rule in rules
    ]
    columns = ("rule", "prefix", "days", "days for old versions", "days for broken uploads")
    print_table("lifecycle rules", columns, rows)


@app.command()
def compact(
    since: Since = "",
    until: Until = "",
    config: Config = CONFIG,
    as_json: Json = False,
) -> None:
    """Merge the small segments and tables of closed days into few large ones; best run once a day by a scheduled job.

    It can be killed anywhere and run again. Exit status 1: a damaged segment was left as it is.
    """
    from datetime import datetime, timezone

    from humanseg.archive.read.compact import compact as run
    from humanseg.archive.ship.command import read_settings

    with plain_errors(), err().status("compacting") as status:
        done = run(
            reader(read_settings(config)),
            moment(since),
            moment(until),
            now=datetime.now(timezone.utc),
            progress=lambda day: status.update(f"compacting: {day}"),
        )
    if as_json:
        print_json(vars(done))
    else:
        typer.echo(f"{done.merged} segments merged into {done.into}; {done.leftovers} left-over objects deleted")
        for problem in done.problems:
            typer.echo(f"left as it is: {problem}", err=True)
    if done.problems:
        raise typer.Exit(1)


@app.command()
def verify(since: Since = "", until: Until = "", as_json: Json = False) -> None:
    """Read every committed segment and compare it with its table. Exit status 1: something is wrong."""
    from humanseg.archive.read.verify import verify as run

    with plain_errors(), err().status("verifying") as status:
        done = run(
            reader(),
            moment(since),
            moment(until),
            progress=lambda number: status.update(f"verifying: {number} records"),
        )
    if as_json:
        print_json(vars(done))
    else:
        typer.echo(f"{done.records} committed records, {done.bytes / 1e6:.1f} MB, {len(done.problems)} wrong")
        for key, problem in done.problems:
            typer.echo(f"  {key}: {problem}")
        if done.uncommitted:
            typer.echo(f"{len(done.uncommitted)} segments without a table (under way, or lost with their machine)")
    if done.problems:
        raise typer.Exit(1)
