"""The response: the requested picture or JSON and its summary, as bytes and headers."""

from __future__ import annotations

import functools
import json
import re
import time
from base64 import b64encode
from dataclasses import dataclass, replace
from hashlib import sha256

from handler.errors import PHRASE, STATUS, TooManyGuesses, Unauthorized, error_type
from handler.options import Options
from handler.request import PhotoRequest
from humanseg.segmentation.document import as_document
from humanseg.segmentation.mask import BoundingBox
from humanseg.segmentation.photo import Photo
from humanseg.segmentation.picture import CONTENT_TYPE, draw, encode
from humanseg.segmentation.result import Segmentation, Summary

CROP_MARGIN = 0.05  # of the longer side of the person's bounding box


@dataclass(frozen=True)
class Response:
    """The response to one client."""

    status: int
    content_type: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True)
class Origin:
    """The request's id and the model that answered it."""

    request_id: str
    model_name: str
    model_version: str
    weights_sha256: str


def respond(
    photo: Photo,
    segmentation: Segmentation,
    summary: Summary,
    origin: Origin,
    request: PhotoRequest,
    seconds: dict[str, float],
    start: float,
) -> Response:
    """The response to one photo. Adds the stage "encode" to `seconds`, counted from `start` (perf_counter)."""
    options = request.options
    crop = crop_box(summary, options)
    if options.output == "json":
        body = json_body(segmentation, summary, origin, crop, seconds, start)
        headers = {"x-person-found": "true" if summary.box else "false", "x-model-version": origin.model_version}
        return Response(200, "application/json", body, headers)
    picture = draw(photo, segmentation, options.output, options.background)
    body = encode(crop.cut(picture) if crop else picture, options.picture_format, photo.icc_profile)
    seconds["encode"] = time.perf_counter() - start
    headers = {
        "x-image-width": str(summary.width),
        "x-image-height": str(summary.height),
        "x-person-coverage": f"{summary.coverage:.6f}",
        "x-person-found": "true" if summary.box else "false",
        "x-confidence": f"{summary.confidence:.4f}",
        "x-threshold": f"{segmentation.threshold:g}",
        "x-model-version": origin.model_version,
        "server-timing": ", ".join(f"{stage};dur={1000 * took:.1f}" for stage, took in seconds.items()),
    }
    if crop:
        headers["x-crop"] = f"{crop.x},{crop.y},{crop.width},{crop.height}"
    return Response(200, CONTENT_TYPE[options.picture_format], body, headers)


def json_body(
    segmentation: Segmentation,
    summary: Summary,
    origin: Origin,
    crop: BoundingBox | None,
    seconds: dict[str, float],
    start: float,
) -> bytes:
    """The JSON response: the mask as COCO run-length encoding, and the summary."""
    result = as_document(segmentation, summary)
    seconds["encode"] = time.perf_counter() - start
    document = {
        "request_id": origin.request_id,
        **result,
        "crop": [crop.x, crop.y, crop.width, crop.height] if crop else None,
        "model": {
            "name": origin.model_name,
            "version": origin.model_version,
            "weights_sha256": origin.weights_sha256,
        },
        "milliseconds": {stage: round(1000 * took, 2) for stage, took in seconds.items()},
    }
    return json.dumps(document).encode()


def error_response(error: Exception, request_id: str) -> Response:
    """A client error as {"code", "type", "message", "request_id"}, with the status of the table."""
    response = failure(STATUS[type(error)], error_type(error), str(error), request_id)
    wait = getattr(error, "retry_after", None)
    headers = {"retry-after": str(wait)} if wait else {}
    if isinstance(error, (Unauthorized, TooManyGuesses)):
        headers["connection"] = "close"  # guessing keys needs a new connection for each attempt
    return replace(response, headers={**response.headers, **headers})


def failure(status: int, kind: str, message: str, request_id: str) -> Response:
    """The JSON body of every error."""
    document = {"code": status, "type": kind, "message": message, "request_id": request_id}
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    return Response(status, "application/json", json.dumps(document).encode(), headers)


def predictions(bodies: list[bytes], headers: dict[str, str]) -> Response:
    """KServe's v1 envelope with the JSON of each instance, in order; an error takes its instance's place."""
    return Response(200, "application/json", b'{"predictions": [' + b", ".join(bodies) + b"]}", headers)


def document_response(body: bytes, content_type: str) -> Response:
    """The response to a GET without a photo: the page, service information, or the OpenAPI description."""
    policy = page_policy(body) if content_type.startswith("text/html") else {}
    return Response(200, content_type, body, {"cache-control": "no-cache", "vary": "accept", **policy})


@functools.cache
def page_policy(page: bytes) -> dict[str, str]:
    """The page's Content-Security-Policy: its own script and style, this server, generated pictures; no frame."""

    def hashes(tag: bytes) -> str:
        found = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
        return " ".join(f"'sha256-{b64encode(sha256(text).digest()).decode()}'" for text in found)

    policy = (
        f"default-src 'none'; script-src {hashes(b'script')}; style-src {hashes(b'style')}; connect-src 'self'; "
        "img-src blob: data:; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {"content-security-policy": policy, "x-frame-options": "DENY", "referrer-policy": "no-referrer"}


def phrase(status: int) -> str:
    """The reason phrase of `status`."""
    return PHRASE.get(status, "OK")


def crop_box(summary: Summary, options: Options) -> BoundingBox | None:
    """The crop box of crop=person: the person's bounding box plus 5 %; None for the whole picture."""
    if options.crop == "none" or summary.box is None:
        return None
    return summary.box.grown(CROP_MARGIN, summary.width, summary.height)
