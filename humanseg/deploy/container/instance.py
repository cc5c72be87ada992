"""On EC2: is this instance about to go? And may it go, now that its spool is empty?

Two things end an instance of a fleet: the Auto Scaling group takes it out (a lifecycle hook then holds it until we
say so), or EC2 wants a Spot instance back (two minutes' notice). Both are announced by the instance metadata
service; version 2 of it, with a token, is all that the launch template allows.

    python -m humanseg.deploy.container.instance     completes the lifecycle action of this instance
"""

from __future__ import annotations

import contextlib
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping

POLL = 5.0  # seconds between two looks
ENDPOINT = "http://169.254.169.254"


class Metadata:
    """The instance metadata service (IMDSv2)."""

    def __init__(self, environment: Mapping[str, str], timeout: float = 2.0) -> None:
        self._url = (environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or ENDPOINT).rstrip("/")
        self._timeout = timeout
        self._token = ""

    def get(self, path: str) -> str | None:
        """The text at /latest/meta-data/`path`; None where there is none. Raises OSError when nobody answers."""
        for fresh in (False, True):
            if fresh or not self._token:
                self._token = self._ask("PUT", "api/token", {"x-aws-ec2-metadata-token-ttl-seconds": "300"})
            try:
                return self._ask("GET", f"meta-data/{path}", {"x-aws-ec2-metadata-token": self._token})
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 404:
                    return None
                if error.code != 401 or fresh:  # 401: the token ran out
                    raise
        return None

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> str:
        request = urllib.request.Request(f"{self._url}/latest/{path}", headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=self._timeout) as answer:
            return str(answer.read().decode())


def farewell(metadata: Metadata) -> str:
    """Why this instance is about to go, the empty string while it stays. An unanswered question is no reason."""
    with contextlib.suppress(OSError):
        if metadata.get("spot/instance-action") is not None:
            return "Spot interruption"
        if (metadata.get("autoscaling/target-lifecycle-state") or "").strip() == "Terminated":
            return "Auto Scaling termination"
    return ""


def let_go(environment: Mapping[str, str]) -> str:
    """Complete the lifecycle action: the instance may go. Returns the group's name."""
    import boto3

    group, metadata = environment["LIFECYCLE_GROUP"], Metadata(environment)
    boto3.client("autoscaling").complete_lifecycle_action(
        LifecycleHookName=environment["LIFECYCLE_HOOK"],
        AutoScalingGroupName=group,
        InstanceId=metadata.get("instance-id"),
        LifecycleActionResult="CONTINUE",
    )
    return group


if __name__ == "__main__":
    try:
        print(f"instance: the spool is empty, {let_go(os.environ)} may take this instance")
    except Exception as error:
        sys.exit(f"instance: the lifecycle action was not completed, it will run out: {error}")
