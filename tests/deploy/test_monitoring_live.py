"""Prometheus and Alertmanager, as Debian ships them, on a real server: scraped, drawn, killed, told.

Grafana itself is in no package registry that the tests reach: its dashboard is tried query by query.
"""

from __future__ import annotations

import http.server
import json
import math
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from humanseg.common.ports import free_ports
from tests.running import Server

FOLDER = Path(__file__).parents[2] / "deploy" / "monitoring"
pytestmark = pytest.mark.slow


class Webhook:
    """Whoever is told: keeps each notification that Alertmanager sends."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        told = self.told

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/alerts"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    hook = Webhook()
    yield hook
    hook.close()


@pytest.fixture
def monitor(tmp_path: Path, webhook: Webhook) -> Iterator[Callable[[Server], str]]:
    """Start both on the committed files, with seconds for minutes; gives Prometheus' address."""
    for program in ("prometheus", "prometheus-alertmanager"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed (Debian's package of that name)")
    running: list[subprocess.Popen[bytes]] = []

    def start(server: Server) -> str:
        folder = tmp_path / "monitoring"
        shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
        prometheus, alertmanager = free_ports(2)

        def edit(name: str, *changes: tuple[str, str]) -> None:
            text = (folder / name).read_text()
            for pattern, new in changes:
                text, count = re.subn(pattern, new, text)
                assert count, f"{pattern} is not in {name}"
            (folder / name).write_text(text)

        edit(
            "prometheus.yaml",
            (r"_interval: \d+s", "_interval: 1s"),
            ("127.0.0.1:9093", f"127.0.0.1:{alertmanager}"),
        )
        edit("targets.yaml", (r"127.0.0.1:8082", f"127.0.0.1:{server.environment['METRICS_PORT']}"))
        edit("alerts.yaml", ("for: 2m", "for: 2s"))
        edit("alertmanager.yaml", ("group_wait: 15s", "group_wait: 1s"), (r"http://\S+/alerts", webhook.url))
        commands = (
            ["prometheus", f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={tmp_path}/tsdb"],
            [
                "prometheus-alertmanager",
                f"--config.file={folder}/alertmanager.yaml",
                f"--storage.path={tmp_path}/am",
            ],
        )
        extra = ([], ["--cluster.listen-address="])
        for command, port, more in zip(commands, (prometheus, alertmanager), extra, strict=True):
            listen = f"--web.listen-address=127.0.0.1:{port}"
            log = (tmp_path / f"{command[0]}.log").open("wb")
            with log:
                running.append(subprocess.Popen([*command, listen, *more], cwd=tmp_path, stdout=log, stderr=log))
        return f"http://127.0.0.1:{prometheus}"

    yield start
    for process in running:
        process.terminate()
        process.wait(30)


def query(prometheus: str, expression: str) -> list[float]:
    """The values of an instant query; none while Prometheus is not up."""
    try:
        answer = requests.get(f"{prometheus}/api/v1/query", params={"query": expression}, timeout=10).json()
    except (requests.ConnectionError, ValueError):
        return []
    assert answer["status"] == "success", answer
    values = [float(sample["value"][1]) for sample in answer["data"]["result"]]
    return [value for value in values if not math.isnan(value)]


def test_a_server_is_scraped_every_panel_has_data_and_its_death_is_told(
    make_server: Callable[..., Server],
    monitor: Callable[[Server], str],
    webhook: Webhook,
    astronaut_jpeg: bytes,
) -> None:
    server = make_server()
    prometheus = monitor(server)
    panels = {
        f"{panel['title']}: {target['expr']}": target["expr"]
        for panel in json.loads((FOLDER / "dashboard.json").read_text())["panels"]
        for target in panel.get("targets", [])
    }
    assert len(panels) > 20
    missing, end = dict(panels), time.monotonic() + 120
    while missing and time.monotonic() < end:
        # Load of every kind: good photos in several forms, and callers' mistakes.
        for output in ("mask", "cutout", "json"):
            answer = requests.post(server.predictions, data=astronaut_jpeg, headers={"x-output": output}, timeout=60)
            assert answer.status_code == 200
        requests.post(server.predictions, data=b"no photo", timeout=60)
        missing = {name: expr for name, expr in missing.items() if not query(prometheus, expr)}
    assert not missing, "no data for: " + "; ".join(missing)
    assert query(prometheus, 'up{job="humanseg"}') == [1.0]
    assert query(prometheus, 'ALERTS{alertname="HumansegNoModelReady"}') == []
    assert webhook.told == []

    server.process.send_signal(signal.SIGKILL)
    end = time.monotonic() + 60
    while not webhook.told and time.monotonic() < end:
        time.sleep(0.2)
    alerts = [alert for told in webhook.told for alert in told["alerts"]]
    assert [alert["labels"]["alertname"] for alert in alerts] == ["HumansegNoModelReady"]
    assert alerts[0]["labels"]["instance"] == f"127.0.0.1:{server.environment['METRICS_PORT']}"
    assert alerts[0]["status"] == "firing"
    assert alerts[0]["annotations"]["runbook"].endswith("RUNBOOK.md#humansegnomodelready")
