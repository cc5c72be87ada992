"""A real server for tests and benchmarks: started with ./serve.sh on free ports, with a STATE_DIR of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import requests

from humanseg.common.ports import free_ports

ROOT = Path(__file__).resolve().parent.parent
MODEL = "human_segmentation"
START_SECONDS = 300


PORT_NAMES = (
    "INFERENCE_PORT",
    "MANAGEMENT_PORT",
    "METRICS_PORT",
    "GRPC_INFERENCE_PORT",
)


@dataclass
class Server:
    """A server started with ./serve.sh. `output` collects its output, line by line."""

    process: subprocess.Popen[str]
    environment: dict[str, str]
    output: list[str] = field(default_factory=list)

    @property
    def state_dir(self) -> Path:
        return Path(self.environment["STATE_DIR"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.environment['INFERENCE_PORT']}"

    @property
    def predictions(self) -> str:
        return f"{self.url}/predictions/{MODEL}"

    @property
    def management_url(self) -> str:
        return f"http://127.0.0.1:{self.environment['MANAGEMENT_PORT']}"

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.environment['METRICS_PORT']}/metrics"

    def worker_pids(self) -> list[int]:
        """Process ids of the READY workers."""
        described = requests.get(f"{self.management_url}/models/{MODEL}", timeout=10).json()
        return [worker["pid"] for worker in described[0]["workers"] if worker["status"] == "READY"]

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Return when READY is printed; raise RuntimeError with the output if the server exits."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if any(line.startswith("READY ") for line in self.output):
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError("the server did not become ready:\n" + "\n".join(self.output))

    def stop(self, number: int = signal.SIGTERM, seconds: float = 40) -> int:
        """Send a signal to serve.sh and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds)


def start_server(state_dir: Path, *, wait: bool = True, **environment: str) -> Server:
    """Run ./serve.sh on free ports with its own STATE_DIR; `environment` is added to that."""
    variables = dict(zip(PORT_NAMES, map(str, free_ports(len(PORT_NAMES))), strict=True))
    variables |= {"STATE_DIR": str(state_dir), "WORKERS": "1", **environment}
    process = subprocess.Popen(
        [str(ROOT / "serve.sh")],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    server = Server(process, variables)

    def read() -> None:
        assert process.stdout
        with process.stdout:
            server.output.extend(line.rstrip("\n") for line in process.stdout)

    threading.Thread(target=read, daemon=True).start()
    if wait:
        try:
            server.wait_ready()
        except BaseException:
            server.stop()
            raise
    return server
