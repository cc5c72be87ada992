"""Find every record of one photo, for `erase`: by the bytes that the archive keeps of it, or by its pixels.

A person brings the file that was sent; the archive has it without metadata. So the file's metadata is stripped the
same way, and its SHA-256 looked up in the tables. For copies with other bytes (a lossless re-encoding, another
version of the server), records of the same size and brightness are decoded and compared pixel by pixel.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow.compute as pc

from humanseg.archive.capture.record import StoredRecord, extension_of
from humanseg.archive.capture.rewrite import upright_rgb
from humanseg.archive.capture.segment import Whole, scan
from humanseg.archive.capture.spool import Spool, mapped
from humanseg.archive.capture.strip_metadata import strip_metadata
from humanseg.archive.errors import ArchiveError, NotStrippable
from humanseg.archive.read.reader import Damaged, Gone, Reader, parallel

COLUMNS = ["request_id", "time", "photo_sha256", "segment", "photo_offset", "photo_bytes", "mask_sha256"]
COLUMNS += ["mask_offset", "mask_bytes"]
# A worker may decode a JPEG at a reduced size, which changes the mean luma (0..1) slightly.
LIGHT_DIFFERS = 0.02


@dataclass(frozen=True)
class Fingerprint:
    """A photo: SHA-256 of what the archive keeps of it and of its upright RGB pixels, sides, mean luma (0..1)."""

    photo_sha256: str
    pixels_sha256: str
    width: int
    height: int
    light: float


def fingerprint(photo: bytes) -> Fingerprint:
    """The fingerprint of a photo, given its bytes.

    Raises:
        ArchiveError: the photo cannot be decoded.
    """
    from PIL import Image

    try:
        pixels = upright_rgb(photo)
        with Image.open(io.BytesIO(photo)) as image:
            kept, _ = strip_metadata(photo, (image.format or "").lower())
    except NotStrippable as error:
        raise ArchiveError(f"the photo can't be read: {error}") from error
    histogram = pixels.convert("L").histogram()
    light = sum(level * count for level, count in enumerate(histogram)) / sum(histogram) / 255
    return Fingerprint(_sha256(kept), _sha256(pixels.tobytes()), pixels.width, pixels.height, light)


def fingerprint_of_record(reader: Reader, spool: Spool, request_id: str) -> Fingerprint:
    """The fingerprint of the photo of a record in the bucket or the spool.

    Raises:
        ArchiveError: the record does not exist, or its photo cannot be decoded.
    """
    row = reader.find(request_id)
    if row is not None:
        return replace(fingerprint(reader.photo_and_mask(row)[0]), photo_sha256=row["photo_sha256"])
    for record, photo in _spooled(spool):
        if record.request_id == request_id:
            return replace(fingerprint(photo()), photo_sha256=record.photo_sha256)
    raise ArchiveError(f"no record {request_id} is in the archive or in this spool")


def records_of_photo(reader: Reader, spool: Spool, sought: Fingerprint) -> list[str]:
    """Request ids of all records of the photo `sought`: in the bucket, committed or not, and in the spool."""
    request_ids = {record.request_id for record, photo in _spooled(spool) if _is_it(record, photo, sought)}
    for data in parallel(reader.get, _uncommitted(reader), 2):
        request_ids |= {record.request_id for record, photo in _records_in(data) if _is_it(record, photo, sought)}
    same = pc.field("photo_sha256") == sought.photo_sha256
    light = pc.field("brightness")
    alike = (pc.field("width") == sought.width) & (pc.field("height") == sought.height)
    alike &= (light > sought.light - LIGHT_DIFFERS) & (light < sought.light + LIGHT_DIFFERS)
    for day in reader.records.days():
        rows = reader.records.day_rows(day, columns=COLUMNS, where=same | alike).to_pylist()
        unknown = [row for row in rows if row["photo_sha256"] != sought.photo_sha256]
        request_ids |= {row["request_id"] for row in rows if row["photo_sha256"] == sought.photo_sha256}
        request_ids |= {
            request_id
            for request_id in parallel(lambda row: _compared(reader, row, sought), unknown, 4)
            if request_id
        }
    for day in reader.labels.days():
        request_ids |= set(reader.labels.day_rows(day, columns=["request_id"], where=same)["request_id"].to_pylist())
    return sorted(request_ids)


def _compared(reader: Reader, row: dict[str, Any], sought: Fingerprint) -> str:
    try:
        photo, _ = reader.photo_and_mask(row)
    except (Gone, Damaged):  # erased or damaged meanwhile
        return ""
    return str(row["request_id"]) if _same_pixels(photo, sought) else ""


def _is_it(record: StoredRecord, photo: Callable[[], bytes], sought: Fingerprint) -> bool:
    if record.photo_sha256 == sought.photo_sha256:
        return True
    alike = (record.width, record.height) == (sought.width, sought.height)
    return alike and abs(record.brightness - sought.light) < LIGHT_DIFFERS and _same_pixels(photo(), sought)


def _same_pixels(photo: bytes, sought: Fingerprint) -> bool:
    try:
        return _sha256(upright_rgb(photo).tobytes()) == sought.pixels_sha256
    except NotStrippable:
        return False


def _spooled(spool: Spool) -> Iterator[tuple[StoredRecord, Callable[[], bytes]]]:
    for path in spool.files():
        try:
            with mapped(path) as data:
                yield from _records_in(data)
        except FileNotFoundError:  # uploaded meanwhile
            continue


def _records_in(data: bytes | memoryview) -> Iterator[tuple[StoredRecord, Callable[[], bytes]]]:
    for item in scan(data, StoredRecord.from_json, verify=False):
        if isinstance(item, Whole):
            start = item.offsets[extension_of(item.sample.photo_format)]
            end = start + item.sample.photo_bytes
            yield item.sample, lambda start=start, end=end: bytes(data[start:end])  # type: ignore[misc]


def _uncommitted(reader: Reader) -> list[str]:
    """Keys of segments without a table: the upload was interrupted, or is in progress."""
    shelf, keys = reader.records, []
    for day in shelf.days(kind="segments"):
        segments = shelf.listed(day, "segments")  # first: a table follows its segment
        committed = {table.name.text for table in shelf.listed(day)}
        keys += [segment.key for segment in segments if segment.name.text not in committed]
    return keys


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
