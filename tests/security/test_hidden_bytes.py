"""A token planted in every box, chunk, segment, gap and tail of every format is in no archived byte."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from humanseg.archive.capture.isobmff import strip_isobmff
from humanseg.archive.capture.strip_metadata import strip_metadata
from humanseg.archive.errors import NotStrippable
from humanseg.segmentation.errors import PhotoError
from humanseg.segmentation.photo import read_photo
from tests.archive import photos

TOKEN = b"TOKEN-OF-A-PERSON"
PNG_START = 8
PNG_CHUNKS = tuple(
    b"tEXt zTXt iTXt eXIf tIME pHYs sPLT hIST vpAg cHRM gAMA sBIT cICP sRGB iCCP PLTE fdAT caBX".split()
)
Plant = tuple[str, bytes]


def upright(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGBA"))


def chunk(kind: bytes, body: bytes) -> bytes:
    return photos.with_png_chunk(bytes(33), kind, body)[33:]


def png_plants(plain: bytes) -> Iterator[Plant]:
    """Before each chunk: known and unknown chunks, twice what may be there once, and behind the end."""
    at = PNG_START
    while at < len(plain):
        length, here = struct.unpack_from(">I4s", plain, at)
        for kind in PNG_CHUNKS:
            if at > PNG_START:
                yield f"{kind!r} before {here!r}", plain[:at] + chunk(kind, TOKEN * 3) + plain[at:]
        if here == b"IDAT":
            body = plain[at + 8 : at + 8 + length]
            yield "behind the stream", plain[:at] + chunk(b"IDAT", body + TOKEN) + plain[at + 12 + length :]
        at += 12 + length
    yield "behind the end", plain + TOKEN
    raw = zlib.decompress(b"".join(_idat(plain))) + TOKEN * 40
    start = plain.index(b"IDAT") - 4
    stored = zlib.compress(raw, 0)
    yield "rows behind the last", plain[:start] + chunk(b"IDAT", stored) + plain[-12:]


def _idat(plain: bytes) -> Iterator[bytes]:
    at = PNG_START
    while at < len(plain):
        length, kind = struct.unpack_from(">I4s", plain, at)
        if kind == b"IDAT":
            yield plain[at + 8 : at + 8 + length]
        at += 12 + length


def jpeg_plants(plain: bytes) -> Iterator[Plant]:
    """Before each segment: every application segment, comments, what decoders pass over, and bytes of no segment."""
    at = 2
    starts = []
    while plain[at + 1] != 0xDA:
        starts.append(at)
        at += 2 + struct.unpack_from(">H", plain, at + 2)[0]
    for start in (*starts, at):
        for marker in (*range(0xE0, 0xF0), 0xFE, 0xDC, 0xF0, 0xFD, 0xC8):
            segment = bytes([0xFF, marker]) + struct.pack(">H", 2 + len(TOKEN)) + TOKEN
            yield f"{marker:02x} at {start}", plain[:start] + segment + plain[start:]
        for name in (b"JFIF\0", b"JFXX\0", b"Adobe", b"Exif\0\0", b"ICC_PROFILE\0", b"MPF\0"):
            for marker in (0xE0, 0xE1, 0xE2, 0xEE):
                body = name + TOKEN
                segment = bytes([0xFF, marker]) + struct.pack(">H", 2 + len(body)) + body
                yield f"{name!r} in {marker:02x}", plain[:start] + segment + plain[start:]
        yield f"no segment at {start}", plain[:start] + TOKEN + plain[start:]
    yield "tail", plain + TOKEN
    yield "a second picture", plain + plain[:-2] + TOKEN + b"\xff\xd9"


def webp_plants(plain: bytes) -> Iterator[Plant]:
    """Between the chunks: unknown and known ones, twice what may be there once; the tail."""

    def whole(body: bytes) -> bytes:
        return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body

    body, at = plain[12:], 0
    starts = [0]
    while at + 8 <= len(body):
        (length,) = struct.unpack_from("<I", body, at + 4)
        at += 8 + length + (length & 1)
        starts.append(at)
    for start in starts:
        for kind in (b"JUNK", b"EXIF", b"XMP ", b"ICCP", b"ANIM", b"ANMF", b"ALPH"):
            if start == 0 and kind == b"ALPH":
                continue  # there it is the picture's own
            extra = kind + struct.pack("<I", len(TOKEN)) + TOKEN + bytes(len(TOKEN) & 1)
            yield f"{kind!r} at {start}", whole(body[:start] + extra + body[start:])
    for kind in (b"VP8 ", b"VP8L", b"VP8X"):
        extra = kind + struct.pack("<I", len(TOKEN)) + TOKEN + bytes(len(TOKEN) & 1)
        yield f"a second {kind!r}", whole(body + extra)
    yield "tail", plain + TOKEN


def gif_plants(plain: bytes) -> Iterator[Plant]:
    """Comments, application data, plain text and graphic controls in front of and behind the picture; the tail."""
    start = 13 + (3 << ((plain[10] & 7) + 1) if plain[10] & 0x80 else 0)
    piece = bytes([len(TOKEN)]) + TOKEN + b"\0"
    for place in (start, len(plain) - 1):
        for label in (0xFE, 0xFF, 0x01, 0xF9, 0x99):
            yield f"{label:02x} at {place}", plain[:place] + bytes([0x21, label]) + piece + plain[place:]
        control = b"\x21\xf9\x04\0\0\0\0" + piece
        yield f"in a graphic control at {place}", plain[:place] + control + plain[place:]
    yield "tail", plain + TOKEN


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def boxes(data: bytes, at: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, end)."""
    while at < stop:
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, at, at + size
        at += size


def isobmff_plants(plain: bytes) -> Iterator[Plant]:
    """Boxes behind the last one, and inside each parent, whose size and all places in `iloc` are then set right."""
    for kind in (b"free", b"skip", b"uuid", b"udta", b"mdat", b"ftyp", b"sefd", b"mpvd", b"idat", b"wide"):
        yield f"{kind!r} behind", plain + box(kind, TOKEN)
    yield "tail in the last box", plain[: plain.rindex(b"mdat") - 4] + longer_last(plain)
    parents = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"iinf": 6, b"iref": 4}
    for name in parents:
        for kind in (b"free", b"uuid", b"udes", b"altt", b"colr", b"xml ", b"abcd", b"cdsc", b"infe"):
            if name.startswith((b"iinf", b"iref")) and kind not in (b"free", b"cdsc", b"abcd"):
                continue
            yield f"{kind!r} in {name!r}", grown(plain, name, box(kind, body_of(kind)))


def body_of(kind: bytes) -> bytes:
    if kind == b"colr":
        return b"prof" + TOKEN
    return struct.pack(">HHH", 1, 1, 1) + TOKEN if kind == b"cdsc" else TOKEN


def longer_last(plain: bytes) -> bytes:
    """The last `mdat` with a token that no item points to."""
    start = plain.rindex(b"mdat") - 4
    body = plain[start + 8 :] + TOKEN
    return box(b"mdat", body)


def grown(plain: bytes, name: bytes, extra: bytes) -> bytes:
    """`plain` with `extra` at the end of its box `name`; all boxes around it, and `iloc`, say so."""
    out = bytearray(plain)
    meta_start = next(start for kind, start, _ in boxes(plain, 0, len(plain)) if kind == b"meta")
    chain = [meta_start]
    if name != b"meta":
        levels = {b"iprp": [b"iprp"], b"ipco": [b"iprp", b"ipco"], b"iinf": [b"iinf"], b"iref": [b"iref"]}[name]
        at, stop = meta_start + 12, meta_start + struct.unpack_from(">I", plain, meta_start)[0]
        for level in levels:
            spans = [(start, end) for kind, start, end in boxes(plain, at, stop) if kind == level]
            if not spans:
                return plain
            chain.append(spans[0][0])
            at, stop = spans[0][0] + 8, spans[0][1]
    end = chain[-1] + struct.unpack_from(">I", plain, chain[-1])[0]
    for start in chain:
        (size,) = struct.unpack_from(">I", out, start)
        struct.pack_into(">I", out, start, size + len(extra))
    moved = bytes(out[:end]) + extra + bytes(out[end:])
    return shifted(moved, len(extra))


def shifted(data: bytes, by: int) -> bytes:
    """Every place in `iloc` further back (the box as libheif and libavif write it: version 0 or 1, 4-byte places)."""
    out = bytearray(data)
    at = data.index(b"iloc") + 4
    version, sizes = data[at], struct.unpack_from(">H", data, at + 4)[0]
    assert sizes >> 8 == 0x44
    base = sizes >> 4 & 15
    (count,) = struct.unpack_from(">H", data, at + 6)
    at += 8
    for _ in range(count):
        method = struct.unpack_from(">H", data, at + 2)[0] & 15 if version == 1 else 0
        at += (6 if version == 1 else 4) + base
        (extents,) = struct.unpack_from(">H", data, at)
        at += 2
        for _ in range(extents):
            if method == 0:
                struct.pack_into(">I", out, at, struct.unpack_from(">I", data, at)[0] + by)
            at += 8
    return bytes(out)


def plain(photo_format: str) -> bytes:
    out, image = io.BytesIO(), photos.picture()
    if photo_format == "heic":
        pillow_heif.from_pillow(image).save(out, quality=90)
    elif photo_format == "heic with alpha":
        pillow_heif.from_pillow(image.convert("RGBA").rotate(20)).save(out, quality=90)
    elif photo_format == "gif":
        image.convert("P").save(out, "GIF")
    elif photo_format == "webp":
        image.save(out, "WEBP", lossless=True, exif=photos.exif(6))
    elif photo_format == "progressive jpeg":
        image.save(out, "JPEG", progressive=True)
    else:
        image.save(out, photo_format.upper())
    return out.getvalue()


PLANTS: dict[str, Callable[[bytes], Iterator[Plant]]] = {
    "jpeg": jpeg_plants,
    "progressive jpeg": jpeg_plants,
    "png": png_plants,
    "webp": webp_plants,
    "gif": gif_plants,
    "heic": isobmff_plants,
    "heic with alpha": isobmff_plants,
    "avif": isobmff_plants,
}


@pytest.mark.parametrize("name", PLANTS)
def test_no_planted_token_reaches_the_archive(name: str) -> None:
    sent = plain(name)
    photo_format = {"heic with alpha": "heic", "progressive jpeg": "jpeg"}.get(name, name)
    planted = list(PLANTS[name](sent))
    assert len(planted) > 10
    assert strip_metadata(sent, photo_format)[1] == photo_format
    read = 0
    for where, photo in planted:
        assert TOKEN in photo or photo == sent, where
        try:
            clean, _ = strip_metadata(photo, photo_format)
        except NotStrippable:
            continue
        assert TOKEN not in clean, where
        try:
            shown = read_photo(photo).pixels
        except PhotoError:
            continue  # no photo any more: the server would have refused it
        np.testing.assert_array_equal(read_photo(clean).pixels, shown, err_msg=where)
        read += 1
    assert read > len(planted) // 2, "most of them are still photos"


@pytest.mark.parametrize("name", PLANTS)
def test_a_photo_that_was_cleaned_is_clean(name: str) -> None:
    photo_format = {"heic with alpha": "heic", "progressive jpeg": "jpeg"}.get(name, name)
    once, kind = strip_metadata(plain(name), photo_format)
    assert strip_metadata(once, kind) == (once, kind)


def with_second_picture() -> bytes:
    """A HEIC of two pictures, the first of them the primary one, with thumbnails."""
    file = pillow_heif.from_pillow(photos.picture(seed=1))
    file.add_from_pillow(photos.picture(seed=2))
    out = io.BytesIO()
    file.save(out, quality=90, thumbnails=[64])
    return out.getvalue()


def test_a_second_picture_in_a_heic_stays_behind() -> None:
    sent = with_second_picture()
    assert len(pillow_heif.open_heif(sent)) == 2
    clean = strip_isobmff(sent)
    assert len(pillow_heif.open_heif(clean)) == 1
    assert len(clean) < len(sent) * 0.7
    np.testing.assert_array_equal(upright(clean), upright(sent))


def test_messages_between_the_pixels_stay_behind() -> None:
    """x265 writes its version and settings as a message (SEI) into each picture."""
    sent = plain("heic")
    nal = bytes([39 << 1, 1, 5, 16 + len(TOKEN)]) + bytes(16) + TOKEN + b"\x80"
    start = sent.rindex(b"mdat") + 4
    unit = struct.pack(">I", len(nal)) + nal
    at = sent.index(b"iloc")
    grown_item = bytearray(sent[:start] + unit + sent[start:])
    (size,) = struct.unpack_from(">I", sent, start - 8)
    struct.pack_into(">I", grown_item, start - 8, size + len(unit))
    length_at = next(
        place for place in range(at, at + 60) if struct.unpack_from(">I", sent, place)[0] == len(sent) - start
    )
    struct.pack_into(">I", grown_item, length_at, len(sent) - start + len(unit))
    clean = strip_isobmff(bytes(grown_item))
    assert TOKEN in grown_item
    assert TOKEN not in clean
    np.testing.assert_array_equal(upright(clean), upright(sent))


phone_photo = functools.cache(photos.phone_photo)  # the same bytes each time: a profile tells when it was made


@settings(max_examples=60)
@given(st.data())
def test_a_damaged_file_is_refused_or_clean(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(PLANTS)))
    photo_format = {"heic with alpha": "heic", "progressive jpeg": "jpeg"}.get(name, name)
    sent = bytearray(phone_photo(photo_format))
    for _ in range(data.draw(st.integers(1, 4))):
        sent[data.draw(st.integers(0, len(sent) - 1))] = data.draw(st.integers(0, 255))
    try:
        clean, _ = strip_metadata(bytes(sent), photo_format)
    except NotStrippable:
        return
    for secret in photos.secrets_of(photo_format):
        assert secret not in clean
