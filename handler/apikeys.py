"""Optional API keys: who may ask for a mask."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from pathlib import Path

from handler.errors import Unauthorized


def read_key_hashes(path: Path) -> tuple[str, ...]:
    """The SHA-256 hashes in `path`, one hexadecimal hash a line; empty lines and lines with # in front are skipped.

    Raises ValueError, naming file and line, for anything else, and for a file without a hash: a server
    that was told to check keys must not come up open or with a lock that no key fits.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"API_KEYS_FILE {path} can't be read: {error}") from None
    hashes = []
    for number, line in enumerate(lines, 1):
        entry = line.strip().lower()
        if not entry or entry.startswith("#"):
            continue
        if not re.fullmatch(r"[0-9a-f]{64}", entry):
            raise ValueError(
                f"API_KEYS_FILE {path}, line {number}: not a SHA-256 hash of 64 hexadecimal digits. "
                "Make one with: printf %s KEY | sha256sum"
            )
        hashes.append(entry)
    if not hashes:
        raise ValueError(f"API_KEYS_FILE {path} holds no key hash. Add one, or unset API_KEYS_FILE.")
    return tuple(hashes)


def check_key(headers: Mapping[str, str], hashes: tuple[str, ...]) -> None:
    """Raise Unauthorized unless `Authorization: Bearer KEY` or `x-api-key` holds a key of one of `hashes`.

    Every hash is compared, each in constant time, so that the time taken says nothing about the keys.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    scheme, _, bearer = lower.get("authorization", "").partition(" ")
    key = bearer.strip() if scheme.lower() == "bearer" else lower.get("x-api-key", "")
    if not key:
        raise Unauthorized(
            "This server wants an API key: send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'."
        )
    digest = hashlib.sha256(key.encode()).hexdigest()
    matches = [hmac.compare_digest(digest, known) for known in hashes]
    if not any(matches):
        raise Unauthorized("The API key is not known to this server. Check it, or ask the operator for one.")
