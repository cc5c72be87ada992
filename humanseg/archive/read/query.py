"""SQL over the archive's tables: DuckDB reads the tables through pyarrow, without write access.

Three tables: `records`, `labels` and `corrections`, with the columns of humanseg/archive/ship/table.py, and `dt` and
`hour` (text) of the key. `WHERE dt = '2026-11-20'` reads only that day's tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from humanseg.archive.errors import ArchiveError
from humanseg.archive.read.reader import Reader
from humanseg.archive.read.shelf import Listed, Shelf, consistent


class QueryError(ArchiveError):
    """The SQL is invalid, or is not a SELECT."""


@dataclass(frozen=True)
class Answer:
    """Column names and rows."""

    columns: list[str]
    rows: list[tuple[Any, ...]]


def query(reader: Reader, sql: str, since: datetime | None = None, until: datetime | None = None) -> Answer:
    """Run one SELECT over the days of since..until.

    Raises:
        QueryError: it is not a single SELECT, or DuckDB rejects it.
    """
    shelves = _shelves(reader)
    wanted = [
        (shelf, shelf.days(since, until) if shelf is reader.records else shelf.days()) for shelf in shelves.values()
    ]

    def run(tables: list[list[Listed]]) -> Answer:
        return _run(sql, dict(zip(shelves, zip(shelves.values(), tables, strict=True), strict=True)))

    return consistent(wanted, run)


def _shelves(reader: Reader) -> dict[str, Shelf]:
    return {"records": reader.records, "labels": reader.labels, "corrections": reader.corrections}


def schema(reader: Reader) -> Iterator[tuple[str, str, str]]:
    """Table, column and DuckDB type of every column."""
    for table, shelf in _shelves(reader).items():
        for name, kind, *_ in _run(f"DESCRIBE {table}", {table: (shelf, [])}).rows:
            yield table, name, kind


def _run(sql: str, tables: dict[str, tuple[Shelf, list[Listed]]]) -> Answer:
    import duckdb

    with duckdb.connect(":memory:", config={"python_enable_replacements": False}) as connection:
        for name, (shelf, listed) in tables.items():
            connection.register(name, shelf.dataset(listed))
        for setting in ("TimeZone = 'UTC'", "enable_external_access = false", "lock_configuration = true"):
            connection.execute(f"SET {setting}")
        try:
            statements = connection.extract_statements(sql)
            if len(statements) != 1 or statements[0].type not in (
                duckdb.StatementType.SELECT,
                duckdb.StatementType.EXPLAIN,
            ):
                raise QueryError("a query must be one SELECT over `records`, `labels` and `corrections`")
            table = connection.execute(statements[0]).to_arrow_table()
        except duckdb.Error as error:
            if "get_next failed" in str(error):  # pyarrow could not read a table; it may have been rewritten
                raise OSError(str(error)) from error
            raise QueryError(str(error).strip()) from error
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return Answer(table.column_names, list(rows))
