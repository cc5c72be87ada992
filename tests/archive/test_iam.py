"""The role of a server may put under its prefix and nothing else, and the archive needs no more than that."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from humanseg.archive.ship.shipper import Shipper

from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.capture.spool import Spool
from humanseg.archive.capture.telemetry import SparseLog
from humanseg.archive.ship.store import Store
from humanseg.archive.ship.target import Target
from tests.archive.helpers import FAST, Numbers
from tests.archive.test_shipper import fill
from tests.deploy import moto_server

BUCKET = "archive-of-the-test"
POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{BUCKET}/humanseg/v1/*"}],
}


@pytest.fixture(scope="module")
def moto() -> Iterator[moto_server.Moto]:
    running = moto_server.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def role(moto: moto_server.Moto) -> dict[str, str]:
    """Credentials of the role, as an instance would get them, with enforcement on from here."""
    where = {"LocationConstraint": moto_server.REGION}
    moto.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=where)
    moto.client("s3").put_object(Bucket=BUCKET, Key="humanseg/v1/dt=2026-01-01/seen.json", Body=b"{}")
    found = moto.take_role("server", {"put": POLICY})
    moto.enforce(0)
    return {
        "aws_access_key_id": found["AccessKeyId"],
        "aws_secret_access_key": found["SecretAccessKey"],
        "aws_session_token": found["SessionToken"],
    }


def store_of(moto: moto_server.Moto, role: dict[str, str], prefix: str = "humanseg") -> Store:
    client = boto3.client("s3", region_name=moto_server.REGION, endpoint_url=moto.url, **role)
    return Store(client, Target(BUCKET, prefix, moto.url, moto_server.REGION), ArchiveSettings(**FAST))


def ship(state_dir: Path, store: Store) -> Shipper:
    shipper = Shipper(
        Spool(state_dir / "spool"),
        lambda: store,
        ArchiveSettings(**{**FAST, "refused_attempts": 2}),
        metrics=Numbers(),
        log=SparseLog(logging.getLogger("test")),
    )
    shipper.drain(30)
    return shipper


def test_the_role_is_enough_to_ship(tmp_path: Path, moto: moto_server.Moto, role: dict[str, str]) -> None:
    acknowledged = fill(tmp_path, 3)
    shipper = ship(tmp_path, store_of(moto, role))
    assert (shipper.shipped, shipper.rejected) == (3, 0)
    moto.enforce(1_000_000)
    try:
        listed = moto.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]
    finally:
        moto.enforce(0)
    keys = [item["Key"] for item in listed]
    assert all(f"humanseg/v1/dt=2026-11-20/hour=12/{one}/record.json" in keys for one in acknowledged)


def test_the_role_is_enough_when_an_upload_is_repeated(
    tmp_path: Path, moto: moto_server.Moto, role: dict[str, str]
) -> None:
    """The commit mark is there already, and this role may not read it to compare."""
    fill(tmp_path, 1)
    store = store_of(moto, role)
    (entry,) = Spool(tmp_path / "spool").ready()
    for name, data in entry.read():
        store.put_new(f"humanseg/v1/dt=2026-11-20/hour=12/{entry.request_id}/{name}", data)
    shipper = ship(tmp_path, store)
    assert (shipper.shipped, shipper.rejected) == (1, 0)


SEEN = "humanseg/v1/dt=2026-01-01/seen.json"


@pytest.mark.parametrize(
    "attempt",
    [
        lambda s3: s3.get_object(Bucket=BUCKET, Key=SEEN),
        lambda s3: s3.list_objects_v2(Bucket=BUCKET, Prefix="humanseg/"),
        lambda s3: s3.delete_object(Bucket=BUCKET, Key=SEEN),
        lambda s3: s3.put_object(Bucket=BUCKET, Key="humanseg/labels/v1/x/label.json", Body=b""),
        lambda s3: s3.put_object(Bucket=BUCKET, Key="other/v1/x", Body=b""),
        lambda s3: s3.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration={"Rules": []}),
        lambda s3: s3.list_buckets(),
    ],
    ids=["get", "list", "delete", "label", "another prefix", "lifecycle", "list buckets"],
)
def test_the_role_may_do_nothing_else(
    moto: moto_server.Moto, role: dict[str, str], attempt: Callable[[Any], Any]
) -> None:
    with pytest.raises(ClientError) as refused:
        attempt(store_of(moto, role).client)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_records_for_another_prefix_are_set_aside_with_the_reason(
    tmp_path: Path, moto: moto_server.Moto, role: dict[str, str]
) -> None:
    fill(tmp_path, 2)
    shipper = ship(tmp_path, store_of(moto, role, "elsewhere"))
    assert (shipper.shipped, shipper.rejected) == (0, 2)
    for entry in Spool(tmp_path / "spool").rejected():
        assert (entry.path / "reason.txt").read_text() == "AccessDenied\n"
        assert len(entry.read()) == 3, "the record itself is kept for the day the policy is right"
