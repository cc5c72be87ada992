"""The policies of people and of the scheduled job: each is enough for its commands, and for no more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from humanseg.archive.errors import Refused
from humanseg.archive.read.compact import compact
from humanseg.archive.read.erasing import erase
from humanseg.archive.read.export import export
from humanseg.archive.read.export_notes import notes, redact, register
from humanseg.archive.read.label_import import import_labels
from humanseg.archive.read.reader import Reader
from humanseg.archive.read.verify import verify
from humanseg.archive.ship.destination import Destination
from humanseg.archive.ship.store import BucketSettings, Store
from tests.archive.helpers import NOON
from tests.archive.shipping import fill, spool_at
from tests.archive.test_iam import ship
from tests.deploy import moto_server

ROOT = Path(__file__).resolve().parents[2]
BUCKET, PREFIX = "archive-of-people", "team/archive"
LATER = datetime(2026, 12, 1, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def moto() -> Iterator[moto_server.Moto]:
    with moto_server.running(BUCKET) as moto:
        yield moto


def policy(name: str) -> dict[str, Any]:
    text = (ROOT / "deploy" / "aws" / "policies" / f"{name}.json").read_text()
    policy: dict[str, Any] = json.loads(text.replace("BUCKET", BUCKET).replace("PREFIX", PREFIX))
    if name == "rewrite":  # of a deletion of several objects moto asks whether the bucket may be deleted from
        batch = {"Effect": "Allow", "Action": "s3:DeleteObject", "Resource": f"arn:aws:s3:::{BUCKET}"}
        policy["Statement"].append(batch)
    return policy


@pytest.fixture(scope="module")
def people(moto: moto_server.Moto, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    """A reader for each policy, on a bucket with two segments, with enforcement on from here."""
    folder = tmp_path_factory.mktemp("people")
    every = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    roles = {"all": moto.take_role("all", {"all": every})}
    roles |= {name: moto.take_role(name, {name: policy(name)}) for name in ("read", "label", "rewrite")}
    moto.enforce(0)
    readers = {name: reader_of(moto, role) for name, role in roles.items()}
    for number in range(2):
        fill(folder, 2, start=2 * number, time=NOON + timedelta(minutes=number))
        ship(folder, readers["all"].store)
    return readers


def reader_of(moto: moto_server.Moto, role: dict[str, str]) -> Reader:
    keys = (role["AccessKeyId"], role["SecretAccessKey"], role["SessionToken"])
    client = boto3.client(
        "s3",
        region_name=moto_server.REGION,
        endpoint_url=moto.url,
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
        aws_session_token=keys[2],
    )
    destination = Destination(BUCKET, PREFIX, moto.url, moto_server.REGION)
    return Reader(Store(client, destination, BucketSettings(5.0), Credentials(*keys)))


def test_a_reader_reads_and_exports_and_changes_nothing(people: dict[str, Reader], tmp_path: Path) -> None:
    reader = people["read"]
    assert verify(reader).records == 4
    result = export(reader, tmp_path / "data", since=NOON - timedelta(days=1), until=None, now=LATER)
    assert result.photos == 4
    with pytest.raises(Refused, match="AccessDenied"):
        import_labels(reader, tmp_path / "data", by="ada", now=LATER, accept_unchanged=True)
    row = next(iter(reader.records.days_rows())).to_pylist()[0]
    with pytest.raises(ClientError, match="AccessDenied"):
        reader.store.client.delete_object(Bucket=BUCKET, Key=row["segment"])


def test_who_labels_may_also_put_masks(people: dict[str, Reader], tmp_path: Path) -> None:
    reader = people["label"]
    export(reader, tmp_path / "data", since=NOON - timedelta(days=1), until=None, now=LATER)
    result = import_labels(reader, tmp_path / "data", by="ada", now=LATER, accept_unchanged=True)
    assert len(result.uploaded) == 4
    with pytest.raises(ClientError, match="AccessDenied"):
        reader.store.client.put_object(Bucket=BUCKET, Key=f"{PREFIX}/v2/segments/x.tar", Body=b"")


def test_the_scheduled_job_compacts_and_erases(people: dict[str, Reader], tmp_path: Path) -> None:
    reader = people["rewrite"]
    ids = [row["request_id"] for day in people["read"].records.days_rows() for row in day.to_pylist()]
    register(people["all"], tmp_path / "out", "folder", ids, NOON)
    assert compact(reader, now=LATER).merged == 2
    row = next(iter(reader.records.days_rows())).to_pylist()[0]
    (erased,) = erase(reader, spool_at(tmp_path), [row["request_id"]])
    assert erased.found
    assert redact(reader, [erased.request_id]) > 0
    named = {request_id for note in notes(people["all"]).values() for request_id in note["request_ids"]}
    assert named == set(ids) - {erased.request_id}
    assert verify(people["read"]).records == 3
    with pytest.raises(ClientError, match="AccessDenied"):
        reader.store.client.put_object(Bucket=BUCKET, Key="others/x", Body=b"")
