"""Foreign images are named by digest, and the script that does it believes the registry alone."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType

import pytest

from tests.running import ROOT

OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64
NOT_YET = {"chrislusf/seaweedfs:4.00"}  # no registry was in reach, and no other source names its digest


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pin_images", ROOT / "scripts" / "pin_images.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Registry(ThreadingHTTPServer):
    """Speaks as much of the distribution protocol as a pull does, with a token like Docker Hub's."""

    digest = NEW
    asked: list[str]


@pytest.fixture
def registry() -> Iterator[Registry]:
    class Handler(BaseHTTPRequestHandler):
        server: Registry

        def do_GET(self) -> None:
            self.server.asked.append(self.path)
            body = json.dumps({"token": "let-me-in"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_HEAD(self) -> None:
            if self.headers.get("Authorization") != "Bearer let-me-in":
                self.send_response(401)
                realm = f"http://{self.headers['Host']}/token"
                self.send_header("WWW-Authenticate", f'Bearer realm="{realm}",service="registry"')
            elif "image.index" not in self.headers["Accept"]:
                self.send_response(404)  # of one architecture only
            else:
                self.send_response(200)
                self.send_header("Docker-Content-Digest", self.server.digest)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = Registry(("127.0.0.1", 0), Handler)
    server.asked = []
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def checkout(script: ModuleType, registry: Registry, tmp_path: Path) -> Path:
    """The files that name images, all from the fake registry."""
    for name in script.FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    host = f"127.0.0.1:{registry.server_port}"
    (tmp_path / "Dockerfile").write_text("ARG BASE=debian:12\nFROM ${BASE}\n".replace("debian", f"{host}/debian"))
    (tmp_path / "compose.yaml").write_text(
        f"services:\n  a:\n    image: {host}/some/store:4@{OLD}\n  b:\n    image: humanseg\n"
    )
    return tmp_path


def test_every_foreign_image_has_a_digest(script: ModuleType) -> None:
    images = [match for name in script.FILES for match in script.IMAGE.finditer((ROOT / name).read_text())]
    without = {f"{image['name']}:{image['tag']}" for image in images if not image["digest"]}
    assert without <= NOT_YET
    assert any(image["name"] == "debian" for image in images)
    named = "\n".join((ROOT / name).read_text() for name in script.FILES)
    assert len(re.findall(r"^ *-? *image:", named, re.MULTILINE)) == len(
        re.findall(r"^ *-? *image: *(?:humanseg$|[^\n]*:)", named, re.MULTILINE)
    ), "an image without a tag is none that can be pinned"


def test_a_tag_becomes_what_its_registry_says(script: ModuleType, registry: Registry, checkout: Path) -> None:
    assert script.main(["--check"], checkout, "http") == 1
    assert OLD in (checkout / "compose.yaml").read_text(), "--check changes nothing"
    assert script.main([], checkout, "http") == 0
    assert f"/debian:12@{NEW}\n" in (checkout / "Dockerfile").read_text()
    compose = (checkout / "compose.yaml").read_text()
    assert f"/some/store:4@{NEW}\n" in compose
    assert "image: humanseg\n" in compose
    assert script.main(["--check"], checkout, "http") == 0
    assert any("repository:some/store:pull" in path for path in registry.asked)
    registry.digest = "sha256:" + "c" * 64
    assert script.main(["--check"], checkout, "http") == 1, "somebody moved the tag"


@pytest.mark.parametrize("digest", ["", "sha256:short", "md5:" + "a" * 64, NEW + "\nFROM evil"])
def test_what_is_no_digest_is_never_written(
    script: ModuleType, registry: Registry, checkout: Path, digest: str
) -> None:
    registry.digest = digest.replace("\n", " ")
    before = (checkout / "Dockerfile").read_text()
    assert script.main([], checkout, "http") == 2
    assert (checkout / "Dockerfile").read_text() == before


def test_a_registry_that_is_away_is_no_yes(script: ModuleType, checkout: Path, capsys: Callable[..., object]) -> None:
    (checkout / "Dockerfile").write_text("ARG BASE=127.0.0.1:1/debian:12\n")
    assert script.main(["--check"], checkout, "http") == 2


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("debian", ("registry-1.docker.io", "library/debian")),
        ("prom/prometheus", ("registry-1.docker.io", "prom/prometheus")),
        ("quay.io/a/b", ("quay.io", "a/b")),
        ("localhost/a", ("localhost", "a")),
    ],
)
def test_names_are_read_as_docker_reads_them(script: ModuleType, name: str, place: tuple[str, str]) -> None:
    assert script.place_of(name) == place
