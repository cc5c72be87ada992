"""Photos and clips to segment, and the destination of their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Source:
    """A photo or clip to segment.

    path: the local file. If `download` is given, call it with `path` first.
    name: the path relative to a results folder. origin: the address, "-" for standard input, "" for a file.
    version: identifies the bytes at their origin, such as an ETag or a SHA-256; None for a file.
    """

    path: Path
    name: Path
    origin: str = ""
    version: Mapping[str, Any] | None = None
    download: Callable[[Path], object] | None = None

    def __str__(self) -> str:
        return self.origin or str(self.path)

    def identity(self) -> dict[str, Any]:
        """Identifies the photo, so that a later run notices if it has changed."""
        if self.version is not None:
            return {"photo": self.origin, **self.version}
        stat = self.path.stat()
        return {
            "photo": str(self.path.resolve()),
            "photo_bytes": stat.st_size,
            "photo_changed_ns": stat.st_mtime_ns,
        }


@dataclass(frozen=True)
class Job:
    """A source, and the path of its result: a file, or a folder for the frames of a clip."""

    source: Source
    result: Path

    @property
    def photo(self) -> Path:
        """The photo's or clip's file on this machine."""
        return self.source.path


class State(Enum):
    """The state of a job before the run."""

    OPEN = "open"
    DONE = "done"
    FOREIGN = "foreign"


class Results(Protocol):
    """The destination of results: a file, a folder, standard output, or a bucket."""

    @property
    def resumes(self) -> bool:
        """Whether a second run can resume from the partial result in `Job.result`."""
        ...

    def name(self, job: Job) -> str:
        """The location of a job's result, for messages."""
        ...

    def state(self, job: Job) -> State:
        """Whether the job is done, open, or would overwrite a foreign file."""
        ...

    def begin(self, job: Job) -> None:
        """Record that the job starts."""
        ...

    def deliver(self, job: Job, *, whole: bool = True) -> None:
        """Move the result from `job.result` to its destination. Thread-safe. whole: False for a truncated clip."""
        ...

    def finish(self, job: Job, model_version: str) -> None:
        """Record that the complete result is delivered."""
        ...
