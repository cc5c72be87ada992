"""The plan of a deployment, computed before any call to AWS, so that it can be shown without an account."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from humanseg.common.mar import MarError, read_manifest
from humanseg.deploy.aws import template as cloudformation

REPOSITORY = "humanseg"
ARM64_IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
LOOKED_UP = "(looked up in the account)"


class PlanError(ValueError):
    """An invalid choice: one line with the cause and the fix."""


@dataclass(frozen=True)
class Plan:
    """One deployment. `options` has the given template parameters by name.

    image: an existing image's URI by digest, or None to build and push the checkout's.
    """

    stack: str
    size: str
    region: str
    mar: Path
    image: str | None = None
    options: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,31}", self.stack):
            raise PlanError(f"--stack {self.stack!r}: use up to 32 letters, digits and -, starting with a letter")
        if self.size not in ("one", "fleet"):
            raise PlanError(f"--size {self.size!r}: must be one or fleet")
        known = cloudformation.load()["Parameters"]
        for name, value in self.options.items():
            if name not in known:
                raise PlanError(f"--set {name}: the template has no such parameter; it has {', '.join(known)}")
            _check(name, value, known[name])
        if self.image is not None:
            _check("ImageUri", self.image, known["ImageUri"])
        if self.size == "fleet":
            for name, why in (
                ("CertificateArn", "photos of people must be encrypted in transit"),
                ("ClientCidr", "the allowed client addresses; 0.0.0.0/0 is everybody"),
            ):
                if not self.options.get(name):
                    raise PlanError(f"--size fleet needs {name}: {why}")
            least, most = (
                int(self.options.get(name, known[name]["Default"])) for name in ("MinInstances", "MaxInstances")
            )
            if most <= least:
                raise PlanError(
                    f"MaxInstances={most} must be above MinInstances={least}: an update starts one more first"
                )
        _version(self.mar)

    @property
    def arm64(self) -> bool:
        """Whether the instances are Graviton (arm64): types with a `g` after the generation."""
        kind = self.options.get("InstanceType", cloudformation.load()["Parameters"]["InstanceType"]["Default"])
        return re.match(r"[a-z]+[0-9]+g", kind) is not None

    @property
    def platform(self) -> str:
        """Docker's platform name for the image."""
        return "linux/arm64" if self.arm64 else "linux/amd64"

    @property
    def release_key(self) -> str:
        """The .mar's key in the release bucket, derived from its content."""
        digest = hashlib.sha256(self.mar.read_bytes()).hexdigest()
        return f"{self.stack}/{_version(self.mar)}-{digest[:12]}.mar"

    def release_bucket(self, account: str) -> str:
        """The account's bucket for released .mar files in this region; not the archive's."""
        return f"humanseg-releases-{account}-{self.region}"

    def parameters(
        self,
        *,
        account: str = "ACCOUNT",
        image: str | None = None,
        vpc: str = LOOKED_UP,
        subnets: str = LOOKED_UP,
    ) -> dict[str, str]:
        """The template's parameters; omitted ones keep the template's default."""
        registry = f"{account}.dkr.ecr.{self.region}.amazonaws.com"
        return {
            "Size": self.size,
            "VpcId": vpc,
            "SubnetIds": subnets,
            "ImageUri": image or self.image or f"{registry}/{REPOSITORY}@sha256:(of the image that is built)",
            "ImageRepository": REPOSITORY,
            "ReleaseBucket": self.release_bucket(account),
            "ReleaseKey": self.release_key,
            **({"MachineImage": ARM64_IMAGE} if self.arm64 else {}),
            **self.options,
        }

    def steps(self) -> list[str]:
        """All steps, in order, as text."""
        bucket = self.release_bucket("ACCOUNT")
        image = (
            [f"use the image {self.image}"]
            if self.image
            else [
                f"create the ECR repository {REPOSITORY} if it is missing (tags immutable, scanned on push)",
                f"docker build --platform {self.platform} . and push it",
            ]
        )
        return [
            *image,
            f"create the bucket {bucket} for releases if it is missing (private, encrypted, versioned)",
            f"upload {self.mar} ({self.mar.stat().st_size / 1e6:.1f} MB) to s3://{bucket}/{self.release_key}",
            f"create a change set for the stack {self.stack} in {self.region}, and show it",
            "ask for confirmation, execute it, and follow its events",
        ]

    def resources(self) -> list[tuple[str, str]]:
        """(logical name, type) of every resource in a stack of this size."""
        made = cloudformation.resources(cloudformation.load(), self.size)
        return [(name, item["Type"]) for name, item in made.items()]


def _check(name: str, value: str, rule: dict[str, Any]) -> None:
    if "AllowedValues" in rule and value not in [str(item) for item in rule["AllowedValues"]]:
        raise PlanError(f"{name}={value!r}: must be one of {', '.join(str(item) for item in rule['AllowedValues'])}")
    if "AllowedPattern" in rule and not re.fullmatch(rule["AllowedPattern"], value):
        hint = rule.get("ConstraintDescription") or rule.get("Description") or rule["AllowedPattern"]
        raise PlanError(f"{name}={value!r} is invalid: {hint}")
    if rule["Type"] == "Number":
        low, high = rule.get("MinValue", 0), rule.get("MaxValue", 10**9)
        if not value.isdigit() or not low <= int(value) <= high:
            raise PlanError(f"{name}={value!r}: must be a whole number from {low} to {high}")


def _version(mar: Path) -> str:
    try:
        return read_manifest(mar).version
    except MarError as error:
        raise PlanError(f"{error}; build one with ./build_mar.sh") from None
