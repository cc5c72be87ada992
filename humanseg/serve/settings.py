"""What serve.sh reads from the environment, validated once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from humanseg.common.names import state_dir
from humanseg.common.settings import SettingsError, from_environment, integer


@dataclass(frozen=True)
class ServeSettings:
    """ports: by the names of `PORTS`. workers: processes, each with `threads` threads; both at least 1.

    state_dir: absolute; logs, spool, rendered configuration. inference_address, metrics_address: where those
    two listen (management never leaves 127.0.0.1). stop_deadline: seconds that stopping may take, draining
    the archive included.
    """

    ports: Mapping[str, int]
    workers: int
    threads: int
    state_dir: Path
    inference_address: str = "127.0.0.1"
    metrics_address: str = "127.0.0.1"
    stop_deadline: float = 25.0

    @property
    def url(self) -> str:
        """Where photos go."""
        return f"http://{reachable(self.inference_address)}:{self.ports['INFERENCE_PORT']}"

    @property
    def management_url(self) -> str:
        """Where models are scaled and registered."""
        return f"http://127.0.0.1:{self.ports['MANAGEMENT_PORT']}"


def reachable(address: str) -> str:
    """The address by which this host itself reaches what listens on `address`."""
    return "127.0.0.1" if address in ("0.0.0.0", "") else address


@dataclass(frozen=True)
class Variables:
    """The numbers among the variables, each with its rule."""

    inference_port: int = integer(8080, least=1, most=65535)
    management_port: int = integer(8081, least=1, most=65535)
    metrics_port: int = integer(8082, least=1, most=65535)
    grpc_inference_port: int = integer(7070, least=1, most=65535)
    grpc_management_port: int = integer(7071, least=1, most=65535)
    workers: int = integer(0, least=1, most=1024)  # 0: one for each core
    stop_deadline: int = integer(25, least=1, most=3600)


PORTS = {each.name.upper(): each.default for each in fields(Variables) if each.name.endswith("_port")}


def read_settings(environment: Mapping[str, str]) -> ServeSettings:
    """Validate the environment. Raises SettingsError."""
    given = from_environment(Variables, environment, {each.name: each.name.upper() for each in fields(Variables)})
    cores = len(os.sched_getaffinity(0))
    workers = given.workers or cores
    ports = {name: int(getattr(given, name.lower())) for name in PORTS}
    by_port: dict[int, str] = {}
    for name, port in ports.items():
        if by_port.setdefault(port, name) != name:
            raise SettingsError(f"{name} and {by_port[port]} are both {port}. Give each its own port.")
    return ServeSettings(
        ports=ports,
        workers=workers,
        threads=max(1, cores // workers),
        state_dir=state_dir(environment).resolve(),
        inference_address=environment.get("INFERENCE_ADDRESS") or "127.0.0.1",
        metrics_address=environment.get("METRICS_ADDRESS") or "127.0.0.1",
        stop_deadline=float(given.stop_deadline),
    )
