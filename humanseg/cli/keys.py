"""`humanseg keys new|list|revoke`: the file of API keys that a server reads, and reads again when it changes."""

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

app = typer.Typer(help="API keys: who may ask a server started with API_KEYS_FILE.", no_args_is_help=True)

File = Annotated[
    Path, typer.Option("--file", envvar="API_KEYS_FILE", help="The file of hashes; it holds no key itself.")
]
Name = Annotated[str, typer.Argument(help="Who has the key: letters, digits and . _ -")]


@app.command()
def new(
    name: Name,
    file: File,
    days: Annotated[int | None, typer.Option(min=1, help="Days that it is good for. Without: until revoked.")] = None,
) -> None:
    """Make a key, add its hash to the file, and print the key: this once, it is stored nowhere."""
    import hashlib
    import secrets

    from humanseg.common.apikeys import NAME, ApiKey

    if not NAME.fullmatch(name):
        raise CommandError(f"{name!r} is no name: up to 64 letters, digits and . _ -, a letter or digit first")
    lines, keys = _read(file)
    if any(key.name == name for key in keys):
        raise CommandError(
            f"{file} has a key named {name}; first run: humanseg keys revoke {name}, or take another name"
        )
    key = secrets.token_urlsafe(32)
    until = datetime.now(timezone.utc).date() + timedelta(days=days) if days else None
    _write(file, [*lines, ApiKey(hashlib.sha256(key.encode()).hexdigest(), name, until).line()])
    print(key)


@app.command("list")
def list_keys(file: File, as_json: AsJson = False) -> None:
    """Show names and last days."""
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
        (row["name"], row["until"] or "", "yes" if row["good"] else "ended", key.digest[:12])
        for row, key in zip(rows, keys, strict=True)
    ]
    print_table(f"Keys in {file}", ("name", "until", "good", "sha256"), table)


@app.command()
def revoke(name: Name, file: File) -> None:
    """Take a key out. Running servers refuse it from their next request on."""
    from humanseg.common.apikeys import parse_keys

    lines, keys = _read(file)
    found = [key for key in keys if key.name == name]
    if not found:
        raise CommandError(f"{file} has no key named {name}; see: humanseg keys list")
    if len(keys) == 1:
        raise CommandError(
            f"{name} is the only key, and a server keeps its last good keys when the file is empty; "
            "first make another: humanseg keys new NAME"
        )
    left = [line for line in lines if (line.split() or [""])[0].lower() != found[0].digest]
    parse_keys("\n".join(left), file)
    _write(file, left)
    print(f"{name} is revoked")


def _read(file: Path) -> tuple[list[str], tuple[ApiKey, ...]]:
    """The lines of the file and the keys in them; nothing where it is not there yet, or holds comments only."""
    from humanseg.common.apikeys import parse_keys

    lines = file.read_text().splitlines() if file.exists() else []
    given = [line for line in lines if line.strip() and not line.strip().startswith("#")]
    try:
        return lines, parse_keys("\n".join(lines), file) if given else ()
    except ValueError as error:
        raise CommandError(str(error)) from None


def _write(file: Path, lines: list[str]) -> None:
    """Put the new file in the place of the old one: a server reads one or the other."""
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o600
    try:
        with whole_file(file, 0o600) as partial:
            partial.write_text("\n".join(lines) + "\n")
            partial.chmod(mode)
    except OSError as error:
        raise CommandError(f"{file} can't be written: {error.strerror}") from None
