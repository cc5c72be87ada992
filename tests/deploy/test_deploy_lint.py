"""Linters over everything we hand to AWS, Kubernetes, Docker and Prometheus; no finding stays unexplained."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from humanseg.deploy.aws import template as cloudformation
from tests.deploy import lint_tools
from tests.deploy.filled_template import bucket_policy, role_policies, trust

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def test_cfn_lint_finds_nothing() -> None:
    result = lint_tools.run("cfn-lint", "-t", cloudformation.STACK, "-r", "us-east-1", "-e")
    assert result.stdout + result.stderr == ""
    assert result.returncode == 0


def test_checkov_finds_only_what_the_template_accepts_and_explains(tmp_path: Path) -> None:
    # checkov drops resources whose condition is false under the parameters' defaults: look at each size.
    text = cloudformation.STACK.read_text()
    copies = [tmp_path / f"{size}.yaml" for size in ("one", "fleet")]
    for copy in copies:
        copy.write_text(text.replace("    Default: one\n", f"    Default: {copy.stem}\n", 1))
    flags = ("--framework", "cloudformation", "--skip-download", "--compact", "-o", "json")
    report = json.loads(lint_tools.run("checkov", "-f", *copies, *flags).stdout)
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 50
    assert [(check["check_id"], check["resource"]) for check in report["results"]["failed_checks"]] == []
    seen = {(check["resource"].split(".")[1], check["check_id"]) for check in report["results"]["skipped_checks"]}
    listed = {
        (name, skip["id"])
        for name, resource in cloudformation.load()["Resources"].items()
        for skip in resource.get("Metadata", {}).get("checkov", {}).get("skip", [])
    }
    assert listed == seen  # nothing is listed that checkov would not say


def test_parliament_finds_nothing_in_any_policy() -> None:
    documents = [trust(), bucket_policy(), *role_policies().values()]
    assert len(documents) == 9
    code = (
        "import json, sys, warnings; warnings.simplefilter('ignore'); import parliament\n"
        "for document in json.load(sys.stdin):\n"
        "    print(*parliament.analyze_policy_string(json.dumps(document)).findings, sep='\\n', end='')\n"
    )
    # parliament reads identity policies: of the two others it judges actions, conditions and form.
    plain = [
        {**document, "Statement": [without_principal(statement) for statement in document["Statement"]]}
        for document in documents
    ]
    result = lint_tools.run("python", "-c", code, stdin=json.dumps(plain))
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""


def without_principal(statement: dict[str, Any]) -> dict[str, Any]:
    role = "arn:aws:iam::123456789012:role/photos"
    return {"Resource": role, **{key: value for key, value in statement.items() if key != "Principal"}}


def test_hadolint_finds_nothing() -> None:
    result = lint_tools.run("hadolint", ROOT / "Dockerfile")
    assert result.stdout + result.stderr == ""
    assert result.returncode == 0


def test_kubernetes_manifests_are_valid() -> None:
    manifests = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
    manifests = [manifest for manifest in manifests if manifest.name != "kustomization.yaml"]
    assert len(manifests) >= 5
    result = lint_tools.run("kubernetes-validate", "--strict", "-k", "1.34", *manifests)
    assert result.returncode == 0, result.stdout + result.stderr


def promtool(*arguments: object) -> None:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    command = ["promtool", *(str(argument) for argument in arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr


def test_promtool_accepts_the_prometheus_files() -> None:
    folder = ROOT / "deploy" / "monitoring"
    promtool("check", "rules", folder / "rules.yaml", folder / "alerts.yaml", folder / "drift.yaml")
    promtool("check", "config", folder / "prometheus.yaml")


def test_each_alert_fires_when_it_should_and_not_before() -> None:
    folder = ROOT / "deploy" / "monitoring"
    promtool("test", "rules", folder / "alerts_test.yaml", folder / "drift_test.yaml")


def test_amtool_accepts_the_alertmanager_config() -> None:
    if not shutil.which("amtool"):
        pytest.skip("amtool is not installed (Debian's package prometheus-alertmanager)")
    config = ROOT / "deploy" / "monitoring" / "alertmanager.yaml"
    result = subprocess.run(["amtool", "check-config", config], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
