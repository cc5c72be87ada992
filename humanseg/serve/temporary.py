"""The server's temporary folder in TMPDIR: private to the server, and removed when it stops.

A killed server can't remove its folder, but its lock is released with the process. So the next server of the same
user detects stale folders and removes them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from humanseg.serve.process import StartError
from humanseg.serve.settings import ServeSettings


@contextlib.contextmanager
def temporary_folder(settings: ServeSettings) -> Iterator[Path]:
    """An empty folder for this server only. Its path is short, because it contains sockets (at most 108 bytes).

    Raises:
        StartError: it belongs to another user.
    """
    mine = f"humanseg-{os.getuid()}-"
    folder = Path(tempfile.gettempdir()) / f"{mine}{settings.ports['INFERENCE_PORT']}"
    for stale in folder.parent.glob(f"{mine}*"):
        if _is_ours(stale) and (descriptor := _lock(stale)) is not None:
            shutil.rmtree(stale, ignore_errors=True)
            os.close(descriptor)
    if folder.is_symlink() or folder.exists():
        raise StartError(f"{folder} belongs to another user. Remove it, or set TMPDIR to another folder.")
    descriptor = _made(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def clear(folder: Path) -> None:
    """Delete what an earlier frontend of this server left in its folder."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _made(folder: Path) -> int:
    """Make the folder; returns a descriptor that holds its lock."""
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = _lock(folder)
        if descriptor is None:
            continue  # another server, at its start, is about to remove what looks left behind
        if folder.exists() and os.fstat(descriptor).st_ino == folder.stat().st_ino:
            return descriptor
        os.close(descriptor)


def _is_ours(folder: Path) -> bool:
    try:
        return not folder.is_symlink() and folder.is_dir() and folder.stat().st_uid == os.getuid()
    except OSError:
        return False


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock, None where another process has it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
