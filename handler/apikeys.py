"""Optional API keys: who may ask for a mask, until when, and for how many at a time (humanseg.common.apikeys)."""

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
WRONG_KEYS = 30  # guesses that a worker looks at in WRONG_SECONDS; further ones are told to wait
WRONG_SECONDS = 10
MARK = 16  # hexadecimal digits of a hash, by which a key that was used is remembered
PLACES = 1024  # in the file of slots, for each key: the most that photos_per_key may be


class KeyRing:
    """The keys of a file, read again when it changes. One that can't be used any more leaves the last good keys.

    extra: a key of the host's own (health checks), by its hash. used: a folder that the workers share, in which a key
    that was good once leaves its mark. Raises ValueError where the file is bad at the start.

    A worker looks at WRONG_KEYS guesses in WRONG_SECONDS. What comes then is told to wait, right or wrong, so that
    the answer says nothing; but a key that was good before passes, so that who guesses locks nobody out. To sleep on
    a wrong key instead would hold a worker, and its other callers with it.
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
        """The entry of `key`. Raises Unauthorized, or TooManyGuesses after many wrong ones.

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
        good = bool(found) and (found[0].until is None or self._today() <= found[0].until)
        if good and self._was_used(found[0]):
            return found[0]
        now = self._clock()
        if len(self._wrong) == WRONG_KEYS and now - self._wrong[0] < WRONG_SECONDS:
            raise TooManyGuesses("Too many wrong API keys. Wait before the next try.", WRONG_SECONDS)
        if good:
            self._mark_used(found[0])
            return found[0]
        self._wrong.append(now)
        if found:
            raise Unauthorized(f"This API key was good until {found[0].until}. Ask the operator for a new one.")
        raise Unauthorized("The API key is not known to this server. Check it, or ask the operator for one.")

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

    def take(self, key: ApiKey, photos: int = 1) -> None:
        """Take a place for each of the photos of a request, until `release`.

        Raises TooManyRequests where too few are left, TooLarge where there never are enough.
        """
        if photos > self.photos:
            raise TooLarge(f"A request holds {photos} photos, and this API key may have {self.photos} at a time.")
        first = int(key.digest[:10], 16) * PLACES  # two of a thousand keys share one in 10^6 servers
        if not self._slots.take(first, self.photos, photos):
            raise TooManyRequests(
                f"This API key has {self.photos} photos under work, as many as it may have at a time. Wait for one.",
                1,
            )

    def release(self) -> None:
        """Give everything back that this worker holds."""
        self._slots.release()
