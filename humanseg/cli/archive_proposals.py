"""`humanseg archive proposals` and `accept`: corrected masks that users sent back, on their way to being labels."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated

import typer

from humanseg.cli.archive_common import Json, plain_errors, reader
from humanseg.cli.console import CommandError, print_json, print_table


def proposals(
    whole: Annotated[bool, typer.Option("--all", help="Also those that are accepted or can't be.")] = False,
    as_json: Json = False,
) -> None:
    """List the corrected masks that users sent back and nobody has accepted yet, the newest of each photo.

    Look at one with `humanseg archive show ID --proposed`, and make it a label with `humanseg archive accept ID`.
    """
    from humanseg.archive.read.proposals import read_proposals

    with plain_errors():
        found = [one for one in read_proposals(reader()) if whole or one.state == "proposed"]
    rows = [(f"{one.time:%Y-%m-%dT%H:%M:%S}", one.of, f"{one.width}x{one.height}", one.state) for one in found]
    names = ("time", "photo", "size", "state")
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        print_table(f"{len(rows)} corrected masks", ("time (UTC)", "request id", "mask", "state"), rows)


def accept(
    request_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Request ids of the photos.")],
    by: Annotated[str, typer.Option(help="Who has looked at them.", envvar="USER", show_default=False)],
    as_json: Json = False,
) -> None:
    """Make labels of corrected masks that users sent back, after you have looked at each. All, or none."""
    from humanseg.archive.capture.record import check_request_id
    from humanseg.archive.read.proposals import accept as run

    with plain_errors():
        ids = [check_request_id(one) for one in request_ids]
        done = run(reader(), ids, by=by, now=datetime.now(timezone.utc))
    if done.problems:
        raise CommandError("nothing was accepted:\n" + "\n".join(done.problems))
    if as_json:
        print_json(vars(done))
    else:
        typer.echo(f"{len(done.accepted)} corrected masks are labels now; every later export has them")
