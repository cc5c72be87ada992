"""The wheel, built and installed into empty environments: what each extra promises works there, and no more."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

import humanseg
from tests.running import ROOT, Server

ASTRONAUT = ROOT / "tests" / "photos" / "astronaut.jpg"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what git tracks, as a release is: a file that is forgotten in git is missing here too."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in tracked.decode().strip("\0").split("\0"):
        if name.startswith(("humanseg/", "pyproject.toml", "README.md", "LICENSE")) and (ROOT / name).is_file():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    (built,) = folder.glob("*.whl")
    return built


class Environment:
    """A virtual environment, used from an empty folder and without this checkout in its path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        self.work = folder / "work"
        self.work.mkdir()

    def install(self, *wanted: str) -> None:
        command = [
            str(self.folder / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-warn-script-location",
        ]
        result = subprocess.run([*command, *wanted], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr[-2000:]

    def run(self, *command: str, status: int = 0) -> str:
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        program = str(self.folder / "bin" / command[0])
        result = subprocess.run(
            [program, *command[1:]], cwd=self.work, env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == status, result.stdout[-2000:] + result.stderr[-2000:]
        return result.stdout + result.stderr

    def modules(self) -> set[str]:
        listed = self.run("python", "-m", "pip", "list", "--format=freeze")
        return {line.partition("==")[0].lower() for line in listed.splitlines()}


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("bare"))
    environment.install(str(wheel))
    return environment


@pytest.fixture(scope="module")
def with_archive(wheel: Path, bare: Environment) -> Environment:
    """The bare environment after it was grown: for the tests at the end of this file."""
    bare.install(f"{wheel}[archive]")
    return bare


def test_the_data_files_are_in_it(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tracked = subprocess.run(
        ["git", "ls-files", "humanseg"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    data = {name for name in tracked if not name.endswith((".py", ".md"))}
    assert {"humanseg/py.typed", "humanseg/deploy/aws/stack.yaml", "humanseg/serve/golden.jpg"} <= data
    assert data <= set(names), data - set(names)
    assert {name.split("/")[0] for name in names if not name.startswith("humanseg-")} == {"humanseg"}
    assert wheel.name.startswith(f"humanseg-{humanseg.__version__}-")


def test_bare_it_is_the_client_and_the_command_line(bare: Environment, server: Server) -> None:
    heavy = {"numpy", "torch", "boto3", "pillow", "opencv-python-headless", "torchserve", "openvino", "pyyaml"}
    assert not bare.modules() & heavy
    photo = ASTRONAUT
    code = (
        "import sys, humanseg.client as c; "
        f"found = c.Client({server.url!r}).segment({str(photo)!r}); "
        "found.save('mask.png'); print(found.coverage)"
    )
    assert 0.1 < float(bare.run("python", "-c", code)) < 0.9
    bare.run("humanseg", "segment", str(photo), "-o", "cut.png", "--output", "cutout", "--url", server.url)
    for made in ("mask.png", "cut.png"):
        assert (bare.work / made).read_bytes().startswith(b"\x89PNG")


def test_every_command_has_its_help_without_any_extra(bare: Environment) -> None:
    code = """
import typer.main
from humanseg.cli.main import app
def walk(command, words):
    print(*words)
    for name, child in getattr(command, "commands", {}).items():
        walk(child, (*words, name))
walk(typer.main.get_command(app), ())
"""
    commands = [line.split() for line in bare.run("python", "-c", code).splitlines()]
    assert ["archive", "export"] in commands
    assert ["deploy"] in commands
    again = """
import sys
from typer.testing import CliRunner
from humanseg.cli.main import app
for line in sys.argv[1:]:
    done = CliRunner().invoke(app, [*line.split(), "--help"])
    assert done.exit_code == 0 and "Usage" in done.output, (line, done.output, done.exception)
"""
    bare.run("python", "-c", again, *(" ".join(words) for words in commands))


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (("archive", "ls"), "archive"),
        (("deploy", "photos", "--dry-run"), "archive"),
        (("train", "--data", ".", "--out", "run"), "train"),
    ],
)
def test_a_missing_extra_is_one_sentence_that_names_it(
    bare: Environment, command: tuple[str, ...], extra: str
) -> None:
    message = bare.run("humanseg", *command, status=1).strip()
    assert message.count("\n") == 0
    assert re.fullmatch(rf"humanseg: .* needs? .*: pip install 'humanseg\[{extra}\]'", message), message


def test_a_clip_without_the_extra_is_one_sentence_that_names_it(bare: Environment) -> None:
    (bare.work / "clip.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(20))
    message = bare.run("humanseg", "segment", "clip.mp4", "-o", "out.webm", status=1).strip()
    assert message == "humanseg: this command needs av: pip install 'humanseg[video]'"


def test_with_archive_the_cloud_is_planned(with_archive: Environment) -> None:
    output = with_archive.run("humanseg", "deploy", "photos", "--dry-run")
    assert "photos" in output
    assert "AWS::" in output


def test_with_segmentation_a_photo_is_cut_out_as_the_server_does_it(
    wheel: Path, tmp_path: Path, server: Server
) -> None:
    environment = Environment(tmp_path / "segmentation")
    environment.install(f"{wheel}[segmentation]")
    photo, weights = ASTRONAUT, ROOT / "model_store" / "human_segmentation.safetensors"
    code = f"""
from humanseg.segmentation import Segmenter
found = Segmenter.load({str(weights)!r})({str(photo)!r})
found.mask().save("mask.png")
found.cutout().save("cutout.png")
"""
    environment.run("python", "-c", code)
    for output in ("mask", "cutout"):
        ours = np.asarray(Image.open(environment.work / f"{output}.png")).astype(int)
        body = requests.post(server.predictions, files={"image": photo.read_bytes()}, data={"output": output}).content
        theirs = np.asarray(Image.open(BytesIO(body))).astype(int)
        assert ours.shape == theirs.shape
        # Workers calculate in bfloat16 where the CPU has it: single pixels of the edge may differ.
        assert np.abs(ours - theirs)[..., -1:].mean() < 2
