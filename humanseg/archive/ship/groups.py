"""Groups: the segments of one hour that are uploaded as one object.

A group becomes immutable before its upload: its segments move into a folder with the group's name, and nothing is
added later. An uploader that takes over therefore uploads the same bytes under the same key. If its bytes must change
(a damaged or erased record is removed), it gets a new name first.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from humanseg.archive.capture.correction import Stored, decode
from humanseg.archive.capture.names import make_name, new_writer
from humanseg.archive.capture.segment import Damaged, Torn, Whole, scan
from humanseg.archive.capture.spool import (
    REASON_FILE,
    REJECTED,
    SHIPPING,
    Spool,
    claimed,
    remove_folder,
    replace_file,
    segment_name,
    sync_folder,
)
from humanseg.archive.capture.tar import END

WRITER = new_writer()
_numbers = iter(range(1, 10**12))


@dataclass(frozen=True)
class Contents:
    """A group's bytes as one tar, including the end marker, and the positions of its records and corrections."""

    data: bytearray
    records: list[Whole[Stored]]

    def of_kind(self, kind: type[Stored]) -> Contents:
        """What is of one kind, as a tar of its own: the same bytes each time."""
        chosen = [one for one in self.records if isinstance(one.sample, kind)]
        if len(chosen) == len(self.records):
            return self
        data, records = bytearray(), []
        for one in chosen:
            records.append(_shifted(one, len(data) - one.start))
            data += self.data[one.start : one.end]
        return Contents(data + END, records)


@dataclass
class Plan:
    """Sealed segments to ship as one."""

    paths: list[Path] = field(default_factory=list)
    bytes: int = 0


def plan(spool: Spool, segment_bytes: int) -> list[Plan]:
    """Group the sealed segments by hour, as far as they fit into one, oldest first."""
    plans = []
    for _, paths in groupby(spool.sealed(), key=lambda path: segment_name(path).partition):
        current = Plan()
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                size = path.stat().st_size
                if current.paths and current.bytes + size > segment_bytes:
                    plans.append(current)
                    current = Plan()
                current.paths.append(path)
                current.bytes += size
        if current.paths:
            plans.append(current)
    return plans


def fix(spool: Spool, paths: list[Path], *, fsync: bool = False) -> Path | None:
    """Moves sealed segments into a new group; returns its folder, or None if none could be claimed."""
    name = make_name(segment_name(paths[0]).time, WRITER, next(_numbers))
    folder = spool.root / SHIPPING / f".{name.text}"
    folder.mkdir(mode=0o700)
    for path in paths:
        with claimed(path) as mine:  # skip a segment that is being erased from
            if mine:
                path.rename(folder / path.name)
    if not any(folder.iterdir()):
        folder.rmdir()
        return None
    if fsync:
        sync_folder(folder)
    return _publish(folder, fsync)


def _publish(folder: Path, fsync: bool) -> Path:
    group = folder.with_name(folder.name.removeprefix("."))
    folder.rename(group)
    if fsync:
        sync_folder(group.parent)
    return group


def sweep(spool: Spool) -> None:
    """Completes the work of a killed uploader: unfinished groups, and partly deleted folders."""
    for parent in (SHIPPING, REJECTED):
        for folder in (spool.root / parent).glob(".*"):
            if folder.name.startswith(".trash-") or not any(folder.glob("*.tar")):
                remove_folder(folder)
            else:
                _publish(folder, fsync=False)


def rename(group: Path) -> Path:
    """Renames a claimed group; objects under its old name are never committed."""
    new = group.with_name(make_name(segment_name(group).time, WRITER, next(_numbers)).text)
    group.rename(new)
    return new


def parts_of(group: Path) -> list[Path]:
    """The segments of a group, in order."""
    return sorted(group.glob("*.tar"))


def read(group: Path) -> Contents | list[tuple[Path, Damaged | Torn]]:
    """The contents of a group, or its damaged places."""
    paths = parts_of(group)
    sizes = [path.stat().st_size for path in paths]
    data = bytearray(sum(sizes) + len(END))
    view, start = memoryview(data), 0
    records: list[Whole[Stored]] = []
    damage: list[tuple[Path, Damaged | Torn]] = []
    for path, size in zip(paths, sizes, strict=True):
        part = view[start : start + size]
        with path.open("rb") as file:
            file.readinto(part)
        for found in scan(part, decode):
            if isinstance(found, Whole):
                records.append(_shifted(found, start))
            else:
                damage.append((path, found))
        start += size
    return damage or Contents(data, records)


def _shifted(found: Whole[Stored], by: int) -> Whole[Stored]:
    offsets = {name: by + at for name, at in found.offsets.items()}
    return Whole(found.sample, by + found.start, by + found.end, offsets, found.json_bytes)


def set_aside(spool: Spool, group: Path, damage: list[tuple[Path, Damaged | Torn]]) -> Path:
    """Moves damaged bytes of a claimed group into folders of `rejected/`; returns the group's new path.

    Repeatable after a crash: the bytes are copied before they are removed.
    """
    group = rename(group)
    for path in {path.name for path, _ in damage}:
        segment = group / path
        data = segment.read_bytes()
        kept = bytearray()
        at = 0
        for found in (found for where, found in damage if where.name == path):
            end = found.end if isinstance(found, Damaged) else len(data)
            reason = found.reason if isinstance(found, Damaged) else "cut off"
            aside = spool.root / REJECTED / f"{segment.stem}-at-{found.start}"
            aside.mkdir(mode=0o700, exist_ok=True)
            replace_file(aside / "damaged.bin", data[found.start : end])
            (aside / REASON_FILE).write_text(f"Damaged: {reason}\n")
            kept += data[at : found.start]
            at = end
        kept += data[at:]
        replace_or_remove(segment, kept)
    return group


def replace_or_remove(segment: Path, kept: bytes | bytearray) -> None:
    """Rewrites a segment with these bytes; deletes it if there are none."""
    if kept:
        replace_file(segment, kept)
    else:
        segment.unlink()


def reject(spool: Spool, group: Path, reason: str) -> None:
    """Moves a claimed group to `rejected/` with its reason."""
    with contextlib.suppress(OSError):  # on a full disk the move matters, the note does not
        (group / REASON_FILE).write_text(reason + "\n")
    group.rename(spool.root / REJECTED / group.name)


def restore_rejected(spool: Spool) -> int:
    """Moves groups that S3 rejected back to shipping; damaged bytes stay. Returns the number of groups."""
    restored = 0
    for folder in spool.rejected():
        with claimed(folder) as mine:
            if mine and parts_of(folder):
                (folder / REASON_FILE).unlink(missing_ok=True)
                folder.rename(spool.root / SHIPPING / folder.name)
                restored += 1
    return restored


def without(data: bytes, ids: set[str]) -> tuple[bytes, set[str]]:
    """A segment's bytes without the data of the photos `ids`, and the ids found. Damaged bytes are kept."""
    kept, gone, at = bytearray(), set[str](), 0
    for found in scan(data, decode, verify=False):
        if isinstance(found, Whole) and found.sample.photo_id in ids:
            kept += data[at : found.start]
            at = found.end
            gone.add(found.sample.photo_id)
    return bytes(kept + data[at:]), gone
