"""What was deleted goes out of the embedded store's files, too.

A deletion in SeaweedFS marks bytes as garbage: they stay in the volume until it is compacted, and the filer's log of
changes keeps the name of each object. Nobody here reads that log, so it goes whole. Both are done through `weed
shell`, as the owner of the folder, whose certificate its ports ask for.

What stays are names of segments (a time and a counter, no request id) in the filer's own tables until it compacts
these by itself, and whatever the file system keeps of freed blocks.
"""

from __future__ import annotations

import re
import struct
import time
from pathlib import Path

from humanseg.archive.errors import ArchiveError, NoStore
from humanseg.archive.ship.target import Target
from humanseg.archive.ship.weed import shell

PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 0.5
LOST_AFTER = "1h"  # a piece that belongs to no object for so long belongs to no upload under way either
# An entry of a volume's index: key, offset, size; a size below 0 says deleted (weed with 8000GB volumes).
_ENTRY = struct.Struct(">Q5si")
_PIECE = re.compile(r"^[\w.-]*:\d+,[0-9a-f]+$", re.MULTILINE)
_PURGE = "fs.log.purge -daysAgo=0"


def embedded_store(target: Target, state_dir: Path) -> Path | None:
    """The folder of the embedded store, where `target` is the one of `state_dir`."""
    try:
        own = Target.find({}, state_dir)
    except (NoStore, OSError):
        return None
    return state_dir / "store" if own.endpoint_url == target.endpoint_url else None


def wipe(folder: Path, bucket: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Returns when nothing that was deleted before the call is in the files of the running store in `folder`.

    The filer deletes the pieces of an object a moment after the object, and forgets about it when it is killed in
    between: its pieces are awaited, and what belongs to nothing for an hour is deleted as well.

    Raises:
        ArchiveError: the store does not run, keeps something, or a volume can't be compacted.
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
            f"{len(pending)} pieces of deleted objects are still in the embedded store, which was killed while it "
            "deleted them. Run the command again in an hour"
        )
    until = time.monotonic() + seconds
    shell(folder, "volume.vacuum -garbageThreshold=0")
    while garbage := _with_garbage(folder):
        if time.monotonic() > until:
            raise ArchiveError(
                f"volume {garbage[0]} of the embedded store can't be compacted (is the disk full?); see "
                f"{folder / 'log.txt'}, and run the command again"
            )
        time.sleep(PAUSE_SECONDS)
        shell(folder, "volume.vacuum -garbageThreshold=0")


def tidy_log(folder: Path) -> None:
    """Empties the filer's log, which nothing else ever does, and compacts what the last call left of it.

    Raises:
        ArchiveError: the store does not run or refuses.
    """
    numbers = [path.stem for path in (folder / "data").glob("*.dat") if path.stem.isdigit()]  # of no bucket
    vacuum = [f"volume.vacuum -garbageThreshold=0 -volumeId={','.join(numbers)}"] if numbers else []
    shell(folder, *vacuum, _PURGE)


def _loose_pieces(folder: Path) -> set[str]:
    """Ids of what is in a volume and belongs to no object (any more, or yet)."""
    return set(_PIECE.findall(shell(folder, "volume.fsck -v -cutoffTimeAgo=0s")))


def _with_garbage(folder: Path) -> list[str]:
    """Volumes whose index names something deleted; a compacted one does not."""
    found = []
    for path in sorted((folder / "data").glob("*.idx")):
        index = path.read_bytes()
        if any(size < 0 for _, _, size in _ENTRY.iter_unpack(index[: len(index) // _ENTRY.size * _ENTRY.size])):
            found.append(path.stem)
    return found
