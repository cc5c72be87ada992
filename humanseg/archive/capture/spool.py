"""The spool: segments on local disk between the answer and the bucket.

    STATE_DIR/spool/
    ├── open/NAME.tar             being written; locked while its writer lives
    ├── sealed/NAME.tar           complete, waits for its uploader
    ├── shipping/NAME/*.tar       one or more segments on their way into the bucket as one, named NAME there
    ├── rejected/NAME/            refused by S3 for good, with reason.txt; or damaged bytes, set aside
    └── flush                     touched: seal and ship now what is there

All of it must lie on one local Linux filesystem. Nothing else is in it, and all of it counts.
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
    """What waits in the spool: segments and bytes, open ones among them, and the age of the oldest record.

    `rejected_*` is what S3 refused and what was damaged. `oldest_seconds` is 0 without anything waiting.
    """

    segments: int
    bytes: int
    oldest_seconds: float
    rejected: int
    rejected_bytes: int


@dataclass(frozen=True)
class Spool:
    """The folders under one root. Any number of processes may use the same root at a time."""

    root: Path

    def make_folders(self) -> None:
        """Makes the spool's folders, readable by this user only."""
        make_folders(self.root)

    def open_segments(self) -> list[Path]:
        """Segments that are being written, or whose writer died."""
        return _segments(self.root / OPEN)

    def sealed(self) -> list[Path]:
        """Complete segments that nobody ships yet, oldest first."""
        return _segments(self.root / SEALED)

    def groups(self) -> list[Path]:
        """Folders of segments on their way, oldest first."""
        return _folders(self.root / SHIPPING)

    def rejected(self) -> list[Path]:
        """Folders of what was set aside, oldest first."""
        return _folders(self.root / REJECTED)

    def files(self) -> list[Path]:
        """Every segment in the spool, wherever it stands; a record is in one of them."""
        grouped = [path for folder in (*self.groups(), *self.rejected()) for path in _segments(folder)]
        return [*self.open_segments(), *self.sealed(), *grouped]

    def is_empty(self) -> bool:
        """Whether nothing waits: nothing open, sealed or on its way. What was set aside does not count."""
        return not (self.open_segments() or self.sealed() or self.groups())

    def backlog(self, now: float | None = None) -> Backlog:
        """Counts the spool. `now` is Unix seconds; a clock set back gives age 0."""
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
        """When that was last asked for, as an opaque number that grows; 0 for never."""
        try:
            return (self.root / FLUSH).stat().st_mtime_ns
        except OSError:
            return 0

    def seal_orphans(self) -> int:
        """Seals open segments whose writers are gone, cut back to the last whole record; returns how many."""
        sealed = 0
        for path in self.open_segments():
            with contextlib.suppress(FileNotFoundError), claimed(path) as mine:
                if mine:
                    sealed += _recover(path, self.root / SEALED / path.name)
        return sealed


def make_folders(root: Path) -> None:
    """Makes the folders of a spool, readable by this user only: photos of people lie in them."""
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
    """Where a torn record begins at the end of a segment; its size without one."""
    torn = [found.start for found in scan(data, decode, verify=False) if isinstance(found, Torn)]
    return torn[0] if torn else len(data)


def records_of(path: Path) -> list[Stored]:
    """The whole records and corrections of one segment in the spool. Only headers and JSON are read from the disk."""
    with mapped(path) as data:
        found = scan(data, decode, verify=False)
        return [one.sample for one in found if isinstance(one, Whole)]


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[memoryview | bytes]:
    """A file's bytes, of which only what is looked at is read."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:  # which can't be mapped
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping, memoryview(mapping) as view:
            yield view


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Holds the lock on a segment or a folder; gives False when another has it or it is gone.

    It ends with the block or with this process, whichever comes first.
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
        # Between the name and the lock it may have been shipped, or rewritten under the same name.
        yield same_file(descriptor, path)
    finally:
        os.close(descriptor)


def remove_folder(folder: Path) -> None:
    """Deletes a folder of the spool: out of sight in one rename, then file by file."""
    trash = folder.parent / f".trash-{uuid.uuid4().hex}"
    with contextlib.suppress(FileNotFoundError):
        folder.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)


def replace_file(path: Path, data: bytes | bytearray) -> None:
    """Writes `path` anew in one step; the old bytes are there until all new ones are on the disk."""
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
    """Forces a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def same_file(descriptor: int, path: Path) -> bool:
    """Whether `path` is still the file that `descriptor` has open."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    held = os.fstat(descriptor)
    return (held.st_ino, held.st_dev) == (found.st_ino, found.st_dev)


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
