"""EC2 termination notices, and the completion of the lifecycle hook when the spool is empty.

An instance of a fleet is terminated by the Auto Scaling group (a lifecycle hook then holds it until we complete it)
or by a Spot interruption (two minutes' notice). The instance metadata service announces both; the launch template
allows only its version 2, with a token.

    python -m humanseg.deploy.container.instance     completes the lifecycle action of this instance
"""

from __future__ import annotations

import contextlib
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping

POLL = 5.0  # seconds between two polls
ENDPOINT = "http://169.254.169.254"


class Metadata:
    """The instance metadata service (IMDSv2)."""

    def __init__(self, environment: Mapping[str, str], timeout: float = 2.0) -> None:
        self._url = (environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or ENDPOINT).rstrip("/")
        self._timeout = timeout
        self._token = ""

    def get(self, path: str) -> str | None:
        """The text at /latest/meta-data/`path`, or None. Raises OSError if the service does not answer."""
        for fresh in (False, True):
            if fresh or not self._token:
                self._token = self._ask("PUT", "api/token", {"x-aws-ec2-metadata-token-ttl-seconds": "300"})
            try:
                return self._ask("GET", f"meta-data/{path}", {"x-aws-ec2-metadata-token": self._token})
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 404:
                    return None
                if error.code != 401 or fresh:  # 401: the token has expired
                    raise
        return None

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> str:
        request = urllib.request.Request(f"{self._url}/latest/{path}", headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=self._timeout) as answer:
            return str(answer.read().decode())


def farewell(metadata: Metadata) -> str:
    """The reason for the upcoming termination, or the empty string. An unreachable service is not a reason."""
    with contextlib.suppress(OSError):
        if metadata.get("spot/instance-action") is not None:
            return "Spot interruption"
        if (metadata.get("autoscaling/target-lifecycle-state") or "").strip() == "Terminated":
            return "Auto Scaling termination"
    return ""


def let_go(environment: Mapping[str, str]) -> str:
    """Complete the lifecycle action, which lets the instance terminate. Returns the group's name."""
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
        print(f"instance: the spool is empty, {let_go(os.environ)} may terminate this instance")
    except Exception as error:
        sys.exit(f"instance: the lifecycle action was not completed and will time out: {error}")
