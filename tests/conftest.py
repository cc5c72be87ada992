"""Fixtures of all tests: a shared server, further servers, and the test photo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import requests
from PIL import Image

from tests.running import MODEL, ROOT, Server, start_server

# Two shared cores: a slow example is no finding. The same examples each time, so that CI can be repeated.
hypothesis.settings.register_profile("ours", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ours")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most slow tests come first, so that two processes end at about the same time."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """A function that starts further servers, for tests that change, kill or configure theirs.

    make_server(wait=True, **environment): see `start_server`. All are stopped when the test is over.
    """
    started: list[Server] = []

    def make(*, wait: bool = True, **environment: str) -> Server:
        folder = tmp_path / f"state{len(started)}"
        server = start_server(Path(environment.pop("STATE_DIR", str(folder))), wait=wait, **environment)
        started.append(server)
        return server

    yield make
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that all tests share: two workers, embedded store, defaults. Tests must not change it."""
    running = start_server(tmp_path_factory.mktemp("shared-server"), WORKERS="2")
    yield running
    running.stop()


@pytest.fixture(scope="session")
def server_at_start(server: Server) -> dict[str, Any]:
    """The state of the shared server before the first test."""
    return state_of(server)


@pytest.fixture(autouse=True)
def shared_server_is_unchanged(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that changes the shared server: later tests would depend on the order."""
    if "server" not in request.fixturenames:
        yield
        return
    before = request.getfixturevalue("server_at_start")
    yield
    assert state_of(request.getfixturevalue("server")) == before, (
        "the test changed the shared server: use make_server"
    )


def state_of(server: Server) -> dict[str, Any]:
    """Models, versions and workers of a server, and the files in its model store."""
    versions = requests.get(f"{server.management_url}/models/{MODEL}/all", timeout=60).json()
    return {
        "models": requests.get(f"{server.management_url}/models", timeout=60).json(),
        "workers": {entry["modelVersion"]: [worker["pid"] for worker in entry["workers"]] for entry in versions},
        "store": sorted((path.name, path.stat().st_size) for path in (server.state_dir / "model_store").iterdir()),
    }


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """The public-domain portrait of Eileen Collins, uint8 [512, 512, 3]."""
    return np.array(Image.open(ROOT / "tests" / "photos" / "astronaut.jpg").convert("RGB"))


@pytest.fixture(scope="session")
def astronaut_jpeg() -> bytes:
    """The same as the JPEG file it is."""
    return (ROOT / "tests" / "photos" / "astronaut.jpg").read_bytes()
