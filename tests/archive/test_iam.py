"""The role of a server may put under its prefix and nothing else, and the archive needs no more than that."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from humanseg.archive.capture.names import parse_name, records_root, segment_key, table_key
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.capture.spool import REASON_FILE, records_of
from humanseg.archive.capture.telemetry import RateLimitedLog
from humanseg.archive.ship import groups
from humanseg.archive.ship.destination import Destination
from humanseg.archive.ship.store import BucketSettings, Store
from humanseg.archive.ship.uploader import Uploader
from tests.archive.helpers import FAST, Numbers
from tests.archive.shipping import fill, spool_at
from tests.deploy import moto_server

BUCKET = "archive-of-the-test"
POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{BUCKET}/humanseg/v2/*"}],
}


@pytest.fixture(scope="module")
def moto() -> Iterator[moto_server.Moto]:
    with moto_server.running(BUCKET) as moto:
        yield moto


@pytest.fixture(scope="module")
def role(moto: moto_server.Moto) -> dict[str, str]:
    """Credentials of the role, as an instance would get them, with enforcement on from here."""
    moto.client("s3").put_object(Bucket=BUCKET, Key="humanseg/v2/records/dt=2026-01-01/seen.parquet", Body=b"{}")
    credentials = moto.take_role("server", {"put": POLICY})
    moto.enforce(0)
    return {
        "aws_access_key_id": credentials["AccessKeyId"],
        "aws_secret_access_key": credentials["SecretAccessKey"],
        "aws_session_token": credentials["SessionToken"],
    }


def store_of(moto: moto_server.Moto, role: dict[str, str], prefix: str = "humanseg") -> Store:
    client = boto3.client("s3", region_name=moto_server.REGION, endpoint_url=moto.url, **role)
    return Store(client, Destination(BUCKET, prefix, moto.url, moto_server.REGION), BucketSettings(5.0))


def ship(state_dir: Path, store: Store) -> Uploader:
    uploader = Uploader(
        spool_at(state_dir),
        lambda: store,
        ArchiveSettings(**{**FAST, "refused_attempts": 2}),
        metrics=Numbers(),
        log=RateLimitedLog(logging.getLogger("test")),
    )
    uploader.drain(30)
    return uploader


def test_the_role_is_enough_to_ship(tmp_path: Path, moto: moto_server.Moto, role: dict[str, str]) -> None:
    fill(tmp_path, 3)
    uploader = ship(tmp_path, store_of(moto, role))
    assert (uploader.shipped, uploader.rejected) == (3, 0)
    moto.enforce(1_000_000)
    try:
        listed = moto.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]
    finally:
        moto.enforce(0)
    keys = [item["Key"] for item in listed]
    names = [name for name in map(parse_name, keys) if name]
    root = records_root("humanseg")
    assert {segment_key(root, names[0]), table_key(root, names[0])} <= set(keys)


@pytest.mark.parametrize("both", [False, True])
def test_the_role_is_enough_when_an_upload_is_repeated(
    tmp_path: Path, moto: moto_server.Moto, role: dict[str, str], both: bool
) -> None:
    """The tar is there already, or the table as well, and this role may not read them to compare."""
    fill(tmp_path, 1)
    store, spool = store_of(moto, role), spool_at(tmp_path)
    group = groups.fix(spool, spool.sealed())
    assert group
    name, contents = parse_name(group.name), groups.read(group)
    assert name and isinstance(contents, groups.Contents)
    store.put_new(segment_key(records_root("humanseg"), name), contents.data)
    if both:
        store.put_new(table_key(records_root("humanseg"), name), b"put by another version of pyarrow")
    uploader = ship(tmp_path, store)
    assert (uploader.shipped, uploader.rejected) == (1, 0)


SEEN = "humanseg/v2/records/dt=2026-01-01/seen.parquet"


@pytest.mark.parametrize(
    "attempt",
    [
        lambda s3: s3.get_object(Bucket=BUCKET, Key=SEEN),
        lambda s3: s3.list_objects_v2(Bucket=BUCKET, Prefix="humanseg/"),
        lambda s3: s3.delete_object(Bucket=BUCKET, Key=SEEN),
        lambda s3: s3.put_object(Bucket=BUCKET, Key="humanseg/labels/v2/records/x.parquet", Body=b""),
        lambda s3: s3.put_object(Bucket=BUCKET, Key="other/v2/x", Body=b""),
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
    uploader = ship(tmp_path, store_of(moto, role, "elsewhere"))
    assert (uploader.shipped, uploader.rejected) == (0, 2)
    (folder,) = spool_at(tmp_path).rejected()
    assert (folder / REASON_FILE).read_text() == "AccessDenied\n"
    assert len(records_of(groups.parts_of(folder)[0])) == 2, "the records are kept for the day the policy is right"
