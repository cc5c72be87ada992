"""Segment photos with a server.

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
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast
from urllib.parse import quote, urlsplit

from humanseg.client.answer import Clip, Segmentation, read_answer, read_clip
from humanseg.client.errors import AnswerError, HumansegError, TooLargeError
from humanseg.client.management import Management
from humanseg.client.transport import Transport
from humanseg.common.clip_command import clip_command
from humanseg.common.names import MODEL_NAME
from humanseg.video.kinds import result_format

if TYPE_CHECKING:
    from typing import TypeAlias

    import requests
    from PIL.Image import Image

    Photo: TypeAlias = bytes | bytearray | str | os.PathLike[str] | BinaryIO | Image

Output = Literal["mask", "probability", "cutout", "overlay", "composite", "json"]
Format = Literal["png", "webp", "jpeg"]
Container = Literal["webm", "mp4", "mov"]
CLIP_SECONDS = 600.0  # that a server may take for a clip
ASK_EVERY = 0.5  # seconds between two questions of how far a clip is


class Client:
    """A human segmentation server.

    Args:
        url: the inference address. The full address of a model, `.../predictions/NAME[/VERSION]`, also selects the
        model.
        management_url: the management address, for `management`.
        timeout: in seconds.
        retries: additional attempts after a failed connection, a 503 or a 429.
        api_key: for servers started with API_KEYS_FILE.

    Raises:
        ValueError: an invalid URL or number; the message has an example.
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
        keep: Literal["main", "all", "largest"] | None = None,
        crop: Literal["none", "person"] | None = None,
        archive: bool | None = None,
        label: str | None = None,
        version: str | None = None,
    ) -> Segmentation:
        """Segment the people in one photo. None uses the server's default.

        The server refuses an option that would change nothing in the answer (BadRequestError).

        Args:
            photo: encoded bytes (JPEG, PNG, WebP, GIF, TIFF, BMP, HEIC, AVIF), a path, an open binary file,
                or a Pillow image (sent as PNG).
            output: `mask` (0/255), `probability` (8-bit grey), `cutout` (RGBA), `overlay` (colour over the
                person), `composite` (person on `background`) or `json` (metadata and an RLE mask).
            format: `png`, `webp` or `jpeg` (not with alpha); not with `json`.
            threshold: decision threshold, 0..1 exclusive.
            background: `#rrggbb` or `blur`, with `composite` only.
            quality: `fast`, or `best` for test-time augmentation: better masks, especially of small people, but
                slower.
            keep: `main` for the people whom the photo is about, without passers-by, `all`, or `largest` for the
                largest connected region only.
            crop: `none`, or `person` for the mask's bounding box plus 5 %.
            archive: consent to archive the photo.
            label: text to store with the record.
            version: model version; None uses the default version.

        Raises:
            StatusError: an error status; see `humanseg.client.errors` for its subclasses.
            UnreachableError, TimedOutError, AnswerError: no response, or an invalid one.
            OSError: the photo's file can't be read. ValueError: a label with a line break.
        """
        options = _options(
            threshold,
            archive,
            output=output,
            format=format,
            background=background,
            quality=quality,
            keep=keep,
            crop=crop,
            label=label,
        )
        return read_answer(self._post(photo_bytes(photo), options, version))

    def segment_clip(
        self,
        clip: bytes | bytearray | str | os.PathLike[str] | BinaryIO,
        *,
        output: Output = "mask",
        format: Container | None = None,
        threshold: float | None = None,
        background: str | None = None,
        quality: Literal["fast", "best"] | None = None,
        keep: Literal["main", "all", "largest"] | None = None,
        archive: bool | None = None,
        label: str | None = None,
        version: str | None = None,
        progress: Callable[[int, int], None] | None = None,
        timeout: float = CLIP_SECONDS,
    ) -> Clip:
        """Segment the people in one clip, up to the server's bounds. What is None is left to the server's default.

        Longer clips are `humanseg segment`'s, which sends them frame by frame.

        Args:
            clip: the bytes of an MP4, MOV or WebM (with `format`, also of a GIF), a path, or an open binary file.
            output: as of `segment`; `cutout` has an alpha plane; `json` gives `Clip.documents`, one for each frame.
            format: `webm`, `mp4` (not where alpha is needed) or `mov`; by default WebM for cut-outs, else MP4.
            threshold: decision threshold between 0 and 1, both excluded.
            background: `#rrggbb` or `blur`, for `composite`.
            quality: `best` looks at each frame as `segment` does, several times slower.
            keep: as of `segment`, for each frame.
            version: ask this version of the model instead of the default one.
            archive: True or False to agree or object to frames of the clip being kept.
            label: a word of yours to be kept with their records.
            progress: told the frames done and the frames to expect (0: unknown), from another thread.
            timeout: seconds to wait for the answer.

        Raises:
            As `segment`; TooLargeError above the bounds, UnavailableError while another clip is under work.
        """
        options = _options(
            threshold,
            archive,
            output=output,
            format=format,
            background=background,
            quality=quality,
            keep=keep,
            label=label,
        )
        content = photo_bytes(clip)
        try:
            with self._reported(progress, version) as token:
                return read_clip(self._post(content, {**options, **token}, version, timeout=timeout))
        except TooLargeError as error:
            if error.type:
                raise
            command = clip_command(result_format(output, format), options)  # TorchServe itself gives no reason
            message = f"the clip is larger than the server accepts. Run: {command}"
            raise TooLargeError(error.status, "", message, error.request_id) from None

    def _post(
        self, content: bytes, options: Mapping[str, str | None], version: str | None, timeout: float | None = None
    ) -> requests.Response:
        """Send a photo or clip as the body, and its options as headers: a form costs the frontend 6 ms of CPU."""
        headers: dict[str, str | bytes] = {"content-type": "application/octet-stream"}
        for name, value in options.items():
            if value is None:
                continue
            if not value.isprintable():
                raise ValueError(f"{name}={value[:40]!r} must be printable characters")
            headers[f"x-{name}"] = value.strip().encode()
        return self._transport.send("POST", self._path(version), data=content, headers=headers, timeout=timeout)

    @contextmanager
    def _reported(self, progress: Callable[[int, int], None] | None, version: str | None) -> Iterator[dict[str, str]]:
        """The option under which a clip is sent, while `progress` is told how far it is."""
        if progress is None:
            yield {}
            return
        token = {"progress": secrets.token_hex(16)}
        answered = threading.Event()

        def ask() -> None:
            while not answered.wait(ASK_EVERY):
                try:
                    form = {name: (None, value.encode()) for name, value in token.items()}
                    status = self._transport.send("POST", self._path(version), files=form, retries=0).json()
                except (HumansegError, ValueError):
                    continue  # the workers are busy: ask again
                if status["state"] == "working":
                    progress(status["frames"], status["of"])

        thread = threading.Thread(target=ask, name="clip-progress", daemon=True)
        thread.start()
        try:
            yield token
        finally:
            answered.set()
            thread.join()

    def _path(self, version: str | None) -> str:
        path = f"/predictions/{quote(self.model, safe='')}"
        asked = version or self.version
        return f"{path}/{quote(asked, safe='')}" if asked else path

    def facts(self) -> Mapping[str, Any]:
        """Get service information: the model, its network, the options and the limits.

        Raises:
            StatusError, UnreachableError, TimedOutError: see `humanseg.client.errors`.
            AnswerError: the server returns no service information: an older server, or another service.
        """
        answer = self._transport.send("GET", self._path(None), headers={"Accept": "application/json"})
        try:
            facts = answer.json()
        except ValueError:
            raise AnswerError(
                f"{self.url} returned no service information: update the server, or check the URL"
            ) from None
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


def _options(threshold: float | None, archive: bool | None, **words: str | None) -> dict[str, str | None]:
    """The options as the server takes them; None is left to its default."""
    return {
        **words,
        "threshold": None if threshold is None else repr(float(threshold)),
        "archive": None if archive is None else ("yes" if archive else "no"),
    }


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
    raise ValueError(
        f"invalid server URL {url!r}: use the form http://127.0.0.1:8080, or end it in /predictions/NAME"
    )


def photo_bytes(photo: Photo) -> bytes:
    """The encoded bytes of a photo in any form that `Client.segment` accepts."""
    if isinstance(photo, (bytes, bytearray)):
        return bytes(photo)
    if isinstance(photo, (str, os.PathLike)):
        return Path(photo).read_bytes()
    if hasattr(photo, "getexif"):  # duck typing, so that Pillow is not imported
        return _png(cast("Image", photo))
    content = photo.read() if hasattr(photo, "read") else None
    if isinstance(content, bytes):
        return content
    raise TypeError(f"photo is {type(photo).__name__}; use bytes, a path, a file opened with 'rb' or a Pillow image")


def _png(picture: Image) -> bytes:
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(picture)
    # PNG has no CMYK, YCbCr, LAB, HSV or float pixels.
    whole = upright if upright.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else upright.convert("RGB")
    buffer = io.BytesIO()
    whole.save(buffer, "PNG", compress_level=1)  # fast rather than small
    return buffer.getvalue()
