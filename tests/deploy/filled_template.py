"""The template's own policies, its intrinsic functions filled in as CloudFormation would."""

from __future__ import annotations

from typing import Any

from humanseg.deploy.aws import template as cloudformation

VALUES = {
    "AWS::Partition": "aws",
    "AWS::Region": "eu-central-1",
    "AWS::AccountId": "123456789012",
    "AWS::StackName": "photos",
    "ArchiveBucket": "photos-archive",
    "ArchiveBucket.Arn": "arn:aws:s3:::photos-archive",
    "ArchivePrefix": "humanseg",
    "ReleaseBucket": "photos-releases",
    "ReleaseKey": "photos/1.0-0123456789ab.mar",
    "ImageRepository": "humanseg",
    "KmsKeyArn": "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000",
}


def filled(value: Any) -> Any:
    """`value` with every Ref, GetAtt, Sub and If as plain text."""
    if isinstance(value, list):
        return [filled(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"Ref"}:
        return VALUES[value["Ref"]]
    if set(value) == {"Fn::If"}:
        return filled(value["Fn::If"][1])  # as with a KMS key
    if set(value) == {"Fn::GetAtt"}:
        return VALUES[".".join(value["Fn::GetAtt"])]
    if set(value) == {"Fn::Sub"}:
        text = value["Fn::Sub"]
        for name, meant in VALUES.items():
            text = text.replace("${" + name + "}", meant)
        assert "${" not in text
        return text
    return {key: filled(item) for key, item in value.items()}


def trust() -> dict[str, Any]:
    """Who may take the role."""
    return dict(filled(cloudformation.load()["Resources"]["Role"]["Properties"]["AssumeRolePolicyDocument"]))


def role_policies() -> dict[str, dict[str, Any]]:
    """Policy documents of the instance role by name, those under a condition included."""
    resources = cloudformation.load()["Resources"]
    policies = list(resources["Role"]["Properties"]["Policies"])
    policies += [resource["Properties"] for resource in resources.values() if resource["Type"] == "AWS::IAM::Policy"]
    return {policy["PolicyName"]: filled(policy["PolicyDocument"]) for policy in policies}


def bucket_policy() -> dict[str, Any]:
    """The archive bucket's policy."""
    return dict(filled(cloudformation.load()["Resources"]["ArchiveBucketPolicy"]["Properties"]["PolicyDocument"]))
