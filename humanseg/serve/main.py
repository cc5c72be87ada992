"""The supervisor behind serve.sh and the container's process 1: start, report READY, watch, drain, stop."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from humanseg.common.files import copy_whole, try_lock
from humanseg.common.names import MODEL_NAME
from humanseg.common.settings import SettingsError
from humanseg.serve.build_mar import DEFAULT_NAME, MODEL_STORE
from humanseg.serve.config import render
from humanseg.serve.process import StartError, check_ports, start_torchserve, stop
from humanseg.serve.ready import ask, wait_until_ready
from humanseg.serve.settings import ServeSettings, read_settings
from humanseg.serve.store import drain, start_store
from humanseg.serve.temporary import clear, temporary_folder
from humanseg.serve.watch import DEAF_SECONDS, LOOK_SECONDS, Probe, Processes, Watch, kill

STORE_PAUSE = 10.0  # seconds between restarts of an embedded store that exits
FRONTEND_SHARE = 0.4  # of the stop deadline, for TorchServe; the rest is the archive's


class Stopped(Exception):
    """A signal requested the stop."""


def main() -> int:
    """Run until a signal or a failure. Returns 0 after a signal, or 1 after a failure with one line on stderr."""
    stopping = threading.Event()

    def ask_to_stop(number: int, frame: object) -> None:
        if not stopping.is_set():  # a second Ctrl-C must not abort the drain
            stopping.set()
            raise Stopped

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask_to_stop)
    os.umask(0o077)  # photos, logs and sockets are private to this user, in all child processes
    try:
        settings = read_settings(os.environ)
        with locked(settings.state_dir):
            serve(settings)
    except (StartError, SettingsError) as error:
        say(f"serve: {error}")
        return 1
    except Stopped:
        return 0
    except OSError as error:
        say(f"serve: {os_failure(error)}")
        return 1
    return 0


def serve(settings: ServeSettings) -> None:
    """Start, watch and stop the server."""
    check_ports(settings)
    config = prepare(settings)
    with contextlib.ExitStack() as running:
        environment = dict(os.environ)
        temporary = running.enter_context(temporary_folder(settings))
        store = start_store(settings, environment)
        stores = [store] if store else []  # the last one is running
        running.callback(stop_last, stores)
        frontends = [start_torchserve(settings, config, environment, temporary)]
        ships = store is not None or bool(environment.get("ARCHIVE_BUCKET"))
        running.callback(lambda: shut_down(frontends[-1], settings, ships))
        wait_until_ready(settings, lambda: frontends[-1].poll() is None)
        print(f"READY {settings.url}/predictions/{MODEL_NAME}", flush=True)
        over = threading.Event()
        running.callback(over.set)
        probe = Probe(lambda: ask(settings))
        threading.Thread(target=probe.run, args=(over.wait,), daemon=True).start()
        while True:
            watch(frontends[-1], stores, settings, probe)
            say("serve: TorchServe was stuck; restarting it.")
            stop(frontends[-1], 0)
            clear(temporary)
            frontends.append(start_torchserve(settings, config, environment, temporary))
            wait_until_ready(settings, lambda: frontends[-1].poll() is None)
            probe.heard = time.monotonic()


def stop_last(stores: list[subprocess.Popen[bytes]]) -> None:
    """Stop the store that runs, if any."""
    for store in stores[-1:]:
        stop(store, 4)


def prepare(settings: ServeSettings) -> Path:
    """Prepare STATE_DIR and return the rendered configuration."""
    for name in ("logs", "spool", "model_store"):
        make_private(settings.state_dir / name)
    # The container may serve a released .mar instead of the one in the image.
    archive = Path(os.environ.get("MODEL_MAR") or MODEL_STORE / f"{DEFAULT_NAME}.mar")
    if not archive.is_file():
        raise StartError(f"{archive} is missing. Build it with ./build_mar.sh")
    copy_whole(archive, settings.state_dir / "model_store" / f"{DEFAULT_NAME}.mar")
    return render(settings)


def watch(
    frontend: subprocess.Popen[bytes], stores: list[subprocess.Popen[bytes]], settings: ServeSettings, probe: Probe
) -> None:
    """Return when the frontend is stuck; raise StartError when it exits unexpectedly.

    A stuck worker is killed, and the frontend restarts it. A store that exits (that of a killed server may still lock
    its folder) is restarted, every ten seconds.
    """
    tried = looked = time.monotonic()
    hangs, processes = Watch(), Processes(frontend.pid)
    while True:
        code = frontend.poll()
        if code is not None:
            raise StartError(
                f"TorchServe exited unexpectedly (status {code}). Its logs are in {settings.state_dir}/logs."
            )
        if stores and stores[-1].poll() is not None and time.monotonic() - tried > STORE_PAUSE:
            say("serve: the embedded object store exited; restarting it. Records wait in the spool.")
            tried = time.monotonic()
            again = start_store(settings, os.environ)
            if again is not None:
                stores.append(again)
        now = time.monotonic()
        if now - looked >= LOOK_SECONDS:
            looked = now
            java, workers = processes.samples()
            hung = hangs.find_stuck(now, [*java, *workers], probe.since)
            if frontend.pid in hung or now - probe.heard > DEAF_SECONDS:
                return
            for pid in hung:
                say(f"serve: worker {pid} was stuck; replacing it.")
                kill(pid)
        time.sleep(0.5)


def shut_down(frontend: subprocess.Popen[bytes], settings: ServeSettings, ships: bool) -> None:
    """Stop TorchServe, then drain the spool into the bucket, if there is one, all within the deadline."""
    end = time.monotonic() + settings.stop_deadline - 2  # the rest is the store's
    stop(frontend, settings.stop_deadline * FRONTEND_SHARE)
    if ships:
        drain(settings, max(1.0, end - time.monotonic() - 1.0))


@contextlib.contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Lock STATE_DIR for this server; the lock ends with the process."""
    make_private(state_dir)
    lock = try_lock(state_dir / "lock")
    if lock is None:
        raise StartError(f"another server is running in {state_dir}. Stop it, or set another STATE_DIR for this one.")
    try:
        yield
    finally:
        os.close(lock)


def make_private(folder: Path) -> None:
    """Create `folder`, or make it private if an older version did not.

    A folder of another user (a volume mounted by a cluster) keeps its mode.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid == os.geteuid():
        folder.chmod(0o700)


def os_failure(error: OSError) -> str:
    """The operating system's error, with the fix if there is one."""
    what = f"{error.strerror}: {error.filename}" if error.filename else str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full ({what}). Free some space, or set STATE_DIR to another disk."
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return f"the folder is not writable ({what}). Set STATE_DIR to a writable folder."
    return what


def say(message: str) -> None:
    """Print one line to the terminal."""
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
