"""What is installed is what was reviewed: the locks hold every pin with hashes, and others are refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.running import ROOT

tomllib = pytest.importorskip("tomllib", reason="Python 3.11")
NAMES = ("serve", "all", "image", "cuda", "torch-cpu")
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


def locked(name: str) -> dict[str, set[str]]:
    """The versions of each package in a lock: more than one where Pythons differ."""
    hashes: dict[str, set[str]] = {}
    for package, version in PIN.findall((ROOT / "locks" / f"{name}.txt").read_text()):
        hashes.setdefault(package.lower().replace("_", "-").replace(".", "-"), set()).add(version)
    return hashes


def pins(*extras: str) -> set[tuple[str, str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(requirement for extra in extras for requirement in project["optional-dependencies"][extra]),
    ]
    matches = (re.match(r"([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==([^ ;]+)", requirement) for requirement in wanted)
    return {(match[1].lower().replace("_", "-").replace(".", "-"), match[2]) for match in matches if match}


def in_shell(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"source scripts/venv.sh\n{code}"], cwd=folder, capture_output=True, text=True
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("scripts", "locks"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_every_line_of_a_lock_has_a_version_and_hashes(name: str) -> None:
    text = re.sub(r"^#.*\n", "", (ROOT / "locks" / f"{name}.txt").read_text(), flags=re.MULTILINE)
    for requirement in re.split(r"\n(?=\S)", text.replace("\\\n", " ").strip()):
        assert PIN.match(requirement), requirement[:80]
        assert "--hash=sha256:" in requirement, requirement[:80]


def test_the_locks_hold_every_pin() -> None:
    for name, extras in (
        ("serve", ("segmentation", "archive", "serve")),
        ("all", ("segmentation", "archive", "serve", "train", "video", "dev")),
    ):
        packages = locked(name)
        missing = {
            (package, version) for package, version in pins(*extras) if version not in packages.get(package, ())
        }
        assert {package for package, _ in missing} <= {"torch"}, missing
    assert locked("torch-cpu").keys() == {"torch"}
    assert "torch" in locked("cuda")


def test_the_locks_were_made_from_these_pins(checkout: Path) -> None:
    for groups, name in (("serve,archive", "serve"), ("serve,archive,train,dev", "all")):
        result = in_shell(checkout, f"lock_for {groups}")
        assert (result.returncode, result.stdout.strip()) == (0, f"locks/{name}.txt"), result.stderr


def test_a_lock_of_other_pins_is_refused(checkout: Path) -> None:
    text = (checkout / "pyproject.toml").read_text()
    (checkout / "pyproject.toml").write_text(text.replace("boto3==1.", "boto3==9."))
    result = in_shell(checkout, "lock_for serve,archive")
    assert result.returncode == 1
    assert "Run scripts/lock.sh" in result.stderr
    (checkout / "pyproject.toml").write_text(text.replace("line-length = 118", "line-length = 119"))
    assert in_shell(checkout, "lock_for serve,archive").returncode == 0, "no pin has changed"
    (checkout / "locks" / "serve.txt").unlink()
    assert in_shell(checkout, "lock_for serve,archive").returncode == 1


def test_the_bill_of_materials_is_of_the_image() -> None:
    document = json.loads((ROOT / "locks" / "sbom.json").read_text())
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    named = {
        (part["name"].lower().replace("_", "-").replace(".", "-"), part["version"]) for part in document["components"]
    }
    for package, versions in locked("image").items():
        assert any((package, version) in named for version in versions), package
    assert ("netty-all", "4.1.53.Final") in named
