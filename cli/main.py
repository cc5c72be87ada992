"""The `humanseg` command: puts the groups together.

Each group lives in its own thin file of this folder and exposes `app = typer.Typer(...)`. A thin file imports
its heavy parts (torch, boto3, openvino, numpy, requests) inside its command functions, so that
`humanseg --help` stays fast.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

import typer

from cli.console import explain

# (module, name of the group on the command line, or None where its commands stand at the top level)
GROUPS: tuple[tuple[str, str | None], ...] = (
    ("cli.segment", None),
    ("cli.server", None),
    ("cli.archive", "archive"),
    ("cli.training", None),
    ("cli.deploy", "deploy"),
    ("cli.release", None),
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Segment people in photographs, and run the service that does.",
)


@app.callback()
def _root() -> None:
    # A callback keeps the command a group even while only one command is registered.
    pass


for _module, _name in GROUPS:
    if importlib.util.find_spec(_module) is not None:
        app.add_typer(importlib.import_module(_module).app, name=_name)


def main() -> None:
    """Entry point of the `humanseg` script: an error is one sentence and a non-zero exit."""
    try:
        app()
    except Exception as error:
        sys.exit(explain(error))


if __name__ == "__main__":
    main()
