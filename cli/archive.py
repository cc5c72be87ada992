"""`humanseg archive ...`: ship, list, show, count, export, label, erase and check what was archived."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import CommandError, err, print_json, print_table

if TYPE_CHECKING:
    from archive.reader import Reader
    from archive.settings import ArchiveSettings

app = typer.Typer(
    no_args_is_help=True,
    help="What users sent: ship it, look at it, train on it, erase it. "
    "The bucket is that of ARCHIVE_BUCKET, or the embedded store of STATE_DIR.",
)

Config = Annotated[Path, typer.Option(help="The file with the archive: section.", metavar="FILE")]
Json = Annotated[bool, typer.Option("--json", help="For other programs to read.")]
Since = Annotated[str, typer.Option(help="From this time on: 2026-11-20, 2026-11-20T15:00 (UTC), 7d, 12h.")]
Until = Annotated[str, typer.Option(help="Up to this time, itself left out; written like --since.")]
CONFIG = Path("config/model-config.yaml")


def _state_dir() -> Path:
    return Path(os.environ.get("STATE_DIR") or ".state")


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Turns what the archive and S3 say into one sentence."""
    from botocore.exceptions import BotoCoreError, ClientError

    from archive.errors import ArchiveError

    try:
        yield
    except ArchiveError as error:
        raise CommandError(str(error)) from error
    except ClientError as error:
        said = error.response.get("Error", {})
        why = f"{said.get('Code')} {said.get('Message', '')}".strip()
        raise CommandError(f"the store refuses {error.operation_name}: {why}") from error
    except BotoCoreError as error:
        raise CommandError(f"the store can't be reached: {error}") from error


def _reader(settings: ArchiveSettings | None = None) -> Reader:
    from archive.reader import Reader
    from archive.settings import ArchiveSettings
    from archive.store import Store
    from archive.target import Target

    target = Target.find(os.environ, _state_dir())
    return Reader(Store.open(target, settings or ArchiveSettings(), retries=4))


def _moment(text: str) -> datetime | None:
    from archive.reader import parse_moment

    return parse_moment(text, datetime.now(timezone.utc)) if text else None


@app.command()
def ship(
    drain: Annotated[
        bool, typer.Option("--drain", help="Stop when the spool is empty, or at --deadline.")
    ] = False,
    deadline: Annotated[float, typer.Option(min=0.0, help="Seconds that a drain may take.")] = 60.0,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Records uploaded at a time.")] = 4,
    retry_rejected: Annotated[
        bool, typer.Option("--retry-rejected", help="Try again what S3 refused.")
    ] = False,
    config: Config = CONFIG,
    as_json: Json = False,
) -> None:
    """Bring the spool of STATE_DIR to the bucket, beside running servers and other shippers.

    Without --drain it goes on until it is stopped. Exit status 3: the deadline left records in the spool,
    where the next start finds them.
    """
    from archive.shipping import ship_spool

    with _plain_errors():
        done = ship_spool(
            _state_dir(),
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

    from archive.reader import parse_day

    first, last = _moment(since), _moment(until)
    if date:
        first = _moment(parse_day(date))
        last = first + timedelta(days=1) if first else None
    with _plain_errors():
        found = islice(
            (
                stored
                for stored in _reader().records(first, last)
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

    from archive.picture import side_by_side
    from archive.reader import parse_day

    with _plain_errors():
        reader = _reader()
        folder = reader.find(request_id, parse_day(date) if date else None)
        if folder is None or not folder.committed:
            raise CommandError(f"no committed record {request_id} is in the archive")
        stored = reader.open(folder)
        picture = side_by_side(reader.get(stored.photo_key), reader.get(stored.mask_key))
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
    from archive.stats import chart, count

    with _plain_errors():
        days = count(_reader().records(_moment(since), _moment(until)))
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
def export(
    to: Annotated[Path, typer.Option(help="The folder to fill; running it again resumes.", metavar="DIR")],
    since: Since,
    until: Until = "",
    fmt: Annotated[
        str, typer.Option("--format", help="folder, webdataset, coco or label-studio.")
    ] = "folder",
    corrected_only: Annotated[
        bool, typer.Option("--corrected-only", help="Only photos whose mask a person corrected.")
    ] = False,
    held_out: Annotated[
        float, typer.Option(min=0, max=1, help="Share marked val, by the photo's hash.")
    ] = 0.1,
    as_json: Json = False,
) -> None:
    """Fetch photos and masks for training; each different photo once, corrected masks first.

    `humanseg train --data DIR` trains on the result. Masks that nobody corrected are the model's own guesses:
    give --corrected-only for truth.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from archive.export import export as run

    with (
        _plain_errors(),
        Progress(
            TextColumn("photos"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=err()
        ) as bar,
    ):
        task = bar.add_task("photos", total=None)
        first = _moment(since)
        assert first is not None
        done = run(
            _reader(),
            to,
            since=first,
            until=_moment(until),
            now=datetime.now(timezone.utc),
            fmt=fmt,
            corrected_only=corrected_only,
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


@app.command("import-labels")
def import_labels(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="An edited export, or a folder of ID.png masks.")
    ],
    by: Annotated[str, typer.Option(help="Who corrected them.", envvar="USER", show_default=False)],
    accept_unchanged: Annotated[
        bool, typer.Option("--accept-unchanged", help="Unchanged masks count as looked at and right.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Put corrected masks back; they win over the model's in every later export."""
    from archive.labels import import_labels as run

    with _plain_errors():
        now = datetime.now(timezone.utc)
        done = run(_reader(), folder, by=by, now=now, accept_unchanged=accept_unchanged)
    if as_json:
        print_json(vars(done))
    elif not done.problems:
        typer.echo(
            f"{len(done.uploaded)} corrected masks uploaded, {len(done.unchanged)} unchanged left alone"
        )
    if done.problems:
        raise CommandError("nothing was uploaded:\n" + "\n".join(done.problems))


@app.command()
def erase(
    request_ids: Annotated[list[str], typer.Argument(metavar="ID...")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: Config = CONFIG,
    as_json: Json = False,
) -> None:
    """Erase records for good: all versions of all objects, corrected masks, spool copies.

    Prints what is gone and which exports hold a copy. Exit status 4: an id was found nowhere.
    """
    from archive.erasing import erase as run
    from archive.hook import open_spool
    from archive.shipping import read_settings

    if not yes:
        typer.confirm(f"Erase {len(request_ids)} records with all their versions?", abort=True)
    with _plain_errors():
        settings = read_settings(config)
        erased = run(_reader(settings), open_spool(settings, _state_dir()), request_ids)
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
                typer.echo(
                    f"  a copy was exported {note['time']} by {note['by']}@{note['host']} to {note['folder']}"
                )
    if not all(one.found for one in erased):
        raise typer.Exit(4)


@app.command()
def retention(
    days: Annotated[int | None, typer.Argument(min=1, help="Delete everything after so many days.")] = None,
    as_json: Json = False,
) -> None:
    """Set the lifecycle rules of the archive's prefix; without DAYS, print the bucket's rules."""
    from archive.retention import get_rules, set_retention

    with _plain_errors():
        store = _reader().store
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
    from archive.verifying import verify as run

    with _plain_errors(), err().status("verifying") as status:
        done = run(
            _reader(),
            _moment(since),
            _moment(until),
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
