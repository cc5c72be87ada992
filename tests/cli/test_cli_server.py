"""The commands for models, versions and workers, and what all commands share."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from humanseg.cli.modelstore import read_properties
from humanseg.client import Client, HumansegError
from humanseg.serve.config import in_java
from tests.cli.mar_versions import broken, with_manifest

if TYPE_CHECKING:
    from tests.running import Server

Run = Callable[..., "subprocess.CompletedProcess[str]"]
MAR = "human_segmentation.mar"


@pytest.fixture
def mar(server: Server) -> Path:
    """The .mar that the server runs: version 1.0."""
    return server.state_dir / "model_store" / MAR


def test_help_imports_nothing_heavy() -> None:
    heavy = "torch openvino numpy cv2 boto3 botocore PIL requests rich.progress"
    code = f"import sys, humanseg.cli.main; print(*[m for m in {heavy.split()!r} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


def test_help_names_every_command(humanseg: Run) -> None:
    result = humanseg("--help")
    assert result.returncode == 0
    for command in ("segment", "status", "scale", "register", "default", "unregister"):
        assert f" {command} " in result.stdout


def test_status_shows_versions_workers_and_queue(humanseg: Run, server: Server) -> None:
    result = humanseg("status", "--management-url", server.management_url)
    assert result.returncode == 0
    assert "human_segmentation" in result.stdout
    assert "1.0 (default)" in result.stdout
    assert "2 of 2" in result.stdout
    assert "efficient_unet" in result.stdout


def test_status_as_json(humanseg: Run, server: Server) -> None:
    port = server.environment["MANAGEMENT_PORT"]
    (model,) = json.loads(humanseg("status", "--json", MANAGEMENT_PORT=port).stdout)
    assert (model["name"], model["version"], model["default"], model["ready"]) == (
        "human_segmentation",
        "1.0",
        True,
        2,
    )
    assert (model["queued"], model["mar"]) == (0, MAR)
    assert model["network"]["architecture"] == "efficient_unet"
    assert [worker["status"] for worker in model["workers"]] == ["READY", "READY"]


@pytest.mark.parametrize(
    ("words", "environment", "sentence"),
    [
        (("status",), {"MANAGEMENT_PORT": "9"}, "no connection to http://127.0.0.1:9"),
        (("status",), {"MANAGEMENT_PORT": "nine"}, "MANAGEMENT_PORT='nine' is not a port"),
        (("status", "--management-url", "localhost"), {}, "must start with http://"),
        (("register", "missing.mar"), {"MANAGEMENT_PORT": "9"}, "missing.mar: no such file"),
    ],
)
def test_an_error_is_one_sentence(
    humanseg: Run, words: tuple[str, ...], environment: dict[str, str], sentence: str
) -> None:
    result = humanseg(*words, **environment)
    assert result.returncode == 1
    assert sentence in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_the_page_port_is_no_management_port(humanseg: Run, server: Server) -> None:
    result = humanseg("status", "--management-url", server.url)
    assert result.returncode == 1
    assert "humanseg: " in result.stderr


def test_a_model_that_is_not_there(humanseg: Run, server: Server) -> None:
    result = humanseg("scale", "1", "--model", "nobody", "--management-url", server.management_url)
    assert (result.returncode, "nobody" in result.stderr) == (1, True)


def test_the_same_version_twice_is_refused(humanseg: Run, server: Server, mar: Path) -> None:
    result = humanseg("register", mar, "--management-url", server.management_url)
    assert result.returncode == 1
    assert "1.0 is already registered" in result.stderr


def test_a_default_version_stays(humanseg: Run, server: Server) -> None:
    result = humanseg("unregister", "1.0", "--management-url", server.management_url)
    assert result.returncode == 1
    assert "first run: humanseg default OTHER_VERSION" in result.stderr


def test_a_file_that_is_no_mar(humanseg: Run, server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.mar").write_text("no zip")
    result = humanseg("register", tmp_path / "a.mar", "--management-url", server.management_url)
    assert (result.returncode, "is not a model archive" in result.stderr) == (1, True)


@pytest.mark.parametrize("change", [{"modelVersion": "../../etc/x"}, {"modelName": "/tmp/x"}, {"modelVersion": "."}])
def test_a_name_that_leaves_the_model_store_is_refused(
    humanseg: Run, server: Server, mar: Path, tmp_path: Path, change: dict[str, str]
) -> None:
    evil = with_manifest(mar, tmp_path / "evil.mar", **change)
    before = sorted(server.state_dir.rglob("*.mar"))
    result = humanseg("register", evil, "--management-url", server.management_url, STATE_DIR=str(server.state_dir))
    assert (result.returncode, "only letters, digits" in result.stderr) == (1, True)
    assert sorted(server.state_dir.rglob("*.mar")) == before


@pytest.mark.parametrize("store", ["/plain", "/home/josé/スマホ", "C:\\u00e9\\store", "/music 𝄞"])
def test_a_store_of_any_name_is_read_from_the_server_s_configuration(tmp_path: Path, store: str) -> None:
    path = tmp_path / "config.properties"
    path.write_text(f"# written by serve.config\nmodel_store={in_java(store)}\n")
    assert read_properties(path)["model_store"] == store


@pytest.mark.parametrize("state", ["of nobody", "of another server"])
def test_a_store_of_somebody_else_is_not_written(
    humanseg: Run, server: Server, mar: Path, tmp_path: Path, state: str
) -> None:
    new = with_manifest(mar, tmp_path / "new.mar", modelVersion="2.0")
    other = tmp_path / "state"
    (other / "model_store").mkdir(parents=True)
    if state == "of another server":
        (other / "config.properties").write_text(
            f"management_address=http://127.0.0.1:9\nmodel_store={other}/model_store\n"
        )
    result = humanseg("register", new, "--management-url", server.management_url, STATE_DIR=str(other))
    assert result.returncode == 1
    assert "--model-store" in result.stderr
    assert list((other / "model_store").iterdir()) == []


@pytest.mark.slow
def test_a_version_whose_workers_cannot_start_leaves_nothing_behind(
    humanseg: Run, server: Server, mar: Path, tmp_path: Path
) -> None:
    bad = broken(mar, tmp_path / "bad.mar", modelVersion="6.6")
    words = ("--management-url", server.management_url, "--workers", "1")
    for _ in range(2):  # a second try must fail for the same reason, not for the remains of the first
        result = humanseg("register", bad, *words, STATE_DIR=str(server.state_dir))
        assert result.returncode == 1
        assert "see the server's model_log.log" in result.stderr
    assert [path.name for path in (server.state_dir / "model_store").glob("*.mar")] == [MAR]
    described = json.loads(humanseg("status", "--json", *words[:2]).stdout)
    assert [version["version"] for version in described] == ["1.0"]


@pytest.mark.slow
def test_no_request_fails_while_the_version_changes(
    humanseg: Run, make_server: Callable[..., Server], astronaut_jpeg: bytes, tmp_path: Path
) -> None:
    server = make_server(WORKERS="1")
    here = {
        "INFERENCE_PORT": server.environment["INFERENCE_PORT"],
        "MANAGEMENT_PORT": server.environment["MANAGEMENT_PORT"],
        "STATE_DIR": str(server.state_dir),
    }
    new = with_manifest(server.state_dir / "model_store" / MAR, tmp_path / "new.mar", modelVersion="2.0")
    answers: Counter[str] = Counter()
    failures: list[HumansegError] = []
    over = threading.Event()

    def ask_on_and_on() -> None:
        # Without retries: a client's second try must not hide a request that failed.
        with Client(server.url, retries=0) as client:
            while not over.is_set():
                try:
                    answers[client.segment(astronaut_jpeg, archive=False).model_version] += 1
                except HumansegError as error:
                    failures.append(error)
                over.wait(0.1)  # a new version's workers need the cores to load

    loops = [threading.Thread(target=ask_on_and_on) for _ in range(2)]
    for loop in loops:
        loop.start()
    try:
        registered = humanseg("register", new, "--json", **here)
        assert registered.returncode == 0, registered.stderr
        (model,) = json.loads(registered.stdout)
        assert (model["version"], model["default"], model["ready"]) == ("2.0", False, 1)
        assert answers["2.0"] == 0
        assert humanseg("default", "2.0", **here).returncode == 0
        left = humanseg("unregister", "1.0", "--drain", "3", "--json", **here)
        assert [row["version"] for row in json.loads(left.stdout)] == ["2.0"], left.stderr
        more = humanseg("scale", "2", "--json", **here)
        assert json.loads(more.stdout)[0]["ready"] == 2, more.stderr
    finally:
        over.set()
        for loop in loops:
            loop.join()
    assert failures == []
    assert answers["1.0"] > 0
    assert answers["2.0"] > 0
    fewer = humanseg("scale", "1", "--json", **here)
    assert [worker["status"] for worker in json.loads(fewer.stdout)[0]["workers"]] == ["READY"]
