"""The front line of deploy/front: answers keep their order, forms and idle connections end there."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
import requests
from PIL import Image

from humanseg.common.ports import free_ports
from tests.running import MODEL, ROOT, Server

CADDY = shutil.which("caddy")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CADDY is None, reason="needs caddy (Debian: apt install caddy)")]
WIDTHS = (3000, 64, 70, 80, 2500, 90, 96, 100, 110, 120, 130, 140)  # large ones among small: they take longer


@pytest.fixture(scope="module")
def front(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a front line before the shared server, as committed but for how long it is patient."""
    folder = tmp_path_factory.mktemp("front")
    text = (ROOT / "deploy" / "front" / "Caddyfile").read_text()
    for setting, quick in (("read_header 10s", "read_header 2s"), ("idle 60s", "idle 2s")):
        assert setting in text
        text = text.replace(setting, quick)
    (folder / "Caddyfile").write_text(text)
    (port,) = free_ports(1)
    environment = {"SITE": f":{port}", "UPSTREAM": server.url.removeprefix("http://")}
    environment |= {"HOME": str(folder), "PATH": os.environ["PATH"]}
    command = [str(CADDY), "run", "--config", str(folder / "Caddyfile")]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, env=environment, stderr=log) as process:
        try:
            end = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    assert process.poll() is None, (folder / "log").read_text()
                    assert time.monotonic() < end
                    time.sleep(0.1)
            yield port
        finally:
            process.terminate()


NGINX = """
daemon off; user root; pid {folder}/pid; error_log {folder}/log; events {{}}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream photos {{ server {upstream}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port}; client_max_body_size 64m;
    location / {{ proxy_pass http://photos; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


@pytest.fixture
def nginx(server: Server, tmp_path: Path) -> Iterator[int]:
    """The port of an nginx that keeps connections to the server open, as ingresses do."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(program).exists():
        pytest.skip("needs nginx (Debian: apt install nginx-light)")
    (port,) = free_ports(1)
    upstream = server.url.removeprefix("http://")
    (tmp_path / "nginx.conf").write_text(NGINX.format(folder=tmp_path, port=port, upstream=upstream))
    with subprocess.Popen([program, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)]) as process:
        try:
            end = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < end:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                time.sleep(0.1)
            yield port
        finally:
            process.terminate()


def pipelined(width: int) -> bytes:
    """A whole request for the JSON answer to a photo of this width."""
    file = io.BytesIO()
    Image.new("RGB", (width, width // 2), "grey").save(file, "jpeg")
    photo = file.getvalue()
    head = f"POST /predictions/{MODEL} HTTP/1.1\r\nHost: x\r\nx-archive: no\r\naccept: application/json\r\n"
    return f"{head}content-type: image/jpeg\r\ncontent-length: {len(photo)}\r\n\r\n".encode() + photo


def read_answer(stream: BinaryIO) -> dict[str, object]:
    head = [stream.readline()]
    while line := stream.readline().strip():
        head.append(line.lower())
    assert head[0].split()[1] == b"200", head
    length = next(int(line.partition(b":")[2]) for line in head if line.startswith(b"content-length:"))
    body = stream.read(length)
    assert body.startswith(b"{"), (head, body[:99])
    document: dict[str, object] = json.loads(body)
    return document


@pytest.mark.parametrize("proxy", ["front", "nginx"])
def test_pipelined_photos_are_answered_in_their_order(proxy: str, request: pytest.FixtureRequest) -> None:
    """Directly, TorchServe answers in the order in which its two workers are ready: another caller's mask."""
    port = request.getfixturevalue(proxy)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
            connection.sendall(b"".join(map(pipelined, WIDTHS)))
            with connection.makefile("rb") as stream:
                assert [read_answer(stream)["width"] for _ in WIDTHS] == list(WIDTHS)


@pytest.mark.parametrize("spelling", ["application/x-www-form-urlencoded", " Application/X-WWW-Form-URLEncoded; a=b"])
def test_web_forms_end_at_the_front(front: int, spelling: str) -> None:
    url = f"http://127.0.0.1:{front}/predictions/{MODEL}"
    with socket.create_connection(("127.0.0.1", front), timeout=60) as connection:
        head = f"POST /predictions/{MODEL} HTTP/1.1\r\nhost: x\r\ncontent-type: {spelling}\r\n"
        connection.sendall(f"{head}content-length: 30000000\r\n\r\na=1&".encode())  # the rest is never asked for
        assert connection.recv(4096).startswith(b"HTTP/1.1 415 ")
    answer = requests.post(url, data={"a": "1"}, timeout=60)
    assert (answer.status_code, answer.json()["type"]) == (415, "UnsupportedFormat")


@pytest.mark.parametrize(
    "sent", [b"", b"POST /predictions/x HTTP/1.1\r\nhost: x\r\n", b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n"]
)
def test_idle_and_dawdling_connections_are_ended(front: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", front), timeout=120) as connection:
        connection.sendall(sent)
        while connection.recv(4096):  # would wait 120 s, and fail, for a connection that stays
            pass


def test_photos_pass_and_nothing_else_does(front: int, astronaut_jpeg: bytes) -> None:
    url = f"http://127.0.0.1:{front}"
    headers = {"x-archive": "no"}
    answer = requests.post(f"{url}/predictions/{MODEL}", files={"image": astronaut_jpeg}, headers=headers, timeout=60)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert requests.get(f"{url}/predictions/{MODEL}", timeout=60).text.startswith("<!doctype html>")
    for path in ("/models", f"/models/{MODEL}/invoke", "/metrics", "/api-description", "/v1/models", "/"):
        assert requests.get(url + path, timeout=60).status_code == 404


def test_the_file_is_well_formed(tmp_path: Path) -> None:
    environment = {"SITE": ":8443", "HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    command = [str(CADDY), "validate", "--config", str(ROOT / "deploy" / "front" / "Caddyfile")]
    subprocess.run(command, env=environment, check=True, capture_output=True)
