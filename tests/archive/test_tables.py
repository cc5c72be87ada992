"""The tables as other tools read them, and the README's questions."""

from __future__ import annotations

import io
import re
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from humanseg.archive.capture.record import StoredRecord
from humanseg.archive.read.query import query
from humanseg.archive.ship.table import RECORDS, stored_record, to_parquet
from tests.archive.helpers import NOON, Bucket
from tests.archive.shipping import fill, uploader_for

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "humanseg" / "archive" / "read" / "README.md").read_text()
QUESTIONS, DDL = re.findall(r"^```sql\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
ATHENA = {
    "string": "string",
    "int32": "int",
    "int64": "bigint",
    "double": "double",
    "bool": "boolean",
    "timestamp[us, tz=UTC]": "timestamp",
}


@pytest.fixture(scope="module")
def copied(local_store: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `v2/records` of an archive with two days and three hours."""
    from humanseg.archive.ship.local_store import LocalStore
    from tests.archive.helpers import bucket_of

    assert isinstance(local_store, LocalStore)
    bucket, folder = bucket_of(local_store), tmp_path_factory.mktemp("tables")
    ship_three_hours(folder / "state", bucket)
    for key in bucket.objects():
        if key.startswith("v2/records/"):
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bucket.reader.get(f"{bucket.store.destination.prefix}/{key}"))
    return folder / "v2" / "records"


def ship_three_hours(state_dir: Path, bucket: Bucket) -> list[str]:
    acknowledged = {}
    for hours, confidence in ((0, 0.9), (1, 0.3), (24, 0.8)):
        acknowledged |= fill(state_dir, 2, time=NOON + timedelta(hours=hours), confidence=confidence)
    uploader_for(state_dir, bucket).drain(30)
    return list(acknowledged)


def test_duckdb_and_pyarrow_read_the_same_files_with_their_hive_partitions(copied: Path) -> None:
    parts = [("2026-11-20", 12, 2), ("2026-11-20", 13, 2), ("2026-11-21", 12, 2)]
    rows = duckdb.sql(
        "SELECT dt::VARCHAR, hour::INT, count(*)"
        f" FROM read_parquet('{copied}/**/*.parquet', hive_partitioning = true) GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    assert rows == parts
    dataset = ds.dataset(copied, partitioning="hive")
    table = dataset.to_table()
    assert table.schema.names == [*RECORDS.names, "dt", "hour"]
    counted = table.group_by(["dt", "hour"]).aggregate([("request_id", "count")]).to_pylist()
    assert sorted((row["dt"], row["hour"], row["request_id_count"]) for row in counted) == parts


def test_the_athena_ddl_has_the_tables_columns_and_types() -> None:
    inside = DDL[DDL.index("(") + 1 : DDL.index("PARTITIONED")].rstrip().removesuffix(")")
    columns = dict(part.split() for part in inside.replace("`", "").replace("\n", " ").split(","))
    assert columns == {field.name: ATHENA[str(field.type)] for field in RECORDS}
    assert re.search(r"PARTITIONED BY \(dt string, hour string\)", DDL)


def test_the_files_have_only_types_that_every_reader_knows(copied: Path) -> None:
    schema = pq.read_schema(next(copied.rglob("*.parquet")))
    assert {str(field.type) for field in schema} <= set(ATHENA)
    assert pq.ParquetFile(next(copied.rglob("*.parquet"))).metadata.row_group(0).column(0).compression == "ZSTD"


def test_a_row_is_the_record(copied: Path) -> None:
    row = ds.dataset(copied).to_table().to_pylist()[0]
    assert StoredRecord.from_json(stored_record(row).to_json()) == stored_record(row)
    assert pq.read_table(io.BytesIO(to_parquet([], RECORDS))).schema.names == RECORDS.names


@pytest.mark.parametrize("question", QUESTIONS.split("\n\n"), ids=lambda text: text.splitlines()[0][3:40])
def test_the_readmes_questions_are_answered(tmp_path: Path, bucket: Bucket, question: str) -> None:
    ship_three_hours(tmp_path, bucket)
    answer = query(bucket.reader, question)
    assert answer.columns
    if "INTERVAL" not in question:  # which has no records of this week
        assert answer.rows


def test_there_are_five_questions() -> None:
    assert len(QUESTIONS.split("\n\n")) == 5
