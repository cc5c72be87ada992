"""The result of a label reader: masks, rejected rows, and skipped rows."""

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
    """A label file, or one row of it, can't be read; the message has the cause."""


@dataclass(frozen=True)
class PhotoRef:
    """How a tool identifies a photo: by the request id or content hash from the export, or by its file name."""

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
    """One annotator's mask of one photo.

    mask: uint8 [H, W], 255 = person. None: nobody is in the photo.
    annotator: from the tool, or None.
    truth: marked as ground truth in the tool.
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
    """A row without a label (cancelled, empty), and why."""

    source: str
    reason: str


@dataclass
class Reading:
    """The content of a label file. If anything was rejected, nothing must be imported."""

    masks: list[DrawnMask] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def add(self, other: Reading) -> None:
        """Merge the result of another file."""
        self.masks += other.masks
        self.refused += other.refused
        self.skipped += other.skipped


@dataclass(frozen=True)
class Options:
    """How to interpret rows.

    labels: names that mean person, case-insensitive; a region without a label counts, too.
    empty_is_nobody: a row without a region means that nobody is in the photo; otherwise it is skipped.
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
