"""Prerequisites of a stack: a network, the released .mar in a bucket, the image in ECR."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from humanseg.deploy.aws.plan import REPOSITORY, PlanError

ROOT = Path(__file__).resolve().parents[3]
Say = Callable[[str], None]


def default_network(ec2: Any) -> tuple[str, str]:
    """The account's default VPC and its subnets in the template's form: (id, "id,id,...")."""
    vpcs = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not vpcs:
        raise PlanError(
            "this region has no default VPC: create it with `aws ec2 create-default-vpc`, "
            "or use --set VpcId=... --set SubnetIds=..."
        )
    vpc = vpcs[0]["VpcId"]
    subnets = ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]
    return vpc, ",".join(sorted(subnet["SubnetId"] for subnet in subnets))


def ensure_release_bucket(s3: Any, name: str, region: str) -> None:
    """Create the private, encrypted, versioned bucket for releases, unless it exists."""
    if name not in [owned["Name"] for owned in s3.list_buckets()["Buckets"]]:
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3.create_bucket(Bucket=name, **place)
    block = {
        "BlockPublicAcls": True,
        "IgnorePublicAcls": True,
        "BlockPublicPolicy": True,
        "RestrictPublicBuckets": True,
    }
    s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=block)
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": [rule]})
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})


def upload_mar(s3: Any, mar: Path, bucket: str, key: str) -> None:
    """Upload the .mar under its key; S3 verifies its checksum."""
    s3.upload_file(str(mar), bucket, key, ExtraArgs={"ChecksumAlgorithm": "SHA256"})


def ensure_repository(ecr: Any) -> str:
    """The ECR repository's URI; created if it is missing."""
    try:
        return str(ecr.describe_repositories(repositoryNames=[REPOSITORY])["repositories"][0]["repositoryUri"])
    except ecr.exceptions.RepositoryNotFoundException:
        made = ecr.create_repository(
            repositoryName=REPOSITORY,
            imageTagMutability="IMMUTABLE",
            imageScanningConfiguration={"scanOnPush": True},
        )
        return str(made["repository"]["repositoryUri"])


def build_and_push(ecr: Any, tag: str, say: Say, platform: str = "linux/amd64") -> str:
    """Build the checkout's image for `platform`, push it as `tag`, and return its URI by digest."""
    repository = ensure_repository(ecr)
    name = f"{repository}:{tag}"
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    user, _, password = base64.b64decode(token).decode().partition(":")
    registry = repository.split("/")[0]
    say(f"docker build → {name}")
    _docker("build", "--platform", platform, "--tag", name, str(ROOT))
    # The password is passed by standard input: every user of the machine can read command lines.
    _docker("login", "--username", user, "--password-stdin", registry, stdin=password)
    try:
        say(f"docker push {name}")
        _docker("push", name)
    finally:
        _docker("logout", registry)
    found = ecr.describe_images(repositoryName=REPOSITORY, imageIds=[{"imageTag": tag}])["imageDetails"]
    return f"{repository}@{found[0]['imageDigest']}"


def _docker(*arguments: str, stdin: str | None = None) -> None:
    try:
        completed = subprocess.run(["docker", *arguments], input=stdin, text=True, check=False)
    except FileNotFoundError:
        raise PlanError("docker is not installed; install it, or use an existing image with --image") from None
    if completed.returncode:
        raise PlanError(f"docker {arguments[0]} failed with exit status {completed.returncode}; see its output above")
