"""The template's own role, end to end: a real server takes it from the instance metadata and archives under it.

moto's server, in its enforcing mode, is S3 and IAM: what the role does not allow is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError

from humanseg.archive.capture.spool import Spool
from tests.deploy import moto_server
from tests.deploy.filled_template import VALUES, role_policies
from tests.deploy.imds import Metadata, credentials
from tests.running import Server

BUCKET = VALUES["ArchiveBucket"]


@pytest.fixture(scope="module")
def moto() -> Iterator[moto_server.Moto]:
    with moto_server.running(BUCKET, VALUES["ReleaseBucket"]) as moto:
        s3 = moto.client("s3")
        s3.put_object(Bucket=BUCKET, Key="humanseg/v2/seen", Body=b"a photo")
        s3.put_object(Bucket=VALUES["ReleaseBucket"], Key=VALUES["ReleaseKey"], Body=b"a model")
        s3.put_object(Bucket=VALUES["ReleaseBucket"], Key="photos/other.mar", Body=b"another model")
        yield moto


@pytest.fixture
def role(moto: moto_server.Moto) -> Iterator[Any]:
    """S3 with the role's rights, enforced."""
    credentials = moto.take_role(f"role-{time.monotonic_ns()}", role_policies())
    moto.enforce(0)
    yield moto.client(
        "s3",
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
    )
    moto.enforce(1_000_000)


def test_the_role_puts_under_its_prefix_and_reads_the_release(role: Any) -> None:
    role.put_object(Bucket=BUCKET, Key="humanseg/v2/segments/dt=2026-11-22/hour=10/x.tar", Body=b"a photo")
    released = role.get_object(Bucket=VALUES["ReleaseBucket"], Key=VALUES["ReleaseKey"])
    assert released["Body"].read() == b"a model"


@pytest.mark.parametrize(
    "attempt",
    [
        lambda s3: s3.get_object(Bucket=BUCKET, Key="humanseg/v2/seen"),
        lambda s3: s3.head_object(Bucket=BUCKET, Key="humanseg/v2/seen"),
        lambda s3: s3.list_objects_v2(Bucket=BUCKET),
        lambda s3: s3.delete_object(Bucket=BUCKET, Key="humanseg/v2/seen"),
        lambda s3: s3.put_object(Bucket=BUCKET, Key="other/v2/x", Body=b""),
        lambda s3: s3.put_object(Bucket=BUCKET, Key="humanseg/labels/v2/x", Body=b""),
        lambda s3: s3.put_object(Bucket=VALUES["ReleaseBucket"], Key=VALUES["ReleaseKey"], Body=b""),
        lambda s3: s3.get_object(Bucket=VALUES["ReleaseBucket"], Key="photos/other.mar"),
        lambda s3: s3.delete_bucket_policy(Bucket=BUCKET),
    ],
    ids=("get", "head", "list", "delete", "prefix", "labels", "release", "other release", "policy"),
)
def test_the_role_may_do_nothing_else(role: Any, attempt: Callable[[Any], Any]) -> None:
    with pytest.raises(ClientError) as refused:
        attempt(role)
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.slow
def test_a_server_archives_with_the_instance_role_across_a_credential_refresh(
    make_server: Callable[..., Server], moto: moto_server.Moto, astronaut_jpeg: bytes
) -> None:
    # Two roles of the same policies, so that the first one's rights can be taken away: what is shipped after that
    # was shipped with fresh credentials.
    first, second = (moto.take_role(name, role_policies()) for name in ("first", "second"))
    handed_out: list[str] = []
    current = first

    def page() -> str:
        handed_out.append(current["AccessKeyId"])
        return credentials(current, seconds=3)

    metadata = Metadata()
    metadata.pages["iam/security-credentials/"] = lambda: "humanseg"
    metadata.pages["iam/security-credentials/humanseg"] = page
    nothing = "/dev/null"
    moto.enforce(0)
    try:
        server = make_server(
            ARCHIVE_BUCKET=BUCKET,
            ARCHIVE_PREFIX=VALUES["ArchivePrefix"],
            ARCHIVE_ENDPOINT_URL=moto.url,
            AWS_DEFAULT_REGION=moto_server.REGION,
            AWS_EC2_METADATA_SERVICE_ENDPOINT=metadata.url,
            AWS_SHARED_CREDENTIALS_FILE=nothing,
            AWS_CONFIG_FILE=nothing,
        )

        spool = Spool(server.state_dir / "spool")

        def send() -> str:
            answer = requests.post(server.predictions, data=astronaut_jpeg, timeout=60)
            assert (answer.status_code, answer.headers["x-archived"]) == (200, "spooled")
            return answer.headers["x-request-id"]

        before = [send(), send()]
        wait_for(moto, spool, before)
        assert set(handed_out) == {first["AccessKeyId"]}

        current = second
        metadata.forget_tokens()
        time.sleep(4)  # until the first credentials are over
        moto.enforce(1_000_000)
        moto.client("iam").delete_role_policy(RoleName="first", PolicyName="put-into-the-archive")
        moto.enforce(0)
        after = [send(), send()]
        wait_for(moto, spool, before + after)
        assert second["AccessKeyId"] in handed_out
        assert server.stop() == 0
    finally:
        moto.enforce(1_000_000)
        metadata.close()


def wait_for(moto: moto_server.Moto, spool: Spool, request_ids: list[str], seconds: float = 60) -> None:
    """Wait until each record is committed in the bucket; enforcement is off only while we look."""
    end = time.monotonic() + seconds
    spool.request_flush()
    while True:
        moto.enforce(1_000_000)
        committed = moto_server.committed(moto.client("s3"), BUCKET)
        moto.enforce(0)
        if committed >= set(request_ids):
            return
        assert time.monotonic() < end, f"missing: {set(request_ids) - committed}"
        time.sleep(0.5)
