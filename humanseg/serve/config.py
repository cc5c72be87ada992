"""The templates in config/, filled in for one server."""

from __future__ import annotations

from pathlib import Path
from string import Template
from xml.sax.saxutils import escape

from humanseg.serve.settings import ServeSettings

CONFIG = Path(__file__).resolve().parents[2] / "config"


def render(settings: ServeSettings) -> Path:
    """Write what TorchServe reads into STATE_DIR and return the path of config.properties."""
    values = {
        **{name: str(port) for name, port in settings.ports.items()},
        "INFERENCE_ADDRESS": settings.inference_address,
        "METRICS_ADDRESS": settings.metrics_address,
        "STATE_DIR": str(settings.state_dir),
        "WORKERS": str(settings.workers),
        # Only a name, no real port: each server has ten thousand of its own.
        "INITIAL_WORKER_PORT": str(settings.ports["INFERENCE_PORT"] * 10_000),
    }
    in_xml = {name: escape(value) for name, value in values.items()}
    (settings.state_dir / "metrics.yaml").write_text((CONFIG / "metrics.yaml").read_text())
    (settings.state_dir / "log4j2.xml").write_text(_fill(CONFIG / "log4j2.xml", in_xml))
    path = settings.state_dir / "config.properties"
    path.write_text(_fill(CONFIG / "config.properties", {name: in_java(text) for name, text in values.items()}))
    return path


def in_java(text: str) -> str:
    """`text` as java.util.Properties reads it back: ISO 8859-1, with a backslash as the escape."""
    units = text.replace("\\", "\\\\").encode("utf-16-be")
    codes = (int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2))
    return "".join(chr(code) if code < 128 else f"\\u{code:04x}" for code in codes)


def _fill(template: Path, values: dict[str, str]) -> str:
    return Template(template.read_text()).safe_substitute(values)
