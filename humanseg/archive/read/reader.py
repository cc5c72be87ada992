"""Reading the archive back: its records and labels as rows, one record by id, and the bytes of photos and masks.

What can be answered from the tables opens no segment. A record's bytes are one ranged GET; they are checked against
the SHA-256 in the row. A segment that is gone by then was rewritten: its record is looked up again.
These calls need `s3:ListBucket` and `s3:GetObject`, which the serving role does not have.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date, datetime, timedelta, timezone
from itertools import islice
from typing import Any, TypeVar

import pyarrow.compute as pc
from botocore.exceptions import ClientError

from humanseg.archive.capture.names import corrections_root, labels_root, records_root
from humanseg.archive.capture.record import check_request_id
from humanseg.archive.errors import ArchiveError
from humanseg.archive.read.shelf import TRIES, Shelf
from humanseg.archive.ship.store import Store
from humanseg.archive.ship.table import CORRECTIONS, LABELS, RECORDS

In = TypeVar("In")
Out = TypeVar("Out")
Row = Mapping[str, Any]
WORKERS = 16
GONE = ("NoSuchKey", "404")


class Gone(ArchiveError):
    """A record that was there a moment ago is not there any more."""


class Damaged(ArchiveError):
    """Bytes in the bucket are not those of their record."""


class Reader:
    """Reads one store. Safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.records = Shelf(store, records_root(store.target.prefix), RECORDS)
        self.labels = Shelf(store, labels_root(store.target.prefix), LABELS)
        self.corrections = Shelf(store, corrections_root(store.target.prefix), CORRECTIONS, photo_id="of")

    def find(self, request_id: str, day: str | None = None) -> dict[str, Any] | None:
        """The row of a committed record; without its day, the newest day is looked at first."""
        where = pc.field("request_id") == check_request_id(request_id)
        for one in [day] if day else self.records.days()[::-1]:
            rows = self.records.day_rows(one, where=where).to_pylist()
            if rows:
                return dict(rows[0])
        return None

    def photo_and_mask(self, row: Row) -> tuple[bytes, bytes]:
        """The bytes of a record, from a row of `records`: one ranged GET.

        Raises:
            Gone: it was erased meanwhile.
            Damaged: they are not what the row says.
        """
        for _ in range(TRIES):
            start = row["photo_offset"]
            try:
                data = self.get_range(row["segment"], start, row["mask_offset"] + row["mask_bytes"])
            except ClientError as error:
                if not is_gone(error):
                    raise
                row = self.find(row["request_id"], f"{row['time']:%Y-%m-%d}") or {}
                if not row:
                    raise Gone("the record is gone; was it erased meanwhile?") from error
                continue
            return cut(row, data, start, "photo"), cut(row, data, start, "mask")
        raise ArchiveError("the archive is being rewritten all the time; try again later")

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes `start..end` (the end left out) of an object."""
        answer = self.store.client.get_object(
            Bucket=self.store.target.bucket, Key=key, Range=f"bytes={start}-{end - 1}"
        )
        data: bytes = answer["Body"].read()
        return data

    def get(self, key: str, version: str | None = None) -> bytes:
        """The bytes of one object, or of one version of it."""
        which = {} if version is None else {"VersionId": version}
        data: bytes = self.store.client.get_object(Bucket=self.store.target.bucket, Key=key, **which)["Body"].read()
        return data

    def keys_under(self, prefix: str) -> Iterator[str]:
        """Keys of the objects under a prefix."""
        pages = self.store.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.store.target.bucket, Prefix=prefix
        )
        return (item["Key"] for page in pages for item in page.get("Contents", []))


def cut(row: Row, data: bytes | memoryview, start: int, part: str) -> bytes:
    """The photo or mask of a row out of `data`, which begins at byte `start` of its segment; raises Damaged."""
    at = row[f"{part}_offset"] - start
    found = bytes(data[at : at + row[f"{part}_bytes"]])
    if hashlib.sha256(found).hexdigest() != row[f"{part}_sha256"]:
        raise Damaged(f"the {part} in {row['segment']} does not have the SHA-256 of its record")
    return found


def is_gone(error: ClientError) -> bool:
    """Whether S3 says that there is no such object."""
    return error.response.get("Error", {}).get("Code") in GONE


def parallel(work: Callable[[In], Out], items: Iterable[In], workers: int = WORKERS) -> Iterator[Out]:
    """`work` on each item, results in the items' order, at most 2 * `workers` of them in memory."""
    source = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        flying: deque[Future[Out]] = deque(pool.submit(work, item) for item in islice(source, 2 * workers))
        try:
            while flying:
                result = flying.popleft().result()
                flying.extend(pool.submit(work, item) for item in islice(source, 1))
                yield result
        finally:
            for future in flying:
                future.cancel()


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
