"""`humanseg archive proposals` and `accept`: review corrected masks that users sent back, and make them labels."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated

import typer

from humanseg.cli.archive_common import Json, plain_errors, reader
from humanseg.cli.console import CommandError, print_json, print_table


def proposals(
    whole: Annotated[bool, typer.Option("--all", help="Include accepted and invalid ones.")] = False,
    as_json: Json = False,
) -> None:
    """List corrected masks that wait for review, the newest of each photo.

    `humanseg archive show ID --proposed` shows one, and `humanseg archive accept ID` makes it a label.
    """
    from humanseg.archive.read.proposals import read_proposals

    with plain_errors():
        proposals = [proposal for proposal in read_proposals(reader()) if whole or proposal.state == "proposed"]
    rows = [
        (f"{proposal.time:%Y-%m-%dT%H:%M:%S}", proposal.of, f"{proposal.width}x{proposal.height}", proposal.state)
        for proposal in proposals
    ]
    names = ("time", "photo", "size", "state")
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        print_table(f"{len(rows)} corrected masks", ("time (UTC)", "request id", "mask", "state"), rows)


def accept(
    request_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Request ids of the photos.")],
    by: Annotated[str, typer.Option(help="Reviewer's name.", envvar="USER", show_default=False)],
    as_json: Json = False,
) -> None:
    """Make labels of corrected masks that users sent back, after you have reviewed each one.

    If one of them has a problem, none is accepted.
    """
    from humanseg.archive.capture.record import check_request_id
    from humanseg.archive.read.proposals import accept as run

    with plain_errors():
        ids = [check_request_id(request_id) for request_id in request_ids]
        result = run(reader(), ids, by=by, now=datetime.now(timezone.utc))
    if result.problems:
        raise CommandError("nothing was accepted:\n" + "\n".join(result.problems))
    if as_json:
        print_json(vars(result))
    else:
        typer.echo(f"{len(result.accepted)} corrected masks are now labels; later exports include them")
