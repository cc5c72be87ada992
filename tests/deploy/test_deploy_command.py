"""`humanseg deploy`: shows first, then does, against moto's server.

moto's CloudFormation says CREATE_COMPLETE while it leaves out the bucket's policy, lifecycle, versioning and public
access block, the scaling policies and the alarms. So what exists is asked of each service's own API here, and the
rest is asserted on the template (test_stack_template.py).
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from humanseg.deploy.aws import template
from humanseg.deploy.aws.plan import Plan
from tests.deploy import moto_server

pytestmark = pytest.mark.slow  # against a stand-in for CloudFormation, which takes its time

ROOT = Path(__file__).parents[2]
IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/humanseg@sha256:" + "a" * 64
CERTIFICATE = "arn:aws:acm:eu-central-1:123456789012:certificate/11111111-2222-3333-4444-555555555555"


@pytest.fixture(scope="module")
def moto() -> Iterator[moto_server.Moto]:
    running = moto_server.start()
    yield running
    running.stop()


@pytest.fixture
def mar(tmp_path: Path) -> Path:
    path = tmp_path / "model.mar"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": {"modelName": "m", "modelVersion": "2.1"}}))
    return path


def humanseg(*arguments: object, answer: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    command = [sys.executable, "-m", "humanseg.cli.main", "deploy", *(str(each) for each in arguments)]
    variables = {**clean, "AWS_EC2_METADATA_DISABLED": "true", "COLUMNS": "200", **environment}
    return subprocess.run(command, input=answer, capture_output=True, text=True, timeout=120, cwd=ROOT, env=variables)


def test_a_dry_run_shows_everything_and_needs_no_account(mar: Path) -> None:
    done = humanseg("aws", "--stack", "photos", "--mar", mar, "--region", "eu-central-1", "--dry-run")
    assert done.returncode == 0, done.stderr
    for said in ("change set", "docker build", "humanseg-releases-ACCOUNT-eu-central-1", "photos/2.1-"):
        assert said in done.stdout
    for resource in ("ArchiveBucket", "LaunchTemplate", "AWS::EC2::Instance"):
        assert resource in done.stdout
    assert "LoadBalancer" not in done.stdout


@pytest.mark.parametrize(
    ("instance", "platform", "image"),
    [
        ("c7i.large", "linux/amd64", None),
        ("c7g.large", "linux/arm64", "arm64"),
        ("c8g.xlarge", "linux/arm64", "arm64"),
    ],
)
def test_graviton_gets_its_machine_image_and_its_container(
    mar: Path, instance: str, platform: str, image: str | None
) -> None:
    plan = Plan("photos", "one", "eu-central-1", mar, options={"InstanceType": instance})
    assert any(f"docker build --platform {platform} ." in step for step in plan.steps())
    machine = plan.parameters().get("MachineImage")
    assert machine == (image and f"/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{image}")
    own = Plan("photos", "one", "eu-central-1", mar, options={"InstanceType": instance, "MachineImage": "/mine"})
    assert own.parameters()["MachineImage"] == "/mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--size", "fleet"), "needs CertificateArn"),
        (("--size", "fleet", "--certificate", CERTIFICATE), "needs ClientCidr"),
        (("--set", "InstanceType=t2.nano"), "InstanceType='t2.nano'"),
        (("--set", "Colour=red"), "no such parameter"),
        (("--image", "humanseg:latest"), "sha256:DIGEST"),
        (("--mar", "README.md"), "is not a model archive"),
        (("--size", "huge"), "must be one or fleet"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(mar: Path, arguments: tuple[str, ...], said: str) -> None:
    given = ("--mar", mar, *arguments)
    done = humanseg("aws", "--stack", "photos", "--region", "eu-central-1", "--dry-run", *given)
    assert done.returncode != 0
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_without_an_account_it_says_so_in_one_line(mar: Path) -> None:
    done = humanseg("aws", "--stack", "photos", "--mar", mar, "--region", "eu-central-1", "--image", IMAGE, "--yes")
    assert done.returncode != 0
    assert "credentials" in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_happens_before_the_changes_were_shown_and_agreed_to(moto: moto_server.Moto, mar: Path) -> None:
    given = ("aws", "--stack", "declined", "--mar", mar, "--image", IMAGE)
    done = humanseg(*given, answer="n\n", **moto.environment)
    assert done.returncode != 0
    assert "ArchiveBucket" in done.stdout
    assert "nothing was changed" in done.stderr
    buckets = [each["Name"] for each in moto.client("s3").list_buckets()["Buckets"]]
    assert not [name for name in buckets if name.startswith("declined")]


def made(moto: moto_server.Moto, stack: str) -> dict[str, str]:
    """Physical ids by logical names, of the types that moto makes."""
    found = moto.client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"]
    return {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in found if "PhysicalResourceId" in each}


def test_one_instance_from_nothing_to_destroyed_but_for_the_bucket(moto: moto_server.Moto, mar: Path) -> None:
    given = ("aws", "--stack", "photos", "--mar", mar, "--image", IMAGE, "--yes")
    done = humanseg(*given, **moto.environment)
    assert done.returncode == 0, done.stderr

    ec2, s3, iam = moto.client("ec2"), moto.client("s3"), moto.client("iam")
    ids = made(moto, "photos")
    (instance,) = ec2.describe_instances(InstanceIds=[ids["Instance"]])["Reservations"][0]["Instances"]
    assert instance["State"]["Name"] == "running"
    (group,) = ec2.describe_security_groups(GroupIds=[ids["InstanceSecurityGroup"]])["SecurityGroups"]
    assert group["IpPermissions"] == []
    (version,) = ec2.describe_launch_template_versions(LaunchTemplateId=ids["LaunchTemplate"])[
        "LaunchTemplateVersions"
    ]
    data = version["LaunchTemplateData"]
    assert data["InstanceType"] == "c7i.xlarge"
    assert data["MetadataOptions"]["HttpTokens"] == "required"
    assert data["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True
    script = base64.b64decode(data["UserData"]).decode()
    assert f"ARCHIVE_BUCKET={ids['ArchiveBucket']}" in script
    assert "${" not in script  # every parameter was filled in
    names = iam.list_role_policies(RoleName=ids["Role"])["PolicyNames"]
    assert "put-into-the-archive" in names
    assert "say-when-drained" not in names  # there is no hook to complete

    (release,) = s3.list_objects_v2(Bucket="humanseg-releases-123456789012-eu-central-1", Prefix="photos/")[
        "Contents"
    ]
    assert release["Key"].startswith("photos/2.1-")
    assert release["Size"] == mar.stat().st_size
    read = iam.get_role_policy(RoleName=ids["Role"], PolicyName="read-the-release")["PolicyDocument"]
    assert f"humanseg-releases-123456789012-eu-central-1/{release['Key']}" in json.dumps(read)

    s3.put_object(Bucket=ids["ArchiveBucket"], Key="humanseg/v2/kept", Body=b"a photo")
    done = humanseg("destroy", "--stack", "photos", "--yes", **moto.environment)
    assert done.returncode == 0, done.stderr
    assert ids["ArchiveBucket"] in done.stdout
    assert s3.get_object(Bucket=ids["ArchiveBucket"], Key="humanseg/v2/kept")["Body"].read() == b"a photo"
    gone = humanseg("destroy", "--stack", "photos", "--yes", **moto.environment)
    assert "no stack named photos" in gone.stderr


def test_a_fleet_and_its_update(moto: moto_server.Moto, mar: Path) -> None:
    certificate = moto.client("acm").request_certificate(DomainName="photos.example.com")["CertificateArn"]
    given = ("aws", "--stack", "crowd", "--size", "fleet", "--mar", mar, "--image", IMAGE, "--yes")
    given += ("--certificate", certificate, "--clients", "203.0.113.0/24")
    done = humanseg(*given, **moto.environment)
    assert done.returncode == 0, done.stderr

    ids = made(moto, "crowd")
    scaling, elb, ec2 = moto.client("autoscaling"), moto.client("elbv2"), moto.client("ec2")
    (group,) = scaling.describe_auto_scaling_groups(AutoScalingGroupNames=["crowd"])["AutoScalingGroups"]
    assert (group["MinSize"], group["MaxSize"], len(group["Instances"])) == (2, 6, 2)
    (target,) = elb.describe_target_groups(TargetGroupArns=group["TargetGroupARNs"])["TargetGroups"]
    assert (target["Port"], target["HealthCheckPort"], target["HealthCheckPath"]) == (
        8080,
        "8088",
        "/healthz",
    )
    listeners = elb.describe_listeners(LoadBalancerArn=ids["LoadBalancer"])["Listeners"]
    assert sorted((each["Protocol"], each["Port"]) for each in listeners) == [("HTTP", 80), ("HTTPS", 443)]

    def into(name: str) -> list[dict[str, Any]]:
        found = ec2.describe_security_groups(GroupIds=[ids[name]])["SecurityGroups"]
        return sorted(found[0]["IpPermissions"], key=lambda rule: rule["FromPort"])

    assert [rule["FromPort"] for rule in into("InstanceSecurityGroup")] == [8080, 8088]
    assert all(rule["UserIdGroupPairs"] and not rule["IpRanges"] for rule in into("InstanceSecurityGroup"))
    assert [rule["FromPort"] for rule in into("LoadBalancerSecurityGroup")] == [80, 443]
    assert "say-when-drained" in moto.client("iam").list_role_policies(RoleName=ids["Role"])["PolicyNames"]

    again = humanseg(*given, **moto.environment)
    assert again.returncode == 0, again.stderr
    assert "crowd is up to date." in again.stdout


def test_the_outputs_say_where_to_send_photos(moto: moto_server.Moto, mar: Path) -> None:
    # Straight through the API: moto leaves the outputs of a change set's stack empty.
    network = moto.client("ec2").describe_subnets()["Subnets"]
    plan = Plan("shown", "one", moto_server.REGION, mar, IMAGE)
    wanted = plan.parameters(account="123456789012", vpc=network[0]["VpcId"], subnets=network[0]["SubnetId"])
    moto.client("cloudformation").create_stack(
        StackName="shown",
        TemplateBody=template.STACK.read_text(),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in wanted.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    shown = moto.client("cloudformation").describe_stacks(StackName="shown")["Stacks"][0]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in shown["Outputs"]}
    assert shown["StackStatus"] == "CREATE_COMPLETE"
    assert outputs["Url"] == "http://127.0.0.1:8080/predictions/human_segmentation"
    assert made(moto, "shown")["Instance"] in outputs["Tunnel"]
    assert outputs["Bucket"] == made(moto, "shown")["ArchiveBucket"]
