"""Options shared by several commands, and how a server's address is determined.

Precedence: option, environment variable, default:
`--url`, HUMANSEG_URL, INFERENCE_PORT (on this host), http://127.0.0.1:8080;
`--management-url`, HUMANSEG_MANAGEMENT_URL, MANAGEMENT_ADDRESS (a unix socket, in STATE_DIR if it names none),
MANAGEMENT_PORT (on this host), http://127.0.0.1:8081.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from humanseg.cli.console import CommandError
from humanseg.common.names import MODEL_NAME, state_dir

if TYPE_CHECKING:
    from humanseg.client import Client

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="HUMANSEG_URL",
        help="Inference address. Default: port INFERENCE_PORT (8080) on this host.",
    ),
]
ManagementUrl = Annotated[
    str | None,
    typer.Option(
        "--management-url",
        envvar="HUMANSEG_MANAGEMENT_URL",
        help="Management address: http://... or unix:/path. Default: port MANAGEMENT_PORT (8081) on this host.",
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar="HUMANSEG_API_KEY",
        help="API key. Prefer the environment variable: other users can see command lines.",
    ),
]
Model = Annotated[str, typer.Option("--model", help="Name of the model on the server.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Timeout in seconds.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

DEFAULT_MODEL = MODEL_NAME


def inference_url(given: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """The inference address: `given`, or from INFERENCE_PORT, or the default."""
    return given or f"http://127.0.0.1:{_port(environment, 'INFERENCE_PORT', 8080)}"


def management_url(given: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """The management address: `given`, or from MANAGEMENT_ADDRESS or MANAGEMENT_PORT, or the default."""
    kind, _, path = environment.get("MANAGEMENT_ADDRESS", "").strip().partition(":")
    if not given and kind == "unix":
        return f"unix:{(state_dir(environment) / (path or 'management.sock')).resolve()}"
    return given or f"http://127.0.0.1:{_port(environment, 'MANAGEMENT_PORT', 8081)}"


def connect(
    url: str | None = None,
    management: str | None = None,
    *,
    api_key: str | None = None,
    timeout: float = 60.0,
    retries: int = 4,
) -> Client:
    """A client for the server given by the options and the environment."""
    from humanseg.client import Client

    return Client(
        inference_url(url),
        management_url=management_url(management),
        api_key=api_key,
        timeout=timeout,
        retries=retries,
    )


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise CommandError(f"{name}={text!r} is not a port: use a number from 1 to 65535, e.g. {default}")
    return int(text)
