"""The machine of a measurement, and the share that other processes used."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import time
from pathlib import Path

import psutil

from benchmarks.servers import CORES, HERE, ROOT


class Clock:
    """Measures from its creation on which share of the cores other processes used."""

    def __init__(self) -> None:
        self._start, self._busy, self._own = time.monotonic(), _busy(), _children()

    def others(self, server_cpu: float) -> float:
        """0..1; `server_cpu`: CPU seconds that the server used meanwhile. The load tool is our own child."""
        wall = time.monotonic() - self._start
        rest = _busy() - self._busy - (_children() - self._own) - server_cpu
        return max(0.0, rest / (wall * CORES))


def _busy() -> float:
    times = psutil.cpu_times()
    return times.user + times.system + times.nice + getattr(times, "softirq", 0) + getattr(times, "irq", 0)


def _children() -> float:
    used, own = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime + own.ru_utime + own.ru_stime


def describe(model: Path, rounds: int) -> dict[str, object]:
    """Machine, versions, model and time of a measurement."""
    packages = (
        "litserve",
        "bentoml",
        "mosec",
        "fastapi",
        "uvicorn",
        "torch",
        "openvino",
        "pillow",
        "simplejpeg",
        "isal",
    )
    versions = {name: importlib.metadata.version(name) for name in packages}
    versions |= {"rembg": _version_in(HERE / ".venv" / "rembg", "rembg")}
    versions |= {"onnxruntime": _version_in(HERE / ".venv" / "rembg", "onnxruntime")}
    versions |= {"torchserve": _version_in(ROOT / ".venv", "torchserve"), "python": platform.python_version()}
    about = json.loads((model / "model.json").read_text())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return {
        "when": time.strftime("%Y-%m-%d %H:%M"),
        "cpu": _cpu_name(),
        "cores": CORES,
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "kernel": platform.release().split("-")[0],
        "flags": sorted(flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in _cpu_flags()),
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "versions": versions,
        "input_size": about["spec"]["input_size"],
        "architecture": about["architecture"],
        "weights_sha256": about["weights_sha256"][:12],
        "commit": commit.stdout.strip(),
        "rounds": rounds,
    }


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _cpu_flags() -> set[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.split(":", 1)[1].split())
    return set()


def _version_in(venv: Path, name: str) -> str:
    for metadata in venv.glob(f"lib/python*/site-packages/{name}-*.dist-info"):
        return metadata.name.removesuffix(".dist-info").rpartition("-")[2]
    return "?"
