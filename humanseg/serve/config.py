"""Renders the templates in config/ for one server."""

from __future__ import annotations

from pathlib import Path
from string import Template
from xml.sax.saxutils import escape

from humanseg.serve.settings import ServeSettings

CONFIG = Path(__file__).resolve().parents[2] / "config"
# TorchServe 0.12 always starts its gRPC management, on any address that can be bound. TCP has no multicast (RFC 9293,
# 3.9.2.3), so nobody can connect to a listener on such an address, neither from this host nor from another.
NOWHERE = "224.0.0.1"


def render(settings: ServeSettings) -> Path:
    """Write TorchServe's configuration into STATE_DIR and return the path of config.properties."""
    values = {
        **{name: str(port) for name, port in settings.ports.items()},
        "INFERENCE_ADDRESS": settings.inference_address,
        "METRICS_ADDRESS": settings.metrics_address,
        "MANAGEMENT_ADDRESS": settings.management_url,
        "GRPC_MANAGEMENT_ADDRESS": "127.0.0.1" if settings.grpc_management_port else NOWHERE,
        "GRPC_MANAGEMENT_PORT": str(settings.grpc_management_port or 0),
        "STATE_DIR": str(settings.state_dir),
        "STATE_DIR_PATTERN": as_pattern(str(settings.state_dir)),
        "WORKERS": str(settings.workers),
        # Only a name, not a real port: each server has its own ten thousand.
        "INITIAL_WORKER_PORT": str(settings.ports["INFERENCE_PORT"] * 10_000),
    }
    in_xml = {name: escape(value) for name, value in values.items()}
    (settings.state_dir / "metrics.yaml").write_text((CONFIG / "metrics.yaml").read_text())
    (settings.state_dir / "log4j2.xml").write_text(_fill(CONFIG / "log4j2.xml", in_xml))
    path = settings.state_dir / "config.properties"
    path.write_text(_fill(CONFIG / "config.properties", {name: in_java(text) for name, text in values.items()}))
    return path


def as_pattern(text: str) -> str:
    r"""A java.util.regex pattern that matches exactly `text`, without commas, which TorchServe uses as a separator.

    >>> as_pattern("/srv/a,b+c")
    '/srv/a\\x{2c}b\\x{2b}c'
    """
    plain = "/_-"
    return "".join(
        character
        if (character.isascii() and character.isalnum()) or character in plain
        else f"\\x{{{ord(character):x}}}"
        for character in text
    )


def in_java(text: str) -> str:
    """Escape `text` for java.util.Properties: ISO 8859-1, with a backslash as the escape."""
    units = text.replace("\\", "\\\\").encode("utf-16-be")
    codes = (int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2))
    return "".join(chr(code) if code < 128 else f"\\u{code:04x}" for code in codes)


def _fill(template: Path, values: dict[str, str]) -> str:
    return Template(template.read_text()).safe_substitute(values)
