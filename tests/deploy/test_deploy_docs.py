"""The deployment's documents say what the templates and scripts have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from benchmarks import aws_cost as cost
from humanseg.deploy.aws import template as cloudformation

TYPICAL_MB = 0.65  # a JPEG of 2 megapixels with its mask and record
FOLDER = Path(__file__).parents[2] / "deploy"


def test_the_price_table_is_the_script_s_and_says_where_its_prices_are_from() -> None:
    readme = (FOLDER / "aws" / "README.md").read_text()
    assert cost.table() in readme
    assert cost.PRICES_OF in readme
    put, kept = cost.archive_million()
    words = " ".join(readme.split())
    assert f"{put:.2f} $ to put the segments and tables at full load, {kept:.0f} $ for each month" in words
    assert f"one segment a minute at most, {cost.idle_month():.2f} $ a month" in readme
    assert cost.puts_a_million(TYPICAL_MB) <= 30_000
    assert f"about {cost.BALANCER:.0f} $ a" in readme
    assert {machine.name for machine in cost.MACHINES} <= set(
        cloudformation.load()["Parameters"]["InstanceType"]["AllowedValues"]
    )


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.md")), ids=lambda path: str(path.relative_to(FOLDER)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


def test_kustomize_takes_every_manifest_and_every_container_is_locked_up() -> None:
    folder = FOLDER / "kubernetes"
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(path.name for path in folder.glob("*.yaml") if path.name != "kustomization.yaml")
    pod = yaml.safe_load((folder / "deployment.yaml").read_text())["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": "health"}
    deadline = next(int(variable["value"]) for variable in container["env"] if variable["name"] == "STOP_DEADLINE")
    assert pod["terminationGracePeriodSeconds"] >= deadline + 10


def test_compose_publishes_on_loopback_only_and_locks_the_server_up() -> None:
    services = yaml.safe_load((FOLDER.parent / "compose.yaml").read_text())["services"]
    assert {"server", "store", "prometheus"} <= set(services)
    assert all(port.startswith("127.0.0.1:") for service in services.values() for port in service.get("ports", []))
    server = services["server"]
    assert (server["read_only"], server["cap_drop"]) == (True, ["ALL"])
    assert int(server["stop_grace_period"].rstrip("s")) > server["environment"]["STOP_DEADLINE"]
    for mount in services["prometheus"]["volumes"]:
        if mount.startswith("./"):
            assert (FOLDER.parent / mount.split(":")[0]).is_file(), mount
