"""Requests that send back a corrected mask: a form with `correction`, `of` and `archive=yes`."""

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
TEXT = 200  # maximum characters of a text field


def is_correction(row: Mapping[str, Any]) -> bool:
    """Whether the request contains a corrected mask instead of a photo."""
    return FIELD in row


def read_correction(
    row: Mapping[str, Any], request_id: str, *, max_pixels: int, admit: Callable[[int], None] = lambda pixels: None
) -> Correction:
    """Read a correction from form fields. The mask is re-encoded, so only its pixels are kept.

    The server has write-only access to the archive: it can't check that the record `of` exists and has this size.
    `humanseg archive accept` checks that. admit: called with the number of pixels before they are decoded.

    Raises:
        Whatever `admit` raises.
        UnknownOption, BadOption, BadRequest, ConflictingOption: other fields, no consent, no id.
        NotAnImage, TooLarge: not a PNG, not a mask, or too many bytes or pixels.
    """
    refuse_repeats(row)
    if unknown := [name for name in row if name not in FIELDS]:
        raise UnknownOption(f"Unknown field {some(unknown)}. A correction has only the fields {', '.join(FIELDS)}.")
    if _text(row, "archive").lower() != "yes":
        raise BadOption("A correction is stored only with consent: if the user consents, send archive=yes.")
    of = _text(row, "of")
    try:
        check_request_id(of)
    except ValueError:
        raise BadOption(
            "of must be the x-request-id of the photo's response: 1 to 64 letters, digits and -."
        ) from None
    mask = _mask(row[FIELD], max_pixels, admit)
    height, width = mask.shape
    return Correction(request_id, of, datetime.now(timezone.utc), encode(mask, "png"), width, height)


def keep(correction: Correction, archive: PhotoArchive, version: str) -> Response:
    """Spool a correction, and answer: {"request_id", "of", "archived"}."""
    archived = archive.keep_correction(correction)
    answer = {"request_id": correction.request_id, "of": correction.of, "archived": archived}
    headers = {"x-model-version": version, "x-archived": archived, "cache-control": "no-store"}
    return Response(200, "application/json", json.dumps(answer).encode(), headers)


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name, "")
    if isinstance(value, (bytes, bytearray)):
        value = bytes(value[: TEXT + 1]).decode("utf-8", "replace")
    if not isinstance(value, str) or len(value) > TEXT:
        raise BadRequest(f"{name} must be a short text.")
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
                raise NotAnImage("The mask must be a PNG with one channel: 255 is person, 0 is background.")
            admit(image.width * image.height)
            grey = image.convert("L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise NotAnImage("The correction is not a readable PNG.") from None
    if any(grey.histogram()[1:255]):
        raise NotAnImage("The mask has values other than 0 and 255.")
    return np.asarray(grey)
