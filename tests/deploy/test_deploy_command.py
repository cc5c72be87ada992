"""`humanseg deploy`: shows first, then does, against moto's server.

moto's CloudFormation says CREATE_COMPLETE while it leaves out the bucket's policy, lifecycle, versioning and public
access block, the scaling policies and the alarms. So what exists is asked of each service's own API here, and the
rest is asserted on the template (test_stack_template.py).
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from humanseg.deploy.aws import template
from humanseg.deploy.aws.plan import Plan, PlanError
from tests.deploy import lint_tools, moto_server

pytestmark = pytest.mark.slow  # against a stand-in for CloudFormation, which takes its time

ROOT = Path(__file__).parents[2]
IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/humanseg@sha256:" + "a" * 64
CERTIFICATE = "arn:aws:acm:eu-central-1:123456789012:certificate/11111111-2222-3333-4444-555555555555"
RELEASE = ("ReleaseBucket=releases", "ReleaseKey=photos/2.1.mar")


@pytest.fixture(scope="module")
def moto() -> Iterator[moto_server.Moto]:
    with moto_server.running() as moto:
        yield moto


@pytest.fixture(scope="module")
def required(moto: moto_server.Moto) -> tuple[str, ...]:
    """The parameters without a default."""
    subnets = moto.client("ec2").describe_subnets()["Subnets"]
    network = f"VpcId={subnets[0]['VpcId']}", f"SubnetIds={subnets[0]['SubnetId']},{subnets[1]['SubnetId']}"
    return (f"ImageUri={IMAGE}", *RELEASE, *network)


def deploy(*arguments: object, answer: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    command = [sys.executable, "-m", "humanseg.cli.main", "deploy", *(str(argument) for argument in arguments)]
    variables = {**clean, "AWS_EC2_METADATA_DISABLED": "true", "COLUMNS": "200", **environment}
    return subprocess.run(command, input=answer, capture_output=True, text=True, timeout=120, cwd=ROOT, env=variables)


def test_a_dry_run_shows_everything_and_needs_no_account() -> None:
    result = deploy("photos", "InstanceType=c7i.large", "--dry-run")
    assert result.returncode == 0, result.stderr
    assert re.search(r"ImageUri +\(required\)", result.stdout)
    assert re.search(r"InstanceType +c7i\.large", result.stdout)
    assert re.search(r"RetentionDays +365", result.stdout)
    for resource in ("ArchiveBucket", "LaunchTemplate", "AWS::EC2::Instance"):
        assert resource in result.stdout
    assert "LoadBalancer" not in result.stdout


@pytest.mark.parametrize(
    ("instance", "architecture"), [("c7i.large", "x86_64"), ("c7g.large", "arm64"), ("c8g.xlarge", "arm64")]
)
def test_the_machine_image_follows_the_instance_type(instance: str, architecture: str) -> None:
    image = Plan("photos", {"InstanceType": instance}).parameters()["MachineImage"]
    assert image == f"/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{architecture}"
    own = Plan("photos", {"InstanceType": instance, "MachineImage": "/mine"})
    assert own.parameters()["MachineImage"] == "/mine"
    assert "MachineImage" not in Plan("photos", {"RetentionDays": "30"}).parameters()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (("InstanceType=t2.nano",), "InstanceType='t2.nano'"),
        (("RetentionDays=0",), "a whole number from 1 to 3650"),
        (("Colour=red",), "no such parameter"),
        (("Colour",), "is not NAME=VALUE"),
        (("ImageUri=humanseg:latest",), "sha256:DIGEST"),
        (("Size=huge",), "must be one of one, fleet"),
    ],
)
def test_an_invalid_parameter_is_rejected_in_one_line(parameters: tuple[str, ...], message: str) -> None:
    result = deploy("photos", *parameters, "--dry-run")
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_new_stack_names_every_missing_parameter() -> None:
    given = {
        "ImageUri": IMAGE,
        **dict(pair.split("=") for pair in RELEASE),
        "VpcId": "vpc-1",
        "SubnetIds": "subnet-1",
    }
    Plan("photos", given).check_new_stack()
    with pytest.raises(PlanError, match="ReleaseKey: Key of the released") as error:
        Plan("photos", {"ImageUri": IMAGE}).check_new_stack()
    assert "ImageUri" not in str(error.value)
    fleet = {**given, "Size": "fleet"}
    with pytest.raises(PlanError, match=r"(?s)CertificateArn.*ClientCidr"):
        Plan("photos", fleet).check_new_stack()
    fleet |= {"CertificateArn": CERTIFICATE, "ClientCidr": "203.0.113.0/24"}
    Plan("photos", fleet).check_new_stack()
    with pytest.raises(PlanError, match="MaxInstances=2 must be above MinInstances=2"):
        Plan("photos", {**fleet, "MaxInstances": "2"}).check_new_stack()


def test_without_an_account_it_says_so_in_one_line() -> None:
    result = deploy("photos", f"ImageUri={IMAGE}", "--region", "eu-central-1", "--yes")
    assert result.returncode != 0
    assert "credentials" in result.stderr
    assert "Traceback" not in result.stderr


def test_nothing_happens_before_the_changes_were_shown_and_agreed_to(
    moto: moto_server.Moto, required: tuple[str, ...]
) -> None:
    result = deploy("declined", *required, answer="n\n", **moto.environment)
    assert result.returncode != 0
    assert "ArchiveBucket" in result.stdout
    assert "nothing was changed" in result.stderr
    buckets = [bucket["Name"] for bucket in moto.client("s3").list_buckets()["Buckets"]]
    assert not [name for name in buckets if name.startswith("declined")]


def physical_ids(moto: moto_server.Moto, stack: str) -> dict[str, str]:
    """Physical ids by logical names, of the types that moto makes."""
    resources = moto.client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"]
    return {
        item["LogicalResourceId"]: item["PhysicalResourceId"] for item in resources if "PhysicalResourceId" in item
    }


def readme_block() -> str:
    """The block of deploy/aws/README.md that uploads the model and deploys."""
    text = (ROOT / "deploy" / "aws" / "README.md").read_text()
    (block,) = re.findall(r"<!-- \S+test_deploy_command\.py runs this block -->\n```\n(.*?)```", text, re.DOTALL)
    return block


def test_the_readme_deploys_one_instance_and_deletes_all_but_the_bucket(
    moto: moto_server.Moto, tmp_path: Path
) -> None:
    tools = lint_tools.folder(Path(__file__).with_name("requirements-aws.txt"))
    for folder in ("model_store", ".venv"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        **moto.environment,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "AWS_REGION": moto_server.REGION,
        "IMAGE": IMAGE,
    }

    def bash(script: str) -> str:
        command = ["bash", "-euo", "pipefail", "-c", script]
        result = subprocess.run(
            command, input="y\n", capture_output=True, text=True, timeout=300, cwd=tmp_path, env=environment
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert "Add" in bash(readme_block())

    ec2, s3, iam = moto.client("ec2"), moto.client("s3"), moto.client("iam")
    ids = physical_ids(moto, "photos")
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

    (release,) = s3.list_objects_v2(Bucket="humanseg-releases-123456789012-eu-central-1")["Contents"]
    assert release["Key"] == "photos/1.0.mar"
    assert release["Size"] == (ROOT / "model_store" / "human_segmentation.mar").stat().st_size
    read = iam.get_role_policy(RoleName=ids["Role"], PolicyName="read-the-release")["PolicyDocument"]
    assert f"humanseg-releases-123456789012-eu-central-1/{release['Key']}" in json.dumps(read)

    s3.put_object(Bucket=ids["ArchiveBucket"], Key="humanseg/v2/kept", Body=b"a photo")
    bash(
        "aws cloudformation delete-stack --stack-name photos && "
        "aws cloudformation wait stack-delete-complete --stack-name photos"
    )
    assert s3.get_object(Bucket=ids["ArchiveBucket"], Key="humanseg/v2/kept")["Body"].read() == b"a photo"
    assert ec2.describe_instances(InstanceIds=[ids["Instance"]])["Reservations"][0]["Instances"][0]["State"][
        "Name"
    ] in ("shutting-down", "terminated")


def test_a_fleet_and_its_update(moto: moto_server.Moto, required: tuple[str, ...]) -> None:
    certificate = moto.client("acm").request_certificate(DomainName="photos.example.com")["CertificateArn"]
    fleet = ("Size=fleet", f"CertificateArn={certificate}", "ClientCidr=203.0.113.0/24")
    result = deploy("crowd", *required, *fleet, "--yes", **moto.environment)
    assert result.returncode == 0, result.stderr

    ids = physical_ids(moto, "crowd")
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
    assert sorted((listener["Protocol"], listener["Port"]) for listener in listeners) == [
        ("HTTP", 80),
        ("HTTPS", 443),
    ]

    def into(name: str) -> list[dict[str, Any]]:
        groups = ec2.describe_security_groups(GroupIds=[ids[name]])["SecurityGroups"]
        return sorted(groups[0]["IpPermissions"], key=lambda rule: rule["FromPort"])

    assert [rule["FromPort"] for rule in into("InstanceSecurityGroup")] == [8080, 8088]
    assert all(rule["UserIdGroupPairs"] and not rule["IpRanges"] for rule in into("InstanceSecurityGroup"))
    assert [rule["FromPort"] for rule in into("LoadBalancerSecurityGroup")] == [80, 443]
    assert "say-when-drained" in moto.client("iam").list_role_policies(RoleName=ids["Role"])["PolicyNames"]

    unchanged = deploy("crowd", "ReleaseKey=photos/2.1.mar", **moto.environment)
    assert unchanged.returncode == 0, unchanged.stderr
    assert "crowd is up to date." in unchanged.stdout

    result = deploy("crowd", "MaxInstances=8", "--yes", **moto.environment)
    assert result.returncode == 0, result.stderr
    cloudformation = moto.client("cloudformation")
    change_sets = cloudformation.list_change_sets(StackName="crowd")["Summaries"]
    last = cloudformation.describe_change_set(StackName="crowd", ChangeSetName=change_sets[-1]["ChangeSetName"])
    parameters = {item["ParameterKey"]: item["ParameterValue"] for item in last["Parameters"]}
    assert parameters["MaxInstances"] == "8"
    assert (parameters["Size"], parameters["CertificateArn"]) == ("fleet", certificate)  # kept


def test_the_outputs_say_where_to_send_photos(moto: moto_server.Moto, required: tuple[str, ...]) -> None:
    # Straight through the API: moto leaves the outputs of a change set's stack empty.
    parameters = dict(pair.split("=", 1) for pair in required)
    moto.client("cloudformation").create_stack(
        StackName="shown",
        TemplateBody=template.STACK.read_text(),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    shown = moto.client("cloudformation").describe_stacks(StackName="shown")["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in shown["Outputs"]}
    assert shown["StackStatus"] == "CREATE_COMPLETE"
    assert outputs["Url"] == "http://127.0.0.1:8080/predictions/human_segmentation"
    assert physical_ids(moto, "shown")["Instance"] in outputs["Tunnel"]
    assert outputs["Bucket"] == physical_ids(moto, "shown")["ArchiveBucket"]
