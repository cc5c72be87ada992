"""Optional API keys: who may ask for a mask, until when, and for how many at a time.

API_KEYS_FILE has a line for each key: the SHA-256 of the key, and, if given, a name and the last day (UTC):

    9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08  studio-app  2027-01-31

Empty lines and lines with # in front are skipped. `humanseg keys` writes such files.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

from handler.errors import TooManyRequests, Unauthorized
from handler.slots import Slots

logger = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
KEY_FIELD = "x-api-key"  # gRPC has inputs only, no headers that reach a handler
WRONG_KEYS = 30  # that a worker answers 401 in WRONG_SECONDS; further ones are told to wait
WRONG_SECONDS = 10
PLACES = 1024  # in the file of slots, for each key: the most that photos_per_key may be


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


class KeyRing:
    """The keys of a file, read again when it changes. One that can't be used any more leaves the last good keys.

    extra: a key of the host's own (health checks), by its hash. Raises ValueError where the file is bad at the start.
    """

    def __init__(
        self,
        path: Path,
        extra: str | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], date] = lambda: datetime.now(timezone.utc).date(),
    ) -> None:
        self._path, self._clock, self._today = path, clock, today
        self._extra = (ApiKey(extra, "health"),) if extra else ()
        self._seen = _version(path)
        self._keys = read_keys(path)
        self._wrong: deque[float] = deque(maxlen=WRONG_KEYS)

    def check(self, key: str) -> ApiKey:
        """The entry of `key`. Raises Unauthorized, or TooManyRequests after many wrong ones.

        Every hash is compared, each in constant time, so that the time taken says nothing about the keys.
        """
        self._read_again()
        if not key:
            raise Unauthorized(
                "This server wants an API key: send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'."
            )
        digest = hashlib.sha256(key.encode()).hexdigest()
        found: list[ApiKey] = [
            entry for entry in (*self._keys, *self._extra) if hmac.compare_digest(digest, entry.digest)
        ]
        if found and (found[0].until is None or self._today() <= found[0].until):
            return found[0]
        now = self._clock()
        if len(self._wrong) == WRONG_KEYS and now - self._wrong[0] < WRONG_SECONDS:
            raise TooManyRequests("Too many wrong API keys. Wait before the next try.", WRONG_SECONDS)
        self._wrong.append(now)
        if found:
            raise Unauthorized(f"This API key was good until {found[0].until}. Ask the operator for a new one.")
        raise Unauthorized("The API key is not known to this server. Check it, or ask the operator for one.")

    def _read_again(self) -> None:
        version = _version(self._path)
        if version == self._seen:
            return
        self._seen = version
        try:
            self._keys = read_keys(self._path)
        except ValueError as error:
            logger.error("The API keys were not changed, %d stay good: %s", len(self._keys), error)
        else:
            logger.info("API keys were read again: %s", ", ".join(key.name for key in self._keys))


def _version(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def sent_key(headers: Mapping[str, str], row: Mapping[str, Any]) -> str:
    """The key that came with a request; the empty string where none did.

    In `Authorization: Bearer KEY`, in the header `x-api-key`, or, for gRPC, in the input of that name.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    scheme, _, bearer = lower.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return bearer.strip()
    field = row.get(KEY_FIELD, "")
    text = field.decode("utf-8", "replace") if isinstance(field, (bytes, bytearray)) else str(field)
    return lower.get("x-api-key", "") or text.strip()


class KeyLimit:
    """At most `photos` photos of one key at a time, over all workers of a server."""

    def __init__(self, path: Path, photos: int) -> None:
        self._slots, self.photos = Slots(path), photos

    def take(self, key: ApiKey) -> None:
        """Take a place, until `release`. Raises TooManyRequests where none is left."""
        first = int(key.digest[:10], 16) * PLACES  # two of a thousand keys share one in 10^6 servers
        if not self._slots.take(first, self.photos, 1):
            raise TooManyRequests(
                f"This API key has {self.photos} photos under work, as many as it may have at a time. Wait for one.",
                1,
            )

    def release(self) -> None:
        """Give everything back that this worker holds."""
        self._slots.release()
