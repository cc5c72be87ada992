"""Rewrites HEIC and AVIF with only the visible picture: everything that it does not reference is dropped.

The container is ISO/IEC 14496-12 (boxes) with the items of ISO/IEC 23008-12. `pitm` names the primary item. It is
kept with the tiles and layers that it consists of (`iref` dimg) and its transparency (`auxl`). Everything else is
dropped: EXIF, XMP, thumbnails, depth maps, mattes, gain maps, further pictures, unknown boxes, and bytes of `mdat`
that no kept item points to. The compressed pixels are the same bytes, without messages between them (SEI, metadata
OBUs). Only the properties that a decoder needs are kept: size, depth, codec, rotation, mirroring, crop, `nclx`
colours.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from humanseg.archive.errors import NotStrippable

_BRANDS = frozenset(
    (b"mif1", b"mif2", b"miaf", b"heic", b"heix", b"avif", b"MiHB", b"MiHE", b"MiPr", b"MA1A", b"MA1B", b"1pic")
)
_CODED = frozenset((b"hvc1", b"av01"))
_DERIVED = frozenset((b"grid", b"iovl", b"iden"))
_FULL_SIZE = {b"ispe": 12, b"irot": 1, b"imir": 1, b"pasp": 8, b"clap": 32, b"a1op": 1, b"lsel": 2}
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0", b"urn:mpeg:hevc:2015:auxid:1\0")
_PARAMETER_SETS = range(32, 35)  # NAL units of HEVC: VPS, SPS, PPS (ITU-T H.265, table 7-1)
_OBU_KEPT = frozenset((1, 2, 3, 4, 6, 7))  # AV1: sequence and frame headers, tiles (AV1 specification, 6.2.2)


@dataclass
class _Item:
    """An item: type, where its bytes are, its properties as (essential, index from 1), what it refers to."""

    kind: bytes
    extents: list[tuple[int, int]] = field(default_factory=list)
    properties: list[tuple[bool, int]] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)


@dataclass
class _File:
    """The structure of a file: items by number, the primary one, properties as (type, body), (alpha, its item)."""

    items: dict[int, _Item] = field(default_factory=dict)
    primary: int = 0
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    auxiliary: list[tuple[int, list[int]]] = field(default_factory=list)
    premultiplied: list[tuple[int, list[int]]] = field(default_factory=list)


def strip_isobmff(photo: bytes) -> bytes:
    """Return `photo` (HEIC, HEIF or AVIF, a still image) with the visible picture and nothing else.

    Raises:
        NotStrippable: a box runs past its parent, or the items are stored in a way not known here.
    """
    brands, file = b"", _File()
    metas = 0
    for kind, body, end in _boxes(photo, 0, len(photo)):
        if kind == b"ftyp":
            brands = photo[body:end]
        elif kind == b"meta":
            metas += 1
            _read_meta(photo, body + 4, end, file)
        elif kind in (b"moov", b"moof"):
            raise NotStrippable("an image sequence")
    if metas != 1 or file.primary not in file.items:
        raise NotStrippable("not one meta box with a primary item")
    kept = _reachable(file)
    bodies = [_body(photo, file, file.items[number]) for number in kept]
    return _written(brands, file, kept, bodies)


def _reachable(file: _File) -> list[int]:
    """The primary item, its parts, its transparency, and the parts of that, in this order."""
    kept: list[int] = []

    def add(first: int) -> None:
        waiting = [first]
        while waiting:
            number = waiting.pop(0)
            if number in kept:
                continue
            if number not in file.items or file.items[number].kind not in _CODED | _DERIVED:
                raise NotStrippable("a picture made of something unknown")
            kept.append(number)
            waiting += file.items[number].parts

    add(file.primary)
    for number, targets in file.auxiliary:
        if file.primary in targets and number in file.items and _is_alpha(file, file.items[number]):
            add(number)
    return kept


def _is_alpha(file: _File, item: _Item) -> bool:
    return any(kind == b"auxC" and body[4:].startswith(_ALPHA) for kind, body in _properties_of(file, item))


def _properties_of(file: _File, item: _Item) -> list[tuple[bytes, bytes]]:
    try:
        return [file.properties[index - 1] for _, index in item.properties if index]
    except IndexError:
        raise NotStrippable("a property that is not there") from None


# ------------------------------------------------------------------------------------------- reading


def _read_meta(data: bytes, at: int, stop: int, file: _File) -> None:
    boxes = {kind: (body, end) for kind, body, end in _boxes(data, at, stop)}
    for needed in (b"iinf", b"iloc", b"pitm", b"iprp"):
        if needed not in boxes:
            raise NotStrippable("no items")
    file.items = {number: _Item(kind) for number, kind in _item_types(data, *boxes[b"iinf"])}
    body, _ = boxes[b"pitm"]
    (file.primary,) = struct.unpack_from(">I" if data[body] else ">H", data, body + 4)
    inside, inside_end = boxes.get(b"idat", (0, 0))
    for number, method, extents in _item_places(data, *boxes[b"iloc"]):
        if number in file.items:
            if method not in (0, 1):
                raise NotStrippable("an item stored by reference")
            base, limit = (inside, inside_end) if method else (0, len(data))
            for offset, length in extents:
                if not length or base + offset + length > limit:
                    raise NotStrippable("an item runs past the end")
            file.items[number].extents = [(base + offset, length) for offset, length in extents]
    for kind, body, end in _boxes(data, *boxes[b"iprp"]):
        if kind == b"ipco":
            file.properties = [(name, data[start:stop]) for name, start, stop in _boxes(data, body, end)]
        elif kind == b"ipma":
            for number, properties in _associations(data, body, end):
                if number in file.items:
                    file.items[number].properties += properties
    if b"iref" in boxes:
        body, end = boxes[b"iref"]
        for kind, number, targets in _references(data, body, end):
            if kind == b"dimg" and number in file.items:
                file.items[number].parts = targets
            elif kind == b"auxl":
                file.auxiliary.append((number, targets))
            elif kind == b"prem":
                file.premultiplied.append((number, targets))


def _boxes(data: bytes, at: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, start of the body, end) of each box in data[at:stop]."""
    while at < stop:
        size, kind = struct.unpack_from(">I4s", data, at)
        body = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, body)
            body += 8
        elif size == 0:
            size = stop - at
        if size < body - at or at + size > stop:
            raise NotStrippable("a box runs past its parent")
        yield kind, body, at + size
        at += size


def _item_types(data: bytes, at: int, stop: int) -> Iterator[tuple[int, bytes]]:
    for kind, body, _ in _boxes(data, at + 4 + (2 if data[at] == 0 else 4), stop):
        if kind != b"infe":
            continue
        if data[body] < 2:
            raise NotStrippable("items of an old version")
        wide = data[body] == 3
        (number,) = struct.unpack_from(">I" if wide else ">H", data, body + 4)
        after = body + (8 if wide else 6) + 2
        yield number, data[after : after + 4]


def _item_places(data: bytes, at: int, stop: int) -> Iterator[tuple[int, int, list[tuple[int, int]]]]:
    """(item, construction method, [(offset, length), ...]) from `iloc` (14496-12, 8.11.3)."""
    version, sizes = data[at], struct.unpack_from(">H", data, at + 4)[0]
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version in (1, 2) else 0
    at += 6

    def number(width: int) -> int:
        nonlocal at
        at += width
        if at > stop:
            raise NotStrippable("the list of places runs past its box")
        return int.from_bytes(data[at - width : at], "big")

    for _ in range(number(4 if version == 2 else 2)):
        item = number(4 if version == 2 else 2)
        method = number(2) & 15 if version in (1, 2) else 0
        elsewhere = number(2)  # another file
        base = number(base_size)
        extents = []
        for _ in range(number(2)):
            number(index_size)
            offset = number(offset_size)
            extents.append((base + offset, number(length_size)))
        yield item, 3 if elsewhere else method, extents


def _associations(data: bytes, at: int, stop: int) -> Iterator[tuple[int, list[tuple[bool, int]]]]:
    """(item, [(essential, index of a property), ...]) from `ipma` (23008-12, 9.3.2)."""
    step, bits = (">I" if data[at] else ">H"), (15 if data[at + 3] & 1 else 7)
    (count,) = struct.unpack_from(">I", data, at + 4)
    at += 8
    for _ in range(count):
        (item,) = struct.unpack_from(step, data, at)
        at += struct.calcsize(step)
        width, number = (bits + 1) // 8, data[at]
        at += 1
        if at + number * width > stop:
            raise NotStrippable("properties run past their box")
        values = [int.from_bytes(data[at + width * entry :][:width], "big") for entry in range(number)]
        at += number * width
        yield item, [(bool(value >> bits), value & ((1 << bits) - 1)) for value in values]


def _references(data: bytes, at: int, stop: int) -> Iterator[tuple[bytes, int, list[int]]]:
    step = ">I" if data[at] else ">H"
    width = struct.calcsize(step)
    for kind, body, end in _boxes(data, at + 4, stop):
        number, count = struct.unpack_from(f"{step}H", data, body)
        if body + width + 2 + count * width > end:
            raise NotStrippable("references run past their box")
        yield kind, number, list(struct.unpack_from(f">{count}{step[1]}", data, body + width + 2))


# ------------------------------------------------------------------------------------------- what is kept


def _body(photo: bytes, file: _File, item: _Item) -> bytes:
    """The bytes of an item, without data between or after the pixels."""
    raw = b"".join(photo[start : start + length] for start, length in item.extents)
    if item.kind == b"iden":
        return b""
    if not raw:
        raise NotStrippable("an item without bytes")
    if item.kind == b"grid":
        return raw[: 12 if raw[1] & 1 else 8]
    if item.kind == b"iovl":
        width = 4 if raw[1] & 1 else 2
        return raw[: 10 + width * 2 * (1 + len(item.parts))]
    if item.kind == b"av01":
        return b"".join(obu for kind, obu in _obus(raw) if kind in _OBU_KEPT)
    configuration = next((body for kind, body in _properties_of(file, item) if kind == b"hvcC"), b"")
    if len(configuration) < 23:
        raise NotStrippable("HEVC without its configuration")
    width = (configuration[21] & 3) + 1
    out, at = bytearray(), 0
    while at + width < len(raw):
        length = int.from_bytes(raw[at : at + width], "big")
        end = at + width + length
        if not length or end > len(raw):
            raise NotStrippable("a NAL unit runs past its item")
        kind = raw[at + width] >> 1 & 63
        if kind < 32 or kind in _PARAMETER_SETS:
            out += raw[at:end]
        at = end
    return bytes(out)


def _obus(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, bytes) of each OBU (AV1 specification, 5.3)."""
    at = 0
    while at < len(raw):
        start, head = at, raw[at]
        at += 1 + (head >> 2 & 1)
        length = len(raw) - at
        if head & 2:
            length = shift = 0
            while True:
                byte = raw[at]
                length |= (byte & 127) << shift
                at, shift = at + 1, shift + 7
                if not byte & 128:
                    break
        if at + length > len(raw):
            raise NotStrippable("an OBU runs past its item")
        at += length
        yield head >> 3 & 15, raw[start:at]


def _property(kind: bytes, body: bytes) -> bytes | None:
    """A property's body, reduced to what a decoder needs; None drops the property."""
    if kind in _FULL_SIZE:
        if len(body) < _FULL_SIZE[kind]:
            raise NotStrippable("a property is cut off")
        return body[: _FULL_SIZE[kind]]
    if kind == b"a1lx":
        return body[: 13 if body[0] & 1 else 7]
    if kind == b"pixi":
        return body[: 5 + body[4]]
    if kind == b"colr":
        return body[:11] if body[:4] == b"nclx" else None
    if kind == b"auxC":
        return next((body[:4] + name for name in _ALPHA if body[4:].startswith(name)), None)
    if kind == b"av1C":
        return body[:4] + b"".join(obu for number, obu in _obus(body[4:]) if number == 1)
    if kind == b"hvcC":
        return _hevc_configuration(body)
    return None


def _hevc_configuration(body: bytes) -> bytes:
    """`hvcC` (14496-15, 8.3.3.1) with its parameter sets alone."""
    arrays, at = [], 23
    for _ in range(body[22]):
        kind, count = struct.unpack_from(">BH", body, at)
        start, at = at, at + 3
        for _ in range(count):
            at += 2 + struct.unpack_from(">H", body, at)[0]
        if at > len(body):
            raise NotStrippable("a parameter set runs past its box")
        if kind & 63 in _PARAMETER_SETS:
            arrays.append(body[start:at])
    return body[:22] + bytes([len(arrays)]) + b"".join(arrays)


# ------------------------------------------------------------------------------------------- writing


def _written(brands: bytes, file: _File, kept: list[int], bodies: list[bytes]) -> bytes:
    """The new file. Items are numbered from 1 in the order of `kept`, properties in the order of their first use."""
    numbers = {old: new for new, old in enumerate(kept, 1)}
    if len(kept) > 0xFFFF:
        raise NotStrippable("too many items")
    properties: dict[int, int] = {}
    boxes = bytearray()
    associations = bytearray()
    for old in kept:
        mine = []
        for essential, index in file.items[old].properties:
            if index and index not in properties:
                kind, body = _properties_of(file, _Item(b"", properties=[(essential, index)]))[0]
                clean = _property(kind, body)
                if clean is None:
                    if essential and kind not in (b"colr",):
                        raise NotStrippable("an essential property that is not known")
                    properties[index] = 0
                else:
                    boxes += _box(kind, clean)
                    properties[index] = 1 + max(properties.values(), default=0)
            if index and properties[index]:
                mine.append(essential << 15 | properties[index])
        associations += struct.pack(f">HB{len(mine)}H", numbers[old], len(mine), *mine)

    references = b"".join(
        _box(b"dimg", struct.pack(f">HH{len(parts)}H", numbers[old], len(parts), *(numbers[part] for part in parts)))
        for old in kept
        if (parts := file.items[old].parts)
    )
    for kind, links in ((b"auxl", file.auxiliary), (b"prem", file.premultiplied)):
        for number, targets in links:
            mine = [numbers[target] for target in targets if target in numbers]
            if number in numbers and mine:
                references += _box(kind, struct.pack(f">HH{len(mine)}H", numbers[number], len(mine), *mine))

    infos = b"".join(
        _box(b"infe", struct.pack(">IHH4sB", 2 << 24 | (number > 1), number, 0, file.items[old].kind, 0))
        for old, number in numbers.items()
    )

    def meta(data_at: int) -> bytes:
        places, at = bytearray(), data_at
        for number, body in enumerate(bodies, 1):
            places += struct.pack(">HHHII", number, 0, 1 if body else 0, at, len(body))[: 14 if body else 6]
            at += len(body)
        return _box(
            b"meta",
            bytes(4)
            + _box(b"hdlr", bytes(8) + b"pict" + bytes(13))
            + _box(b"pitm", struct.pack(">IH", 0, 1))
            + _box(b"iloc", struct.pack(">IHH", 0, 0x4400, len(bodies)) + places)
            + _box(b"iinf", struct.pack(">IH", 0, len(bodies)) + infos)
            + (_box(b"iref", bytes(4) + references) if references else b"")
            + _box(b"iprp", _box(b"ipco", boxes) + _box(b"ipma", struct.pack(">II", 1, len(kept)) + associations)),
        )

    known = [brands[at : at + 4] for at in (0, *range(8, len(brands) - 3, 4)) if brands[at : at + 4] in _BRANDS]
    if not known:
        raise NotStrippable("a brand that is not known")
    head = _box(b"ftyp", known[0] + bytes(4) + b"".join(dict.fromkeys((*known, b"mif1"))))
    data_at = len(head) + len(meta(0)) + 8
    return head + meta(data_at) + _box(b"mdat", b"".join(bodies))


def _box(kind: bytes, body: bytes | bytearray) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body
