"""What the CloudFormation template promises, property by property: moto and linters do not look at these."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from humanseg.deploy.aws import template as cloudformation
from humanseg.deploy.container import health

TEMPLATE = cloudformation.load()
RESOURCES: dict[str, dict[str, Any]] = TEMPLATE["Resources"]


def properties(name: str) -> dict[str, Any]:
    return RESOURCES[name]["Properties"]


def policies() -> dict[str, list[dict[str, Any]]]:
    """Statements of the instance role by policy name, those under a condition included."""
    documents = list(properties("Role")["Policies"])
    for resource in RESOURCES.values():
        if resource["Type"] == "AWS::IAM::Policy":
            assert resource["Properties"]["Roles"] == [{"Ref": "Role"}]
            documents.append(resource["Properties"])
    return {document["PolicyName"]: document["PolicyDocument"]["Statement"] for document in documents}


def actions(statement: dict[str, Any]) -> list[str]:
    return [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]


def user_data() -> str:
    return properties("LaunchTemplate")["LaunchTemplateData"]["UserData"]["Fn::Base64"]["Fn::Sub"][0]


# ---------------------------------------------------------------- sizes


def test_the_two_sizes_share_bucket_role_and_launch_template() -> None:
    single, fleet = (set(cloudformation.resources(TEMPLATE, size)) for size in ("one", "fleet"))
    assert {"ArchiveBucket", "ArchiveBucketPolicy", "Role", "LaunchTemplate", "LogGroup"} <= single & fleet
    assert single - fleet == {"Instance"}
    assert {"LoadBalancer", "TargetGroup", "HttpsListener", "FleetGroup"} <= fleet - single
    version = {"Fn::GetAtt": ["LaunchTemplate", "LatestVersionNumber"]}
    assert properties("Instance")["LaunchTemplate"] == {
        "LaunchTemplateId": {"Ref": "LaunchTemplate"},
        "Version": version,
    }
    group = properties("FleetGroup")["MixedInstancesPolicy"]["LaunchTemplate"]["LaunchTemplateSpecification"]
    assert group == {"LaunchTemplateId": {"Ref": "LaunchTemplate"}, "Version": version}


def test_a_fleet_without_a_certificate_is_refused() -> None:
    rule = TEMPLATE["Rules"]["FleetNeedsCertificate"]
    assert rule["RuleCondition"] == {"Fn::Equals": [{"Ref": "Size"}, "fleet"]}
    assert "CertificateArn" in json.dumps(rule["Assertions"])
    listener = properties("HttpsListener")
    assert listener["Protocol"] == "HTTPS"
    assert listener["Certificates"] == [{"CertificateArn": {"Ref": "CertificateArn"}}]
    assert "TLS13" in listener["SslPolicy"]
    redirect = properties("RedirectListener")["DefaultActions"]
    assert [action["Type"] for action in redirect] == ["redirect"]


# ---------------------------------------------------------------- the machine


def test_the_machine_is_the_newest_amazon_linux_of_a_chosen_type() -> None:
    data = properties("LaunchTemplate")["LaunchTemplateData"]
    image = TEMPLATE["Parameters"]["MachineImage"]
    assert data["ImageId"] == {"Ref": "MachineImage"}
    assert image["Type"] == "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>"
    assert image["Default"].startswith("/aws/service/ami-amazon-linux-latest/al2023")
    assert data["InstanceType"] == {"Ref": "InstanceType"}
    assert TEMPLATE["Parameters"]["InstanceType"]["Default"] == "c7i.xlarge"  # 4 vCPU, 8 GiB


def test_instance_metadata_needs_a_token_and_reaches_into_the_container() -> None:
    options = properties("LaunchTemplate")["LaunchTemplateData"]["MetadataOptions"]
    assert options == {"HttpEndpoint": "enabled", "HttpTokens": "required", "HttpPutResponseHopLimit": 2}


def test_the_disk_is_encrypted_gp3() -> None:
    for device in properties("LaunchTemplate")["LaunchTemplateData"]["BlockDeviceMappings"]:
        assert device["Ebs"]["Encrypted"] is True
        assert device["Ebs"]["VolumeType"] == "gp3"


def test_nobody_logs_in_with_ssh() -> None:
    assert "KeyName" not in json.dumps(RESOURCES)
    ports = [(rule.get("FromPort"), rule.get("ToPort")) for rule in ingress()]
    assert all(not low <= 22 <= high for low, high in ports)
    assert "session-manager" in policies()


def ingress() -> list[dict[str, Any]]:
    """Every ingress rule of every security group, with the group's name under 'group'."""
    rules = []
    for name, resource in RESOURCES.items():
        if resource["Type"] == "AWS::EC2::SecurityGroup":
            rules += [{**rule, "group": name} for rule in resource["Properties"].get("SecurityGroupIngress", [])]
        if resource["Type"] == "AWS::EC2::SecurityGroupIngress":
            rules.append({**resource["Properties"], "group": resource["Properties"]["GroupId"]["Ref"]})
    return rules


def test_only_the_load_balancer_reaches_the_instances_and_nobody_the_management_or_metrics_port() -> None:
    to_instances = [rule for rule in ingress() if rule["group"] == "InstanceSecurityGroup"]
    assert sorted((rule["FromPort"], rule["ToPort"]) for rule in to_instances) == [(8080, 8080), (8088, 8088)]
    for rule in to_instances:
        assert rule["SourceSecurityGroupId"] == {"Ref": "LoadBalancerSecurityGroup"}
        assert "CidrIp" not in rule
    for rule in ingress():
        assert rule["IpProtocol"] == "tcp"
        assert not {8081, 8082} & set(range(rule["FromPort"], rule["ToPort"] + 1))
    # One instance: those two rules are the fleet's, so that no port at all is open.
    single = cloudformation.resources(TEMPLATE, "one")
    assert not [name for name, resource in single.items() if resource["Type"] == "AWS::EC2::SecurityGroupIngress"]
    assert "SecurityGroupIngress" not in properties("InstanceSecurityGroup")
    assert "8081" not in user_data()
    assert "8082" not in user_data()


def test_a_firewall_and_deletion_protection_come_when_asked_for() -> None:
    assert TEMPLATE["Parameters"]["WafRequests"]["Default"] == 0
    assert TEMPLATE["Parameters"]["DeletionProtection"]["Default"] == "false"
    firewall = TEMPLATE["Resources"]["Firewall"]
    assert firewall["Condition"] == TEMPLATE["Resources"]["FirewallOfLoadBalancer"]["Condition"] == "HasFirewall"
    (rule,) = firewall["Properties"]["Rules"]
    assert rule["Action"] == {"Block": {}}
    assert rule["Statement"]["RateBasedStatement"] == {"AggregateKeyType": "IP", "Limit": {"Ref": "WafRequests"}}
    attributes = {
        attribute["Key"]: attribute["Value"] for attribute in properties("LoadBalancer")["LoadBalancerAttributes"]
    }
    assert attributes["deletion_protection.enabled"] == {"Ref": "DeletionProtection"}


def test_only_predictions_pass_the_load_balancer_and_only_for_chosen_clients() -> None:
    assert [action["Type"] for action in properties("HttpsListener")["DefaultActions"]] == ["fixed-response"]
    rule = properties("PredictionsRule")
    assert rule["Conditions"] == [{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/predictions/*"]}}]
    forms = properties("FormsRule")  # turned away before the rule that lets photos pass is looked at
    assert forms["Priority"] < rule["Priority"]
    assert forms["Conditions"][0]["HttpHeaderConfig"]["Values"] == ["application/x-www-form-urlencoded*"]
    assert forms["Actions"][0]["FixedResponseConfig"]["StatusCode"] == "415"
    assert TEMPLATE["Parameters"]["ClientCidr"]["Default"] == "127.0.0.1/32"  # nobody, until somebody is named
    for rule in properties("LoadBalancerSecurityGroup")["SecurityGroupIngress"]:
        assert rule["CidrIp"] == {"Ref": "ClientCidr"}


# ---------------------------------------------------------------- the bucket


def test_the_bucket_is_private_encrypted_versioned_and_outlives_the_stack() -> None:
    bucket = RESOURCES["ArchiveBucket"]
    assert bucket["DeletionPolicy"] == "Retain"
    assert bucket["UpdateReplacePolicy"] == "Retain"
    wanted = bucket["Properties"]
    assert set(wanted["PublicAccessBlockConfiguration"].values()) == {True}
    assert wanted["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    (encryption,) = wanted["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    condition, with_key, without = encryption["ServerSideEncryptionByDefault"]["Fn::If"]
    assert condition == "HasKmsKey"
    assert with_key == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": {"Ref": "KmsKeyArn"}}
    assert without == {"SSEAlgorithm": "AES256"}
    assert wanted["VersioningConfiguration"] == {"Status": "Enabled"}


def test_the_bucket_forgets_after_the_retention_and_cleans_up() -> None:
    rules = {rule["Id"]: rule for rule in properties("ArchiveBucket")["LifecycleConfiguration"]["Rules"]}
    assert rules["retention"]["ExpirationInDays"] == {"Ref": "RetentionDays"}
    assert rules["retention"]["Prefix"] == {"Fn::Sub": "${ArchivePrefix}/"}
    assert rules["retention"]["NoncurrentVersionExpiration"]["NoncurrentDays"] <= 30
    assert rules["aborted-uploads"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert {rule["Status"] for rule in rules.values()} == {"Enabled"}
    assert TEMPLATE["Parameters"]["RetentionDays"]["MinValue"] == 1


def test_the_bucket_is_reached_over_tls_only() -> None:
    policy = RESOURCES["ArchiveBucketPolicy"]
    assert policy["DeletionPolicy"] == "Retain"  # or the bucket would stay without it
    statement, no_other_key = policy["Properties"]["PolicyDocument"]["Statement"]
    assert (no_other_key["Effect"], no_other_key["Action"]) == ("Deny", "s3:PutObject")
    key = "s3:x-amz-server-side-encryption-aws-kms-key-id"
    assert no_other_key["Condition"]["ArnNotEquals"][key]["Fn::If"][:2] == ["HasKmsKey", {"Ref": "KmsKeyArn"}]
    assert no_other_key["Condition"]["Null"] == {key: "false"}
    assert (statement["Effect"], statement["Principal"], statement["Action"]) == ("Deny", "*", "s3:*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert {"Fn::Sub": "${ArchiveBucket.Arn}/*"} in statement["Resource"]
    assert {"Fn::GetAtt": ["ArchiveBucket", "Arn"]} in statement["Resource"]


# ---------------------------------------------------------------- the role


def test_the_role_may_do_exactly_this() -> None:
    allowed = {
        name: sorted(a for statement in statements for a in actions(statement))
        for name, statements in policies().items()
    }
    assert allowed == {
        "put-into-the-archive": ["s3:PutObject"],
        "encrypt-with-the-key": ["kms:GenerateDataKey"],
        "read-the-release": ["s3:GetObject"],
        "pull-the-image": ["ecr:BatchGetImage", "ecr:GetAuthorizationToken", "ecr:GetDownloadUrlForLayer"],
        "write-logs-and-metrics": ["logs:CreateLogStream", "logs:PutLogEvents"],
        "session-manager": [
            "ssm:UpdateInstanceInformation",
            "ssmmessages:CreateControlChannel",
            "ssmmessages:CreateDataChannel",
            "ssmmessages:OpenControlChannel",
            "ssmmessages:OpenDataChannel",
        ],
        "say-when-drained": ["autoscaling:CompleteLifecycleAction"],
    }
    assert "ManagedPolicyArns" not in properties("Role")


def test_the_role_puts_under_the_prefix_and_reads_the_one_release() -> None:
    (put,) = policies()["put-into-the-archive"]
    (kms,) = policies()["encrypt-with-the-key"]
    assert put["Resource"] == {"Fn::Sub": "${ArchiveBucket.Arn}/${ArchivePrefix}/v2/*"}
    assert put["Condition"] == {"Null": {"s3:if-none-match": "false"}}  # it writes over nothing
    assert kms["Resource"] == {"Ref": "KmsKeyArn"}
    (read,) = policies()["read-the-release"]
    assert read["Resource"] == {"Fn::Sub": "arn:${AWS::Partition}:s3:::${ReleaseBucket}/${ReleaseKey}"}


def test_no_wildcard_resource_but_for_the_actions_that_have_no_other() -> None:
    # The service authorization reference gives these no resource type: IAM takes "*" or nothing.
    without_resource = {"ecr:GetAuthorizationToken"} | set(actions(policies()["session-manager"][1]))
    for statements in policies().values():
        for statement in statements:
            assert not any("*" in action for action in actions(statement))
            if statement["Resource"] == "*":
                assert set(actions(statement)) <= without_resource


# ---------------------------------------------------------------- coming and going


def test_the_fleet_grows_with_cpu_and_with_the_queue() -> None:
    cpu = properties("ScaleOnCpu")["TargetTrackingConfiguration"]
    assert cpu["PredefinedMetricSpecification"] == {"PredefinedMetricType": "ASGAverageCPUUtilization"}
    queue = properties("ScaleOnQueue")["TargetTrackingConfiguration"]["CustomizedMetricSpecification"]
    assert (queue["Namespace"], queue["MetricName"]) == ("HumanSeg", "QueueMilliseconds")
    assert queue["Dimensions"] == [{"Name": "Stack", "Value": {"Ref": "AWS::StackName"}}]


def test_an_instance_that_leaves_is_held_until_its_spool_is_empty() -> None:
    (hook,) = properties("FleetGroup")["LifecycleHookSpecificationList"]
    assert hook["LifecycleTransition"] == "autoscaling:EC2_INSTANCE_TERMINATING"
    assert hook["HeartbeatTimeout"] == {"Ref": "DrainSeconds"}
    assert hook["DefaultResult"] == "CONTINUE"
    for line in (f"LIFECYCLE_HOOK={hook['LifecycleHookName']}", "LIFECYCLE_GROUP=${LifecycleGroup}"):
        assert line in user_data()
    (complete,) = policies()["say-when-drained"]
    assert complete["Resource"]["Fn::Sub"].endswith(":autoScalingGroupName/${AWS::StackName}")
    assert properties("FleetGroup")["AutoScalingGroupName"] == {"Ref": "AWS::StackName"}


def test_a_spot_instance_is_watched_for_its_notice_and_replaced() -> None:
    assert "WATCH_INSTANCE=aws" in user_data()
    assert properties("FleetGroup")["CapacityRebalance"] is True
    distribution = properties("FleetGroup")["MixedInstancesPolicy"]["InstancesDistribution"]
    assert distribution["OnDemandPercentageAboveBaseCapacity"] == {"Ref": "OnDemandPercent"}


def test_health_is_a_real_prediction_everywhere() -> None:
    group = properties("TargetGroup")
    assert (group["HealthCheckPort"], group["HealthCheckPath"]) == ("8088", "/healthz")
    assert group["Matcher"] == {"HttpCode": "200"}
    assert properties("FleetGroup")["HealthCheckType"] == "ELB"
    assert "HEALTH_PORT=8088" in user_data()
    assert "http://127.0.0.1:8088/healthz" in user_data()
    assert "/ping" not in json.dumps(RESOURCES)


def test_an_instance_answers_until_the_load_balancer_has_seen_that_it_leaves() -> None:
    group = properties("TargetGroup")
    notices = group["HealthCheckIntervalSeconds"] * group["UnhealthyThresholdCount"]
    leave = re.search(r"LEAVE_SECONDS=(\d+)", user_data())
    assert leave
    assert notices < int(leave[1]) < 60  # a Spot instance has 120 s for all of it
    assert group["HealthCheckTimeoutSeconds"] > health.TIMEOUT


def test_the_container_runs_without_rights() -> None:
    for flag in ("--read-only", "--cap-drop ALL", "--security-opt no-new-privileges", "--tmpfs /tmp"):
        assert flag in user_data()


def test_a_stack_with_an_instance_that_cannot_start_fails_instead_of_hanging() -> None:
    assert "cfn-signal -e $?" in user_data()
    assert RESOURCES["Instance"]["CreationPolicy"]["ResourceSignal"]["Timeout"].startswith("PT")
    assert RESOURCES["FleetGroup"]["UpdatePolicy"]["AutoScalingRollingUpdate"]["WaitOnResourceSignals"] is True


# ---------------------------------------------------------------- alarms


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("ServerErrorsAlarm", "HTTPCode_Target_5XX_Count"),
        ("LatencyAlarm", "TargetResponseTime"),
        ("UnhealthyHostsAlarm", "UnHealthyHostCount"),
        ("ArchiveBacklogAlarm", "ArchiveOldestSeconds"),
        ("NoPredictionAlarm", "Healthy"),
    ],
)
def test_somebody_is_told(name: str, metric: str) -> None:
    alarm = RESOURCES[name]
    assert alarm["Type"] == "AWS::CloudWatch::Alarm"
    assert metric in json.dumps(alarm["Properties"])
    assert alarm["Properties"]["AlarmActions"] == [{"Ref": "AlarmTopic"}]


def test_every_accepted_finding_has_a_reason() -> None:
    for name, resource in RESOURCES.items():
        for skip in resource.get("Metadata", {}).get("checkov", {}).get("skip", []):
            assert len(skip["comment"]) > 40, name
