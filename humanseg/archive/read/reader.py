"""Reads the archive: records and labels as rows, one record by id, and the bytes of photos and masks.

Queries on the tables open no segment. A record's bytes are one ranged GET, verified against the SHA-256 in the row.
If a segment is gone, it was rewritten, and its record is looked up again. These calls need `s3:ListBucket` and
`s3:GetObject`, which the serving role does not have.
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
    """A record has disappeared since it was listed."""


class Damaged(ArchiveError):
    """Bytes in the bucket do not match their record."""


class Reader:
    """Reads one store. Safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.records = Shelf(store, records_root(store.destination.prefix), RECORDS)
        self.labels = Shelf(store, labels_root(store.destination.prefix), LABELS)
        self.corrections = Shelf(store, corrections_root(store.destination.prefix), CORRECTIONS, photo_id="of")

    def find(self, request_id: str, day: str | None = None) -> dict[str, Any] | None:
        """The row of a committed record; without a day, days are searched from the newest."""
        where = pc.field("request_id") == check_request_id(request_id)
        for candidate in [day] if day else self.records.days()[::-1]:
            rows = self.records.day_rows(candidate, where=where).to_pylist()
            if rows:
                return dict(rows[0])
        return None

    def photo_and_mask(self, row: Row) -> tuple[bytes, bytes]:
        """The bytes of a record, from a row of `records`: one ranged GET.

        Raises:
            Gone: it has been erased.
            Damaged: they do not match the row.
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
                    raise Gone("the record is gone; it may have been erased") from error
                continue
            return cut(row, data, start, "photo"), cut(row, data, start, "mask")
        raise ArchiveError("the archive is being rewritten continuously; retry later")

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes `start..end` (end exclusive) of an object."""
        answer = self.store.client.get_object(
            Bucket=self.store.destination.bucket, Key=key, Range=f"bytes={start}-{end - 1}"
        )
        data: bytes = answer["Body"].read()
        return data

    def get(self, key: str, version: str | None = None) -> bytes:
        """The bytes of one object, or of one version of it."""
        which = {} if version is None else {"VersionId": version}
        data: bytes = self.store.client.get_object(Bucket=self.store.destination.bucket, Key=key, **which)[
            "Body"
        ].read()
        return data

    def keys_under(self, prefix: str) -> Iterator[str]:
        """Keys of the objects under a prefix."""
        pages = self.store.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.store.destination.bucket, Prefix=prefix
        )
        return (item["Key"] for page in pages for item in page.get("Contents", []))


def cut(row: Row, data: bytes | memoryview, start: int, part: str) -> bytes:
    """Extract a row's photo or mask from `data`, which begins at byte `start` of its segment; raises Damaged."""
    at = row[f"{part}_offset"] - start
    content = bytes(data[at : at + row[f"{part}_bytes"]])
    if hashlib.sha256(content).hexdigest() != row[f"{part}_sha256"]:
        raise Damaged(f"the {part} in {row['segment']} does not have the SHA-256 of its record")
    return content


def is_gone(error: ClientError) -> bool:
    """Whether the error means that the object does not exist."""
    return error.response.get("Error", {}).get("Code") in GONE


def parallel(work: Callable[[In], Out], items: Iterable[In], workers: int = WORKERS) -> Iterator[Out]:
    """Map `work` over the items in parallel, in order, with at most 2 * `workers` results in memory."""
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
    """Parse a time: 2026-11-20, 2026-11-20T15:00, or 7d, 12h, 30m before `now`. UTC.

    Raises:
        ValueError: it is none of these; the message lists them.
    """
    ago = re.fullmatch(r"(\d{1,6})([dhm])", text)
    if ago:
        unit = {"d": "days", "h": "hours", "m": "minutes"}[ago.group(2)]
        return now - timedelta(**{unit: int(ago.group(1))})
    try:
        time = datetime.fromisoformat(text.removesuffix("Z"))
    except ValueError:
        raise ValueError(
            f"{text!r} is not a time: use 2026-11-20, 2026-11-20T15:00 (UTC), or 7d, 12h, 30m for that long ago"
        ) from None
    return time.replace(tzinfo=timezone.utc) if time.tzinfo is None else time.astimezone(timezone.utc)


def parse_day(text: str) -> str:
    """Validate YYYY-MM-DD; raises ValueError with an example."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(f"{text!r} is not a date: use the form 2026-11-20") from None
