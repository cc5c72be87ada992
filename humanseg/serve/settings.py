"""What serve.sh reads from the environment, validated once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PORTS = {
    "INFERENCE_PORT": 8080,
    "MANAGEMENT_PORT": 8081,
    "METRICS_PORT": 8082,
    "GRPC_INFERENCE_PORT": 7070,
}
LONGEST_SOCKET = 107  # bytes of a unix socket's path (unix(7))


class SettingsError(ValueError):
    """An environment variable that can't be used: one line with its name, value and a valid example."""


@dataclass(frozen=True)
class ServeSettings:
    """ports: by the names of `PORTS`. workers: processes, each with `threads` threads; both at least 1.

    state_dir: absolute; logs, spool, rendered configuration. inference_address, metrics_address: where those
    two listen (management never leaves this host). management_socket: a unix socket in place of MANAGEMENT_PORT.
    grpc_management_port: None is off. stop_deadline: seconds that stopping may take, draining the archive included.
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
        """Where photos go."""
        return f"http://{reachable(self.inference_address)}:{self.ports['INFERENCE_PORT']}"

    @property
    def management_url(self) -> str:
        """Where models are scaled and registered: `http://...`, or `unix:/...`."""
        if self.management_socket:
            return f"unix:{self.management_socket}"
        return f"http://127.0.0.1:{self.ports['MANAGEMENT_PORT']}"


def reachable(address: str) -> str:
    """The address by which this host itself reaches what listens on `address`."""
    return "127.0.0.1" if address in ("0.0.0.0", "") else address


def read_settings(environment: Mapping[str, str]) -> ServeSettings:
    """Validate the environment. Raises SettingsError."""
    cores = len(os.sched_getaffinity(0))
    workers = _whole(environment, "WORKERS", cores, 1, 1024)
    ports = {name: _whole(environment, name, default, 1, 65535) for name, default in PORTS.items()}
    grpc_management = environment.get("GRPC_MANAGEMENT_PORT", "").strip()
    if grpc_management:
        ports["GRPC_MANAGEMENT_PORT"] = _whole(environment, "GRPC_MANAGEMENT_PORT", 7071, 1, 65535)
    state_dir = Path(environment.get("STATE_DIR") or ".state").resolve()
    management_socket = _management_socket(environment.get("MANAGEMENT_ADDRESS", "").strip(), state_dir)
    if management_socket:
        del ports["MANAGEMENT_PORT"]
    by_port: dict[int, str] = {}
    for name, port in ports.items():
        if by_port.setdefault(port, name) != name:
            raise SettingsError(f"{name} and {by_port[port]} are both {port}. Give each its own port.")
    return ServeSettings(
        ports=ports,
        workers=workers,
        threads=max(1, cores // workers),
        state_dir=state_dir,
        inference_address=environment.get("INFERENCE_ADDRESS") or "127.0.0.1",
        metrics_address=environment.get("METRICS_ADDRESS") or "127.0.0.1",
        management_socket=management_socket,
        grpc_management_port=ports.get("GRPC_MANAGEMENT_PORT"),
        stop_deadline=float(_whole(environment, "STOP_DEADLINE", 25, 1, 3600)),
    )


def _management_socket(address: str, state_dir: Path) -> Path | None:
    """The socket that MANAGEMENT_ADDRESS names; None for TCP on loopback."""
    if address in ("", "127.0.0.1"):
        return None
    kind, _, name = address.partition(":")
    if kind != "unix":
        raise SettingsError(
            f"MANAGEMENT_ADDRESS={address!r}: whoever reaches the management API runs code here. "
            "Use 127.0.0.1, unix (a socket in STATE_DIR), or unix:/path/to/socket."
        )
    path = state_dir / (name or "management.sock")
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        raise SettingsError(
            f"MANAGEMENT_ADDRESS: {path} is longer than a socket's path may be ({LONGEST_SOCKET} bytes). "
            "Name a shorter one, for example unix:/run/humanseg/management.sock"
        )
    return path


def _whole(environment: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = environment.get(name, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise SettingsError(f"{name}={text!r} is not a whole number from {least} to {most}, such as {default}.")
    return int(text)
