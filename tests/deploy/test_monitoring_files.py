"""Alerts, runbook and dashboard belong together."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from humanseg.archive.read.drift import Finding, as_gauges

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "monitoring"


def rules() -> list[dict[str, Any]]:
    groups = [
        g
        for name in ("rules", "alerts", "drift")
        for g in yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["groups"]
    ]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = [rule for rule in rules() if "alert" in rule]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_links_to_its_runbook_entry(alert: dict[str, Any]) -> None:
    path, _, anchor = alert["annotations"]["runbook"].partition("#")
    titles = re.findall(r"^## (.+)$", (ROOT / path).read_text(), re.MULTILINE)
    assert alert["alert"] in titles
    assert anchor == alert["alert"].lower()
    assert alert["labels"]["severity"] in ("page", "ticket")


def test_the_runbook_has_no_entry_without_an_alert() -> None:
    titles = re.findall(r"^## (.+)$", (FOLDER / "RUNBOOK.md").read_text(), re.MULTILINE)
    assert sorted(titles) == sorted(alert["alert"] for alert in ALERTS)


def test_every_alert_is_tried_by_promtool() -> None:
    tried = (FOLDER / "alerts_test.yaml").read_text() + (FOLDER / "drift_test.yaml").read_text()
    for alert in ALERTS:
        fires = f"alertname: {alert['alert']}\n        exp_alerts:"
        assert fires in tried


def test_every_metric_that_is_asked_for_is_one_that_the_server_declares() -> None:
    config = yaml.safe_load((ROOT / "config" / "metrics.yaml").read_text())
    declared = {"up", "vector", "absent"}
    finding = Finding("brightness", 0.2, 0.01, 0.02, True, "", "", (100, 100))
    declared |= set(re.findall(r"^# TYPE (\w+)", as_gauges([finding], 0.0), re.MULTILINE))
    for kind in ("ts_metrics", "model_metrics"):
        for type_, metrics in config[kind].items():
            for metric in metrics:
                endings = ("_sum", "_count", "_bucket") if type_ == "histogram" else ("",)
                declared |= {metric["name"] + ending for ending in endings}
    declared |= {rule["record"] for rule in rules() if "record" in rule}
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    queries = [rule["expr"] for rule in rules()]
    queries += [target["expr"] for panel in panels for target in panel.get("targets", [])]
    for query in queries:
        bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(?:by|on) \([^)]*\)", " ", query)
        names = re.findall(r"\b[A-Za-z_][A-Za-z0-9_:]*", bare)
        for name in names:
            if re.search(rf"\b{re.escape(name)}\s*\(", bare) or name in ("or", "unless", "offset", "m", "d"):
                continue
            assert name in declared, f"{name} in {query}"
