"""Free ports stay free for whoever asked, until a server listens on them."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from humanseg.archive.ship import local_store
from humanseg.common import ports
from humanseg.common.ports import free_ports


def listen(port: int) -> socket.socket:
    """Like TorchServe, weed, Prometheus and nearly every other server: with SO_REUSEADDR."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    server.listen()
    return server


def test_a_server_can_listen_on_them_and_again_after_a_restart() -> None:
    for port in free_ports(3):
        for _ in range(2):
            with listen(port), socket.create_connection(("127.0.0.1", port)):
                pass


def test_two_processes_never_get_the_same_while_their_servers_start() -> None:
    ours = free_ports(20)
    code = f"import humanseg.common.ports as p; p.LOWEST, p.HIGHEST = {min(ours)}, {max(ours) + 40}; "
    theirs = subprocess.check_output([sys.executable, "-c", code + "print(*p.free_ports(10))"], text=True).split()
    assert len(set(ours)) == 20
    assert not set(ours) & set(map(int, theirs))


def test_a_port_in_use_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setattr(ports, "LOWEST", port)
    monkeypatch.setattr(ports, "HIGHEST", port + 1)
    with listen(port), pytest.raises(RuntimeError, match=f"no free ports from {port}"):
        free_ports(1)


def test_none_is_one_that_an_embedded_store_may_choose() -> None:
    chosen = local_store._free_ports(50, ())
    assert not {*chosen, *(port + local_store.GRPC_OFFSET for port in chosen)} & set(free_ports(50))
    assert max(chosen) + local_store.GRPC_OFFSET < min(free_ports(50))
