"""Remove deleted data from the embedded store's files.

A deletion in SeaweedFS only marks bytes as garbage: they stay in the volume until it is vacuumed, and the filer's
metadata log keeps the object's name. Nothing here reads that log, so it is purged completely. Both run through
`weed shell` with the client certificate of the store's folder.

Not removed: segment names (a time and a counter, no request id) in the filer's LevelDB until its next compaction, and
freed blocks of the file system.
"""

from __future__ import annotations

import re
import struct
import time
from pathlib import Path

from humanseg.archive.errors import ArchiveError, NoStore
from humanseg.archive.ship.destination import Destination
from humanseg.archive.ship.weed import shell

PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.5
LOST_AFTER = "1h"  # an orphaned chunk of this age does not belong to an upload in progress
# An entry of a volume's index: key, offset, size; a negative size marks a deletion (weed with 8000GB volumes).
_ENTRY = struct.Struct(">Q5si")
_PIECE = re.compile(r"^[\w.-]*:\d+,[0-9a-f]+$", re.MULTILINE)
_PURGE = "fs.log.purge -daysAgo=0"


def embedded_store(destination: Destination, state_dir: Path) -> Path | None:
    """The folder of the embedded store if `destination` is the embedded store of `state_dir`, else None."""
    try:
        own = Destination.find({}, state_dir)
    except (NoStore, OSError):
        return None
    return state_dir / "store" if own.endpoint_url == destination.endpoint_url else None


def wipe(folder: Path, bucket: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Vacuum the running store in `folder`; afterwards its files hold nothing that was deleted before the call.

    The filer deletes an object's chunks shortly after the object, and never if it is killed in between. So this waits
    for pending deletions, and deletes orphaned chunks that are older than an hour.

    Raises:
        ArchiveError: the store is not running, chunks remain, or a volume cannot be vacuumed.
    """
    until = time.monotonic() + seconds
    shell(folder, _PURGE)
    pending = _loose_pieces(folder)
    while pending and time.monotonic() < until:
        time.sleep(PAUSE_SECONDS)
        pending &= _loose_pieces(folder)
    if pending:
        shell(folder, f"volume.fsck -collection={bucket} -cutoffTimeAgo={LOST_AFTER} -reallyDeleteFromVolume")
        pending &= _loose_pieces(folder)
    if pending:
        raise ArchiveError(
            f"{len(pending)} chunks of deleted objects remain in the embedded store, which was killed during the "
            "deletion. Run the command again in an hour"
        )
    until = time.monotonic() + seconds
    shell(folder, "volume.vacuum -garbageThreshold=0")
    while garbage := _with_garbage(folder):
        if time.monotonic() > until:
            raise ArchiveError(
                f"volume {garbage[0]} of the embedded store cannot be vacuumed (is the disk full?); see "
                f"{folder / 'log.txt'}, and run the command again"
            )
        time.sleep(PAUSE_SECONDS)
        shell(folder, "volume.vacuum -garbageThreshold=0")


def tidy_log(folder: Path) -> None:
    """Purge the filer's metadata log, which grows without limit otherwise, and vacuum what the last purge left.

    Raises:
        ArchiveError: the store is not running, or a command failed.
    """
    numbers = [path.stem for path in (folder / "data").glob("*.dat") if path.stem.isdigit()]  # no collection
    vacuum = [f"volume.vacuum -garbageThreshold=0 -volumeId={','.join(numbers)}"] if numbers else []
    shell(folder, *vacuum, _PURGE)


def _loose_pieces(folder: Path) -> set[str]:
    """Ids of chunks in the volumes that no object references."""
    return set(_PIECE.findall(shell(folder, "volume.fsck -v -cutoffTimeAgo=0s")))


def _with_garbage(folder: Path) -> list[str]:
    """Names of the volumes whose index has deletions; a vacuumed volume has none."""
    found = []
    for path in sorted((folder / "data").glob("*.idx")):
        index = path.read_bytes()
        if any(size < 0 for _, _, size in _ENTRY.iter_unpack(index[: len(index) // _ENTRY.size * _ENTRY.size])):
            found.append(path.stem)
    return found
