"""Optional API key authentication with expiry dates and concurrency limits (humanseg.common.apikeys)."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

from handler.errors import TooManyGuesses, TooManyRequests, Unauthorized
from handler.slots import Slots
from humanseg.common.apikeys import ApiKey, read_keys
from humanseg.segmentation.errors import TooLarge

logger = logging.getLogger(__name__)

KEY_FIELD = "x-api-key"  # gRPC has inputs only, no headers that reach a handler
WRONG_KEYS = 30  # guesses that a worker checks in WRONG_SECONDS; further ones get 429
WRONG_SECONDS = 10
MARK = 16  # hexadecimal digits of a hash: the file name that marks a key as used
PLACES = 1024  # slots per key in the slot file: the maximum of photos_per_key


class KeyRing:
    """The keys of a file, reloaded when it changes. If the new file is invalid, the last good keys stay in force.

    extra: the hash of an additional key (health checks). used: a folder, shared by the workers, with a file for each
    key that was accepted before. Raises ValueError if the file is invalid at the start.

    A worker checks WRONG_KEYS guesses in WRONG_SECONDS. Above that it answers 429 even to a correct key, so that the
    answers reveal nothing. Keys that were accepted before still pass, so that an attacker locks nobody out. A delay
    instead would block a worker, and its other callers with it.
    """

    def __init__(
        self,
        path: Path,
        extra: str | None = None,
        *,
        used: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], date] = lambda: datetime.now(timezone.utc).date(),
    ) -> None:
        self._path, self._clock, self._today = path, clock, today
        self._extra = (ApiKey(extra, "health"),) if extra else ()
        self._used = used
        if used:
            with contextlib.suppress(OSError):  # what can't be remembered is asked for again
                used.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._proven = {extra} if extra else set()
        self._seen = _version(path)
        self._keys = read_keys(path)
        self._wrong: deque[float] = deque(maxlen=WRONG_KEYS)

    def check(self, key: str) -> ApiKey:
        """Return the entry of `key`. Raises Unauthorized, or TooManyGuesses after many wrong keys.

        Every hash is compared in constant time, so that the duration reveals nothing about the keys.
        """
        self._read_again()
        if not key:
            raise Unauthorized(
                "This server requires an API key: send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'."
            )
        digest = hashlib.sha256(key.encode()).hexdigest()
        keys: list[ApiKey] = [
            entry for entry in (*self._keys, *self._extra) if hmac.compare_digest(digest, entry.digest)
        ]
        good = bool(keys) and (keys[0].until is None or self._today() <= keys[0].until)
        if good and self._was_used(keys[0]):
            return keys[0]
        now = self._clock()
        if len(self._wrong) == WRONG_KEYS and now - self._wrong[0] < WRONG_SECONDS:
            raise TooManyGuesses("Too many wrong API keys. Wait before you retry.", WRONG_SECONDS)
        if good:
            self._mark_used(keys[0])
            return keys[0]
        self._wrong.append(now)
        if keys:
            raise Unauthorized(f"This API key expired after {keys[0].until}. Ask the operator for a new one.")
        raise Unauthorized("This server does not know the API key. Check it, or ask the operator for one.")

    def _was_used(self, key: ApiKey) -> bool:
        if key.digest not in self._proven and self._used and (self._used / key.digest[:MARK]).exists():
            self._proven.add(key.digest)
        return key.digest in self._proven

    def _mark_used(self, key: ApiKey) -> None:
        self._proven.add(key.digest)
        if self._used:
            with contextlib.suppress(OSError):  # a full disk: the next worker asks again
                (self._used / key.digest[:MARK]).touch(mode=0o600)

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
        stat = path.stat()
    except OSError:
        return (0, 0, 0)
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns)


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

    def take(self, key: ApiKey, photos: int = 1) -> None:
        """Take a slot for each photo of a request until `release`.

        Raises TooManyRequests if too few are left, TooLarge if the request has more photos than the key has slots.
        """
        if photos > self.photos:
            raise TooLarge(f"The request has {photos} photos; the limit of this API key is {self.photos}.")
        first = int(key.digest[:10], 16) * PLACES  # two of a thousand keys share one in 10^6 servers
        if not self._slots.take(first, self.photos, photos):
            raise TooManyRequests(
                f"This API key has {self.photos} photos in progress, which is its limit. Wait until one is finished.",
                1,
            )

    def release(self) -> None:
        """Release all slots of this worker."""
        self._slots.release()
