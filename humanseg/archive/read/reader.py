"""Reading the archive back: its days, its committed records, one record by id, and the bytes of an object.

A record counts as committed when its record.json is there, since that is put last. Listing a day costs one
request for each 1000 objects, reading it one more for each record; `parallel` keeps those in flight together.
These calls need `s3:ListBucket` and `s3:GetObject`, which the serving role does not have.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from itertools import islice
from typing import Any, TypeVar

from humanseg.archive.capture.record import RECORD, check_request_id
from humanseg.archive.ship.store import Store

In = TypeVar("In")
Out = TypeVar("Out")
WORKERS = 16


@dataclass(frozen=True)
class Folder:
    """One record's objects as listed: `sizes` maps file name to bytes. `key` has no slash at its end."""

    key: str
    sizes: dict[str, int]

    @property
    def request_id(self) -> str:
        """The last part of the key."""
        return self.key.rsplit("/", 1)[-1]

    @property
    def committed(self) -> bool:
        """Whether the commit mark is there."""
        return RECORD in self.sizes


@dataclass(frozen=True)
class Stored:
    """A committed record: its folder, and its record.json parsed (`about`) and as it is (`text`)."""

    folder: Folder
    about: dict[str, Any]
    text: str

    @property
    def request_id(self) -> str:
        """The id under which it was answered."""
        return str(self.about["request_id"])

    @property
    def photo_key(self) -> str:
        """Key of the photo."""
        return f"{self.folder.key}/{self.about['photo']['file']}"

    @property
    def mask_key(self) -> str:
        """Key of the model's mask."""
        return f"{self.folder.key}/{self.about['mask']['file']}"


class Reader:
    """Reads one store. Safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.root = f"{store.target.prefix}/v1/"

    def days(self, since: datetime | None = None, until: datetime | None = None) -> list[str]:
        """The days (YYYY-MM-DD) that hold records and touch since..until, oldest first."""
        found = [name[len(self.root) + 3 : -1] for name in self.folders_under(self.root)]
        first = since.date().isoformat() if since else ""
        # `until` is not included, so that a midnight does not bring its whole day in
        last = (until - timedelta(microseconds=1)).date().isoformat() if until else "9"
        return sorted(day for day in found if first <= day <= last)

    def folders_under(self, prefix: str) -> list[str]:
        """The "folders" directly under `prefix`, each with its slash."""
        pages = self.store.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.store.target.bucket, Prefix=prefix, Delimiter="/"
        )
        return [found["Prefix"] for page in pages for found in page.get("CommonPrefixes", [])]

    def folders(self, day: str) -> Iterator[Folder]:
        """All records of a day, committed or not, in the order of their keys (hour, then id)."""
        return self.folders_in(f"{self.root}dt={day}/")

    def folders_in(self, prefix: str) -> Iterator[Folder]:
        """All objects under `prefix`, grouped by the folder they lie in."""
        pages = self.store.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.store.target.bucket, Prefix=prefix
        )
        key = ""
        sizes: dict[str, int] = {}
        for page in pages:
            for item in page.get("Contents", []):
                parent, _, name = item["Key"].rpartition("/")
                if parent != key:
                    if sizes:
                        yield Folder(key, sizes)
                    key, sizes = parent, {}
                sizes[name] = int(item["Size"])
        if sizes:
            yield Folder(key, sizes)

    def records(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[Stored]:
        """The committed records with since <= time < until, by day and hour, read in parallel."""
        for day in self.days(since, until):
            committed = (folder for folder in self.folders(day) if folder.committed)
            for stored in parallel(self.open, committed):
                time = parse_time(stored.about["time"])
                if (since is None or since <= time) and (until is None or time < until):
                    yield stored

    def open(self, folder: Folder) -> Stored:
        """The committed record in `folder`."""
        text = self.get(f"{folder.key}/{RECORD}").decode()
        return Stored(folder, json.loads(text), text)

    def find(self, request_id: str, day: str | None = None) -> Folder | None:
        """The record's folder, committed or not. One request for each hour looked at, newest day first."""
        check_request_id(request_id)
        days = [day] if day else self.days()[::-1]

        def look(hour: str) -> Folder | None:
            return next(self.folders_in(f"{hour}{request_id}/"), None)

        for one in days:
            hours = self.folders_under(f"{self.root}dt={one}/")
            found = next((folder for folder in parallel(look, hours) if folder), None)
            if found:
                return found
        return None

    def get(self, key: str) -> bytes:
        """The bytes of one object; boto3 checks them against the checksum that was stored with them."""
        answer = self.store.client.get_object(Bucket=self.store.target.bucket, Key=key, ChecksumMode="ENABLED")
        data: bytes = answer["Body"].read()
        return data

    def put(self, key: str, data: bytes) -> None:
        """Puts a new object, as the shipper does; an object that is there already stays as it is."""
        self.store.put_new(key, data)


def parallel(work: Callable[[In], Out], items: Iterable[In], workers: int = WORKERS) -> Iterator[Out]:
    """`work` on each item, results in the items' order, at most 4 * `workers` of them in memory."""
    source = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        flying: deque[Future[Out]] = deque(pool.submit(work, item) for item in islice(source, 4 * workers))
        try:
            while flying:
                result = flying.popleft().result()
                flying.extend(pool.submit(work, item) for item in islice(source, 1))
                yield result
        finally:
            for future in flying:
                future.cancel()


def parse_time(text: str) -> datetime:
    """The UTC time that record.json holds; `fromisoformat` takes no Z before Python 3.11."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)


def parse_moment(text: str, now: datetime) -> datetime:
    """What a person types for a time: 2026-11-20, 2026-11-20T15:00, or 7d, 12h, 30m before `now`. UTC.

    Raises:
        ValueError: it is none of these; the message shows them.
    """
    ago = re.fullmatch(r"(\d{1,6})([dhm])", text)
    if ago:
        unit = {"d": "days", "h": "hours", "m": "minutes"}[ago.group(2)]
        return now - timedelta(**{unit: int(ago.group(1))})
    try:
        found = datetime.fromisoformat(text.removesuffix("Z"))
    except ValueError:
        raise ValueError(
            f"{text!r} is no time: write 2026-11-20, 2026-11-20T15:00 (UTC), or 7d, 12h, 30m for so long ago"
        ) from None
    return found.replace(tzinfo=timezone.utc) if found.tzinfo is None else found.astimezone(timezone.utc)


def parse_day(text: str) -> str:
    """YYYY-MM-DD, checked; raises ValueError with an example."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(f"{text!r} is no day: write it as 2026-11-20") from None
