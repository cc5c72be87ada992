"""What `humanseg segment` reads: files, folders, patterns, `-` for standard input, https:// and s3://."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from humanseg.cli import s3
from humanseg.cli.console import CommandError
from humanseg.cli.download import CHUNK, DownloadError, download, save
from humanseg.cli.jobs import Source
from humanseg.cli.photos import CLIPS, SUFFIXES, find

STDIN = "-"


@dataclass
class Gathered:
    """The sources, and the addresses that could not be fetched with the reason of each."""

    sources: list[Source] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def is_address(text: str) -> bool:
    """Whether an argument names no file of this machine."""
    return text == STDIN or text.startswith(("http://", "https://", s3.SCHEME))


def is_single(text: str) -> bool:
    """Whether an argument names one photo or clip, and no folder or pattern."""
    if text.startswith(s3.SCHEME):
        return not s3.parse(text).is_folder
    return is_address(text) or Path(text).is_file()


def gather(texts: list[str], out: Path | None, scratch: Path, *, timeout: float) -> Gathered:
    """The photos and clips that the arguments name.

    What comes from standard input or a single address is fetched now, into the folder `scratch`; an object of an
    s3:// folder when its turn comes. `out` is the folder of the results, None where they go to no folder.

    Raises:
        CommandError: an argument names nothing.
    """
    if texts.count(STDIN) > 1:
        raise CommandError("standard input can only be read once: use - once")
    gathered = Gathered()
    for number, text in enumerate(texts):
        if not is_address(text):
            gathered.sources += find(text, out)
            continue
        folder = scratch / f"in{number}"
        folder.mkdir()
        try:
            gathered.sources += _from_address(text, folder, timeout)
        except DownloadError as error:
            gathered.failed.append((text, str(error)))
    return gathered


def _from_address(text: str, folder: Path, timeout: float) -> Iterator[Source]:
    if text == STDIN:
        if sys.stdin.isatty():
            raise CommandError("- reads a photo from standard input: humanseg segment - -o mask.png < photo.jpg")
        path = folder / "stdin"
        digest = save(iter(lambda: sys.stdin.buffer.read(CHUNK), b""), path, "standard input")
        yield Source(path, Path("stdin"), STDIN, {"photo_sha256": digest})
    elif not text.startswith(s3.SCHEME):
        path = folder / _file_name(urlsplit(text).path)
        yield Source(path, Path(path.name), text, {"photo_sha256": download(text, path, timeout=timeout)})
    elif not (address := s3.parse(text)).is_folder:
        path = folder / _file_name(address.key)
        yield Source(path, Path(path.name), text, {"photo_sha256": s3.fetch(address, path)})
    else:
        yield from _from_folder(address, folder)


def _from_folder(address: s3.Address, folder: Path) -> Iterator[Source]:
    number = 0
    for number, entry in enumerate((entry for entry in s3.listed(address) if _is_read(entry.name)), 1):
        path = folder / f"{number}{entry.name.suffix.lower()}"  # a key may be longer than a file's name
        yield Source(path, entry.name, str(entry.address), entry.version, partial(s3.fetch, entry.address))
    if not number:
        raise DownloadError(f"{address} contains no photos or clips")


def _is_read(name: Path) -> bool:
    return name.suffix.lower() in SUFFIXES | CLIPS


def _file_name(path: str) -> str:
    """A name for the file of an address: its last part, as far as it is harmless."""
    name = re.sub(r"[^\w.-]", "_", PurePosixPath(unquote(path)).name)[-100:].lstrip(".")
    return name or "photo"
