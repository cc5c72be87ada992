"""The templates in config/, filled in for one server."""

from __future__ import annotations

from pathlib import Path
from string import Template

from serve.settings import ServeSettings

CONFIG = Path(__file__).resolve().parent.parent / "config"


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
    for name in ("metrics.yaml", "log4j2.xml"):
        (settings.state_dir / name).write_text(_fill(CONFIG / name, values))
    path = settings.state_dir / "config.properties"
    path.write_text(_fill(CONFIG / "config.properties", values))
    return path


def _fill(template: Path, values: dict[str, str]) -> str:
    return Template(template.read_text()).safe_substitute(values)
