"""Shared by the `humanseg archive` commands: the store, error messages, options for times."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from humanseg.cli.console import CommandError, err
from humanseg.common.names import state_dir

if TYPE_CHECKING:
    from humanseg.archive.capture.settings import ArchiveSettings
    from humanseg.archive.read.reader import Reader

Config = Annotated[Path, typer.Option(help="The file with the `archive:` settings.", metavar="FILE")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Since = Annotated[str, typer.Option(help="Start time: 2026-11-20, 2026-11-20T15:00 (UTC), 7d, 12h.")]
Until = Annotated[str, typer.Option(help="End time (exclusive), in the same form as --since.")]
CONFIG = Path("config/model-config.yaml")


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Turns errors of the archive and S3 into one-sentence command errors."""
    from botocore.exceptions import BotoCoreError, ClientError

    from humanseg.archive.errors import ArchiveError

    try:
        yield
    except ImportError as error:
        if error.name not in ("pyarrow", "duckdb"):
            raise
        raise CommandError(f"{error.name} is not installed: pip install 'humanseg[archive]'") from error
    except ArchiveError as error:
        raise CommandError(str(error)) from error
    except ClientError as error:
        details = error.response.get("Error", {})
        why = f"{details.get('Code')} {details.get('Message', '')}".strip()
        raise CommandError(f"the store rejected {error.operation_name}: {why}") from error
    except BotoCoreError as error:
        raise CommandError(f"the store can't be reached: {error}") from error


def reader(settings: ArchiveSettings | None = None) -> Reader:
    """Return a reader of the store that the environment configures."""
    from humanseg.archive.capture.settings import ArchiveSettings
    from humanseg.archive.read.reader import Reader
    from humanseg.archive.ship.destination import Destination
    from humanseg.archive.ship.store import BucketSettings, Store

    destination = Destination.find(os.environ, state_dir())
    return Reader(Store.open(destination, BucketSettings.of(settings or ArchiveSettings()), retries=4))


def moment(text: str) -> datetime | None:
    """Parse a time into UTC; None for an empty string."""
    from humanseg.archive.read.reader import parse_moment

    return parse_moment(text, datetime.now(timezone.utc)) if text else None


def note_backlog() -> None:
    """Prints to stderr what this STATE_DIR's spool holds, because a listing of the bucket does not show it."""
    from humanseg.archive.capture.hook import open_spool

    backlog = open_spool(state_dir()).backlog()
    if backlog.bytes:
        err().print(
            f"{backlog.bytes / 1e6:.1f} MB in {state_dir() / 'spool'} are not in the bucket yet, the oldest for "
            f"{backlog.oldest_seconds:.0f} s. `humanseg archive ship --drain` uploads them now.",
            soft_wrap=True,
        )
