"""The file of API keys.

API_KEYS_FILE has a line for each key: the SHA-256 of the key, and, if given, a name and the last day (UTC):

    9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08  studio-app  2027-01-31

Empty lines and lines with # in front are skipped. `humanseg keys` writes such files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class ApiKey:
    """digest: SHA-256, hexadecimal. name: for metrics and logs. until: the last day that it is good; None: no end."""

    digest: str
    name: str
    until: date | None = None

    def line(self) -> str:
        """Its line in API_KEYS_FILE."""
        return "  ".join([self.digest, self.name, *([self.until.isoformat()] if self.until else [])])


def parse_keys(text: str, source: object) -> tuple[ApiKey, ...]:
    """The keys in the text of a file.

    Raises ValueError, naming `source` and line, for anything that is none, a name or key that comes twice, and for
    a file without a key: a server that was told to check keys must not come up open or with a lock that no key fits.
    """
    keys: list[ApiKey] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        key = _parsed(words, f"API_KEYS_FILE {source}, line {number}")
        if any(key.digest == other.digest or key.name == other.name for other in keys):
            raise ValueError(f"API_KEYS_FILE {source}, line {number}: this key or name stands there twice.")
        keys.append(key)
    if not keys:
        raise ValueError(f"API_KEYS_FILE {source} holds no key hash. Add one, or unset API_KEYS_FILE.")
    return tuple(keys)


def _parsed(words: list[str], where: str) -> ApiKey:
    digest = words[0].lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ValueError(f"{where}: no SHA-256 hash of 64 hexadecimal digits. Make one with: humanseg keys new NAME")
    name = words[1] if len(words) > 1 else digest[:8]
    if not NAME.fullmatch(name) or len(words) > 3:
        raise ValueError(f"{where}: after the hash come a name of letters, digits and . _ - and a last day.")
    try:
        until = date.fromisoformat(words[2]) if len(words) == 3 else None
    except ValueError:
        raise ValueError(f"{where}: {words[2]!r} is no day such as 2027-01-31.") from None
    return ApiKey(digest, name, until)


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """The keys in a file. Raises ValueError: see `parse_keys`, or it can't be read."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"API_KEYS_FILE {path} can't be read: {error}") from None
    return parse_keys(text, path)
