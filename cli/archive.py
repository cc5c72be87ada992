"""`humanseg archive ...`: ship, list, show, count, export, label, erase and check what was archived."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="What users sent: ship it, look at it, train on it, erase it.")


def _state_dir() -> Path:
    return Path(os.environ.get("STATE_DIR") or ".state")


@app.command()
def ship(
    drain: Annotated[bool, typer.Option(help="Stop when the spool is empty, or at the deadline.")] = False,
    deadline: Annotated[float, typer.Option(min=0.0, help="Seconds that a drain may take.")] = 60.0,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Records uploaded at a time.")] = 4,
    retry_rejected: Annotated[bool, typer.Option(help="Try again what S3 refused.")] = False,
    config: Annotated[Path, typer.Option(help="Where the archive: section is.", metavar="FILE")] = Path(
        "config/model-config.yaml"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Bring the spool of STATE_DIR to the bucket. Safe beside running servers and other shippers.

    Exit code 0: nothing is left (or, without --drain, it was stopped). 3: records are left in the spool,
    where the next start ships them.
    """
    from archive.shipping import ship_spool

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
        typer.echo(
            json.dumps(
                {
                    "shipped": done.shipped,
                    "rejected": done.rejected,
                    "left_records": left.records,
                    "left_bytes": left.bytes,
                    "left_rejected": left.rejected_records,
                }
            )
        )
    else:
        kept = f", {left.rejected_records} rejected ones kept" if left.rejected_records else ""
        typer.echo(
            f"archive: shipped {done.shipped} records, rejected {done.rejected}, "
            f"left in the spool {left.records} ({left.bytes / 1e6:.1f} MB){kept}"
        )
    if drain and left.records:
        raise typer.Exit(3)
