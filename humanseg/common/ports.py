"""Free ports for tests and benchmarks, without dependencies."""

from __future__ import annotations

import os
import socket
import time
from collections import deque

# Above those of the embedded store (humanseg/archive/ship/local_store.py) and below Linux's ephemeral range.
LOWEST, HIGHEST = 26_200, 32_700
# A socket that is bound and does not listen keeps other callers of `free_ports` away, and lets any server listen that
# sets SO_REUSEADDR, as practically all do (socket(7)). A server that is starting takes seconds until it listens.
_reserved: deque[socket.socket] = deque()
_MOST_RESERVED = 64


def free_ports(count: int) -> list[int]:
    """Unused ports, reserved until this process has asked for 64 more. Raises RuntimeError if all are in use."""
    ports: list[int] = []
    span = HIGHEST - LOWEST
    start = (os.getpid() * 97 + time.monotonic_ns() // 1000) % span
    for step in range(span):
        port = LOWEST + (start + step) % span
        probe = socket.socket()
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            probe.close()
            continue
        # Only now: two sockets that both set it may bind the same port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _reserved.append(probe)
        if len(_reserved) > _MOST_RESERVED:
            _reserved.popleft().close()
        ports.append(port)
        if len(ports) == count:
            return ports
    raise RuntimeError(f"no free ports from {LOWEST} to {HIGHEST}")
