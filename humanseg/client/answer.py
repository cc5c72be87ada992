"""A server's response for one photo or clip: the result and its metadata."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from humanseg.client.errors import AnswerError
from humanseg.common.files import write_whole

if TYPE_CHECKING:
    from PIL.Image import Image

JSON_LINES = "application/x-ndjson"


@dataclass(frozen=True)
class Segmentation:
    """A server's response for one photo.

    Attributes:
        content: the bytes of the picture, or of the JSON document with `output="json"`.
        content_type: `image/png`, `image/webp`, `image/jpeg` or `application/json`.
        width, height: pixels of the photo as a viewer shows it (EXIF orientation applied).
        coverage: share of person pixels, 0..1.
        person_found: whether any pixel is a person's.
        confidence: 0..1, the expected IoU of the mask.
        model_version: the version of the model that answered.
        request_id: identifies this request in the server's log and in the archive.
        milliseconds: spent on the server by stage, e.g. `{"decode": 8.1, "forward": 21.0, "encode": 3.4}`.
        archived: `spooled`, `declined`, `sampled-out` or `dropped`; None if the server has no archive.
        document: the parsed JSON with `output="json"` (box, COCO run-length mask, SHA-256 of the weights).
    """

    content: bytes = field(repr=False)
    content_type: str
    width: int
    height: int
    coverage: float
    person_found: bool
    confidence: float
    model_version: str
    request_id: str
    milliseconds: Mapping[str, float]
    archived: str | None
    document: Mapping[str, Any] | None = field(default=None, repr=False)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the content to `path` atomically.

        Raises:
            OSError: the folder is missing, not writable or full.
        """
        write_whole(Path(path), self.content)

    def image(self) -> Image:
        """The picture as a Pillow image (needs Pillow): mode `L` for masks, `RGBA` for cut-outs, else `RGB`.

        Raises:
            ValueError: the response is a JSON document.
        """
        if self.document is not None:
            raise ValueError('output="json" has no picture: use .document, or request output="mask"')
        from PIL import Image

        picture = Image.open(io.BytesIO(self.content))
        picture.load()
        return picture


@dataclass(frozen=True)
class Clip:
    """A server's answer about one clip.

    Attributes:
        content: the bytes of the clip, or with `output="json"` of JSON Lines: a document for each frame.
        content_type: `video/webm`, `video/mp4`, `video/quicktime` or `application/x-ndjson`.
        frames: how many it has.
        warning: why it ends before the clip that was sent, or lacks its sound; None where all is there.
        threshold: above which a probability counted as a person, 0..1.
        model_version: the version of the model that answered.
        request_id: names this exchange in the server's log; in the archive, the id of the clip.
        archived: `spooled`, `declined`, `sampled-out` or `dropped`, of its sampled frames.
        archived_frames: how many of its frames are kept.
    """

    content: bytes = field(repr=False)
    content_type: str
    frames: int
    warning: str | None
    threshold: float
    model_version: str
    request_id: str
    archived: str
    archived_frames: int

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the content to `path`, whole or not at all.

        Raises:
            OSError: the folder is missing, not writable or full.
        """
        write_whole(Path(path), self.content)

    def documents(self) -> Iterator[Mapping[str, Any]]:
        """With `output="json"`, each frame's document: `frame`, `seconds`, and what a photo's has of its mask.

        Raises:
            ValueError: the answer is a clip.
        """
        if self.content_type != JSON_LINES:
            raise ValueError(f'{self.content_type} holds no documents: request output="json"')
        return map(json.loads, self.content.splitlines())


def read_clip(answer: requests.Response) -> Clip:
    """Read a good answer of `/predictions/NAME` to a clip.

    Raises:
        AnswerError: it is no clip.
    """
    kind = answer.headers.get("content-type", "").partition(";")[0].strip()
    if not kind.startswith("video/") and kind != JSON_LINES:
        raise AnswerError(
            f"{answer.url} answered {kind or 'without a content type'} instead of a clip: what was sent is a photo; "
            "use segment, or for a GIF format='webm'"
        )
    head = answer.headers
    try:
        return Clip(
            content=answer.content,
            content_type=kind,
            frames=int(head["x-frames"]),
            warning=head.get("x-warning"),
            threshold=float(head["x-threshold"]),
            model_version=head["x-model-version"],
            request_id=head.get("x-request-id", ""),
            archived=head["x-archived"],
            archived_frames=int(head["x-archived-frames"]),
        )
    except (KeyError, ValueError) as fault:
        raise AnswerError(
            f"{answer.url} answered {kind} without the facts of a human segmentation server "
            f"({type(fault).__name__}: {fault}); check the URL"
        ) from None


def read_answer(answer: requests.Response) -> Segmentation:
    """Parse a successful response of `/predictions/NAME`.

    Raises:
        AnswerError: it is not a response of a human segmentation server.
    """
    kind = answer.headers.get("content-type", "").partition(";")[0].strip()
    try:
        if kind == "application/json":
            return _from_document(answer, kind)
        if kind.startswith("image/"):
            return _from_headers(answer, kind)
    except (KeyError, TypeError, ValueError) as fault:
        raise AnswerError(
            f"{answer.url} answered {kind} without the headers or fields of a human segmentation server "
            f"({type(fault).__name__}: {fault}); check the URL"
        ) from None
    if kind.startswith("video/") or kind == JSON_LINES:
        raise AnswerError("what was sent is a clip: use segment_clip")
    raise AnswerError(
        f"{answer.url} answered {answer.status_code} {kind or 'without a content type'}, "
        "which is neither a picture nor JSON; check the URL"
    )


def _from_headers(answer: requests.Response, kind: str) -> Segmentation:
    head = answer.headers
    return Segmentation(
        content=answer.content,
        content_type=kind,
        width=int(head["x-image-width"]),
        height=int(head["x-image-height"]),
        coverage=float(head["x-person-coverage"]),
        person_found=head["x-person-found"] == "true",
        confidence=float(head["x-confidence"]),
        model_version=head["x-model-version"],
        request_id=head.get("x-request-id", ""),
        milliseconds=server_timing(head.get("server-timing", "")),
        archived=head.get("x-archived"),
    )


def _from_document(answer: requests.Response, kind: str) -> Segmentation:
    document: Mapping[str, Any] = answer.json()
    return Segmentation(
        content=answer.content,
        content_type=kind,
        width=int(document["width"]),
        height=int(document["height"]),
        coverage=float(document["coverage"]),
        person_found=bool(document["person_found"]),
        confidence=float(document["confidence"]),
        model_version=document["model"]["version"],
        request_id=document["request_id"],
        milliseconds=document["milliseconds"],
        archived=answer.headers.get("x-archived"),
        document=document,
    )


def server_timing(header: str) -> dict[str, float]:
    """Milliseconds by stage from a `server-timing` header (https://www.w3.org/TR/server-timing/).

    `server_timing("decode;dur=8.1, forward;dur=21")` is `{"decode": 8.1, "forward": 21.0}`.
    """
    stages: dict[str, float] = {}
    for metric in header.split(","):
        name, *parameters = (part.strip() for part in metric.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if name and key.strip() == "dur":
                stages[name] = float(value.strip('" '))
    return stages
