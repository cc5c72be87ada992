"""One photo or clip to segment, and where its result goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Source:
    """A photo or clip as the user named it.

    path: its file on this machine; where `download` is given, the file is there only after that was called with it.
    name: its path below a results folder. origin: its address, "-" for standard input; "" for a file.
    version: what identifies these bytes at their origin, such as an ETag or a SHA-256; of a file None.
    """

    path: Path
    name: Path
    origin: str = ""
    version: Mapping[str, Any] | None = None
    download: Callable[[Path], object] | None = None

    def __str__(self) -> str:
        return self.origin or str(self.path)

    def identity(self) -> dict[str, Any]:
        """What tells whether the photo is still the one that an earlier run had."""
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
    """A source, and the file, or of a clip as pictures the folder, of its result."""

    source: Source
    result: Path

    @property
    def photo(self) -> Path:
        """The photo's or clip's file on this machine."""
        return self.source.path


class State(Enum):
    """Where a job stands before the run."""

    OPEN = "open"
    DONE = "done"
    FOREIGN = "foreign"


class Results(Protocol):
    """Where the results go: a file, a folder, standard output, or a bucket."""

    @property
    def resumes(self) -> bool:
        """Whether a second run knows what an earlier one left in `Job.result`."""
        ...

    def name(self, job: Job) -> str:
        """Where the result of a job is to be found, for messages."""
        ...

    def state(self, job: Job) -> State:
        """Whether the job is done, open, or would replace what is somebody else's."""
        ...

    def begin(self, job: Job) -> None:
        """Note that the job's result is about to be made."""
        ...

    def deliver(self, job: Job, *, whole: bool = True) -> None:
        """Bring the result from `job.result` to where it goes. whole: False for a clip that broke off. Any thread."""
        ...

    def finish(self, job: Job, model_version: str) -> None:
        """Note that a whole result is delivered."""
        ...
