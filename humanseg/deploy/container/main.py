"""Process 1 of the container: starts the server, forwards signals, and terminates gracefully.

    On SIGTERM, SIGINT, a Spot interruption notice, or termination by the Auto Scaling group:
      1. health returns 503 for LEAVE_SECONDS, so that the load balancer stops sending requests
      2. the supervisor stops TorchServe, which finishes its requests, and drains the archive
      3. on EC2, with an empty spool: the lifecycle action is completed
    All of it takes at most STOP_DEADLINE seconds. The next start on that volume ships what is left in the spool.

Environment, besides serve.sh's:
    HEALTH_PORT, HEALTH_ADDRESS (0.0.0.0)   address of GET /healthz; off if unset
    LEAVE_SECONDS (0)                       of STOP_DEADLINE, for the load balancer to notice
    MODEL_S3                                s3://BUCKET/KEY of the .mar to serve, instead of the image's own
    METRICS_EMF                             name of the stack: write CloudWatch metrics into the log
    WATCH_INSTANCE=aws, LIFECYCLE_GROUP, LIFECYCLE_HOOK   watch for the instance's termination
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import FrameType

from humanseg.deploy.container import health, instance, metrics
from humanseg.deploy.container.logs import as_json


def main() -> int:
    """Run until termination; returns the server's exit status."""
    environment = dict(os.environ)
    state = Path(environment.setdefault("STATE_DIR", "/state"))
    leave, deadline = _whole(environment, "LEAVE_SECONDS", 0), _whole(environment, "STOP_DEADLINE", 25)
    environment["STOP_DEADLINE"] = str(max(1, deadline - leave))
    if environment.get("MODEL_S3"):
        environment["MODEL_MAR"] = str(fetch(environment["MODEL_S3"], environment))
    environment |= health.own_api_key(environment)
    # Netty extracts its native library, which workers' sockets need; a container's /tmp may be noexec.
    environment["JAVA_TOOL_OPTIONS"] = f"-Dio.netty.native.workdir={state}/native"
    send_torchserve_to_stdout(state)
    if not environment.get("ARCHIVE_BUCKET"):
        say("ARCHIVE_BUCKET is not set: records stay in the spool on the volume.")

    checked = health.Health(partial(health.predicts, environment), partial(metrics.answered, environment))
    wake = threading.Event()
    why: list[str] = []

    def go(reason: str) -> None:
        why.append(reason)
        checked.leaving.set()
        wake.set()

    def on_signal(number: int, frame: FrameType | None) -> None:
        go(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    command = [sys.executable, "-m", "humanseg.serve.main"]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    printer = threading.Thread(target=pump, args=(server,), daemon=True)
    printer.start()
    if environment.get("HEALTH_PORT"):
        port = _whole(environment, "HEALTH_PORT", 0)
        health.serve_health(checked, environment.get("HEALTH_ADDRESS") or "0.0.0.0", port)
    if environment.get("METRICS_EMF"):
        threading.Thread(target=report, args=(environment, checked), daemon=True).start()
    if environment.get("WATCH_INSTANCE") == "aws":
        threading.Thread(target=watch, args=(environment, go), daemon=True).start()

    code = wait(server, wake, leave, why)
    printer.join(5)
    if why and environment.get("WATCH_INSTANCE") == "aws" and environment.get("LIFECYCLE_GROUP"):
        finish(environment, state)
    return code


def wait(server: subprocess.Popen[bytes], wake: threading.Event, leave: float, why: list[str]) -> int:
    """Wait for the server to exit, terminating it when `wake` is set; reaps all other children of process 1."""
    asked = False
    while True:
        if wake.is_set() and not asked:
            say(f"{why[0]}: terminating")
            asked = True
            threading.Timer(leave, ask_to_stop, (server.pid,)).start()
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 1
        if pid == server.pid:
            server.returncode = os.waitstatus_to_exitcode(status)
            return server.returncode if server.returncode >= 0 else 128 - server.returncode
        if pid == 0:
            time.sleep(0.1)  # a signal interrupts it


def ask_to_stop(pid: int) -> None:
    """Send SIGTERM if the process is alive. Popen's own method would reap it, which `wait` must do."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)


def pump(server: subprocess.Popen[bytes]) -> None:
    """Copy the output of the server and TorchServe to our standard output as JSON lines."""
    assert server.stdout
    for line in server.stdout:
        text = line.decode("utf-8", "replace").rstrip()
        if text:
            emit(as_json(text))


def send_torchserve_to_stdout(state: Path) -> None:
    """The supervisor redirects TorchServe's output to logs/torchserve.log: make that file its own standard output."""
    log = state / "logs" / "torchserve.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    if not log.is_symlink():
        log.unlink(missing_ok=True)
        log.symlink_to("/proc/self/fd/1")


def fetch(uri: str, environment: Mapping[str, str]) -> Path:
    """Download the .mar at s3://BUCKET/KEY with boto3's credential chain; returns its path."""
    mar_path = Path(environment.get("TMPDIR", "/tmp")) / "released.mar"
    code = (
        "import boto3, sys; bucket, key = sys.argv[1].removeprefix('s3://').split('/', 1); "
        "boto3.client('s3', endpoint_url=sys.argv[3] or None).download_file(bucket, key, sys.argv[2])"
    )
    endpoint = environment.get("ARCHIVE_ENDPOINT_URL", "")
    completed = subprocess.run([sys.executable, "-c", code, uri, mar_path, endpoint], capture_output=True, text=True)
    if completed.returncode:
        last = (completed.stderr.strip() or "no reason given").splitlines()[-1]
        say(f"MODEL_S3={uri} can't be read: {last}")
        raise SystemExit(1)
    return mar_path


def report(environment: Mapping[str, str], checked: health.Health) -> None:
    """Print a line of CloudWatch metrics every minute."""
    counts = metrics.Counts()
    while True:
        time.sleep(metrics.PERIOD)
        try:
            page = metrics.scrape(environment)
        except OSError:
            page = ""
        line, counts = metrics.embedded(environment["METRICS_EMF"], page, counts, not checked.reason())
        emit(line)


def watch(environment: Mapping[str, str], go: Callable[[str], None]) -> None:
    """Poll the instance metadata until it announces the termination."""
    metadata = instance.Metadata(environment)
    while not (reason := instance.farewell(metadata)):
        time.sleep(instance.POLL)
    go(reason)


def finish(environment: Mapping[str, str], state: Path) -> None:
    """Complete the lifecycle hook if the spool is empty; otherwise the hook holds the instance until its timeout."""
    from humanseg.archive.capture.hook import open_spool

    segments = open_spool(state).backlog().segments
    if segments:
        say(f"{segments} segments are left in the spool: the lifecycle hook is not completed early")
        return
    command = [sys.executable, "-m", "humanseg.deploy.container.instance"]
    completed = subprocess.run(command, env=dict(environment), capture_output=True, text=True, timeout=60)
    say((completed.stdout + completed.stderr).strip())


def say(message: str) -> None:
    """Print one line of our own."""
    emit(as_json(message))


def emit(line: str) -> None:
    """Print one complete line on standard output, from any thread."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _whole(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, "").strip() or str(default)
    if not text.isdigit() or not 0 <= int(text) <= 65535:
        say(f"{name}={text!r} is not a whole number, e.g. {default}")
        raise SystemExit(1)
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
