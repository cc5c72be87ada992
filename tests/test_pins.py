"""Every pin of pyproject.toml has a wheel for every Python that it names, on both processors."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

from tests.running import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

pytestmark = pytest.mark.slow
PYTHONS = [(3, minor) for minor in range(10, 15)]
PROCESSORS = ("x86_64", "aarch64")
GLIBC = 35  # what OpenVINO's wheel for aarch64 needs: Debian 12, Ubuntu 22.04 and newer


def project() -> dict[str, object]:
    table: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def pins() -> list[Requirement]:
    groups = project()["optional-dependencies"]
    assert isinstance(groups, dict)
    every = {text for group in groups.values() for text in group if not text.startswith("humanseg")}
    return [Requirement(text) for text in sorted(every)]


def tags(python: tuple[int, int], processor: str) -> set[Tag]:
    """What an interpreter takes on Linux with such a glibc."""
    platforms = [f"manylinux_2_{minor}_{processor}" for minor in range(GLIBC, 16, -1)]
    platforms += [f"{name}_{processor}" for name in ("manylinux2014", "manylinux2010", "manylinux1", "linux")]
    own = cpython_tags(python, platforms=platforms)
    return {*own, *compatible_tags(python, f"cp{python[0]}{python[1]}", platforms)}


@pytest.fixture(scope="module")
def wheels() -> dict[str, list[str]]:
    """Names of the wheels that the index has of each pinned package; none of them is fetched."""

    def ask(name: str) -> tuple[str, list[str]]:
        command = [sys.executable, "-m", "pip", "index", "versions", "-vvv", "--pre", name]
        for _ in range(2):  # an index under load answers the second time
            result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
            wheels = set(re.findall(r"/([\w.+!-]+\.whl)", result.stdout + result.stderr))
            if wheels:
                break
        return name, sorted(wheels)

    names = sorted({canonicalize_name(pin.name) for pin in pins()})
    with ThreadPoolExecutor(4) as pool:
        answers = dict(pool.map(ask, names))
    if not any(answers.values()):
        pytest.skip("no package index can be reached")
    return answers


def test_the_pythons_are_those_that_the_project_names() -> None:
    bound = SpecifierSet(str(project()["requires-python"]))
    assert [minor for minor in range(5, 20) if f"3.{minor}.1" in bound] == [minor for _, minor in PYTHONS]
    script = (ROOT / "scripts" / "venv.sh").read_text()
    assert "(3, 10) <= sys.version_info[:2] <= (3, 14)" in script


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("python", PYTHONS, ids=lambda python: f"{python[0]}.{python[1]}")
def test_every_pin_has_a_wheel(wheels: dict[str, list[str]], python: tuple[int, int], processor: str) -> None:
    taken = tags(python, processor)
    environment = {
        **default_environment(),
        "python_version": f"{python[0]}.{python[1]}",
        "python_full_version": f"{python[0]}.{python[1]}.1",
        "platform_machine": processor,
    }
    missing = []
    for pin in pins():
        if pin.marker and not pin.marker.evaluate({key: str(value) for key, value in environment.items()}):
            continue
        fitting = [
            name
            for name in wheels[canonicalize_name(pin.name)]
            if parse(name)[0] in pin.specifier and parse(name)[1] & taken
        ]
        if not fitting:
            missing.append(str(pin))
    assert not missing


def parse(name: str) -> tuple[str, frozenset[Tag]]:
    _, version, _, tags_of_it = parse_wheel_filename(name)
    return str(version), tags_of_it
