"""The answer: the picture or JSON that was asked for, and the facts about it, as bytes and headers."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from humanseg.segmentation import rle
from handler.errors import PHRASE, STATUS, ClientError
from humanseg.segmentation.mask import BoundingBox
from handler.options import Options
from humanseg.segmentation.photo import Photo
from humanseg.segmentation.picture import CONTENT_TYPE, Segmentation, draw, encode
from handler.request import PhotoRequest

CROP_MARGIN = 0.05  # of the longer side of the person's bounding box


@dataclass(frozen=True)
class Answer:
    """What goes back to one client."""

    status: int
    content_type: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True)
class Facts:
    """What every good answer says, in its headers or its JSON.

    coverage: share of person pixels, 0..1. confidence: see humanseg.segmentation.mask.confidence.
    """

    request_id: str
    width: int
    height: int
    coverage: float
    confidence: float
    box: BoundingBox | None
    model_name: str
    model_version: str
    weights_sha256: str


def answer(
    photo: Photo,
    found: Segmentation,
    facts: Facts,
    request: PhotoRequest,
    seconds: dict[str, float],
    start: float,
) -> Answer:
    """The answer to one photo. Adds the stage "encode" to `seconds`, counted from `start` (perf_counter)."""
    options, kserve = request.options, request.kserve
    crop = crop_box(facts, options)
    if options.output == "json":
        body = json_body(found, facts, crop, seconds, start)
        if kserve:
            body = b'{"predictions": [' + body + b"]}"
        headers = {"x-person-found": "true" if facts.box else "false", "x-model-version": facts.model_version}
        return Answer(200, "application/json", body, headers)
    picture = draw(photo, found, options)
    body = encode(crop.cut(picture) if crop else picture, options.format, photo.icc_profile)
    seconds["encode"] = time.perf_counter() - start
    headers = {
        "x-image-width": str(facts.width),
        "x-image-height": str(facts.height),
        "x-person-coverage": f"{facts.coverage:.6f}",
        "x-person-found": "true" if facts.box else "false",
        "x-confidence": f"{facts.confidence:.4f}",
        "x-threshold": f"{found.threshold:g}",
        "x-model-version": facts.model_version,
        "server-timing": ", ".join(f"{stage};dur={1000 * took:.1f}" for stage, took in seconds.items()),
    }
    if crop:
        headers["x-crop"] = f"{crop.x},{crop.y},{crop.width},{crop.height}"
    return Answer(200, CONTENT_TYPE[options.format], body, headers)


def json_body(
    found: Segmentation, facts: Facts, crop: BoundingBox | None, seconds: dict[str, float], start: float
) -> bytes:
    """The JSON answer: the mask as COCO run-length encoding, and the facts beside it."""
    box, mask = facts.box, rle.encode(found.mask)
    seconds["encode"] = time.perf_counter() - start
    document = {
        "request_id": facts.request_id,
        "width": facts.width,
        "height": facts.height,
        "coverage": round(facts.coverage, 6),
        "person_found": box is not None,
        "confidence": round(facts.confidence, 4),
        "bounding_box": [box.x, box.y, box.width, box.height] if box else None,
        "crop": [crop.x, crop.y, crop.width, crop.height] if crop else None,
        "threshold": found.threshold,
        "mask": mask,
        "model": {
            "name": facts.model_name,
            "version": facts.model_version,
            "weights_sha256": facts.weights_sha256,
        },
        "milliseconds": {stage: round(1000 * took, 2) for stage, took in seconds.items()},
    }
    return json.dumps(document).encode()


def error_answer(error: ClientError, request_id: str) -> Answer:
    """A fault of the caller: {"code", "type", "message", "request_id"} under the status that the table gives."""
    return failure(STATUS[type(error)], type(error).__name__, str(error), request_id)


def failure(status: int, kind: str, message: str, request_id: str) -> Answer:
    """The JSON that every answer but a good one has."""
    document = {"code": status, "type": kind, "message": message, "request_id": request_id}
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    return Answer(status, "application/json", json.dumps(document).encode(), headers)


def page_answer(page: bytes) -> Answer:
    """The HTML page that a browser's GET sees."""
    return Answer(200, "text/html; charset=utf-8", page, {"cache-control": "no-cache"})


def phrase(status: int) -> str:
    """The reason phrase that goes with `status`."""
    return PHRASE.get(status, "OK")


def crop_box(facts: Facts, options: Options) -> BoundingBox | None:
    """The part of the picture that crop=person leaves: the person's box plus 5 %; None for all of it."""
    if options.crop == "none" or facts.box is None:
        return None
    return facts.box.grown(CROP_MARGIN, facts.width, facts.height)
