"""Where the results of `humanseg segment` go besides a folder (resume_log.py): one file, standard output, S3."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from humanseg.cli import s3
from humanseg.cli.console import CommandError
from humanseg.cli.jobs import Job, State

STDOUT = "-"
METADATA = "humanseg"  # of an object: the digest of what it was made of, and how


@dataclass(frozen=True)
class OneFile:
    """The result of one photo, at the path that the user gave: it is always made again."""

    resumes = False

    def name(self, job: Job) -> str:
        """The result's path."""
        return str(job.result)

    def state(self, job: Job) -> State:
        """Open."""
        return State.OPEN

    def begin(self, job: Job) -> None:
        """Nothing is noted."""

    def deliver(self, job: Job, *, whole: bool = True) -> None:
        """The result lies where it belongs."""

    def finish(self, job: Job, model_version: str) -> None:
        """Nothing is noted."""


@dataclass(frozen=True)
class Stdout(OneFile):
    """Standard output, for the next program of a pipe."""

    def __post_init__(self) -> None:
        if sys.stdout.isatty():
            raise CommandError("-o - writes the result's bytes to standard output, which is a terminal: pipe it on")

    def name(self, job: Job) -> str:
        """As the user names it."""
        return STDOUT

    def deliver(self, job: Job, *, whole: bool = True) -> None:
        """Write the bytes, and nothing else."""
        with job.result.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()


@dataclass(frozen=True)
class Bucket:
    """One object of S3, or the objects of a folder there.

    An object of a folder says in its metadata what it was made of: that is what a second run goes on by, and an
    object that does not say so is somebody else's.

    address: of the object or folder. local: the folder that stands for it on this machine. options: as asked for.
    """

    address: s3.Address
    local: Path
    options: Mapping[str, str]
    resumes = False

    def name(self, job: Job) -> str:
        """The object's address."""
        return str(self._at(job))

    def state(self, job: Job) -> State:
        """Whether the object is there, made of the same photo with the same options; asks the store."""
        found = s3.metadata_of(self._at(job)) if self.address.is_folder else None
        if found is None:
            return State.OPEN
        if METADATA not in found:
            return State.FOREIGN
        return State.DONE if found[METADATA] == self._digest(job) else State.OPEN

    def begin(self, job: Job) -> None:
        """Nothing is noted: an object appears whole or not at all."""

    def deliver(self, job: Job, *, whole: bool = True) -> None:
        """Upload the result, and delete it from this machine."""
        s3.upload(job.result, self._at(job), {METADATA: self._digest(job) if whole else "broken off"})
        job.result.unlink()

    def finish(self, job: Job, model_version: str) -> None:
        """Nothing is noted."""

    def _at(self, job: Job) -> s3.Address:
        return self.address.below(job.result.relative_to(self.local)) if self.address.is_folder else self.address

    def _digest(self, job: Job) -> str:
        made_of = {**job.source.identity(), "options": dict(self.options)}
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()
