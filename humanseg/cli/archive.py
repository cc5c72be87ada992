"""`humanseg archive ...`: ship, list, show, count, export, label, erase and check what was archived."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from humanseg.cli.archive_common import (
    CONFIG,
    Config,
    Json,
    Since,
    Until,
    moment,
    note_backlog,
    plain_errors,
    reader,
)
from humanseg.cli.archive_drift import drift
from humanseg.cli.archive_erase import erase
from humanseg.cli.archive_proposals import accept, proposals
from humanseg.cli.archive_training import export, import_labels
from humanseg.cli.console import CommandError, err, print_json, print_table
from humanseg.common.names import state_dir

app = typer.Typer(
    no_args_is_help=True,
    help="Work with archived user photos: list, show, query, export, erase. "
    "Uses the bucket ARCHIVE_BUCKET, or else the embedded store of STATE_DIR.",
)
app.command()(export)
app.command("import-labels")(import_labels)
app.command()(proposals)
app.command()(accept)
app.command()(drift)
app.command()(erase)


@app.command()
def ship(
    drain: Annotated[bool, typer.Option("--drain", help="Exit when the spool is empty, or at --deadline.")] = False,
    deadline: Annotated[float, typer.Option(min=0.0, help="Time limit of a drain, in seconds.")] = 60.0,
    retry_rejected: Annotated[
        bool, typer.Option("--retry-rejected", help="Also upload segments that S3 rejected.")
    ] = False,
    config: Config = CONFIG,
    as_json: Json = False,
) -> None:
    """Upload the spool of STATE_DIR to the bucket. Safe to run beside servers and other uploaders.

    Without --drain it runs until you stop it. Exit status 3: segments are left in the spool for the next run.
    """
    from humanseg.archive.ship.command import ship_spool

    with plain_errors():
        result = ship_spool(
            state_dir(),
            config,
            deadline_seconds=deadline if drain else None,
            retry_rejected=retry_rejected,
            stop_signals=(signal.SIGTERM, signal.SIGINT),
        )
    remaining = result.left
    if as_json:
        print_json(
            {
                "shipped": result.shipped,
                "rejected": result.rejected,
                "left_segments": remaining.segments,
                "left_bytes": remaining.bytes,
                "left_rejected": remaining.rejected,
            }
        )
    else:
        kept = f"; {remaining.rejected} quarantined in rejected/" if remaining.rejected else ""
        typer.echo(
            f"archive: shipped {result.shipped} records, left in the spool {remaining.segments} segments "
            f"({remaining.bytes / 1e6:.1f} MB){kept}"
        )
    if drain and remaining.segments:
        raise typer.Exit(3)


@app.command("ls")
def list_records(
    date: Annotated[str, typer.Option(help="Only this day (UTC), 2026-11-20.")] = "",
    since: Since = "",
    until: Until = "",
    model: Annotated[str, typer.Option(help="Only this model version, or NAME/VERSION.")] = "",
    below_confidence: Annotated[float, typer.Option(min=0, max=1, help="Only below this confidence.")] = 1.0,
    label: Annotated[str, typer.Option(help="Only with this x-label.")] = "",
    clip: Annotated[str, typer.Option(help="Only the frames of the clip with this id.", metavar="ID")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of records.")] = 1_000_000_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print one complete JSON record per line.")] = False,
) -> None:
    """List committed records by time. Reads only the tables."""
    from datetime import timedelta

    from humanseg.archive.read.listing import Filter, rows
    from humanseg.archive.read.proposals import read_proposals
    from humanseg.archive.read.reader import parse_day
    from humanseg.archive.ship.table import stored_record

    first, last = moment(since), moment(until)
    if date:
        first = moment(parse_day(date))
        last = first + timedelta(days=1) if first else None
    with plain_errors():
        archive = reader()
        records = rows(
            archive.records, Filter(first, last, model, below_confidence, label, clip), limit, whole=as_json
        )
        if as_json:
            for row in records:
                typer.echo(stored_record(row).to_json())
            return
        table: list[tuple[Any, ...]] = [
            (
                f"{row['time']:%Y-%m-%dT%H:%M:%S}",
                row["request_id"],
                f"{row['confidence']:.3f}",
                f"{row['width']}x{row['height']}",
                row["model_version"],
                f"{row['coverage']:.3f}",
                row["sampling_reason"],
                row["label"] or "",
                "" if row["clip_seconds"] is None else f"{row['clip_seconds']:.2f} s",
            )
            for row in records
        ]
        states = {proposal.of: proposal.state for proposal in read_proposals(archive, [row[1] for row in table])}
    columns = [
        "time (UTC)",
        "request id",
        "confidence",
        "photo",
        "version",
        "coverage",
        "kept for",
        "label",
        "in clip",
    ]
    if states:
        columns.append("correction")
        table = [(*row, states.get(row[1], "")) for row in table]
    print_table(f"{len(table)} records", columns, table, essential=2)
    note_backlog()


@app.command()
def show(
    request_id: Annotated[str, typer.Argument(metavar="ID", help="Request id of the record.")],
    to: Annotated[Path | None, typer.Option(help="File for the picture.", metavar="FILE.png")] = None,
    date: Annotated[str, typer.Option(help="The record's day (UTC), for a faster search.")] = "",
    proposed: Annotated[bool, typer.Option("--proposed", help="Show the mask that a user sent back.")] = False,
) -> None:
    """Show photo, mask and overlay of one record side by side, and print its JSON.

    The picture is written to ID.png in the current folder, or to --to, and opened if there is a desktop.
    """
    from humanseg.archive.read.picture import side_by_side
    from humanseg.archive.read.proposals import proposed_mask, read_proposals
    from humanseg.archive.read.reader import parse_day
    from humanseg.archive.ship.table import stored_record

    with plain_errors():
        archive = reader()
        row = archive.find(request_id, parse_day(date) if date else None)
        if row is None:
            raise CommandError(
                f"the archive has no committed record {request_id}; check the id, or wait until it is uploaded"
            )
        photo, mask = archive.photo_and_mask(row)
        if proposed:
            proposals = read_proposals(archive, [request_id])
            if not proposals:
                raise CommandError(f"no correction of {request_id} was sent")
            mask = proposed_mask(archive, proposals[0])
        picture = side_by_side(photo, mask)
    typer.echo(stored_record(row).to_json())
    path = to or Path(f"{request_id}.png")
    path.touch(mode=0o600)
    path.write_bytes(picture)
    err().print(f"written: {path}")
    if to is None and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        typer.launch(str(path))


@app.command()
def query(
    sql: Annotated[str, typer.Argument(metavar="SELECT...", help="The query.")] = "",
    since: Annotated[str, typer.Option(help="Only days from this time on, as in ls --since.")] = "",
    until: Annotated[str, typer.Option(help="Only days up to this time.")] = "",
    schema: Annotated[bool, typer.Option("--schema", help="Print the tables' columns and exit.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Query the archive with SQL (DuckDB): a read-only SELECT over the tables `records` and `labels`.

    WHERE dt = '2026-11-20' reads only that day. Never opens a segment.
    """
    import csv
    import sys

    from humanseg.archive.read import query as run

    if bool(sql) == schema:
        raise CommandError("give either a SELECT or --schema")
    with plain_errors():
        if schema:
            answer = run.Answer(["table", "column", "type"], list(run.schema(reader())))
        else:
            answer = run.query(reader(), sql, moment(since), moment(until))
    if as_json:
        for row in answer.rows:
            typer.echo(json.dumps(dict(zip(answer.columns, row, strict=True)), default=str, ensure_ascii=False))
    elif as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(answer.columns)
        writer.writerows(answer.rows)
    else:
        rows = [tuple("" if value is None else str(value) for value in row) for row in answer.rows]
        print_table(f"{len(rows)} rows", answer.columns, rows)


@app.command()
def stats(
    since: Since = "30d",
    until: Until = "",
    png: Annotated[Path | None, typer.Option(help="File for the charts.", metavar="FILE.png")] = None,
    as_json: Json = False,
) -> None:
    """Show statistics by day: records, coverage, confidence, sizes, share declined."""
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
    print_table("the archive by day", [name.replace("_", " ") for name in columns], rows, essential=6)
    note_backlog()


@app.command()
def retention(
    days: Annotated[int | None, typer.Argument(min=1, help="Days until records are deleted.")] = None,
    as_json: Json = False,
) -> None:
    """Set the retention of the archive (lifecycle rules of its prefix). Without DAYS, print the bucket's rules."""
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
    columns = ("rule", "prefix", "days", "days for old versions", "days for aborted uploads")
    print_table("lifecycle rules", columns, rows)


@app.command()
def compact(
    since: Since = "",
    until: Until = "",
    config: Config = CONFIG,
    as_json: Json = False,
) -> None:
    """Merge the small segments and tables of closed days into large ones. Run it once a day as a scheduled job.

    You can kill it at any time and run it again. Exit status 1: a damaged segment was left unchanged.
    """
    from datetime import datetime, timezone

    from humanseg.archive.read.compact import compact as run
    from humanseg.archive.ship.command import read_settings

    with plain_errors(), err().status("compacting") as status:
        result = run(
            reader(read_settings(config)),
            moment(since),
            moment(until),
            now=datetime.now(timezone.utc),
            progress=lambda day: status.update(f"compacting: {day}"),
        )
    if as_json:
        print_json(vars(result))
    else:
        typer.echo(
            f"{result.merged} segments merged into {result.into}; {result.leftovers} left-over objects deleted"
        )
        for problem in result.problems:
            typer.echo(f"left unchanged: {problem}", err=True)
    if result.problems:
        raise typer.Exit(1)


@app.command()
def verify(since: Since = "", until: Until = "", as_json: Json = False) -> None:
    """Read every committed segment and compare it with its table. Exit status 1: there are problems."""
    from humanseg.archive.read.verify import verify as run

    with plain_errors(), err().status("verifying") as status:
        result = run(
            reader(),
            moment(since),
            moment(until),
            progress=lambda number: status.update(f"verifying: {number} records"),
        )
    if as_json:
        print_json(vars(result))
    else:
        typer.echo(
            f"{result.records} committed records, {result.bytes / 1e6:.1f} MB, {len(result.problems)} problems"
        )
        for key, problem in result.problems:
            typer.echo(f"  {key}: {problem}")
        if result.uncommitted:
            typer.echo(
                f"{len(result.uncommitted)} segments without a table (upload in progress, or their server was lost)"
            )
    if result.problems:
        raise typer.Exit(1)
