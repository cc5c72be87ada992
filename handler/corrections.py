"""A corrected mask that is sent back: a form with `correction`, `of`, `archive=yes`; a proposal for the archive."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

import numpy as np
from PIL import Image

from handler.archiving import PhotoArchive
from handler.errors import BadOption, BadRequest, UnknownOption
from handler.options import some
from handler.request import refuse_repeats
from handler.response import Response
from humanseg.archive.capture.correction import Correction
from humanseg.archive.capture.record import check_request_id
from humanseg.segmentation.errors import NotAnImage, TooLarge
from humanseg.segmentation.picture import encode

FIELD = "correction"
FIELDS = (FIELD, "of", "archive")
MAX_BYTES = 8_000_000  # of the PNG: a mask of 50 megapixels has less than 2 MB
TEXT = 200  # characters of a field that is text, more than any that is right


def is_correction(row: Mapping[str, Any]) -> bool:
    """Whether a request brings a mask back in place of a photo."""
    return FIELD in row


def read_correction(
    row: Mapping[str, Any], request_id: str, *, max_pixels: int, admit: Callable[[int], None] = lambda pixels: None
) -> Correction:
    """The correction in the fields of a form. The mask is encoded anew: nothing but its pixels is kept.

    Whether `of` names a record, and whether the mask has its photo's size, the server can't know: it may only write.
    That is checked when somebody accepts it. admit: called with the number of pixels before they are decoded.

    Raises:
        Whatever `admit` raises.
        UnknownOption, BadOption, BadRequest, ConflictingOption: other fields, no consent, no id.
        NotAnImage, TooLarge: no PNG, or one that is not a mask; too many bytes or pixels.
    """
    refuse_repeats(row)
    if unknown := [name for name in row if name not in FIELDS]:
        raise UnknownOption(f"Unknown field {some(unknown)}. A correction has {', '.join(FIELDS)} and nothing else.")
    if _text(row, "archive").lower() != "yes":
        raise BadOption("A correction is kept only with consent. Send archive=yes with it, if that is given.")
    of = _text(row, "of")
    try:
        check_request_id(of)
    except ValueError:
        raise BadOption(
            "of must be the x-request-id of the answer to the photo, 1 to 64 letters, digits, -."
        ) from None
    mask = _mask(row[FIELD], max_pixels, admit)
    height, width = mask.shape
    return Correction(request_id, of, datetime.now(timezone.utc), encode(mask, "png"), width, height)


def keep(correction: Correction, archive: PhotoArchive, version: str) -> Response:
    """Spool a correction, and answer: {"request_id", "of", "archived"}."""
    archived = archive.keep_correction(correction)
    said = {"request_id": correction.request_id, "of": correction.of, "archived": archived}
    headers = {"x-model-version": version, "x-archived": archived, "cache-control": "no-store"}
    return Response(200, "application/json", json.dumps(said).encode(), headers)


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name, "")
    if isinstance(value, (bytes, bytearray)):
        value = bytes(value[: TEXT + 1]).decode("utf-8", "replace")
    if not isinstance(value, str) or len(value) > TEXT:
        raise BadRequest(f"{name} is no short text.")
    return value.strip()


def _mask(data: Any, max_pixels: int, admit: Callable[[int], None]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if not isinstance(data, (bytes, bytearray)) or not data:
        raise BadRequest("correction must be a file: the mask as a PNG.")
    if len(data) > MAX_BYTES:
        raise TooLarge(f"The mask has more than {MAX_BYTES / 1e6:g} MB. Save it as a PNG with one channel.")
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.width * image.height > max_pixels:
                raise TooLarge(f"The mask has more than {max_pixels / 1e6:g} megapixels.")
            if image.mode not in ("L", "1"):
                raise NotAnImage("The mask must be a PNG with one channel: 255 is person, 0 is not.")
            admit(image.width * image.height)
            grey = image.convert("L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise NotAnImage("The correction is no PNG that can be read.") from None
    if any(grey.histogram()[1:255]):
        raise NotAnImage("The mask has other values than 0 and 255.")
    return np.asarray(grey)
