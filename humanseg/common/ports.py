"""Free ports for tests and benchmarks, without dependencies."""

from __future__ import annotations

import contextlib
import os
import socket
import time


def free_ports(count: int) -> list[int]:
    """Unused ports below the kernel's ephemeral range."""
    ports: list[int] = []
    with contextlib.ExitStack() as held:
        start = 10_000 + (os.getpid() * 97 + time.monotonic_ns() // 1000) % 20_000
        for port in range(start, 32_000):
            probe = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                ports.append(port)
            if len(ports) == count:
                return ports
    raise RuntimeError("no free ports")
