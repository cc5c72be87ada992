"""moto's server, in a process of its own: AWS's APIs on 127.0.0.1 for the tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from typing import Any

import boto3

REGION = "eu-central-1"


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

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def start(**environment: str) -> Moto:
    """Start on a free port; `environment` sets moto's own switches."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env={**os.environ, "AWS_DEFAULT_REGION": REGION, **environment},
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
