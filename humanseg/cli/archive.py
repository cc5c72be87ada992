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
    state_dir,
)
from humanseg.cli.archive_drift import drift
from humanseg.cli.archive_training import export, import_labels
from humanseg.cli.console import CommandError, err, print_json, print_table

app = typer.Typer(
    no_args_is_help=True,
    help="What users sent: ship it, look at it, train on it, erase it. "
    "The bucket is that of ARCHIVE_BUCKET, or the embedded store of STATE_DIR.",
)
app.command()(export)
app.command("import-labels")(import_labels)
app.command()(drift)


@app.command()
def ship(
    drain: Annotated[bool, typer.Option("--drain", help="Stop when the spool is empty, or at --deadline.")] = False,
    deadline: Annotated[float, typer.Option(min=0.0, help="Seconds that a drain may take.")] = 60.0,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Records uploaded at a time.")] = 4,
    retry_rejected: Annotated[bool, typer.Option("--retry-rejected", help="Try again what S3 refused.")] = False,
    config: Config = CONFIG,
    as_json: Json = False,
) -> None:
    """Bring the spool of STATE_DIR to the bucket, beside running servers and other shippers.

    Without --drain it goes on until it is stopped. Exit status 3: the deadline left records in the spool,
    where the next start finds them.
    """
    from humanseg.archive.ship.shipping import ship_spool

    with plain_errors():
        done = ship_spool(
            state_dir(),
            config,
            deadline_seconds=deadline if drain else None,
            threads=threads,
            retry_rejected=retry_rejected,
            stop_signals=(signal.SIGTERM, signal.SIGINT),
        )
    left = done.left
    if as_json:
        print_json(
            {
                "shipped": done.shipped,
                "rejected": done.rejected,
                "left_records": left.records,
                "left_bytes": left.bytes,
                "left_rejected": left.rejected_records,
            }
        )
    else:
        kept = f"; {left.rejected_records} refused by S3 stay in rejected/" if left.rejected_records else ""
        typer.echo(
            f"archive: shipped {done.shipped} records, left in the spool {left.records} "
            f"({left.bytes / 1e6:.1f} MB){kept}"
        )
    if drain and left.records:
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
    as_json: Annotated[bool, typer.Option("--json", help="One record.json a line, whole.")] = False,
) -> None:
    """List committed records, by day and hour."""
    from datetime import timedelta
    from itertools import islice

    from humanseg.archive.read.reader import parse_day

    first, last = moment(since), moment(until)
    if date:
        first = moment(parse_day(date))
        last = first + timedelta(days=1) if first else None
    with plain_errors():
        found = islice(
            (
                stored
                for stored in reader().records(first, last)
                if (not model or model in _names(stored.about["model"]))
                and (below_confidence == 1.0 or stored.about["confidence"] < below_confidence)
                and (not label or stored.about["label"] == label)
            ),
            limit,
        )
        if as_json:
            for stored in found:
                typer.echo(json.dumps(stored.about, ensure_ascii=False))
            return
        rows = [
            (
                stored.about["time"][:19],
                stored.request_id,
                stored.about["model"]["version"],
                f"{stored.about['photo']['width']}x{stored.about['photo']['height']}",
                f"{stored.about['coverage']:.3f}",
                f"{stored.about['confidence']:.3f}",
                stored.about["sampling"]["reason"],
                stored.about["label"] or "",
            )
            for stored in found
        ]
    columns = ("time (UTC)", "request id", "version", "photo", "coverage", "confidence", "kept for", "label")
    print_table(f"{len(rows)} records", columns, rows)


def _names(model: dict[str, str]) -> tuple[str, str]:
    return model["version"], f"{model['name']}/{model['version']}"


@app.command()
def show(
    request_id: Annotated[str, typer.Argument(metavar="ID")],
    to: Annotated[Path | None, typer.Option(help="Write the picture here.", metavar="FILE.png")] = None,
    date: Annotated[str, typer.Option(help="Its day (UTC), which makes the search short.")] = "",
) -> None:
    """Show photo, mask and overlay of one record side by side, and print its record.json.

    Without --to the picture opens in the desktop's viewer; without a desktop it is written to ID.png.
    """
    import tempfile

    from humanseg.archive.read.picture import side_by_side
    from humanseg.archive.read.reader import parse_day

    with plain_errors():
        archive = reader()
        folder = archive.find(request_id, parse_day(date) if date else None)
        if folder is None or not folder.committed:
            raise CommandError(f"no committed record {request_id} is in the archive")
        stored = archive.open(folder)
        picture = side_by_side(archive.get(stored.photo_key), archive.get(stored.mask_key))
    typer.echo(stored.text)
    desktop = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if to is None and desktop:
        path = Path(tempfile.mkdtemp(prefix="humanseg-")) / f"{request_id}.png"
        path.write_bytes(picture)
        typer.launch(str(path))
        return
    path = to or Path(f"{request_id}.png")
    path.write_bytes(picture)
    err().print(f"written: {path}")


@app.command()
def stats(
    since: Since = "30d",
    until: Until = "",
    png: Annotated[Path | None, typer.Option(help="Write the charts here.", metavar="FILE.png")] = None,
    as_json: Json = False,
) -> None:
    """Count the archive day by day: records, coverage, confidence, sizes, share declined."""
    from humanseg.archive.read.stats import chart, count

    with plain_errors():
        days = count(reader().records(moment(since), moment(until)))
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
def erase(
    request_ids: Annotated[list[str], typer.Argument(metavar="ID...")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: Config = CONFIG,
    as_json: Json = False,
) -> None:
    """Erase records for good: all versions of all objects, corrected masks, copies in this STATE_DIR's spool.

    Prints what is gone and which exports hold a copy. Exit status 4: an id was found nowhere.
    """
    from humanseg.archive.capture.hook import open_spool
    from humanseg.archive.read.erasing import erase as run
    from humanseg.archive.ship.shipping import read_settings

    if not yes:
        typer.confirm(f"Erase {len(request_ids)} records with all their versions?", abort=True)
    with plain_errors():
        settings = read_settings(config)
        erased = run(reader(settings), open_spool(settings, state_dir()), request_ids)
    if as_json:
        print_json([vars(one) for one in erased])
    else:
        for one in erased:
            typer.echo(f"{one.request_id}: " + ("erased" if one.found else "found nowhere"))
            for key, number in one.versions.items():
                typer.echo(f"  bucket  {key}  ({number} version{'s' if number > 1 else ''})")
            for name in one.spooled:
                typer.echo(f"  spool   {name}")
            for note in one.exports:
                typer.echo(f"  a copy was exported {note['time']} by {note['by']}@{note['host']} to {note['folder']}")
        typer.echo(
            f"Searched: the bucket, and the spool in {state_dir()}. What waits in another server's spool is uploaded"
            " later: erase there too, or again once its spool is empty.",
            err=True,
        )
    if not all(one.found for one in erased):
        raise typer.Exit(4)


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
def verify(since: Since = "", until: Until = "", as_json: Json = False) -> None:
    """Read every committed record and compare it with its checksums. Exit status 1: something is wrong."""
    from humanseg.archive.read.verifying import verify as run

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
            typer.echo(f"{len(done.uncommitted)} without record.json (under way, or lost with their machine)")
    if done.problems:
        raise typer.Exit(1)
