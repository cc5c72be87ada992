"""The file of API keys.

API_KEYS_FILE has one line per key: the SHA-256 of the key and, optionally, a name and the last valid day (UTC):

    9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08  studio-app  2027-01-31

Empty lines and lines that start with # are skipped. `humanseg keys` writes such files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class ApiKey:
    """digest: SHA-256, hexadecimal. name: for metrics and logs. until: the last valid day; None: no expiry."""

    digest: str
    name: str
    until: date | None = None

    def line(self) -> str:
        """Its line in API_KEYS_FILE."""
        return "  ".join([self.digest, self.name, *([self.until.isoformat()] if self.until else [])])


def parse_keys(text: str, source: object) -> tuple[ApiKey, ...]:
    """The keys in the text of a file.

    Raises ValueError, with `source` and line, for an invalid line, a duplicate name or key, and a file without a key:
    a server that requires keys must neither start open nor without any valid key.
    """
    keys: list[ApiKey] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        key = _parsed(words, f"API_KEYS_FILE {source}, line {number}")
        if any(key.digest == other.digest or key.name == other.name for other in keys):
            raise ValueError(f"API_KEYS_FILE {source}, line {number}: duplicate key or name.")
        keys.append(key)
    if not keys:
        raise ValueError(f"API_KEYS_FILE {source} contains no key hash. Add one, or unset API_KEYS_FILE.")
    return tuple(keys)


def _parsed(words: list[str], where: str) -> ApiKey:
    digest = words[0].lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError(
            f"{where}: not a SHA-256 hash of 64 hexadecimal digits. Create one with: humanseg keys new NAME"
        )
    name = words[1] if len(words) > 1 else digest[:8]
    if not NAME.fullmatch(name) or len(words) > 3:
        raise ValueError(f"{where}: the form is HASH NAME LAST-DAY; the name has letters, digits and . _ - only.")
    try:
        until = date.fromisoformat(words[2]) if len(words) == 3 else None
    except ValueError:
        raise ValueError(f"{where}: {words[2]!r} is not a date such as 2027-01-31.") from None
    return ApiKey(digest, name, until)


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """The keys in a file. Raises ValueError if it is invalid (see `parse_keys`) or can't be read."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"API_KEYS_FILE {path} can't be read: {error}") from None
    return parse_keys(text, path)
