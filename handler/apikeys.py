"""Optional API key authentication with expiry dates and concurrency limits (humanseg.common.apikeys)."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

from handler.errors import TooManyRequests, Unauthorized
from handler.slots import Slots
from humanseg.common.apikeys import ApiKey, read_keys

logger = logging.getLogger(__name__)

KEY_FIELD = "x-api-key"  # gRPC has inputs only, no headers that reach a handler
WRONG_KEYS = 30  # wrong keys that a worker answers with 401 in WRONG_SECONDS; further ones get 429
WRONG_SECONDS = 10
PLACES = 1024  # slots per key in the slot file: the maximum of photos_per_key


class KeyRing:
    """The keys of a file, reloaded when it changes. If the new file is invalid, the last good keys stay in force.

    extra: the hash of an additional key (health checks). Raises ValueError if the file is invalid at the start.
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
        """Return the entry of `key`. Raises Unauthorized, or TooManyRequests after many wrong keys.

        Every hash is compared in constant time, so that the duration reveals nothing about the keys.
        """
        self._read_again()
        if not key:
            raise Unauthorized(
                "This server requires an API key: send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'."
            )
        digest = hashlib.sha256(key.encode()).hexdigest()
        found: list[ApiKey] = [
            entry for entry in (*self._keys, *self._extra) if hmac.compare_digest(digest, entry.digest)
        ]
        if found and (found[0].until is None or self._today() <= found[0].until):
            return found[0]
        now = self._clock()
        if len(self._wrong) == WRONG_KEYS and now - self._wrong[0] < WRONG_SECONDS:
            raise TooManyRequests("Too many wrong API keys. Wait before you retry.", WRONG_SECONDS)
        self._wrong.append(now)
        if found:
            raise Unauthorized(f"This API key expired after {found[0].until}. Ask the operator for a new one.")
        raise Unauthorized("This server does not know the API key. Check it, or ask the operator for one.")

    def _read_again(self) -> None:
        version = _version(self._path)
        if version == self._seen:
            return
        self._seen = version
        try:
            self._keys = read_keys(self._path)
        except ValueError as error:
            logger.error("The API keys were not reloaded, the last %d stay in force: %s", len(self._keys), error)
        else:
            logger.info("API keys reloaded: %s", ", ".join(key.name for key in self._keys))


def _version(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def sent_key(headers: Mapping[str, str], row: Mapping[str, Any]) -> str:
    """Return the key of a request, or the empty string.

    Reads `Authorization: Bearer KEY`, the header `x-api-key` or, for gRPC, the input of that name.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    scheme, _, bearer = lower.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return bearer.strip()
    field = row.get(KEY_FIELD, "")
    text = field.decode("utf-8", "replace") if isinstance(field, (bytes, bytearray)) else str(field)
    return lower.get("x-api-key", "") or text.strip()


class KeyLimit:
    """Limits the concurrent photos of a key to `photos`, over all workers of a server."""

    def __init__(self, path: Path, photos: int) -> None:
        self._slots, self.photos = Slots(path), photos

    def take(self, key: ApiKey) -> None:
        """Take a slot until `release`. Raises TooManyRequests if none is left."""
        first = int(key.digest[:10], 16) * PLACES  # two of a thousand keys share one in 10^6 servers
        if not self._slots.take(first, self.photos, 1):
            raise TooManyRequests(
                f"This API key has {self.photos} photos in progress, which is its limit. Wait until one is finished.",
                1,
            )

    def release(self) -> None:
        """Release all slots of this worker."""
        self._slots.release()
