"""Reading a segment: its whole records, and what stands between them that is none.

A record is whole when its members stand together, its JSON parses, and sizes and SHA-256 of the others are
those that the JSON names. After anything else the next record is found by its tar header (512-byte blocks,
with a checksum). What the end of the file cuts off is torn: its writer died in the middle of an append, so
nobody was told that it is kept.
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
    """What a JSON member says: whose it is, and sizes and SHA-256 of the members before it."""

    @property
    def request_id(self) -> str:
        """Name of its members."""
        ...

    def parts(self) -> dict[str, tuple[int, str]]:
        """Size and SHA-256 of each member, by extension."""
        ...


S = TypeVar("S", bound=Sample)


@dataclass(frozen=True)
class Whole(Generic[S]):
    """A whole record: bytes `start..end` of the segment, and where the data of each member begins."""

    sample: S
    start: int
    end: int
    offsets: Mapping[str, int]  # by extension, the JSON's among them
    json_bytes: int


@dataclass(frozen=True)
class Damaged:
    """Bytes `start..end` are no whole record, and something stands behind them or they are all there."""

    start: int
    end: int
    reason: str


@dataclass(frozen=True)
class Torn:
    """From `start` on the end of the file cuts a record off."""

    start: int


def scan(
    data: bytes | bytearray | memoryview, decode: Callable[[bytes], S], *, verify: bool = True
) -> Iterator[Whole[S] | Damaged | Torn]:
    """What stands in the segment `data`, in order and without gaps. Its end marker, if any, is left out.

    `decode` reads the JSON and raises ValueError, TypeError or KeyError for what is none. Without `verify` the
    SHA-256 of the members are not computed.
    """
    view = memoryview(data)
    at, end = 0, _end_of_records(view)
    while at < end:
        found = _sample_at(view, at, end, decode, verify)
        if isinstance(found, Damaged):
            at, found = _next_sample(view, found, end, decode, verify)
            yield found
            continue
        yield found
        if isinstance(found, Torn):
            return
        at = found.end


def _end_of_records(view: memoryview) -> int:
    """The size without zero blocks at its end, of which an end marker has two."""
    end = len(view)
    if end % BLOCK:
        return end
    while end >= BLOCK and not any(view[end - BLOCK : end]) and len(view) - end < 2 * BLOCK:
        end -= BLOCK
    return end if len(view) - end == 2 * BLOCK else len(view)


def _next_sample(
    view: memoryview, first: Damaged, end: int, decode: Callable[[bytes], S], verify: bool
) -> tuple[int, Damaged]:
    """Where the next whole or torn record begins behind `first`, and all the damage up to there."""
    at = first.start + BLOCK
    while at < end:
        if parse_header(view[at : at + BLOCK]) is not None:
            found = _sample_at(view, at, end, decode, verify)
            if not isinstance(found, Damaged):
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
            return Damaged(start, at + BLOCK, "members do not stand together")
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
        return Damaged(start, at, "the JSON is of another record")
    for extension, (size, digest) in parts.items():
        body = view[offsets[extension] : offsets[extension] + size]
        if sizes[extension] != size or (verify and hashlib.sha256(body).hexdigest() != digest):
            return Damaged(start, at, f"{extension} does not match its record")
    return Whole(sample, start, at, offsets, sizes[JSON])
