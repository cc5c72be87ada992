"""Reads a segment: its complete records, and the damage between them.

A record is complete if its members are adjacent, its JSON parses, and the sizes and SHA-256 of the others match the
JSON. After damage, the next record is found by its tar header (512-byte blocks, with a checksum). A record that is
truncated by the end of the file is torn: its writer died during the append, so it was never acknowledged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from humanseg.archive.capture.record import JSON
from humanseg.archive.capture.tar import BLOCK, padded, parse_header

MEMBERS_MAX = 3


class Sample(Protocol):
    """The content of a JSON member: its record's id, and sizes and SHA-256 of the members before it."""

    @property
    def request_id(self) -> str:
        """Base name of its members."""
        ...

    def parts(self) -> dict[str, tuple[int, str]]:
        """Size and SHA-256 of each member, by extension."""
        ...


S = TypeVar("S", bound=Sample)


@dataclass(frozen=True)
class Whole(Generic[S]):
    """A complete record: bytes `start..end` of the segment, and the offset of each member's data."""

    sample: S
    start: int
    end: int
    offsets: Mapping[str, int]  # by extension, including the JSON
    json_bytes: int


@dataclass(frozen=True)
class Damaged:
    """Bytes `start..end` are not a complete record, and are not merely truncated."""

    start: int
    end: int
    reason: str


@dataclass(frozen=True)
class Torn:
    """A record starts at `start` and is truncated by the end of the file."""

    start: int


def scan(
    data: bytes | bytearray | memoryview, decode: Callable[[bytes], S], *, verify: bool = True
) -> Iterator[Whole[S] | Damaged | Torn]:
    """Parse the segment `data` in order and without gaps. An end marker is left out.

    `decode` parses the JSON and raises ValueError, TypeError or KeyError if it is invalid. Without `verify` the
    SHA-256 of the members are not computed.
    """
    view = memoryview(data)
    at, end = 0, _end_of_records(view)
    while at < end:
        item = _sample_at(view, at, end, decode, verify)
        if isinstance(item, Damaged):
            at, item = _next_sample(view, item, end, decode, verify)
            yield item
            continue
        yield item
        if isinstance(item, Torn):
            return
        at = item.end


def _end_of_records(view: memoryview) -> int:
    """The size without trailing zero blocks (an end marker has two)."""
    end = len(view)
    if end % BLOCK:
        return end
    while end >= BLOCK and not any(view[end - BLOCK : end]) and len(view) - end < 2 * BLOCK:
        end -= BLOCK
    return end if len(view) - end == 2 * BLOCK else len(view)


def _next_sample(
    view: memoryview, first: Damaged, end: int, decode: Callable[[bytes], S], verify: bool
) -> tuple[int, Damaged]:
    """The start of the next complete or torn record after `first`, and the damage before it."""
    at = first.start + BLOCK
    while at < end:
        if parse_header(view[at : at + BLOCK]) is not None:
            item = _sample_at(view, at, end, decode, verify)
            if not isinstance(item, Damaged):
                break
        at += BLOCK
    at = min(at, end)
    return at, Damaged(first.start, at, first.reason)


def _sample_at(
    view: memoryview, start: int, end: int, decode: Callable[[bytes], S], verify: bool
) -> Whole[S] | Damaged | Torn:
    at, base = start, ""
    offsets: dict[str, int] = {}
    sizes: dict[str, int] = {}
    while JSON not in offsets:
        if end - at < BLOCK:
            return Torn(start)
        member = parse_header(view[at : at + BLOCK])
        if member is None or (base and member.base != base) or len(offsets) == MEMBERS_MAX:
            return Damaged(start, at + BLOCK, "members are not adjacent")
        if at + BLOCK + padded(member.size) > end:
            return Torn(start)
        base, offsets[member.extension], sizes[member.extension] = member.base, at + BLOCK, member.size
        at += BLOCK + padded(member.size)
    text = bytes(view[offsets[JSON] : offsets[JSON] + sizes[JSON]])
    try:
        sample = decode(text)
        parts = sample.parts()
    except (ValueError, TypeError, KeyError, AttributeError):
        return Damaged(start, at, "the JSON is damaged")
    if sample.request_id != base or [*parts, JSON] != list(offsets):
        return Damaged(start, at, "the JSON belongs to another record")
    for extension, (size, digest) in parts.items():
        body = view[offsets[extension] : offsets[extension] + size]
        if sizes[extension] != size or (verify and hashlib.sha256(body).hexdigest() != digest):
            return Damaged(start, at, f"{extension} does not match its record")
    return Whole(sample, start, at, offsets, sizes[JSON])
