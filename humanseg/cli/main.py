"""The `humanseg` command: puts the groups together.

Each group lives in its own thin file of this folder and exposes `app = typer.Typer(...)`. A thin file imports
its heavy parts (torch, boto3, openvino, numpy, requests) inside its command functions, so that
`humanseg --help` stays fast.
"""

from __future__ import annotations

import sys

import typer

from humanseg.cli import archive, compare, deploy, doctor, keys, release, replay, segment, server, training
from humanseg.cli.console import explain

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Segment people in photographs, and run the service that does.",
)

# (heading in the help, the group, its name on the command line or None where its commands stand at the top level)
GROUPS = (
    ("Photos", segment.app, None),
    ("Server", server.app, None),
    ("Server", release.app, None),
    ("Server", doctor.app, None),
    ("Server", keys.app, "keys"),
    ("Archive", archive.app, "archive"),
    ("Training", training.app, None),
    ("Training", compare.app, None),
    ("Training", replay.app, None),
    ("Cloud", deploy.app, "deploy"),
)

for heading, group, name in GROUPS:
    for command in group.registered_commands if name is None else ():
        command.rich_help_panel = heading  # typer shows a nameless group's commands under no heading of its own
    app.add_typer(group, name=name, rich_help_panel=heading)


def main() -> None:
    """Entry point of the `humanseg` script: an error is one sentence and a non-zero exit."""
    try:
        app()
    except Exception as error:
        sys.exit(explain(error))


if __name__ == "__main__":
    main()
