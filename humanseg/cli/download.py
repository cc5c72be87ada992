"""A photo or clip from a stream to a file: bounded in bytes and seconds, and checked by its first bytes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from pathlib import Path

from humanseg.cli.console import CommandError
from humanseg.common.limits import MAX_BODY
from humanseg.video.kinds import LONGEST_START, is_clip, is_photo

MAX_CLIP = 8_000_000_000  # bytes; of a clip only the frames go to the server, but it must fit on this disk
MAX_REDIRECTS = 5
CHUNK = 1 << 18


class DownloadError(CommandError):
    """A photo that can't be fetched; the message names its address and the reason."""


def save(chunks: Iterable[bytes], path: Path, origin: str, *, seconds: float = float("inf")) -> str:
    """Write a stream to `path`; returns its SHA-256.

    seconds: in which a photo must have come; a clip takes as long as its bytes take.

    Raises:
        DownloadError: it is neither a photo nor a clip, has too many bytes, or takes too long.
    """
    start, size, most, until = b"", 0, MAX_BODY, time.monotonic() + seconds
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in chunks:
            if len(start) < LONGEST_START:
                start += chunk[:LONGEST_START]
                most = MAX_CLIP if is_clip(start) else MAX_BODY
            size += len(chunk)
            if size > most:
                raise DownloadError(f"{origin} has more than {most / 1e6:,.0f} MB, the most that is taken")
            if most == MAX_BODY and time.monotonic() > until:
                raise DownloadError(f"{origin} did not come whole within {seconds:g} s; give a longer --timeout")
            digest.update(chunk)
            file.write(chunk)
    if not size:
        raise DownloadError(f"{origin} is empty")
    if not (is_photo(start) or is_clip(start)):
        raise DownloadError(f"{origin} is neither a photo nor a clip: it begins with {start[:16]!r}")
    return digest.hexdigest()


def download(address: str, path: Path, *, timeout: float) -> str:
    """GET an http or https address into the file `path`; returns its SHA-256.

    At most MAX_REDIRECTS redirects are followed, to http and https only. Nothing but the address is sent: no API
    key, no password of ~/.netrc.

    timeout: seconds for an answer to begin, between two pieces of it, and for the whole of a photo.

    Raises:
        DownloadError: see `save`; or no answer, another status than 200, too many redirects.
    """
    import requests
    from urllib3.exceptions import ReadTimeoutError

    def nothing(request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request  # given as `auth`, or requests looks into ~/.netrc

    with requests.Session() as session:
        session.max_redirects = MAX_REDIRECTS
        try:
            with session.get(
                address,
                stream=True,
                timeout=(min(5.0, timeout), timeout),
                auth=nothing,
                headers={"Accept": "image/*, video/*", "Accept-Encoding": "identity"},
            ) as answer:
                if answer.status_code != 200:
                    raise DownloadError(f"{address} answered {answer.status_code} {answer.reason}")
                declared = answer.headers.get("content-length", "")
                if declared.isdigit() and int(declared) > MAX_CLIP:
                    raise DownloadError(f"{address} has {int(declared) / 1e6:,.0f} MB, more than is taken")
                return save(answer.iter_content(CHUNK), path, address, seconds=timeout)
        except requests.TooManyRedirects:
            raise DownloadError(f"{address} redirects more than {MAX_REDIRECTS} times") from None
        except requests.Timeout:
            raise DownloadError(f"{address} did not answer within {timeout:g} s") from None
        except requests.RequestException as error:
            if isinstance(error.args[0] if error.args else None, ReadTimeoutError):  # in the middle of the body
                raise DownloadError(f"{address} sent nothing for {timeout:g} s") from None
            raise DownloadError(f"{address} can't be fetched: {type(error).__name__}") from None
