"""Readiness: one real prediction. TorchServe's own /ping reports Healthy without a model."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import requests

from humanseg.common.names import MODEL_NAME
from humanseg.common.probe import PROBE
from humanseg.serve.process import StartError, check_ports
from humanseg.serve.settings import ServeSettings

# TorchServe's shutdown hook prints it after every start that failed, below the cause.
SHUTDOWN_NOISE = "RejectedExecutionException"
NOT_LOADED = "The model was not loaded: "  # logged by handler/segmentation_handler.py


def wait_until_ready(settings: ServeSettings, running: Callable[[], bool], *, seconds: float = 240.0) -> None:
    """Return after a successful prediction. Raises StartError if the server exits or the model can't be loaded."""
    end = time.monotonic() + seconds
    model_log = settings.state_dir / "logs" / "model_log.log"
    seen = model_log.stat().st_size if model_log.exists() else 0
    while time.monotonic() < end:
        if not running():
            check_ports(settings)  # another program may have taken a port since the first check
            raise StartError(f"TorchServe exited during start: {_last_line(settings.state_dir / 'logs')}")
        if predicts(settings):
            return
        reason = _load_failure(model_log, seen)
        if reason:
            raise StartError(reason)
        time.sleep(0.2)
    raise StartError(f"no successful prediction within {seconds:g} s. The logs are in {settings.state_dir}/logs.")


def predicts(settings: ServeSettings) -> bool:
    """Whether the server answers a photo with a mask, or at least requires an API key."""
    return ask(settings)[1]


def ask(settings: ServeSettings, *, timeout: float = 10.0) -> tuple[bool, bool]:
    """(whether the server responds at all, whether `predicts` is satisfied)."""
    try:
        answer = requests.post(
            f"{settings.url}/predictions/{MODEL_NAME}",
            data=PROBE,
            headers={"content-type": "image/png", "x-archive": "no"},
            timeout=timeout,
        )
    except requests.RequestException:
        return False, False
    # With API keys, the worker's 401 proves that it is loaded and responds.
    return True, answer.status_code == 200 or (answer.status_code == 401 and "request_id" in answer.text)


def _load_failure(model_log: Path, seen: int) -> str:
    try:
        with model_log.open("rb") as file:
            file.seek(seen)
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return text.split(NOT_LOADED, 1)[1].splitlines()[0] if NOT_LOADED in text else ""


def _last_line(logs: Path) -> str:
    for name in ("ts_log.log", "torchserve.log"):
        path = logs / name
        lines = path.read_text(errors="replace").split("\n") if path.exists() else []
        errors = [
            line
            for line in lines[-200:]
            if any(word in line for word in ("ERROR", "Exception", "Error")) and SHUTDOWN_NOISE not in line
        ]
        if errors:
            return f"{errors[-1].strip()[:300]} (more in {path})"
    return f"see the logs in {logs}"
