"""`humanseg doctor`: each thing that can be wrong is named with its fix, and a healthy server is said to be one."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from humanseg.cli.main import app
from humanseg.serve import diagnosis
from tests.running import Server


def test_a_running_server_is_healthy(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["doctor", "--json"])
    report = {row["check"]: row for row in json.loads(result.output)}
    assert list(report) == [
        *("python", "packages", "java", "cpu", "memory", "disk", "server", "port", "clock", "archive")
    ]
    for check in ("python", "packages", "java", "server", "port", "clock"):
        assert report[check]["state"] == "ok", report[check]
    assert "in" in report["server"]["details"]
    assert result.exit_code == 0


def test_a_page_for_people_fits_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    result = CliRunner().invoke(app, ["doctor", "--url", "http://127.0.0.1:9"])
    assert "no server at http://127.0.0.1:9" in " ".join(result.output.split())
    assert "9 is free" in result.output
    assert max(map(len, result.output.splitlines())) <= 80


def test_a_foreign_listener_and_a_wrong_clock_are_problems() -> None:
    class Old(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(200)
            self.send_header("Date", "Mon, 01 Jan 2024 00:00:00 GMT")
            self.end_headers()

    other = HTTPServer(("127.0.0.1", 0), Old)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{other.server_port}"
    try:
        assert diagnosis.port(url, answered=False).state == "problem"
        assert diagnosis.port(url, answered=True).state == "ok"
        skewed = diagnosis.clock(url)
        assert skewed.state == "problem"
        assert "chrony" in skewed.fix
    finally:
        other.shutdown()
        other.server_close()


def test_too_little_memory_names_fewer_workers() -> None:
    finding = diagnosis.memory("MemAvailable:    2500000 kB\n", workers=8)
    assert (finding.state, finding.fix) == ("warning", "WORKERS=1 ./serve.sh")
    assert diagnosis.memory("MemAvailable:   64000000 kB\n", workers=8).state == "ok"


def test_a_java_that_does_not_start_is_a_problem(tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\nexit 1\n")
    java.chmod(0o755)
    assert diagnosis.java({"JAVA_HOME": str(tmp_path)}).state == "problem"


def test_a_check_that_breaks_does_not_end_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "disk", lambda _: 1 / 0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.close()
    findings = {finding.check: finding for finding in diagnosis.diagnose({}, tmp_path, "http://127.0.0.1:9")}
    assert findings["disk"].state == "problem"
    assert "archive" in findings
