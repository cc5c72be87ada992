"""HEIC and AVIF without metadata, by overwriting it in place: no offset moves, no pixel is decoded.

The container is ISO/IEC 14496-12 (boxes) with the items of ISO/IEC 23008-12. `iinf` lists items by type,
`iloc` says where their bytes lie. Overwritten are: items of type Exif (with an empty TIFF block), mime and uri
(XMP and the like, with spaces); thumbnails (`iref` thmb), which become hidden items of spaces; ICC profiles
(`colr` of type prof or rICC) and every box that is there for notes (udta, uuid, free, skip, mdta), whose content
becomes zeros and whose name becomes `free`.
Rotation and mirroring (irot, imir) are no metadata but part of the picture, and stay.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from humanseg.archive.errors import Unscrubbable

_TOP_KEPT = {b"ftyp", b"meta", b"mdat"}
_EMPTY_EXIF = b"\0\0\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"


def scrub_isobmff(photo: bytes) -> bytes:
    """`photo` (HEIC, HEIF or AVIF, a still image) without metadata, at the same length.

    Raises:
        Unscrubbable: a box runs past its parent, or the items are stored in a way not known here.
    """
    out = bytearray(photo)
    metas = 0
    for kind, start, body, end in _boxes(out, 0, len(out)):
        if kind == b"meta":
            metas += 1
            _scrub_meta(out, body + 4, end)
        elif kind not in _TOP_KEPT:
            if kind in (b"moov", b"moof"):
                raise Unscrubbable("an image sequence")
            _blank(out, start, body, end)
    if metas != 1:
        raise Unscrubbable("not one meta box")
    return bytes(out)


def _scrub_meta(out: bytearray, at: int, stop: int) -> None:
    types: dict[int, bytes] = {}
    places: dict[int, list[tuple[int, int, int]]] = {}
    data_start = 0
    thumbnails: set[int] = set()
    infos = 0  # where the body of iinf begins
    for kind, start, body, end in _boxes(out, at, stop):
        if kind == b"iinf":
            types, infos = dict(_item_types(out, body, end)), body
        elif kind == b"iloc":
            places = dict(_item_places(out, body, end))
        elif kind == b"idat":
            data_start = body
        elif kind == b"iprp":
            _scrub_properties(out, body, end)
        elif kind == b"iref":
            thumbnails = set(_take_thumbnails(out, body, end))
        elif kind not in (b"hdlr", b"pitm", b"grpl", b"dinf"):
            _blank(out, start, body, end)
    if not types:
        raise Unscrubbable("no items")
    _hide(out, infos, thumbnails)
    for item, item_type in types.items():
        if item_type not in (b"Exif", b"mime", b"uri ") and item not in thumbnails:
            continue
        filler = _EMPTY_EXIF if item_type == b"Exif" else b""
        for method, offset, length in places.get(item, []):
            if method not in (0, 1) or (method == 1 and not data_start):
                raise Unscrubbable("metadata stored by reference")
            begin = offset + (data_start if method == 1 else 0)
            if begin < 0 or begin + length > len(out):
                raise Unscrubbable("an item runs past the end")
            padding = b"\0" if item_type == b"Exif" else b" "
            out[begin : begin + length] = filler[:length].ljust(length, padding)
            filler = b""


def _take_thumbnails(out: bytearray, at: int, stop: int) -> Iterator[int]:
    """The items that are thumbnails of others, after taking away that they are (`iref`, 14496-12, 8.11.12).

    An editor may have left the thumbnail of the picture as it was before somebody cropped it.
    """
    wide = out[at] == 1
    for kind, start, body, _ in _boxes(out, at + 4, stop):
        if kind == b"thmb":
            yield struct.unpack_from(">I" if wide else ">H", out, body)[0]
            out[start + 4 : start + 8] = b"free"


def _hide(out: bytearray, at: int, items: set[int]) -> None:
    """Mark items as hidden, so that readers do not take an emptied thumbnail for a second picture."""
    if not items:
        return
    stop = at - 8 + struct.unpack_from(">I", out, at - 8)[0]
    for kind, _, body, _ in _boxes(out, at + 4 + (2 if out[at] == 0 else 4), stop):
        if kind == b"infe":
            (item,) = struct.unpack_from(">I" if out[body] == 3 else ">H", out, body + 4)
            if item in items:
                out[body + 3] |= 1


def _scrub_properties(out: bytearray, at: int, stop: int) -> None:
    for kind, _, body, end in _boxes(out, at, stop):
        if kind != b"ipco":
            continue
        for name, start, inner, inner_end in _boxes(out, body, end):
            profile = name == b"colr" and bytes(out[inner : inner + 4]) in (b"prof", b"rICC")
            if profile or name in (b"udes", b"uuid", b"altt", b"crtt", b"mdft"):
                _blank(out, start, inner, inner_end)


def _boxes(data: bytearray, at: int, stop: int) -> Iterator[tuple[bytes, int, int, int]]:
    """(type, start, start of the body, end) of each box in data[at:stop]."""
    while at < stop:
        size, kind = struct.unpack_from(">I4s", data, at)
        body = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, body)
            body += 8
        elif size == 0:
            size = stop - at
        if size < body - at or at + size > stop:
            raise Unscrubbable("a box runs past its parent")
        yield bytes(kind), at, body, at + size
        at += size


def _blank(out: bytearray, start: int, body: int, end: int) -> None:
    out[start + 4 : start + 8] = b"free"
    out[body:end] = bytes(end - body)


def _item_types(data: bytearray, at: int, stop: int) -> Iterator[tuple[int, bytes]]:
    version = data[at]
    at += 4 + (2 if version == 0 else 4)
    for kind, _, body, _ in _boxes(data, at, stop):
        if kind != b"infe":
            continue
        infe = data[body]
        if infe < 2:
            raise Unscrubbable("items of an old version")
        wide = infe == 3
        (item,) = struct.unpack_from(">I" if wide else ">H", data, body + 4)
        after = body + (8 if wide else 6) + 2
        yield item, bytes(data[after : after + 4])


def _item_places(data: bytearray, at: int, stop: int) -> Iterator[tuple[int, list[tuple[int, int, int]]]]:
    """(item, [(construction method, offset, length), ...]) from `iloc` (14496-12, 8.11.3)."""
    version, sizes = data[at], struct.unpack_from(">H", data, at + 4)[0]
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version in (1, 2) else 0
    at += 6
    (count,) = struct.unpack_from(">I" if version == 2 else ">H", data, at)
    at += 4 if version == 2 else 2

    def number(width: int) -> int:
        nonlocal at
        at += width
        if at > stop:
            raise Unscrubbable("the list of places runs past its box")
        return int.from_bytes(data[at - width : at], "big")

    for _ in range(count):
        item = number(4 if version == 2 else 2)
        method = number(2) & 15 if version in (1, 2) else 0
        number(2)  # data reference
        base = number(base_size)
        extents = []
        for _ in range(number(2)):
            number(index_size)
            offset = number(offset_size)
            extents.append((method, base + offset, number(length_size)))
        yield item, extents
