"""Atomic file writes, and locks that end with their process."""

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
    """Yield a temporary path beside `path`, which is renamed to `path` if the block succeeds.

    A reader, or a run after a crash, sees either the old or the new file. `mode` is subject to the umask.

    Raises:
        OSError: `path` is then unchanged.
    """
    partial = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode))
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes | str, mode: int = 0o666) -> None:
    """Write `data` to `path` atomically. Raises OSError; `path` is then unchanged."""
    with whole_file(path, mode) as partial:
        partial.write_bytes(data.encode() if isinstance(data, str) else data)


def copy_whole(source: Path, path: Path) -> None:
    """Copy `source` to `path` atomically. Raises OSError; `path` is then unchanged."""
    with whole_file(path) as partial:
        shutil.copyfile(source, partial)


def try_lock(path: Path, mode: int = 0o666) -> int | None:
    """Take the exclusive lock on `path`, creating it: a descriptor that holds it until it is closed, or None.

    The kernel releases the lock when the process ends, however it ends.

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
