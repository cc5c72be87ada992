"""The environment variables of serve.sh, validated once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from humanseg.common.names import state_dir
from humanseg.common.settings import SettingsError, from_environment, integer

LONGEST_SOCKET = 107  # bytes of a unix socket's path (unix(7))


@dataclass(frozen=True)
class ServeSettings:
    """ports: by the names of `PORTS`. workers: processes, each with `threads` threads; both at least 1.

    state_dir: absolute; logs, spool, rendered configuration. inference_address, metrics_address: addresses that those
    two listen on (management is always local). management_socket: a unix socket instead of MANAGEMENT_PORT.
    grpc_management_port: None is off. stop_deadline: grace period in seconds, including the archive's drain.
    """

    ports: Mapping[str, int]
    workers: int
    threads: int
    state_dir: Path
    inference_address: str = "127.0.0.1"
    metrics_address: str = "127.0.0.1"
    management_socket: Path | None = None
    grpc_management_port: int | None = None
    stop_deadline: float = 25.0

    @property
    def url(self) -> str:
        """The inference address."""
        return f"http://{reachable(self.inference_address)}:{self.ports['INFERENCE_PORT']}"

    @property
    def management_url(self) -> str:
        """The management address: `http://...`, or `unix:/...`."""
        if self.management_socket:
            return f"unix:{self.management_socket}"
        return f"http://127.0.0.1:{self.ports['MANAGEMENT_PORT']}"


def reachable(address: str) -> str:
    """The local address of a server that listens on `address`."""
    return "127.0.0.1" if address in ("0.0.0.0", "") else address


@dataclass(frozen=True)
class Variables:
    """The numeric variables, each with its rule."""

    inference_port: int = integer(8080, least=1, most=65535)
    management_port: int = integer(8081, least=1, most=65535)
    metrics_port: int = integer(8082, least=1, most=65535)
    grpc_inference_port: int = integer(7070, least=1, most=65535)
    grpc_management_port: int = integer(0, least=1, most=65535)  # 0: gRPC management is off
    workers: int = integer(0, least=1, most=1024)  # 0: one for each core
    stop_deadline: int = integer(25, least=1, most=3600)


PORTS = {
    field.name.upper(): field.default for field in fields(Variables) if field.name.endswith("_port") and field.default
}


def read_settings(environment: Mapping[str, str]) -> ServeSettings:
    """Validate the environment. Raises SettingsError."""
    given = from_environment(Variables, environment, {field.name: field.name.upper() for field in fields(Variables)})
    cores = len(os.sched_getaffinity(0))
    workers = given.workers or cores
    ports = {name: int(getattr(given, name.lower())) for name in PORTS}
    if given.grpc_management_port:
        ports["GRPC_MANAGEMENT_PORT"] = given.grpc_management_port
    state = state_dir(environment).resolve()
    management_socket = _management_socket(environment.get("MANAGEMENT_ADDRESS", "").strip(), state)
    if management_socket:
        del ports["MANAGEMENT_PORT"]
    by_port: dict[int, str] = {}
    for name, port in ports.items():
        if by_port.setdefault(port, name) != name:
            raise SettingsError(f"{name} and {by_port[port]} are both {port}. Set different ports.")
    return ServeSettings(
        ports=ports,
        workers=workers,
        threads=max(1, cores // workers),
        state_dir=state,
        inference_address=environment.get("INFERENCE_ADDRESS") or "127.0.0.1",
        metrics_address=environment.get("METRICS_ADDRESS") or "127.0.0.1",
        management_socket=management_socket,
        grpc_management_port=ports.get("GRPC_MANAGEMENT_PORT"),
        stop_deadline=float(given.stop_deadline),
    )


def _management_socket(address: str, state_dir: Path) -> Path | None:
    """The socket of MANAGEMENT_ADDRESS; None for TCP on loopback."""
    if address in ("", "127.0.0.1"):
        return None
    kind, _, name = address.partition(":")
    if kind != "unix":
        raise SettingsError(
            f"MANAGEMENT_ADDRESS={address!r} is not allowed: the management API lets clients run code on this host. "
            "Use 127.0.0.1, unix (a socket in STATE_DIR), or unix:/path/to/socket."
        )
    path = state_dir / (name or "management.sock")
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        raise SettingsError(
            f"MANAGEMENT_ADDRESS: {path} is longer than the limit for a socket's path ({LONGEST_SOCKET} bytes). "
            "Use a shorter one, e.g. unix:/run/humanseg/management.sock"
        )
    return path
