"""Another user of the machine, at every port of the embedded store, in every protocol that it speaks."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest
import requests
from botocore.exceptions import ClientError

from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.ship.destination import Destination
from humanseg.archive.ship.local_store import GRPC_OFFSET, LocalStore
from humanseg.archive.ship.store import Store
from humanseg.archive.ship.store_security import write_security
from humanseg.archive.ship.weed import find_weed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root"),
]
BECOME = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]
PHOTO = b"a photo of somebody"


@pytest.fixture(scope="module")
def attacker() -> Iterator[Path]:
    """A folder of the other user, with weed in it."""
    with tempfile.TemporaryDirectory(prefix="humanseg-attacker-") as folder:
        place = Path(folder)
        weed = find_weed()
        assert weed
        shutil.copy(weed, place / "weed")
        os.chown(place, 54321, 54321)
        place.chmod(0o755)
        yield place


@pytest.fixture(scope="module")
def store() -> Iterator[LocalStore]:
    """A running store with a photo in it, in a folder whose parents everybody may enter."""
    with tempfile.TemporaryDirectory(prefix="humanseg-store-") as folder:
        Path(folder).chmod(0o755)
        with LocalStore(Path(folder) / "store") as running:
            running.open_store().client.put_object(Bucket="archive", Key="guarded", Body=PHOTO)
            yield running


def ports(store: LocalStore) -> dict[str, int]:
    return dict(json.loads((store.folder / "ports.json").read_text()))


def shell(attacker: Path, store: LocalStore, *lines: str) -> str:
    """What `weed shell` says to the other user."""
    listening = ports(store)
    command = [*BECOME, str(attacker / "weed"), "shell"]
    command += [f"-master=127.0.0.1:{listening['master']}", f"-filer=127.0.0.1:{listening['filer']}"]
    try:
        result = subprocess.run(
            command,
            input="\n".join([*lines, "exit", ""]),
            cwd=attacker,
            env={"HOME": str(attacker), "TMPDIR": str(attacker), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=15,
        )
    except subprocess.TimeoutExpired as waited:  # it goes on asking a port that does not answer it
        return str((waited.stdout or b"").decode() + (waited.stderr or b"").decode())
    return result.stdout + result.stderr


def test_the_shell_lists_nothing_and_makes_nobody_an_administrator(attacker: Path, store: LocalStore) -> None:
    become_admin = "s3.configure -user=thief -access_key=thief -secret_key=thiefthief -actions=Admin -apply"
    output = shell(attacker, store, "fs.ls /buckets/archive", "fs.cat /buckets/archive/guarded", become_admin)
    assert "guarded" not in output
    assert "somebody" not in output
    good = Destination.find({}, store.folder.parent)
    thief = Destination(good.bucket, good.prefix, good.endpoint_url, good.region, "thief", "thiefthief")
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        Store.open(thief, ArchiveSettings()).client.list_objects_v2(Bucket="archive")


def test_the_owner_of_the_store_still_has_a_shell(store: LocalStore, attacker: Path) -> None:
    """The test above would pass on a shell that never works."""
    listening = ports(store)
    command = [
        str(find_weed()),
        "shell",
        f"-master=127.0.0.1:{listening['master']}",
        f"-filer=127.0.0.1:{listening['filer']}",
    ]
    result = subprocess.run(
        command,
        input="fs.ls /buckets/archive\nexit\n",
        cwd=store.folder,
        env={**os.environ, "TMPDIR": str(attacker)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "guarded" in result.stdout


@pytest.mark.parametrize("name", ["s3", "master", "volume", "filer", "admin"])
def test_grpc_asks_for_a_certificate(store: LocalStore, attacker: Path, name: str) -> None:
    """In the clear, with TLS and no certificate, and with a certificate of somebody else's making."""
    address = f"127.0.0.1:{ports(store)[name] + GRPC_OFFSET}"
    theirs = attacker / f"tls-{name}"
    theirs.mkdir()
    write_security(theirs)
    authority = (store.folder / "tls" / "ca.pem").read_bytes()  # no secret
    own = ((theirs / "tls" / "key.pem").read_bytes(), (theirs / "tls" / "cert.pem").read_bytes())
    options = [("grpc.ssl_target_name_override", "localhost")]
    channels = [
        grpc.insecure_channel(address),
        grpc.secure_channel(address, grpc.ssl_channel_credentials(authority), options),
        grpc.secure_channel(address, grpc.ssl_channel_credentials(authority, *own), options),
    ]
    method = "/filer_pb.SeaweedFiler/LookupDirectoryEntry"
    for channel in channels:
        with channel, pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(method)(b"", timeout=10)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE  # refused before any method is looked up
    mine = ((store.folder / "tls" / "key.pem").read_bytes(), (store.folder / "tls" / "cert.pem").read_bytes())
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(authority, *mine), options) as channel:
        with pytest.raises(grpc.RpcError) as answered:
            channel.unary_unary("/no.such/Method")(b"", timeout=10)
        assert answered.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_http_hands_out_nothing_on_any_port(store: LocalStore) -> None:
    assert store.process
    listening = psutil.Process(store.process.pid).net_connections("tcp")
    paths = ("", "buckets/archive/guarded", "archive/guarded", "dir/assign", "dir/lookup?volumeId=1", "vol/status",
             "1,01637037d6", "3,01", "api/files?path=/", "debug/pprof/heap", "cluster/ps", "admin/leave", "status",
             "?proxyChunkId=3,01637037d6", "collection/delete?collection=archive")  # fmt: skip
    for port in {connection.laddr.port for connection in listening if connection.status == psutil.CONN_LISTEN}:
        for path in paths:
            for method in ("GET", "POST", "DELETE"):
                try:
                    answer = requests.request(method, f"http://127.0.0.1:{port}/{path}", timeout=5)
                except requests.RequestException:
                    continue
                assert b"somebody" not in answer.content
    kept = store.open_store().client.get_object(Bucket="archive", Key="guarded")["Body"].read()
    assert kept == PHOTO


def test_unix_sockets_are_closed_to_others(store: LocalStore) -> None:
    assert store.process
    own = [
        connection.laddr
        for connection in psutil.Process(store.process.pid).net_connections("unix")
        if connection.laddr
    ]
    assert own
    for path in own:
        assert stat.S_IMODE(Path(path).stat().st_mode) & 0o077 == 0, path
        code = f"import socket; socket.socket(socket.AF_UNIX).connect({path!r})"
        result = subprocess.run([*BECOME, "/usr/bin/python3", "-c", code], capture_output=True, text=True)
        assert "PermissionError" in result.stderr


def test_files_and_keys_are_the_owner_s(store: LocalStore) -> None:
    secrets = ["environment", "security.toml", *(f"tls/{name}.pem" for name in ("ca", "cert", "key"))]
    for path in (store.folder, *(store.folder / name for name in ("data", "tls", "tmp", *secrets))):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    listed = subprocess.run([*BECOME, "/bin/ls", str(store.folder)], capture_output=True, text=True)
    assert "Permission denied" in listed.stderr


def test_each_start_has_certificates_of_its_own(tmp_path: Path) -> None:
    seen = set()
    for _ in range(2):
        write_security(tmp_path)
        seen.add(ssl.PEM_cert_to_DER_cert((tmp_path / "tls" / "cert.pem").read_text()))
        assert {path.name for path in (tmp_path / "tls").iterdir()} == {"ca.pem", "cert.pem", "key.pem"}
    assert len(seen) == 2


def test_a_stopped_store_leaves_nothing_in_tmp(tmp_path: Path) -> None:
    before = set(Path("/tmp").iterdir())
    with LocalStore(tmp_path / "store") as running:
        with socket.create_connection(("127.0.0.1", ports(running)["s3"])):
            pass
        own = ports(running)
    numbers = [str(port + step) for port in own.values() for step in (0, GRPC_OFFSET)]
    new = {path.name for path in set(Path("/tmp").iterdir()) - before}
    assert [name for name in new if name.startswith("weed") or any(number in name for number in numbers)] == []
