"""A .mar is a program: who can bring one in, and from where?"""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import grpc
import pytest
import requests

from humanseg.client import HumansegError, Management
from humanseg.common.ports import free_ports
from humanseg.serve.config import NOWHERE
from tests.running import MODEL, Server, start_server
from tests.security.protobuf import registration

pytestmark = pytest.mark.slow

REGISTER = "/org.pytorch.serve.grpc.management.ManagementAPIsService/RegisterModel"
# As a web page sends it without asking first: no preflight stands before a POST of plain text.
PAGE = {"content-type": "text/plain", "origin": "https://evil.example", "referer": "https://evil.example/"}


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A STATE_DIR whose name means something else in a pattern, a URL, and a list."""
    return tmp_path_factory.mktemp("state") / "a.(b)+,é $x"


@pytest.fixture(scope="module")
def marker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that exists once foreign code has run."""
    return tmp_path_factory.mktemp("marker") / "it-ran"


@pytest.fixture(scope="module")
def open_server(state_dir: Path) -> Iterator[Server]:
    """Management on TCP, by HTTP and gRPC: as open as it can be set."""
    (port,) = free_ports(1)
    running = start_server(state_dir, GRPC_MANAGEMENT_PORT=str(port), ARCHIVE_BUCKET="none")
    yield running
    running.stop()


def foreign_mar(path: Path, marker: Path) -> Path:
    """A model archive whose handler leaves a mark when it is loaded."""
    code = f"from pathlib import Path\nPath({str(marker)!r}).touch()\n\ndef handle(data, context):\n    return []\n"
    model = {"modelName": "foreign", "handler": "evil.py:handle", "modelVersion": "1.0"}
    manifest = {"createdOn": "", "runtime": "python", "model": model, "archiverVersion": "0.12.0"}
    with zipfile.ZipFile(path, "w") as mar:
        mar.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        mar.writestr("evil.py", code)
    return path


def spellings(store: Path, mar: Path) -> list[str]:
    """Ways to name a file outside of the model store."""
    up = os.path.relpath(mar, store)
    dots = up.replace("..", "%2e%2e")
    return [
        *(mar.as_uri(), f"file://{mar}", str(mar), up, dots, up.replace("/", "%2f"), quote(dots, safe="")),
        *(f"file://{store}/{up}", f"file://{store}/{dots}", f"{store.as_uri()}/{dots}", f"{store.as_uri()}/{up}"),
        *(f"file://{store}/%252e%252e/{mar.name}", f"file://{store}/..;/{mar.name}", f"file://{store}/./{dots}"),
        *(f"file://localhost{store}/{dots}", f"file://{store}\\..\\..\\{mar.name}", f"file://{store}/x?/../{dots}"),
        *(f"FILE://{store}/{dots}", f"file:{mar}", f"jar:file:{mar}!/", f"http://127.0.0.1:9/{mar.name}"),
    ]


def test_no_spelling_reaches_a_model_archive_outside_of_the_store(
    open_server: Server, tmp_path: Path, marker: Path
) -> None:
    mar = foreign_mar(tmp_path / "foreign.mar", marker)
    port = open_server.environment["GRPC_MANAGEMENT_PORT"]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for number, url in enumerate(spellings(open_server.state_dir / "model_store", mar)):
            asked = {"url": url, "model_name": f"foreign{number}", "initial_workers": "1", "synchronous": "true"}
            for path in ("models", "workflows"):
                address = f"{open_server.management_url}/{path}"
                answer = requests.post(address, params=asked, headers=PAGE, timeout=60)
                assert answer.status_code >= 400, (path, url, answer.text)
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(REGISTER)(registration(url, f"by-grpc{number}"), timeout=60)
    assert not marker.exists()
    known = requests.get(f"{open_server.management_url}/models", timeout=10).json()["models"]
    assert [model["modelName"] for model in known] == [MODEL]


def test_what_lies_in_the_store_is_registered_by_name(open_server: Server, tmp_path: Path) -> None:
    """The test above would pass on a server that registers nothing."""
    seen = tmp_path / "it-ran"
    foreign_mar(open_server.state_dir / "model_store" / "inside.mar", seen)
    with Management(open_server.management_url) as management:
        management.register("inside.mar", model="inside")
        assert seen.exists()
        management.unregister("inside", "1.0", drain=0)


def test_what_a_web_page_can_do_on_tcp(open_server: Server) -> None:
    """SECURITY.md says it: a page can send a POST and not read the answer; after DNS rebinding it can do all.

    It can start and stop what the store holds already. It brings nothing in.
    """
    management = open_server.management_url
    answer = requests.post(f"{management}/models", params={"url": "missing.mar"}, headers=PAGE, timeout=30)
    assert answer.status_code == 404
    assert "access-control-allow-origin" not in answer.headers  # the page can't read it
    preflight = {**PAGE, "access-control-request-method": "DELETE"}
    answer = requests.options(f"{management}/models/{MODEL}", headers=preflight, timeout=30)
    assert "access-control-allow-methods" not in answer.headers  # and PUT and DELETE are never sent
    rebound = requests.get(f"{management}/models", headers={"host": "evil.example"}, timeout=30)
    assert rebound.status_code == 200  # TorchServe looks at no Host: hence MANAGEMENT_ADDRESS=unix


@pytest.fixture(scope="module")
def closed_server() -> Iterator[Server]:
    """Management on a socket, as in the container, in a folder that everybody may enter (pytest's own is closed)."""
    with tempfile.TemporaryDirectory(prefix="humanseg-test-") as folder:
        Path(folder).chmod(0o755)
        state = Path(folder) / "state"
        state.mkdir(mode=0o755)  # as an older version left it
        running = start_server(state, MANAGEMENT_ADDRESS="unix", ARCHIVE_BUCKET="none")
        yield running
        running.stop()


def listening(pid: int) -> set[tuple[str, int]]:
    """(address, port) of every TCP listener of the processes of the session that `pid` leads."""
    own = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _session(entry) == pid}
    inodes = set()
    for member in own:
        for link in Path(f"/proc/{member}/fd").iterdir():
            try:
                target = str(link.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    sessions = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and columns[9] in inodes:
                address, port = columns[1].split(":")
                sessions.add((socket.inet_ntoa(bytes.fromhex(address[-8:])[::-1]), int(port, 16)))
    return sessions


def _session(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[3])
    except OSError:
        return -1


def test_management_on_a_socket_leaves_no_management_port(closed_server: Server) -> None:
    ours = {int(port) for name, port in closed_server.environment.items() if name.endswith("_PORT")}
    reachable = {port for address, port in listening(closed_server.process.pid) if address != NOWHERE}
    assert reachable == ours - {int(closed_server.environment["MANAGEMENT_PORT"])}


def test_nobody_connects_to_grpc_management_unless_it_was_asked_for(closed_server: Server) -> None:
    (port,) = {port for address, port in listening(closed_server.process.pid) if address == NOWHERE}
    for address in (NOWHERE, "127.0.0.1", "0.0.0.0", socket.gethostbyname(socket.gethostname())):
        with pytest.raises(OSError, match="refused|unreachable"):
            socket.create_connection((address, port), timeout=5)


def test_the_socket_lists_registers_and_unregisters(closed_server: Server, tmp_path: Path) -> None:
    seen = tmp_path / "it-ran"
    foreign_mar(closed_server.state_dir / "model_store" / "inside.mar", seen)
    with Management(f"unix:{closed_server.state_dir}/management.sock") as management:
        assert [model.name for model in management.models()] == [MODEL]
        management.register("inside.mar", model="inside")
        assert {model.name for model in management.models()} == {MODEL, "inside"}
        management.unregister("inside", "1.0", drain=0)
        assert [model.name for model in management.models()] == [MODEL]
    (closed_server.state_dir / "model_store" / "inside.mar").unlink()


def test_the_command_line_finds_the_socket(closed_server: Server) -> None:
    environment = {**os.environ, "MANAGEMENT_ADDRESS": "unix", "STATE_DIR": str(closed_server.state_dir)}
    command = [str(Path(sys.executable).parent / "humanseg"), "status", "--json"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(result.stdout)[0]["name"] == MODEL


def test_a_socket_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with Management(f"unix:{tmp_path}/none.sock", retries=0) as management, pytest.raises(HumansegError) as caught:
        management.models()
    assert "no connection to unix:" in str(caught.value)
    assert "No such file" in str(caught.value)


def test_no_other_user_looks_into_the_state_of_a_server(closed_server: Server) -> None:
    private = [closed_server.state_dir, *closed_server.state_dir.rglob("*")]
    for path in private:
        assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0 or path.is_symlink(), path


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_another_user_reaches_neither_the_socket_nor_the_logs(closed_server: Server) -> None:
    script = (
        "import socket, sys\n"
        "try:\n    socket.socket(socket.AF_UNIX).connect(sys.argv[1] + '/management.sock')\n"
        "except PermissionError:\n    pass\n"
        "else:\n    sys.exit('connected')\n"
        "try:\n    open(sys.argv[1] + '/logs/ts_log.log')\n"
        "except PermissionError:\n    pass\n"
        "else:\n    sys.exit('read')\n"
    )
    become = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
    subprocess.run([*become, "/usr/bin/python3", "-c", script, str(closed_server.state_dir)], check=True)
