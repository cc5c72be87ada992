"""Files that appear whole or not at all, and locks that end with their process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """A new path beside `path` to write to; it becomes `path` by one rename when the block ends well.

    A reader, or a run after a crash, sees the old file or the new one. `mode` is subject to the umask.

    Raises:
        OSError: whatever the disk says; `path` is then as it was.
    """
    partial = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode))
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes | str, mode: int = 0o666) -> None:
    """Write `data` to `path` in one step. Raises OSError; `path` is then as it was."""
    with whole_file(path, mode) as partial:
        partial.write_bytes(data.encode() if isinstance(data, str) else data)


def copy_whole(source: Path, path: Path) -> None:
    """Copy `source` to `path` in one step. Raises OSError; `path` is then as it was."""
    with whole_file(path) as partial:
        shutil.copyfile(source, partial)


def try_lock(path: Path, mode: int = 0o666) -> int | None:
    """Take the exclusive lock on `path`, creating it: a descriptor that holds it until it is closed, or None.

    The kernel gives the lock back when the process ends, however it ends.

    Raises:
        OSError: the file can't be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
