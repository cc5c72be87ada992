"""The `humanseg` command: assembles the groups.

Each group is a thin module of this package and exposes `app = typer.Typer(...)`. It imports heavy dependencies
(torch, boto3, openvino, numpy, requests) inside its command functions, so that `humanseg --help` stays fast.
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
    help="Segment people in photos and clips, and operate the service.",
)

# (heading in the help, the group, its name on the command line or None if its commands are top-level)
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
    ("Cloud", deploy.app, None),
)

for heading, group, name in GROUPS:
    for command in group.registered_commands if name is None else ():
        command.rich_help_panel = heading  # typer shows a nameless group's commands under no heading of its own
    app.add_typer(group, name=name, rich_help_panel=heading)


def main() -> None:
    """Entry point of the `humanseg` script: an error prints one sentence and exits with a non-zero status."""
    try:
        app()
    except Exception as error:
        sys.exit(explain(error))


if __name__ == "__main__":
    main()
