"""The parts of process 1, and process 1 itself outside a container: health, logs, metrics, an instance's end."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import requests

from humanseg.common.ports import free_ports
from humanseg.deploy.container import health, instance, metrics
from humanseg.deploy.container.logs import as_json
from tests.deploy import moto_server
from tests.deploy.imds import Metadata
from tests.running import MODEL, PORT_NAMES, ROOT

BUCKET = "archive-of-the-instance"


def test_a_line_of_any_kind_becomes_json_with_its_request_id() -> None:
    request_id = "7898b140-6812-473f-8fb4-343ca15c721b"
    output = json.dumps({"request_id": request_id, "status": 200})
    wrapped = {"time": "t", "level": "INFO", "logger": "MODEL_LOG", "message": output}
    line = json.loads(as_json(json.dumps(wrapped)))
    assert line == {
        "time": "t",
        "level": "INFO",
        "logger": "MODEL_LOG",
        "request_id": request_id,
        "status": 200,
    }
    plain = json.loads(as_json(f"Request {request_id} failed"))
    assert plain["request_id"] == request_id
    assert json.loads(as_json("{broken"))["message"] == "{broken"
    assert json.loads(as_json('a "quote" and \t a tab'))["message"] == 'a "quote" and \t a tab'


def test_health_predicts_once_for_everybody_and_is_over_when_leaving() -> None:
    now, asked = [0.0], []

    def predict() -> str:
        asked.append(now[0])
        return ""

    checked = health.Health(predict, lambda: 7.0, lambda: now[0])
    assert [checked.reason() for _ in range(5)] == [""] * 5
    assert len(asked) == 1
    now[0] += health.FRESH
    assert checked.reason() == ""
    assert len(asked) == 2
    checked.leaving.set()
    assert checked.reason() == "leaving"
    assert len(asked) == 2


def test_too_busy_for_its_own_prediction_is_healthy_while_others_are_answered() -> None:
    now, answered = [0.0], [7.0]

    def reason() -> str:
        now[0] += health.FRESH
        return checked.reason()

    checked = health.Health(lambda: "the server answered 503", lambda: answered[0], lambda: now[0])
    assert reason() == "the server answered 503"  # nothing is known yet
    answered[0] = 9.0
    assert reason() == ""
    assert reason() == "the server answered 503"  # nobody was answered since
    answered[0] = 2.0  # the server has started anew
    assert reason() == "the server answered 503"
    answered[0] = math.nan
    assert reason() == "the server answered 503"


@pytest.mark.slow
def test_an_overloaded_container_stays_healthy(tmp_path: Path, astronaut_jpeg: bytes) -> None:
    *ports, health_port = free_ports(len(PORT_NAMES) + 1)
    environment = {
        **os.environ,
        **{name: str(port) for name, port in zip(PORT_NAMES, ports, strict=True)},
        "STATE_DIR": str(tmp_path / "state"),
        "TMPDIR": str(tmp_path),
        "WORKERS": "1",
        "HEALTH_PORT": str(health_port),
        "HEALTH_ADDRESS": "127.0.0.1",
        "STOP_DEADLINE": "20",
    }
    log = (tmp_path / "output").open("w+")
    command = [sys.executable, "-m", "humanseg.deploy.container.main"]
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    over = threading.Event()
    answers: list[int] = []

    def flood() -> None:
        url = f"http://127.0.0.1:{ports[0]}/predictions/{MODEL}"
        while not over.is_set():
            answers.append(requests.post(url, data=astronaut_jpeg, timeout=60).status_code)

    def check() -> requests.Response:
        return requests.get(f"http://127.0.0.1:{health_port}/healthz", timeout=30)

    def healthy() -> bool:
        try:
            return check().status_code == 200
        except requests.RequestException:
            return False

    clients = [threading.Thread(target=flood, daemon=True) for _ in range(150)]  # the queue has 100 places
    try:
        wait_until(healthy, 180, tmp_path / "output")
        for client in clients:
            client.start()
        for _ in range(5):
            time.sleep(health.FRESH + 0.5)
            assert check().json() == {"healthy": True, "reason": ""}
        assert 503 in answers
    finally:
        over.set()
        for client in clients:
            if client.is_alive():
                client.join(60)
        process.terminate()
        process.wait(60)
        log.close()


def test_nobody_there_is_unhealthy(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    reason = health.predicts({"INFERENCE_PORT": str(port), "TMPDIR": str(tmp_path)})
    assert "does not answer" in reason


def test_cloudwatch_gets_the_mean_wait_since_the_last_line_and_the_oldest_record() -> None:
    page = (
        "# TYPE ts_inference_requests_total counter\n"
        'ts_inference_requests_total{model_name="m",hostname="h",} {requests}\n'
        'ts_queue_latency_microseconds{model_name="m",hostname="h",} {waited}\n'
        "archive_spool_oldest_seconds{} 12.5\n"
    )

    def at(requests_: int, waited: float) -> str:
        return page.replace("{requests}", str(requests_)).replace("{waited}", f"{waited:E}")

    first, counts = metrics.embedded("photos", at(10, 20_000), metrics.Counts(), True)
    assert json.loads(first)["QueueMilliseconds"] == 2.0
    second, counts = metrics.embedded("photos", at(20, 520_000), counts, False)
    line = json.loads(second)
    assert (line["QueueMilliseconds"], line["ArchiveOldestSeconds"], line["Healthy"]) == (50.0, 12.5, 0.0)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"], line["Stack"]) == (
        "HumanSeg",
        [["Stack"]],
        "photos",
    )
    assert {metric["Name"] for metric in directive["Metrics"]} <= set(line)
    quiet, _ = metrics.embedded("photos", at(20, 520_000), counts, True)
    assert json.loads(quiet)["QueueMilliseconds"] == 0.0


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    service = Metadata()
    yield service
    service.close()


def test_the_end_is_read_from_the_instance_metadata_with_a_token(metadata: Metadata) -> None:
    asked = instance.Metadata({"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url})
    assert instance.farewell(asked) == ""
    metadata.pages["autoscaling/target-lifecycle-state"] = lambda: "InService"
    assert instance.farewell(asked) == ""
    metadata.forget_tokens()  # a new one is fetched
    metadata.pages["autoscaling/target-lifecycle-state"] = lambda: "Terminated"
    assert instance.farewell(asked) == "Auto Scaling termination"
    metadata.pages["spot/instance-action"] = lambda: '{"action": "terminate", "time": "2026-11-22T10:00:00Z"}'
    assert instance.farewell(asked) == "Spot interruption"
    assert metadata.refused == 1


def test_no_metadata_service_is_no_reason_to_go() -> None:
    (port,) = free_ports(1)
    nowhere = instance.Metadata({"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{port}"})
    assert instance.farewell(nowhere) == ""


class Scaling:
    """Keeps what the Auto Scaling API is asked (moto's has no CompleteLifecycleAction)."""

    def __init__(self) -> None:
        self.asked: list[dict[str, list[str]]] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked.append(parse_qs(self.rfile.read(int(self.headers["content-length"])).decode()))
                name = b"CompleteLifecycleActionRes"
                body = b"<%sponse><%sult/></%sponse>" % (name, name, name)
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def moto() -> Iterator[moto_server.Moto]:
    with moto_server.running(BUCKET) as moto:
        yield moto


@pytest.mark.slow
def test_an_instance_that_is_taken_out_drains_and_then_says_that_it_may_go(
    metadata: Metadata, moto: moto_server.Moto, tmp_path: Path, astronaut_jpeg: bytes
) -> None:
    scaling = Scaling()
    *ports, health_port = free_ports(len(PORT_NAMES) + 1)
    metadata.pages["instance-id"] = lambda: "i-0123456789abcdef0"
    environment = {
        **os.environ,
        **{name: str(port) for name, port in zip(PORT_NAMES, ports, strict=True)},
        **{name: value for name, value in moto.environment.items() if name != "AWS_ENDPOINT_URL"},
        "ARCHIVE_ENDPOINT_URL": moto.url,
        "ARCHIVE_BUCKET": BUCKET,
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url,
        "AWS_ENDPOINT_URL_AUTO_SCALING": scaling.url,
        "STATE_DIR": str(tmp_path / "state"),
        "TMPDIR": str(tmp_path),
        "WORKERS": "1",
        "HEALTH_PORT": str(health_port),
        "HEALTH_ADDRESS": "127.0.0.1",
        "LEAVE_SECONDS": "6",
        "STOP_DEADLINE": "60",
        "WATCH_INSTANCE": "aws",
        "LIFECYCLE_GROUP": "photos",
        "LIFECYCLE_HOOK": "drain",
    }
    command = [sys.executable, "-m", "humanseg.deploy.container.main"]
    log = (tmp_path / "output").open("w+")
    process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)

    def health_status() -> int:
        try:
            return requests.get(f"http://127.0.0.1:{health_port}/healthz", timeout=30).status_code
        except requests.RequestException:
            return 0

    try:
        wait_until(lambda: health_status() == 200, 180, tmp_path / "output")
        url = f"http://127.0.0.1:{ports[0]}/predictions/{MODEL}"
        moto.process.send_signal(signal.SIGSTOP)  # so that something is left to drain
        before = requests.post(url, data=astronaut_jpeg, timeout=60)

        metadata.pages["autoscaling/target-lifecycle-state"] = lambda: "Terminated"
        wait_until(lambda: health_status() == 503, 30, tmp_path / "output")
        # The load balancer needs a moment to see that: until then it is still served.
        during = requests.post(url, data=astronaut_jpeg, timeout=60)
        assert [answer.headers["x-archived"] for answer in (before, during)] == ["spooled"] * 2
        assert scaling.asked == []
        moto.process.send_signal(signal.SIGCONT)
        assert process.wait(90) == 0
        (asked,) = scaling.asked
        assert asked["Action"] == ["CompleteLifecycleAction"]
        assert asked["AutoScalingGroupName"] == ["photos"]
        assert asked["LifecycleHookName"] == ["drain"]
        assert asked["InstanceId"] == ["i-0123456789abcdef0"]
        assert asked["LifecycleActionResult"] == ["CONTINUE"]
        wanted = {answer.headers["x-request-id"] for answer in (before, during)}
        assert moto_server.committed(moto.client("s3"), BUCKET) == wanted
        lines = [json.loads(line) for line in (tmp_path / "output").read_text().splitlines()]
        assert any("may terminate this instance" in line.get("message", "") for line in lines)
    finally:
        moto.process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(90)
        log.close()
        scaling.close()


def wait_until(done: Callable[[], bool], seconds: float, log: Path) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, log.read_text()[-3000:]
        time.sleep(0.3)
