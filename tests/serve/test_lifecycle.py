"""Start, stop, and everything that can keep a server from coming up."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests

from humanseg.common.ports import free_ports
from humanseg.serve.config import NOWHERE
from humanseg.serve.process import StartError
from humanseg.serve.ready import wait_until_ready
from humanseg.serve.settings import PORTS, read_settings
from humanseg.serve.store import start_store
from tests.running import ROOT, Server, encoded, start_server

PHOTO = encoded(np.full((40, 30, 3), 100, np.uint8), "PNG")


def children(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children(recursive=True)


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A TMPDIR with a short path: worker sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="t") as folder:
        yield Path(folder)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def perf_data(processes: list[psutil.Process]) -> list[Path]:
    """Files that Java leaves in /tmp, whatever TMPDIR is."""
    pids = {str(process.pid) for process in processes}
    return [path for path in Path("/tmp").glob("hsperfdata_*/*") if path.name in pids]


def gone(processes: list[psutil.Process], seconds: float = 30) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not alive


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_that_was_started(
    make_server: Callable[..., Server], number: int, temporary: Path
) -> None:
    server = make_server(TMPDIR=str(temporary))
    assert server.output[-1] == f"READY {server.predictions}"
    started = children(server)
    assert {"java", "weed"} <= {process.name() for process in started}
    assert names_in(temporary) == [f"humanseg-{os.getuid()}-{server.environment['INFERENCE_PORT']}"]
    assert server.stop(number, seconds=30) == 0
    assert gone(started, 5)
    assert names_in(temporary) == []
    assert not perf_data(started)


def test_ready_means_that_a_prediction_goes_through(server: Server) -> None:
    assert server.output[-1].startswith("READY http://127.0.0.1:")
    assert requests.post(server.predictions, data=PHOTO, timeout=10).status_code == 200


def test_everything_listens_on_loopback_alone(server: Server) -> None:
    family = [psutil.Process(server.process.pid), *children(server)]
    listening = [
        connection.laddr.ip
        for process in family
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert {ip.removeprefix("::ffff:") for ip in listening} <= {"127.0.0.1", "::1", NOWHERE}


@pytest.mark.slow
def test_two_servers_on_one_host_leave_each_other_alone(server: Server, make_server: Callable[..., Server]) -> None:
    other = make_server()
    assert requests.post(other.predictions, data=PHOTO, timeout=60).status_code == 200
    other.stop()
    assert requests.post(server.predictions, data=PHOTO, timeout=60).status_code == 200


@pytest.mark.slow
def test_nothing_outlives_a_supervisor_that_was_killed(make_server: Callable[..., Server], temporary: Path) -> None:
    server = make_server(TMPDIR=str(temporary))
    started = children(server)
    server.process.kill()
    assert gone(started, 20)
    assert not perf_data(started)
    again = make_server(STATE_DIR=str(server.state_dir), TMPDIR=str(temporary))  # on other ports
    assert requests.post(again.predictions, data=PHOTO, timeout=60).status_code == 200
    assert names_in(temporary) == [f"humanseg-{os.getuid()}-{again.environment['INFERENCE_PORT']}"]
    again.stop()
    assert names_in(temporary) == []


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced(make_server: Callable[..., Server]) -> None:
    server = make_server()
    (worker,) = server.worker_pids()
    os.kill(worker, signal.SIGKILL)
    end = time.monotonic() + 90
    while server.worker_pids() in ([], [worker]) and time.monotonic() < end:
        time.sleep(0.2)
    assert server.worker_pids() not in ([], [worker])
    while requests.post(server.predictions, data=PHOTO, timeout=60).status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.2)


def test_where_no_store_is_installed_none_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("humanseg.serve.store.find_weed", lambda: None)
    assert start_store(read_settings({"STATE_DIR": str(tmp_path)}), {}) is None


def refused(tmp_path: Path, **environment: str) -> tuple[int, str]:
    """Exit status and last line of a server that is expected not to come up."""
    server = start_server(tmp_path / "state", wait=False, **environment)
    try:
        code = server.process.wait(90)
    finally:
        server.stop()
    time.sleep(0.2)
    return code, server.output[-1]


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, line = refused(tmp_path, MANAGEMENT_PORT=str(port))
    assert code == 1
    assert f"port {port} is not available" in line
    assert "MANAGEMENT_PORT=" in line


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (
            {"INFERENCE_PORT": "http"},
            "INFERENCE_PORT is 'http', but must be a whole number from 1 to 65535, for example 8080.",
        ),
        ({"METRICS_PORT": "99999"}, "METRICS_PORT is 99999"),
        ({"WORKERS": "0"}, "WORKERS is 0"),
        ({"INFERENCE_PORT": "18080", "MANAGEMENT_PORT": "18080"}, "are both 18080"),
        ({"STATE_DIR": "/proc/state"}, "/proc/state"),
        pytest.param({"API_KEYS_FILE": "/nowhere/keys"}, "API_KEYS_FILE /nowhere/keys", marks=pytest.mark.slow),
    ],
)
def test_a_wrong_setting_is_one_clear_line(tmp_path: Path, environment: dict[str, str], words: str) -> None:
    code, line = refused(tmp_path, **environment)
    assert code == 1
    assert words in line
    assert "Traceback" not in line


def test_a_state_dir_belongs_to_one_server(server: Server, tmp_path: Path) -> None:
    code, line = refused(tmp_path, STATE_DIR=str(server.state_dir))
    assert code == 1
    assert "another server is running in" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"can't mount a small disk here: {mounted.stderr.decode().strip()}")
    try:
        code, line = refused(tmp_path, STATE_DIR=str(disk / "state"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert code == 1
    assert "the disk is full" in line


def test_no_python_is_one_clear_line(tmp_path: Path) -> None:
    """A checkout without .venv, on a machine whose Pythons are too old or only stubs."""
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "scripts", checkout / "scripts")
    for name in ("serve.sh", "pyproject.toml"):
        shutil.copy(ROOT / name, checkout / name)
    stubs = tmp_path / "bin"
    stubs.mkdir()
    for name in ("python", "python3", *(f"python3.{minor}" for minor in range(10, 15))):
        (stubs / name).write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
        (stubs / name).chmod(0o755)
    result = subprocess.run(
        [str(checkout / "serve.sh")],
        env={"PATH": f"{stubs}:/usr/bin:/bin", "PYTHON": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("serve.sh: needs Python 3.10 to 3.14")
    assert len(result.stderr.splitlines()) == 1


def test_two_installs_into_one_checkout_take_turns(tmp_path: Path) -> None:
    """serve.sh while test.sh still installs: the second waits, says so, and finds nothing left to do."""
    (tmp_path / "pyproject.toml").write_text("")
    script = f"""
        . {ROOT}/scripts/venv.sh
        install_venv() {{ echo begin >>steps; sleep 1; echo end >>steps; }}
        ensure_venv serve
    """
    both = [
        subprocess.Popen(["bash", "-euc", script], cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    output = [process.communicate(timeout=30)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert (tmp_path / "steps").read_text().split() == ["begin", "end"] * 2
    assert sorted(output) == ["", "Another installation into this folder is in progress; waiting for it.\n"]


def test_an_install_that_fails_stops_the_script(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("")
    script = f". {ROOT}/scripts/venv.sh; install_venv() {{ fail 'no network'; }}; ensure_venv serve; echo went on"
    result = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.endswith(": no network\n")


@pytest.mark.slow
def test_a_wrong_model_config_stops_the_load_with_its_line(
    tmp_path: Path, make_server: Callable[..., Server]
) -> None:
    """Registered by hand, since the shipped .mar is right."""
    server = make_server()
    store = server.state_dir / "model_store"
    config = tmp_path / "model-config.yaml"
    config.write_text((ROOT / "config" / "model-config.yaml").read_text().replace("max_label:", "max_lable:"))
    with (
        zipfile.ZipFile(store / "human_segmentation.mar") as good,
        zipfile.ZipFile(store / "bad.mar", "w") as bad,
    ):
        for entry in good.namelist():
            bad.writestr(entry, config.read_bytes() if entry == "model-config.yaml" else good.read(entry))
    answer = requests.post(
        f"{server.management_url}/models",
        params={"url": "bad.mar", "model_name": "bad", "initial_workers": 1, "synchronous": "true"},
        timeout=120,
    )
    assert answer.status_code >= 400
    log = (server.state_dir / "logs" / "model_log.log").read_text()
    assert "The model was not loaded: model-config.yaml: unknown key 'handler.max_lable'" in log
    assert requests.post(server.predictions, data=PHOTO, timeout=60).status_code == 200


TAKEN = """java.io.IOException: Failed to bind to address: http://127.0.0.1:12001
\tat org.pytorch.serve.ModelServer.initializeServer(ModelServer.java:362)
Caused by: io.netty.channel.unix.Errors$NativeIoException: bind(..) failed: Address already in use
Exception in thread "Thread-0" java.util.concurrent.RejectedExecutionException: event executor terminated
"""  # of TorchServe 0.12


def test_a_port_that_is_taken_during_the_start_is_named(tmp_path: Path) -> None:
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    settings = read_settings({**ports, "STATE_DIR": str(tmp_path)})
    named = pytest.raises(StartError, match=rf"port {ports['METRICS_PORT']} .*METRICS_PORT=\d+ ./serve.sh")
    with socket.create_server(("127.0.0.1", settings.ports["METRICS_PORT"])), named:
        wait_until_ready(settings, lambda: False)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "torchserve.log").write_text(TAKEN)
    with pytest.raises(StartError, match="Address already in use"):  # and it is free again: the log knows
        wait_until_ready(settings, lambda: False)
