"""Ask a server for person masks.

    from humanseg.client import Client

    with Client("http://127.0.0.1:8080") as server:
        answer = server.segment("photo.jpg", output="cutout")
        answer.save("cutout.png")
        print(answer.coverage, answer.model_version)

A `Client` keeps connections open and may be shared between threads.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast
from urllib.parse import quote, urlsplit

from humanseg.client.answer import Segmentation, read_answer
from humanseg.client.errors import AnswerError
from humanseg.client.management import Management
from humanseg.client.transport import Transport
from humanseg.common.names import MODEL_NAME

if TYPE_CHECKING:
    from typing import TypeAlias

    from PIL.Image import Image

    Photo: TypeAlias = bytes | bytearray | str | os.PathLike[str] | BinaryIO | Image

Output = Literal["mask", "probability", "cutout", "overlay", "composite", "json"]
Format = Literal["png", "webp", "jpeg"]


class Client:
    """A human segmentation server.

    Args:
        url: the inference address. The whole address of a model, `.../predictions/NAME[/VERSION]`, is
            understood as well and then names the model.
        management_url: the management address, for `management`.
        timeout: seconds to wait for an answer.
        retries: further attempts after a failed connection or a 503 (no worker free, full queue).
        api_key: for servers started with API_KEYS_FILE.

    Raises:
        ValueError: a URL or number that can't be meant, with an example of a good one.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        *,
        management_url: str = "http://127.0.0.1:8081",
        timeout: float = 60.0,
        retries: int = 4,
        api_key: str | None = None,
    ) -> None:
        base, self.model, self.version = split_url(url)
        self._transport = Transport(base, timeout, retries, api_key)
        self.management = Management(management_url, timeout=timeout, retries=retries, api_key=api_key)

    @property
    def url(self) -> str:
        """The inference address, without a path."""
        return self._transport.url

    def segment(
        self,
        photo: Photo,
        *,
        output: Output = "mask",
        format: Format | None = None,
        threshold: float | None = None,
        background: str | None = None,
        quality: Literal["fast", "best"] | None = None,
        keep: Literal["all", "largest"] | None = None,
        crop: Literal["none", "person"] | None = None,
        archive: bool | None = None,
        label: str | None = None,
        version: str | None = None,
    ) -> Segmentation:
        """Segment the people in one photo. What is None is left to the server's default.

        Args:
            photo: encoded bytes (JPEG, PNG, WebP, GIF, TIFF, BMP, HEIC, AVIF), a path, an open binary file,
                or a Pillow image (sent as PNG).
            output: `mask` (0/255), `probability` (8-bit grey), `cutout` (RGBA), `overlay` (colour over the
                person), `composite` (person on `background`) or `json` (facts and a run-length mask).
            format: `png`, `webp` or `jpeg` (not where alpha is needed).
            threshold: decision threshold between 0 and 1, both excluded.
            background: `#rrggbb` or `blur`, for `composite`.
            quality: `fast`, or `best` for a better mask, of small people above all, in several times the time.
            keep: `all`, or `largest` for the largest connected person region only.
            crop: `none`, or `person` for the mask's bounding box plus 5 %.
            archive: True or False to agree or object to the photo being kept.
            label: a word of yours to be kept with the record.
            version: ask this version of the model instead of the default one.

        Raises:
            StatusError: the server refused; see `humanseg.client.errors` for its kinds.
            UnreachableError, TimedOutError, AnswerError: no answer, or none that can be read.
            OSError: the photo's file can't be read.
        """
        options = {
            "output": output,
            "format": format,
            "threshold": None if threshold is None else repr(float(threshold)),
            "background": background,
            "quality": quality,
            "keep": keep,
            "crop": crop,
            "archive": None if archive is None else ("yes" if archive else "no"),
            "label": label,
        }
        path = f"/predictions/{quote(self.model, safe='')}"
        if version := version or self.version:
            path += f"/{quote(version, safe='')}"
        answer = self._transport.send(
            "POST",
            path,
            data={name: value for name, value in options.items() if value is not None},
            files={"image": ("photo", photo_bytes(photo))},  # never the file's name: it can name people
        )
        return read_answer(answer)

    def facts(self) -> Mapping[str, Any]:
        """What the server says of its model, the network in it, its options and limits.

        Raises:
            StatusError, UnreachableError, TimedOutError: see `humanseg.client.errors`.
            AnswerError: it says nothing of itself: an older server, or none of ours.
        """
        path = f"/predictions/{quote(self.model, safe='')}" + (
            f"/{quote(self.version, safe='')}" if self.version else ""
        )
        answer = self._transport.send("GET", path, headers={"Accept": "application/json"})
        try:
            facts = answer.json()
        except ValueError:
            raise AnswerError(f"{self.url} says nothing of its model: update the server, or check the URL") from None
        return cast("Mapping[str, Any]", facts)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()
        self.management.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def split_url(url: str) -> tuple[str, str, str | None]:
    """Split an address into (scheme://host:port, model, version or None).

    `split_url("http://h:8080/predictions/m/2.0")` is `("http://h:8080", "m", "2.0")`.
    """
    parts = urlsplit(url)
    base = f"{parts.scheme}://{parts.netloc}" if parts.netloc else url
    match [part for part in parts.path.split("/") if part] if parts.netloc else []:
        case []:
            return base, MODEL_NAME, None
        case ["predictions", model]:
            return base, model, None
        case ["predictions", model, version]:
            return base, model, version
    raise ValueError(f"server URL {url!r} must be like http://127.0.0.1:8080 or end in /predictions/NAME")


def photo_bytes(photo: Photo) -> bytes:
    """The encoded bytes of a photo given in any of the ways that `Client.segment` takes."""
    if isinstance(photo, (bytes, bytearray)):
        return bytes(photo)
    if isinstance(photo, (str, os.PathLike)):
        return Path(photo).read_bytes()
    if hasattr(photo, "getexif"):  # asked of the object, so that Pillow is only imported where it is used
        return _png(cast("Image", photo))
    content = photo.read() if hasattr(photo, "read") else None
    if isinstance(content, bytes):
        return content
    raise TypeError(f"photo is {type(photo).__name__}; give bytes, a path, a file opened with 'rb' or a Pillow image")


def _png(picture: Image) -> bytes:
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(picture)
    # PNG has no CMYK, YCbCr, LAB, HSV or float pixels.
    whole = upright if upright.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else upright.convert("RGB")
    buffer = io.BytesIO()
    whole.save(buffer, "PNG", compress_level=1)  # the wire is short: time is dearer than bytes
    return buffer.getvalue()
