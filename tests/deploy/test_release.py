"""`humanseg release` against a real server under a request loop: forwards, back, and out again when it is wrong."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from humanseg.deploy import release as releases
from humanseg.serve.golden import NAME, read_golden
from tests.running import MODEL, ROOT, Server

pytestmark = pytest.mark.slow
BUILT = ROOT / "model_store" / f"{MODEL}.mar"


def variant(target: Path, version: str, *, spoil: bool = False) -> Path:
    """The built .mar under another version; with `spoil`, it says that it recorded something else."""
    with zipfile.ZipFile(BUILT) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "MAR-INF/MANIFEST.json":
                manifest = json.loads(data)
                manifest["model"]["modelVersion"] = version
                data = json.dumps(manifest).encode()
            if name == NAME and spoil:
                golden = json.loads(data)
                golden[0]["cells"][3] = [1.0 - cell for cell in golden[0]["cells"][3][:8]] + [0.0] * 4 + [1.0] * 4
                data = json.dumps(golden).encode()
            new.writestr(name, data)
    return target


@contextlib.contextmanager
def request_loop(server: Server, photo: bytes) -> Iterator[list[str]]:
    """Two clients that never pause; yields the list of what went wrong. Nothing is tried twice."""
    stop, wrong, answered = threading.Event(), [], []

    def ask() -> None:
        with requests.Session() as session:
            while not stop.is_set():
                try:
                    answer = session.post(server.predictions, data=photo, headers={"x-archive": "no"}, timeout=60)
                    answered.append(answer.headers.get("x-model-version"))
                    if answer.status_code != 200:
                        wrong.append(f"{answer.status_code} {answer.text[:200]}")
                except requests.RequestException as error:
                    wrong.append(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield wrong
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert len(answered) > 10


def command(server: Server, mar: Path, *arguments: str) -> subprocess.Popen[str]:
    addresses = f"{server.url},{server.management_url},{server.metrics_url.removesuffix('/metrics')}"
    given = [
        "--mar",
        str(mar),
        "--server",
        addresses,
        "--state-dir",
        str(server.state_dir),
        "--drain",
        "3",
        *arguments,
    ]
    environment = {name: value for name, value in os.environ.items() if name != "STATE_DIR"}
    return subprocess.Popen(
        [sys.executable, "-m", "humanseg.cli.main", "release", *given],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def release(server: Server, mar: Path) -> tuple[int, str]:
    process = command(server, mar, "--watch", "3")
    output, _ = process.communicate(timeout=240)
    return process.returncode, output


def versions(server: Server) -> dict[str, bool]:
    """Registered versions, and which is the default."""
    every = requests.get(f"{server.management_url}/models/{MODEL}/all", timeout=30).json()
    default = requests.get(f"{server.management_url}/models/{MODEL}", timeout=30).json()[0]["modelVersion"]
    return {entry["modelVersion"]: entry["modelVersion"] == default for entry in every}


def stored(server: Server) -> set[str]:
    return {path.name for path in (server.state_dir / "model_store").iterdir()}


def test_no_request_fails_forwards_back_and_when_a_release_is_refused(
    make_server: Callable[..., Server], astronaut_jpeg: bytes, tmp_path: Path
) -> None:
    server = make_server()
    with request_loop(server, astronaut_jpeg) as wrong:
        code, output = release(server, variant(tmp_path / "new.mar", "2.0"))
        assert code == 0, output
        assert versions(server) == {"2.0": True}

        code, output = release(server, BUILT)
        assert code == 0, output
        assert versions(server) == {"1.0": True}

        code, output = release(server, variant(tmp_path / "other.mar", "3.0", spoil=True))
        assert code == 1, output
        assert "golden picture 'portrait'" in output
        assert "is the default version" not in output
        assert versions(server) == {"1.0": True}
        assert f"{MODEL}-3.0.mar" not in stored(server)
    assert wrong == []


def test_a_new_version_whose_workers_die_is_rolled_back(make_server: Callable[..., Server], tmp_path: Path) -> None:
    server = make_server()
    process = command(server, variant(tmp_path / "new.mar", "2.0"), "--watch", "60")
    end = time.monotonic() + 120
    while time.monotonic() < end and versions(server) != {"1.0": False, "2.0": True}:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.3)
    for pid in server.worker_pids():
        os.kill(pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1, output
    assert "1.0 is the default version again" in output
    assert versions(server) == {"1.0": True}


def test_a_version_that_is_there_already_is_refused(server: Server) -> None:
    before = stored(server)
    code, output = release(server, BUILT)
    assert code == 1
    assert "already has version 1.0" in output
    assert versions(server) == {"1.0": True}
    assert stored(server) == before


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("http://h:8080", ("http://h:8080", "http://h:8081", "http://h:8082")),
        ("http://h:1,http://h:7", ("http://h:1", "http://h:7", "http://h:8")),
        ("http://h:1,http://h:7,http://m:9/", ("http://h:1", "http://h:7", "http://m:9")),
    ],
)
def test_a_server_is_named_by_up_to_three_addresses(text: str, urls: tuple[str, str, str]) -> None:
    server = releases.Server.parse(text)
    assert (server.url, server.management_url, server.metrics_url) == urls


@pytest.mark.parametrize("text", ["", "host:8080", "ftp://h:1", "http://a:1,http://b:2,http://c:3,http://d:4"])
def test_a_server_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(releases.ReleaseError, match="is not INFERENCE"):
        releases.Server.parse(text)


def test_golden_pictures_are_in_the_built_archive(server: Server, tmp_path: Path) -> None:
    golden = read_golden(BUILT)
    assert [picture.name for picture in golden] == ["portrait", "nobody"]
    (spoilt, _) = read_golden(variant(tmp_path / "spoilt.mar", "9.0", spoil=True))
    picture: Any = releases.Client(server.url).segment(golden[0].photo_bytes, output="probability", archive=False)
    probability = np.asarray(picture.image())
    assert golden[0].difference(probability) <= releases.TOLERANCE
    assert spoilt.difference(probability) > releases.TOLERANCE
