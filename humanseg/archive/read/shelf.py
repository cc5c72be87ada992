"""One kind of record in the bucket: its days, its tables, and their rows, each record exactly once.

Tables are found by listing the requested days. A rewritten segment (`compact`, `erase`) lists the segments that it
replaces in its table, and replaced tables in the listing are left out. A rewritten segment sorts after all that it
replaces, and its table is written before the first of theirs is deleted: a listing contains the old ones or the new
one, whatever is deleted meanwhile. If a table disappears between listing and reading, the reader lists again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from humanseg.archive.capture.names import Name, parse_name
from humanseg.archive.errors import ArchiveError
from humanseg.archive.ship.store import Store

T = TypeVar("T")
AT_A_TIME = 16  # requests
TRIES = 5  # attempts to read tables that are being rewritten
_FORMAT = ds.ParquetFileFormat()
_PARTITION = [("dt", pa.string()), ("hour", pa.string())]


@dataclass(frozen=True)
class Listed:
    """An object of a day: its key, its size in bytes, and its name."""

    key: str
    size: int
    name: Name


class Shelf:
    """Records of one kind under `root`, with tables of `schema`. Safe to use from several threads.

    photo_id: the column with the request id of the photo.
    """

    def __init__(self, store: Store, root: str, schema: pa.Schema, *, photo_id: str = "request_id") -> None:
        self.store, self.root, self.schema, self.photo_id = store, root, schema, photo_id
        self._replaces: dict[str, frozenset[str]] = {}
        self._filesystem: pafs.FileSystem | None = None

    # ------------------------------------------------------------------ listing

    def days(self, since: datetime | None = None, until: datetime | None = None, kind: str = "records") -> list[str]:
        """The non-empty days (YYYY-MM-DD) within since..until, oldest first. One request."""
        start = f"{self.root}/{kind}/dt="
        pages = self.store.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.store.destination.bucket, Prefix=start, Delimiter="/"
        )
        days = [prefix["Prefix"][len(start) : -1] for page in pages for prefix in page.get("CommonPrefixes", [])]
        first = since.date().isoformat() if since else ""
        # `until` is exclusive, so that midnight does not include its whole day
        last = (until - timedelta(microseconds=1)).date().isoformat() if until else "9"
        return sorted(day for day in days if first <= day <= last)

    def listed(self, day: str, kind: str = "records") -> list[Listed]:
        """The tables of a day, or with "segments" its tars, sorted by key. Lists no other day."""
        pages = self.store.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.store.destination.bucket, Prefix=f"{self.root}/{kind}/dt={day}/"
        )
        objects = (
            (item["Key"], int(item["Size"]), parse_name(item["Key"]))
            for page in pages
            for item in page.get("Contents", [])
        )
        return [Listed(key, size, name) for key, size, name in objects if name]

    def tables(self, day: str) -> list[Listed]:
        """The current tables of a day: those that no other one replaces."""
        return self.living(self.listed(day))

    def living(self, tables: list[Listed]) -> list[Listed]:
        """The `tables` that no other one of them replaces."""
        gone = self.replaced(tables)
        return [table for table in tables if table.name.text not in gone]

    def replaced(self, tables: Iterable[Listed]) -> frozenset[str]:
        """The names of the segments that these tables replace."""
        rewritten = [table for table in tables if table.name.rewritten]
        unknown = [table for table in rewritten if table.key not in self._replaces]
        for table in unknown:
            texts = self.dataset([table]).head(1, columns=["replaces"])["replaces"].to_pylist()
            self._replaces[table.key] = frozenset(",".join(texts).split(","))
        return frozenset().union(*(self._replaces[table.key] for table in rewritten))

    # ------------------------------------------------------------------ rows

    def dataset(self, tables: Iterable[Listed]) -> ds.Dataset:
        """These tables as one lazy dataset, with `dt` and `hour` as columns."""
        return ds.FileSystemDataset(
            [self._fragment(table) for table in tables],
            pa.schema([*self.schema, *_PARTITION]),
            _FORMAT,
            self._files(),
        )

    def days_rows(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        *,
        columns: list[str] | None = None,
        where: pc.Expression | None = None,
        newest_first: bool = False,
    ) -> Iterator[pa.Table]:
        """The rows with since <= time < until that match `where`, one table per day, sorted by time."""
        condition = _and(_period(since, until), where)
        for day in self.days(since, until)[:: -1 if newest_first else 1]:
            yield self.day_rows(day, columns=columns, where=condition)

    def day_rows(self, day: str, *, columns: list[str] | None = None, where: pc.Expression | None = None) -> pa.Table:
        """The rows of a day that match `where`."""

        def read(tables: list[list[Listed]]) -> pa.Table:
            names = self.schema.names if columns is None else columns
            return self.dataset(tables[0]).to_table(columns=names, filter=where)

        return consistent([(self, [day])], read)

    def _fragment(self, table: Listed) -> ds.Fragment:
        day, hour = (part.partition("=")[2] for part in table.name.partition.split("/"))
        return _FORMAT.make_fragment(
            f"{self.store.destination.bucket}/{table.key}",
            self._files(),
            partition_expression=(pc.field("dt") == day) & (pc.field("hour") == hour),
            file_size=table.size,
        )

    def _files(self) -> pafs.FileSystem:
        if self._filesystem is None:
            self._filesystem = filesystem(self.store)
        return self._filesystem


def consistent(wanted: list[tuple[Shelf, list[str]]], read: Callable[[list[list[Listed]]], T]) -> T:
    """Call `read` with the tables of these days, and retry if some were rewritten meanwhile.

    Raises:
        ArchiveError: the tables can't be read, or are rewritten continuously.
    """
    for _ in range(TRIES):
        listed = _list(wanted)
        try:
            return read([shelf.living(tables) for (shelf, _), tables in zip(wanted, listed, strict=True)])
        except OSError as error:  # pyarrow's S3 client has no more specific errors
            if _list(wanted) == listed:
                raise ArchiveError(f"the tables can't be read: {error}") from error
    raise ArchiveError("the archive is being rewritten all the time; try again later")


def _list(wanted: list[tuple[Shelf, list[str]]]) -> list[list[Listed]]:
    return [[table for day in days for table in shelf.listed(day)] for shelf, days in wanted]


def filesystem(store: Store) -> pafs.FileSystem:
    """An S3 client of pyarrow for the store's bucket, with boto3's credentials."""
    pa.set_io_thread_count(AT_A_TIME)
    options: dict[str, Any] = {"region": store.client.meta.region_name}
    if store.credentials is not None:
        keys = store.credentials.get_frozen_credentials()
        options |= {"access_key": keys.access_key, "secret_key": keys.secret_key}
        options |= {"session_token": keys.token} if keys.token else {}
    if store.destination.endpoint_url:
        scheme, _, host = store.destination.endpoint_url.partition("://")
        options |= {"scheme": scheme, "endpoint_override": host.rstrip("/")}
    return pafs.S3FileSystem(**options)


def _period(since: datetime | None, until: datetime | None) -> pc.Expression | None:
    condition = None
    if since is not None:
        condition = pc.field("time") >= pa.scalar(since, pa.timestamp("us", tz="UTC"))
    if until is not None:
        condition = _and(condition, pc.field("time") < pa.scalar(until, pa.timestamp("us", tz="UTC")))
    return condition


def _and(first: pc.Expression | None, second: pc.Expression | None) -> pc.Expression | None:
    if first is None or second is None:
        return second if first is None else first
    return first & second
