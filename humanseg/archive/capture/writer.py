"""The open segment of one worker: one `writev` per record, rolled back if it fails, sealed by a rename.

The writer holds a lock (flock) on its open file, which ends with its process: an open segment whose lock is free has
no writer, and the uploader truncates it to its last complete record.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from humanseg.archive.capture.names import SUFFIX, Name, make_name, new_writer
from humanseg.archive.capture.record import Record
from humanseg.archive.capture.spool import OPEN, SEALED, make_folders, same_file, sync_folder


class SegmentWriter:
    """Appends records to a segment in the spool at `root`. Safe to use from several threads."""

    def __init__(
        self,
        root: Path,
        *,
        segment_bytes: int,
        segment_seconds: float,
        fsync: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
        writev: Callable[[int, Sequence[bytes]], int] = os.writev,
    ) -> None:
        self._root, self._fsync = root, fsync
        self._segment_bytes, self._segment_seconds = segment_bytes, segment_seconds
        self._monotonic, self._writev = monotonic, writev
        self._lock = threading.Lock()
        self._writer, self._number = new_writer(), 0
        self._name: Name | None = None
        self._descriptor, self._size, self._began = -1, 0, 0.0

    def append(self, record: Record) -> None:
        """Appends the record, completely or not at all.

        A record of another hour, or one that does not fit, starts a new segment.

        Raises:
            OSError: the disk is full, read-only or broken. The segment is unchanged.
        """
        size = record.size
        with self._lock:
            self._begin(record, size)
            try:
                self._write(record.blocks, size)
            except BaseException:
                self._cut_back()
                raise
            self._size += size

    def seal(self) -> None:
        """Closes the open segment, if any, for shipping."""
        with self._lock:
            self._seal()

    def seal_if_due(self) -> None:
        """Seals the segment `segment_seconds` after its first record."""
        with self._lock:
            if self._name and self._monotonic() - self._began >= self._segment_seconds:
                self._seal()

    # ------------------------------------------------------------------ with the lock held

    def _begin(self, record: Record, size: int) -> None:
        if self._name and os.fstat(self._descriptor).st_nlink == 0:
            self._give_up()  # the spool was deleted
        partition = make_name(record.stored.time, self._writer, 0).partition
        if self._name and (self._name.partition != partition or self._size + size > self._segment_bytes):
            self._seal()
        while self._name is None:
            self._open(record)

    def _open(self, record: Record) -> None:
        make_folders(self._root)
        self._number += 1
        name = make_name(record.stored.time, self._writer, self._number)
        path = self._root / OPEN / f"{name.text}{SUFFIX}"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not same_file(descriptor, path):  # before the lock it looked like a segment without a writer
                os.close(descriptor)
                return
            if self._fsync:
                sync_folder(path.parent)
        except BaseException:
            os.close(descriptor)
            raise
        self._name, self._descriptor, self._size, self._began = name, descriptor, 0, self._monotonic()

    def _write(self, blocks: Sequence[bytes], size: int) -> None:
        written = self._writev(self._descriptor, blocks)
        if written != size:
            raise OSError(errno.ENOSPC, f"{written} of {size} bytes were written")
        if self._fsync:
            os.fdatasync(self._descriptor)

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            self._give_up()  # the uploader truncates a torn record
            return
        if self._size == 0:  # an empty segment is useless
            with contextlib.suppress(OSError):
                self._path().unlink()
            self._give_up()

    def _seal(self) -> None:
        if self._name is None:
            return
        path = self._path()
        try:
            path.rename(self._root / SEALED / path.name)
            if self._fsync:
                sync_folder(self._root / SEALED)
                sync_folder(path.parent)
        finally:
            self._give_up()  # the uploader seals a segment that could not be renamed

    def _give_up(self) -> None:
        os.close(self._descriptor)
        self._name, self._descriptor, self._size = None, -1, 0

    def _path(self) -> Path:
        assert self._name is not None
        return self._root / OPEN / f"{self._name.text}{SUFFIX}"
