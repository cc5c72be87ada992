"""`humanseg doctor`: diagnose this machine and its server."""

from __future__ import annotations

import dataclasses
import os
from typing import Annotated

import typer

from humanseg.cli.console import print_json, print_table
from humanseg.cli.options import ApiKey, AsJson, Url, inference_url
from humanseg.common.names import state_dir

app = typer.Typer()


@app.command()
def doctor(
    url: Url = None,
    api_key: ApiKey = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 1 on warnings, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Diagnose this machine and its server: Python, Java, disk, ports, model, archive, clock.

    Exit status 1: there is a problem.
    """
    from humanseg.serve.diagnosis import diagnose

    findings = list(diagnose(os.environ, state_dir(), inference_url(url), api_key))
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        rows = [(item.check, item.state, item.details, item.fix) for item in findings]
        print_table("", ("check", "state", "details", "fix"), rows)
    bad = {"problem", "warning"} if strict else {"problem"}
    if any(finding.state in bad for finding in findings):
        raise typer.Exit(1)
