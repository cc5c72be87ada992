"""The spool: segments on local disk that wait for upload.

    STATE_DIR/spool/
    ├── open/NAME.tar             being written; locked while its writer is alive
    ├── sealed/NAME.tar           complete, waits for its uploader
    ├── shipping/NAME/*.tar       segments that are being uploaded as one object, NAME
    ├── rejected/NAME/            permanently rejected by S3, with reason.txt; or quarantined damaged bytes
    └── flush                     touched: seal and ship everything now

The spool must be on one local Linux filesystem. It contains nothing else, and all of it counts towards the limit.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from humanseg.archive.capture.correction import Stored, decode
from humanseg.archive.capture.names import SUFFIX, Name, parse_name
from humanseg.archive.capture.segment import Torn, Whole, scan

OPEN, SEALED, SHIPPING, REJECTED = "open", "sealed", "shipping", "rejected"
FLUSH = "flush"
REASON_FILE = "reason.txt"


@dataclass(frozen=True)
class Backlog:
    """The spool's backlog: segments and bytes, including open ones, and the age of the oldest record.

    `rejected_*` counts what S3 rejected and what was damaged. `oldest_seconds` is 0 for an empty spool.
    """

    segments: int
    bytes: int
    oldest_seconds: float
    rejected: int
    rejected_bytes: int


@dataclass(frozen=True)
class Spool:
    """The folders under one root. Any number of processes may use the same root concurrently."""

    root: Path

    def make_folders(self) -> None:
        """Makes the spool's folders, readable by this user only."""
        make_folders(self.root)

    def open_segments(self) -> list[Path]:
        """Segments that are being written, or whose writer died."""
        return _segments(self.root / OPEN)

    def sealed(self) -> list[Path]:
        """Complete segments that are not being shipped yet, oldest first."""
        return _segments(self.root / SEALED)

    def groups(self) -> list[Path]:
        """Folders of segments being shipped, oldest first."""
        return _folders(self.root / SHIPPING)

    def rejected(self) -> list[Path]:
        """Quarantined folders, oldest first."""
        return _folders(self.root / REJECTED)

    def files(self) -> list[Path]:
        """Every segment in the spool, in any state; a record is in exactly one of them."""
        grouped = [path for folder in (*self.groups(), *self.rejected()) for path in _segments(folder)]
        return [*self.open_segments(), *self.sealed(), *grouped]

    def is_empty(self) -> bool:
        """Whether nothing is open, sealed or being shipped. Quarantined data does not count."""
        return not (self.open_segments() or self.sealed() or self.groups())

    def backlog(self, now: float | None = None) -> Backlog:
        """Counts the spool. `now` is Unix seconds; if the clock was set back, the age is 0."""
        now = time.time() if now is None else now
        waiting = [*self.open_segments(), *self.sealed()]
        waiting += [path for folder in self.groups() for path in _segments(folder)]
        aside = [path for folder in self.rejected() for path in folder.glob("*")]
        names = [name for name in (parse_name(path.name) for path in waiting) if name]
        oldest = max((now - name.time.timestamp() for name in names), default=0.0)
        return Backlog(
            len(waiting), sum(map(_size, waiting)), max(0.0, oldest), len(self.rejected()), sum(map(_size, aside))
        )

    def request_flush(self) -> None:
        """Asks every writer to seal and the uploader to ship, within about a second."""
        self.make_folders()
        (self.root / FLUSH).touch()
        os.utime(self.root / FLUSH)

    def flush_requested(self) -> int:
        """The last flush request as an opaque, increasing number; 0 for never."""
        try:
            return (self.root / FLUSH).stat().st_mtime_ns
        except OSError:
            return 0

    def seal_orphans(self) -> int:
        """Seals open segments without a live writer, truncated to the last complete record; returns their number."""
        sealed = 0
        for path in self.open_segments():
            with contextlib.suppress(FileNotFoundError), claimed(path) as mine:
                if mine:
                    sealed += _recover(path, self.root / SEALED / path.name)
        return sealed


def make_folders(root: Path) -> None:
    """Creates the folders of a spool, readable by this user only: they contain photos of people."""
    for name in (OPEN, SEALED, SHIPPING, REJECTED):
        (root / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    root.chmod(0o700)


def _recover(path: Path, sealed: Path) -> bool:
    with mapped(path) as data:
        end = whole_end(data)
    if end == 0:
        path.unlink()
        return False
    os.truncate(path, end)
    path.rename(sealed)
    return True


def whole_end(data: memoryview | bytes) -> int:
    """The start of a torn record at the end of a segment; the segment's size if there is none."""
    torn = [item.start for item in scan(data, decode, verify=False) if isinstance(item, Torn)]
    return torn[0] if torn else len(data)


def records_of(path: Path) -> list[Stored]:
    """The complete records and corrections of one segment in the spool. Reads only headers and JSON from disk."""
    with mapped(path) as data:
        items = scan(data, decode, verify=False)
        return [item.sample for item in items if isinstance(item, Whole)]


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[memoryview | bytes]:
    """A memory-mapped file."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:  # an empty file can't be mapped
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping, memoryview(mapping) as view:
            yield view


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Holds the lock on a segment or a folder; yields False if another process has it or it is gone.

    The lock ends with the block or with this process, whichever comes first.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        # Before the lock was taken, it may have been shipped, or rewritten under the same name.
        yield same_file(descriptor, path)
    finally:
        os.close(descriptor)


def remove_folder(folder: Path) -> None:
    """Deletes a folder of the spool: first hides it with one rename, then deletes file by file."""
    trash = folder.parent / f".trash-{uuid.uuid4().hex}"
    with contextlib.suppress(FileNotFoundError):
        folder.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)


def replace_file(path: Path, data: bytes | bytearray) -> None:
    """Replaces `path` atomically; the old bytes stay until the new ones are on disk."""
    temporary = path.with_name(f".new-{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Syncs a folder's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def same_file(descriptor: int, path: Path) -> bool:
    """Whether `path` is still the open file of `descriptor`."""
    try:
        stat = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    held = os.fstat(descriptor)
    return (held.st_ino, held.st_dev) == (stat.st_ino, stat.st_dev)


def segment_name(path: Path) -> Name:
    """The name of a segment or of a group; raises ValueError for a foreign file."""
    name = parse_name(path.name)
    if name is None:
        raise ValueError(f"{path} is no segment")
    return name


def _segments(folder: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - asked every second
    except OSError:
        return []
    return [folder / name for name in names if name.endswith(SUFFIX) and parse_name(name)]


def _folders(parent: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(parent))  # noqa: PTH208
    except OSError:
        return []
    return [parent / name for name in names if not name.startswith(".")]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
