"""`humanseg keys new|list|revoke`: manage the file of API keys, which servers reload when it changes."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from humanseg.cli.console import CommandError, print_json, print_table
from humanseg.cli.options import AsJson
from humanseg.common.files import whole_file

if TYPE_CHECKING:
    from humanseg.common.apikeys import ApiKey

app = typer.Typer(help="Manage the API keys of servers started with API_KEYS_FILE.", no_args_is_help=True)

File = Annotated[Path, typer.Option("--file", envvar="API_KEYS_FILE", help="The key file. It contains hashes only.")]
Name = Annotated[str, typer.Argument(help="Name of the key's owner: letters, digits and . _ -")]


@app.command()
def new(
    name: Name,
    file: File,
    days: Annotated[int | None, typer.Option(min=1, help="Days until the key expires. Default: never.")] = None,
) -> None:
    """Create a key, add its hash to the file, and print the key. It is not stored and cannot be shown again."""
    import hashlib
    import secrets

    from humanseg.common.apikeys import NAME, ApiKey

    if not NAME.fullmatch(name):
        raise CommandError(
            f"{name!r} is not a valid name: use up to 64 letters, digits and . _ -, starting with a letter or digit"
        )
    lines, keys = _read(file)
    if any(key.name == name for key in keys):
        raise CommandError(
            f"{file} already has a key named {name}; use another name, or first run: humanseg keys revoke {name}"
        )
    key = secrets.token_urlsafe(32)
    until = datetime.now(timezone.utc).date() + timedelta(days=days) if days else None
    _write(file, [*lines, ApiKey(hashlib.sha256(key.encode()).hexdigest(), name, until).line()])
    print(key)


@app.command("list")
def list_keys(file: File, as_json: AsJson = False) -> None:
    """List the keys with their expiry dates."""
    _, keys = _read(file)
    today = datetime.now(timezone.utc).date()
    rows = [
        {
            "name": key.name,
            "until": key.until.isoformat() if key.until else None,
            "good": key.until is None or today <= key.until,
            "sha256": key.digest,
        }
        for key in keys
    ]
    if as_json:
        print_json(rows)
        return
    table = [
        (row["name"], row["until"] or "", "yes" if row["good"] else "expired", key.digest[:12])
        for row, key in zip(rows, keys, strict=True)
    ]
    print_table(f"Keys in {file}", ("name", "expires", "valid", "sha256"), table)


@app.command()
def revoke(name: Name, file: File) -> None:
    """Revoke a key. Running servers reject it from their next request on."""
    from humanseg.common.apikeys import parse_keys

    lines, keys = _read(file)
    matches = [key for key in keys if key.name == name]
    if not matches:
        raise CommandError(f"{file} has no key named {name}; see: humanseg keys list")
    if len(keys) == 1:
        raise CommandError(
            f"{name} is the only key, and a server keeps its last good keys if the file is empty; "
            "first create another one: humanseg keys new NAME"
        )
    remaining = [line for line in lines if (line.split() or [""])[0].lower() != matches[0].digest]
    parse_keys("\n".join(remaining), file)
    _write(file, remaining)
    print(f"{name} is revoked")


def _read(file: Path) -> tuple[list[str], tuple[ApiKey, ...]]:
    """The lines of the file and the keys in them; empty if it does not exist or has comments only."""
    from humanseg.common.apikeys import parse_keys

    lines = file.read_text().splitlines() if file.exists() else []
    given = [line for line in lines if line.strip() and not line.strip().startswith("#")]
    try:
        return lines, parse_keys("\n".join(lines), file) if given else ()
    except ValueError as error:
        raise CommandError(str(error)) from None


def _write(file: Path, lines: list[str]) -> None:
    """Replace the file atomically: a server reads either the old or the new one."""
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o600
    try:
        with whole_file(file, 0o600) as partial:
            partial.write_text("\n".join(lines) + "\n")
            partial.chmod(mode)
    except OSError as error:
        raise CommandError(f"{file} can't be written: {error.strerror}") from None
