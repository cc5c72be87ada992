"""moto's server, in a process of its own: AWS's APIs on 127.0.0.1 for the tests."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import boto3
import pyarrow.parquet as pq

REGION = "eu-central-1"
# moto lets no service principal take a role over its API; on EC2 the instance takes it.
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}],
}


@dataclass
class Moto:
    """A running server. `environment` points boto3, also in other processes, to it."""

    process: subprocess.Popen[bytes]
    url: str

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str, **credentials: str) -> Any:
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing", **credentials}
        return boto3.client(service, region_name=REGION, endpoint_url=self.url, **keys)

    def take_role(self, name: str, policies: Mapping[str, Any]) -> dict[str, str]:
        """Makes a role with these policies (name -> document) and takes it: its credentials, as STS names them."""
        iam = self.client("iam")
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
        for policy, document in policies.items():
            iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=json.dumps(document))
        session = self.client("sts").assume_role(RoleArn=arn, RoleSessionName="i-0123")
        return dict(session["Credentials"])

    def enforce(self, allowed_first: int) -> None:
        """After so many requests, each is asked for its rights."""
        headers = {"Content-Type": "text/plain"}
        body = str(allowed_first).encode()
        request = urllib.request.Request(f"{self.url}/moto-api/reset-auth", body, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200

    def stop(self) -> None:
        self.process.kill()  # also while it is stopped by SIGSTOP
        self.process.wait()


@contextlib.contextmanager
def running(*buckets: str) -> Iterator[Moto]:
    """A server with these S3 buckets, stopped at the end."""
    moto = start()
    try:
        for bucket in buckets:
            moto.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield moto
    finally:
        moto.stop()


def start() -> Moto:
    """Start on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env={**os.environ, "AWS_DEFAULT_REGION": REGION},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    moto = Moto(process, f"http://127.0.0.1:{port}")
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{moto.url}/moto-api/data.json", timeout=5):
                return moto
        except OSError:
            time.sleep(0.1)
    moto.stop()
    raise RuntimeError("moto's server did not start")


def committed(client: Any, bucket: str) -> set[str]:
    """Request ids of the archive's records in the bucket: those that a table names."""
    ids: set[str] = set()
    for item in client.list_objects_v2(Bucket=bucket).get("Contents", []):
        if item["Key"].endswith(".parquet"):
            data = client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
            ids |= set(pq.read_table(io.BytesIO(data))["request_id"].to_pylist())
    return ids
