"""The image, built and run for real: without rights, without a shell, and without losing a record.

Takes minutes. Skipped, with the reason, where no daemon can run.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import requests

from humanseg.common.ports import free_ports
from tests.deploy import docker_daemon, moto_server
from tests.running import MODEL, PORT_NAMES

pytestmark = pytest.mark.slow
BUCKET = "archive-of-the-container"
KEY = "a key of the test"
PYTHON = "/opt/venv/bin/python"
LOCKED = (
    *("--read-only", "--tmpfs", "/tmp:rw,nosuid,nodev,noexec,size=2g", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges"),
    # What cannot be run is not needed: every shell is hidden behind an empty file.
    *(argument for shell in ("sh", "dash", "bash") for argument in ("-v", f"/dev/null:/usr/bin/{shell}:ro")),
)


@pytest.fixture(scope="module")
def docker() -> Iterator[docker_daemon.Docker]:
    with docker_daemon.running() as daemon:
        if daemon.own:
            docker_daemon.import_base(daemon)
        docker_daemon.build(daemon, "humanseg-test")
        yield daemon
        for container in daemon("ps", "-aq", "--filter", "ancestor=humanseg-test").split():
            daemon("rm", "-f", "-v", container)


@pytest.fixture
def moto() -> Iterator[moto_server.Moto]:
    with moto_server.running(BUCKET) as moto:
        yield moto


class Container:
    """A running container of the image, on the host's network and ports of its own."""

    def __init__(
        self, docker: docker_daemon.Docker, moto: moto_server.Moto, folder: Path, **environment: str
    ) -> None:
        self.docker = docker
        *ports, self.health_port = free_ports(len(PORT_NAMES) + 1)
        self.ports = dict(zip(PORT_NAMES, ports, strict=True))
        keys = folder / "keys"
        keys.write_text(sha256(KEY.encode()).hexdigest())
        keys.chmod(0o644)
        variables = {
            **{name: str(port) for name, port in self.ports.items()},
            **{name: value for name, value in moto.environment.items() if name != "AWS_ENDPOINT_URL"},
            "ARCHIVE_ENDPOINT_URL": moto.url,
            "ARCHIVE_BUCKET": BUCKET,
            "WORKERS": "1",
            "HEALTH_PORT": str(self.health_port),
            "HEALTH_ADDRESS": "127.0.0.1",
            "API_KEYS_FILE": "/keys",
            **environment,
        }
        given = [item for name, value in variables.items() for item in ("-e", f"{name}={value}")]
        given += ["-v", f"{keys}:/keys:ro", "--health-interval", "2s", "--network", "host"]
        self.id = docker("run", "-d", *LOCKED, *given, "humanseg-test").strip().splitlines()[-1]

    def inspect(self) -> dict[str, Any]:
        description: dict[str, Any] = json.loads(self.docker("inspect", self.id))[0]
        return description

    def logs(self) -> list[str]:
        return self.docker("logs", self.id).splitlines()

    def python(self, code: str) -> str:
        return self.docker("exec", self.id, PYTHON, "-c", code, check=False)

    def wait_healthy(self, seconds: float = 240) -> None:
        end = time.monotonic() + seconds
        while (state := self.inspect()["State"])["Health"]["Status"] != "healthy":
            if not state["Running"] or time.monotonic() > end:
                pytest.fail("not healthy:\n" + "\n".join(self.logs()[-30:]))
            time.sleep(1)

    def post(self, photo: bytes) -> requests.Response:
        url = f"http://127.0.0.1:{self.ports['INFERENCE_PORT']}/predictions/{MODEL}"
        return requests.post(url, data=photo, headers={"x-api-key": KEY}, timeout=120)


def committed(moto: moto_server.Moto) -> set[str]:
    """Request ids of the records in the bucket."""
    return moto_server.committed(moto.client("s3"), BUCKET)


def test_the_image_holds_no_secret_and_is_as_small_as_stated(docker: docker_daemon.Docker) -> None:
    (image,) = json.loads(docker("image", "inspect", "humanseg-test"))
    assert image["Config"]["User"] == "10001:10001"
    assert set(image["Config"]["ExposedPorts"]) == {"8080/tcp"}
    assert image["Config"]["Entrypoint"] == [PYTHON, "-m", "humanseg.deploy.container.main"]
    names = {variable.split("=")[0] for variable in image["Config"]["Env"]}
    assert not [name for name in names if any(word in name for word in ("SECRET", "TOKEN", "AWS", "KEY"))]
    history = docker("history", "--no-trunc", "humanseg-test")
    assert "AWS_" not in history
    assert image["Size"] < 1.56e9  # deploy/container/README.md says what fills it


def test_it_serves_without_rights_and_drains_on_sigterm(
    docker: docker_daemon.Docker, moto: moto_server.Moto, tmp_path: Path, astronaut_jpeg: bytes
) -> None:
    container = Container(docker, moto, tmp_path, STOP_DEADLINE="60")
    container.wait_healthy()

    # Locked up: no user, no rights, nothing to write to but its two places.
    status = container.python("print(open('/proc/1/status').read())")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split()[0] == "10001"
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
    assert fields["NoNewPrivs"] == "1"
    assert "Read-only file system" in container.python("open('/app/x', 'w')")
    assert container.python("open('/state/x', 'w'); open('/tmp/x', 'w'); print('written')").strip() == "written"

    # Predictions for everybody, management and metrics for the container itself.
    table = container.python("print(open('/proc/net/tcp').read() + open('/proc/net/tcp6').read())")
    listening = {tuple(row[1].split(":")) for line in table.splitlines() if (row := line.split())[3:4] == ["0A"]}
    where = {int(port, 16): address for address, port in listening}
    assert set(where[container.ports["INFERENCE_PORT"]]) == {"0"}
    for name in ("METRICS_PORT", "GRPC_INFERENCE_PORT"):
        assert where[container.ports[name]].endswith("0100007F")
    assert container.ports["MANAGEMENT_PORT"] not in where
    managed = container.docker("exec", container.id, PYTHON, "-m", "humanseg.cli.main", "status", "--json")
    assert json.loads(managed)[0]["name"] == MODEL

    # Health is a prediction, by a key of its own; callers need theirs.
    answer = requests.get(f"http://127.0.0.1:{container.health_port}/healthz", timeout=30)
    assert (answer.status_code, answer.json()) == (200, {"healthy": True, "reason": ""})
    good = container.post(astronaut_jpeg)
    assert (good.status_code, good.headers["x-archived"]) == (200, "spooled")
    assert requests.post(good.url, data=astronaut_jpeg, timeout=60).status_code == 401
    bad = container.post(b"no photo")
    assert bad.status_code == 400

    # Every line is JSON, and a request is found by its id.
    lines = [json.loads(line) for line in container.logs()]
    by_id = {line["request_id"]: line for line in lines if line.get("logger") == "MODEL_LOG" and "status" in line}
    assert by_id[good.headers["x-request-id"]]["status"] == 200
    assert by_id[bad.headers["x-request-id"]]["error"] == "NotAnImage"

    # The bucket is away while photos come, and back when the container has to go.
    moto.process.send_signal(signal.SIGSTOP)
    sent = [container.post(astronaut_jpeg) for _ in range(5)]
    assert [answer.headers["x-archived"] for answer in sent] == ["spooled"] * 5
    moto.process.send_signal(signal.SIGCONT)
    docker("stop", "-t", "120", container.id, timeout=150)
    assert container.inspect()["State"]["ExitCode"] == 0
    wanted = {answer.headers["x-request-id"] for answer in [good, *sent]}
    assert committed(moto) == wanted  # and not one of the health checks' predictions


def test_with_the_bucket_away_it_still_stops_in_time_and_the_next_start_ships(
    docker: docker_daemon.Docker, moto: moto_server.Moto, tmp_path: Path, astronaut_jpeg: bytes
) -> None:
    first = Container(docker, moto, tmp_path, STOP_DEADLINE="12")
    first.wait_healthy()
    moto.process.send_signal(signal.SIGSTOP)
    sent = first.post(astronaut_jpeg)
    docker("stop", "-t", "90", first.id, timeout=120)
    # Not 137: it left by itself, long before Docker's patience was over.
    assert first.inspect()["State"]["ExitCode"] == 0
    assert "the drain is incomplete" in "\n".join(first.logs())
    moto.process.send_signal(signal.SIGCONT)
    docker("start", first.id)
    end = time.monotonic() + 240
    while sent.headers["x-request-id"] not in committed(moto):
        assert time.monotonic() < end, "\n".join(first.logs()[-20:])
        time.sleep(1)
