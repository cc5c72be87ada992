"""Tar members as this archive writes them: POSIX ustar, no directories, no owner, one mode."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass

BLOCK = 512
END = bytes(2 * BLOCK)  # the end marker; an object has it, a segment in the spool does not


@dataclass(frozen=True)
class Member:
    """One header: the sample's name up to the first dot, the extension after it, and the size in bytes."""

    base: str
    extension: str
    size: int


def header(name: str, size: int, mtime: int) -> bytes:
    """The 512 bytes before a member's data. `mtime` is Unix seconds."""
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size, mtime, 0o644
    return member.tobuf(tarfile.USTAR_FORMAT)


def parse_header(block: bytes | memoryview) -> Member | None:
    """Parse the header in these 512 bytes; None if there is none or its checksum is wrong."""
    if bytes(block[257:263]) != b"ustar\0":
        return None
    try:
        member = tarfile.TarInfo.frombuf(bytes(block), "ascii", "strict")
    except (tarfile.HeaderError, ValueError):
        return None
    base, _, extension = member.name.partition(".")
    return Member(base, extension, member.size) if member.isreg() and base and member.size >= 0 else None


def padded(size: int) -> int:
    """`size` rounded up to full blocks."""
    return -(-size // BLOCK) * BLOCK


def padding(size: int) -> bytes:
    """The padding after a member of `size` bytes."""
    return bytes(padded(size) - size)
