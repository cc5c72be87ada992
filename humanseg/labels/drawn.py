"""What a reader of labels gives: the masks, what it refused, and what it left out on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]


class LabelError(ValueError):
    """A file of labels, or one row of it, can't be read; the message says why."""


@dataclass(frozen=True)
class PhotoRef:
    """How a tool names a photo: by the request id or content hash that the export gave it, or by its file name."""

    file: str = ""
    request_id: str | None = None
    sha256: str | None = None

    @property
    def stem(self) -> str:
        """The file name without folder and suffix."""
        return PurePosixPath(self.file).stem

    def __str__(self) -> str:
        return self.request_id or self.file or self.sha256 or "a photo without a name"


@dataclass(frozen=True)
class DrawnMask:
    """One person's mask of one photo.

    mask: uint8 [H, W], 255 = person. None says that nobody is in the photo, whatever its size.
    annotator: as the tool names them, None where it doesn't.
    truth: the tool marks it as the one that counts (Label Studio's "ground truth").
    source: file and row, for messages.
    """

    photo: PhotoRef
    mask: Mask | None
    annotator: str | None
    source: str
    time: datetime | None = None
    truth: bool = False


@dataclass(frozen=True)
class Refusal:
    """A row that can't be read, and why."""

    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


@dataclass(frozen=True)
class Skipped:
    """A row that says nothing about its photo (cancelled, empty), and why."""

    source: str
    reason: str


@dataclass
class Reading:
    """Everything that a file of labels holds. With any refusal, nothing of it is to be imported."""

    masks: list[DrawnMask] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def add(self, other: Reading) -> None:
        """Take in what another file gave."""
        self.masks += other.masks
        self.refused += other.refused
        self.skipped += other.skipped


@dataclass(frozen=True)
class Options:
    """How rows are understood.

    labels: names of what counts as a person, any case; a region without a label counts, too.
    empty_is_nobody: a row without a region says that nobody is in the photo; else it is skipped.
    """

    labels: Sequence[str] = ("person", "people", "human")
    empty_is_nobody: bool = False

    def is_person(self, names: Sequence[str]) -> bool:
        """Whether a region with these labels is a person."""
        return not names or bool({name.lower() for name in names} & {name.lower() for name in self.labels})


def file_of(address: str) -> str:
    """The file name in a path or an address.

    >>> file_of("/data/local-files/?d=img/3fa85f.jpg"), file_of("s3://bucket/in/a%20b.jpg?x=1")
    ('3fa85f.jpg', 'a b.jpg')
    """
    parts = urlsplit(address)
    inner = parse_qs(parts.query).get("d")
    return PurePosixPath(inner[0] if inner else unquote(parts.path)).name
