"""The spool: records on local disk between the answer and the bucket.

    STATE_DIR/spool/
    ├── tmp/WRITER/REQUEST_ID/                  being written; WRITER is locked while its process lives
    ├── ready/MILLISECONDS_BYTES_REQUEST_ID/    complete: photo.jpg, mask.png, record.json
    ├── rejected/MILLISECONDS_BYTES_REQUEST_ID/ refused by S3 for good; reason.txt says why
    └── trash/                                  committed to the bucket, being deleted

A record appears in `ready/` by one rename, whole or not at all. A claim is `flock()` on the record's own
folder, so it ends with the process that holds it, however that ends. The folder's name carries its time
and size, so one listing tells the backlog's count, bytes and age. All of it must lie on one local Linux
filesystem.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from humanseg.archive.capture.record import Record

REASON_FILE = "reason.txt"


class SpoolFullError(Exception):
    """The record does not fit; `reason` is the word for the counter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Entry:
    """One folder of `ready/` or `rejected/`, read from its name. `size` is in bytes, `written` in Unix ms."""

    path: Path
    written: int
    size: int
    request_id: str

    def read(self) -> list[tuple[str, bytes]]:
        """The record's files as (name, bytes), record.json last, which is the order of upload."""
        names = sorted((p.name for p in self.path.iterdir() if p.name != REASON_FILE), key=_upload_order)
        return [(name, (self.path / name).read_bytes()) for name in names]


@dataclass(frozen=True)
class Backlog:
    """What waits in the spool. `oldest_seconds` is the age of the oldest ready record, 0 without one."""

    records: int
    bytes: int
    oldest_seconds: float
    rejected_records: int
    rejected_bytes: int


class Spool:
    """The folders under one root. Any number of processes and threads may use the same root at a time."""

    def __init__(
        self,
        root: Path,
        *,
        max_records: int = 100_000,
        max_bytes: int = 20 * 1024**3,
        keep_free_bytes: int = 0,
        fsync: bool = False,
        recount_seconds: float = 15.0,
    ) -> None:
        self.root = root
        self.max_records, self.max_bytes, self.keep_free_bytes = max_records, max_bytes, keep_free_bytes
        self.fsync, self.recount_seconds = fsync, recount_seconds
        self._lock = threading.Lock()
        self._records = self._bytes = 0
        self._counted_at = float("-inf")
        self._writer: Path | None = None
        self._writer_fd = -1

    # ------------------------------------------------------------------ writing

    def write(self, record: Record) -> Entry:
        """Puts the record into `ready/`, or leaves nothing behind.

        Raises:
            SpoolFullError: a bound would be passed ("spool-full") or the disk is short ("disk-low").
            OSError: the disk is full, read-only or broken.
        """
        size = record.size
        folder = self._own_folder()
        self._make_room(size)
        written = int(record.time.timestamp() * 1000)
        name = f"{max(written, 0):014d}_{size}_{record.request_id}"
        temporary = folder / record.request_id
        try:
            temporary.mkdir()
            for file_name, data in record.files:
                _write(temporary / file_name, data, self.fsync)
            if self.fsync:
                _sync_folder(temporary)
            target = self.root / "ready" / name
            temporary.rename(target)
            if self.fsync:
                _sync_folder(target.parent)
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            with self._lock:
                self._records, self._bytes = self._records - 1, self._bytes - size
                if isinstance(error, FileNotFoundError):
                    self._writer = None  # somebody removed the folders: make them again at the next write
            raise
        return Entry(target, written, size, record.request_id)

    def _make_room(self, size: int) -> None:
        with self._lock:
            if time.monotonic() - self._counted_at > self.recount_seconds:
                self._recount()  # mostly the shipper's thread did so a moment ago
            if self._records + 1 > self.max_records or self._bytes + size > self.max_bytes:
                raise SpoolFullError("spool-full")
            if self.keep_free_bytes:
                disk = os.statvfs(self.root)
                if disk.f_bavail * disk.f_frsize - size < self.keep_free_bytes:
                    raise SpoolFullError("disk-low")
            self._records, self._bytes = self._records + 1, self._bytes + size

    def recount(self) -> Backlog:
        """Counts anew what all processes wrote and shipped; between two counts, only own writes are known.

        The shipper calls this every few seconds, so that no request has to list a long backlog.
        """
        with self._lock:
            return self._recount()

    def _recount(self) -> Backlog:
        backlog = self.backlog()
        self._records = backlog.records + backlog.rejected_records
        self._bytes = backlog.bytes + backlog.rejected_bytes
        self._counted_at = time.monotonic()
        return backlog

    def _own_folder(self) -> Path:
        """This process's folder in `tmp/`, made and locked at the first write."""
        with self._lock:
            if self._writer is None or not self._writer.is_dir():
                self.make_folders()
                with _locked(self.root / "tmp"):  # so that no sweeper sees the folder before it is locked
                    writer = self.root / "tmp" / uuid.uuid4().hex
                    writer.mkdir()
                    self._close_writer()
                    self._writer, self._writer_fd = writer, _lock_folder(writer)
            return self._writer

    def _close_writer(self) -> None:
        if self._writer_fd >= 0:
            os.close(self._writer_fd)
            self._writer_fd = -1

    def make_folders(self) -> None:
        """Makes the spool's folders, readable by this user only: photos of people lie in them."""
        for name in ("tmp", "ready", "rejected", "trash"):
            (self.root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root.chmod(0o700)

    def sweep(self) -> int:
        """Deletes what dead writers and deleters left half done; returns how many folders went."""
        swept = 0
        with _locked(self.root / "tmp"):
            for folder in _folders(self.root / "tmp"):
                with contextlib.suppress(OSError):
                    os.close(_lock_folder(folder))  # raises when its writer lives
                    shutil.rmtree(folder, ignore_errors=True)
                    swept += 1
        for folder in _folders(self.root / "trash"):
            shutil.rmtree(folder, ignore_errors=True)
            swept += 1
        return swept

    def close(self) -> None:
        """Gives the writer's folder up. Only tests need it: a process that ends does the same."""
        with self._lock:
            if self._writer is not None:
                shutil.rmtree(self._writer, ignore_errors=True)
                self._close_writer()
                self._writer = None

    # ------------------------------------------------------------------ reading

    def ready(self) -> list[Entry]:
        """The complete records, oldest first."""
        return [entry for entry in map(self.entry, sorted(self.names("ready"))) if entry]

    def rejected(self) -> list[Entry]:
        """The records that S3 refused for good, oldest first."""
        return [entry for entry in map(self.entry, sorted(self.names("rejected"))) if entry]

    def names(self, folder: str) -> list[str]:
        """Paths below the spool's root of the folders in `ready` or `rejected`, in no order; the cheap listing."""
        try:
            return [f"{folder}/{name}" for name in os.listdir(self.root / folder)]  # noqa: PTH208 - 3 times as fast
        except FileNotFoundError:
            return []

    def entry(self, name: str) -> Entry | None:
        """The entry of one of `names`; None for what is no record's folder."""
        written, size, request_id = _parts(name)
        return Entry(self.root / name, written, size, request_id) if request_id else None

    def is_empty(self) -> bool:
        """Whether nothing is ready; does not list a long backlog."""
        try:
            with os.scandir(self.root / "ready") as found:
                return next(found, None) is None
        except (FileNotFoundError, PermissionError):
            return True

    def backlog(self, now: float | None = None) -> Backlog:
        """Counts the spool with two listings. `now` is Unix seconds; a clock set back gives age 0."""
        ready = [_parts(name) for name in self.names("ready")]
        rejected = [_parts(name) for name in self.names("rejected")]
        now = time.time() if now is None else now
        oldest = max(0.0, now - min(ready)[0] / 1000) if ready else 0.0
        return Backlog(len(ready), sum(e[1] for e in ready), oldest, len(rejected), sum(e[1] for e in rejected))

    # ------------------------------------------------------------------ claiming

    @contextlib.contextmanager
    def claim(self, entry: Entry) -> Iterator[bool]:
        """Holds the record for the length of the block; gives False when another holds it or it is gone."""
        try:
            descriptor = _lock_folder(entry.path)
        except OSError:
            yield False
            return
        try:
            # Between the listing and the lock it may have been shipped and its folder moved away.
            yield _same_folder(descriptor, entry.path)
        finally:
            os.close(descriptor)

    def remove(self, entry: Entry) -> None:
        """Deletes a claimed record: out of sight in one rename, then file by file."""
        trash = self.root / "trash" / uuid.uuid4().hex
        with contextlib.suppress(FileNotFoundError):
            entry.path.rename(trash)
            shutil.rmtree(trash, ignore_errors=True)

    def reject(self, entry: Entry, reason: str) -> None:
        """Moves a claimed record to `rejected/` with its reason."""
        with contextlib.suppress(OSError):  # on a full disk the move still counts, the note does not
            (entry.path / REASON_FILE).write_text(reason + "\n")
        entry.path.rename(self.root / "rejected" / entry.path.name)

    def restore(self, entry: Entry) -> None:
        """Moves a rejected record back to `ready/`."""
        (entry.path / REASON_FILE).unlink(missing_ok=True)
        entry.path.rename(self.root / "ready" / entry.path.name)


def _parts(name: str) -> tuple[int, int, str]:
    """(written in ms, bytes, request id) from a folder's name; the id is empty for a foreign name."""
    written, _, rest = name.rpartition("/")[2].partition("_")
    size, _, request_id = rest.partition("_")
    return (int(written), int(size), request_id) if written.isdigit() and size.isdigit() else (0, 0, "")


def _upload_order(name: str) -> tuple[int, str]:
    return (2 if name == "record.json" else 1 if name == "mask.png" else 0, name)


def _folders(parent: Path) -> list[Path]:
    try:
        with os.scandir(parent) as found:
            return [Path(item.path) for item in found if item.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _write(path: Path, data: bytes, fsync: bool) -> None:
    with path.open("wb") as file:
        file.write(data)
        if fsync:
            file.flush()
            os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lock_folder(path: Path, *, wait: bool = False) -> int:
    """An open descriptor that holds the folder's lock; raises OSError when another has it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = _lock_folder(path, wait=True)
    try:
        yield
    finally:
        os.close(descriptor)


def _same_folder(descriptor: int, path: Path) -> bool:
    try:
        found = path.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise
    held = os.fstat(descriptor)
    return (held.st_ino, held.st_dev) == (found.st_ino, found.st_dev)
