"""The `humanseg` command: puts the groups together. Each group lives in its own file of this folder."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="Segment people in photographs, and run the service that does.")


def main() -> None:
    """Entry point of the `humanseg` script."""
    app()
