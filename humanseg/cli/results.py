"""Destinations of `humanseg segment` other than a folder (resume_log.py): one file, standard output, S3."""

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
METADATA = "humanseg"  # key in an object's metadata: the digest of its source and options


@dataclass(frozen=True)
class OneFile:
    """The result of one photo, at the given path. It is always written anew."""

    resumes = False

    def name(self, job: Job) -> str:
        """The result's path."""
        return str(job.result)

    def state(self, job: Job) -> State:
        """Open."""
        return State.OPEN

    def begin(self, job: Job) -> None:
        """Does nothing."""

    def deliver(self, job: Job, *, whole: bool = True) -> None:
        """Does nothing: the result is at its destination."""

    def finish(self, job: Job, model_version: str) -> None:
        """Does nothing."""


@dataclass(frozen=True)
class Stdout(OneFile):
    """Standard output, for pipes."""

    def __post_init__(self) -> None:
        if sys.stdout.isatty():
            raise CommandError("-o - writes binary data to standard output, which is a terminal: pipe or redirect it")

    def name(self, job: Job) -> str:
        """`-`."""
        return STDOUT

    def deliver(self, job: Job, *, whole: bool = True) -> None:
        """Write the bytes to standard output."""
        with job.result.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()


@dataclass(frozen=True)
class Bucket:
    """An S3 object, or the objects below an S3 prefix.

    The metadata of each object below a prefix has a digest of its source and options, so that a second run can
    resume. An object without that digest is foreign.

    address: of the object or prefix. local: the local folder with the results to upload. options: of the run.
    """

    address: s3.Address
    local: Path
    options: Mapping[str, str]
    resumes = False

    def name(self, job: Job) -> str:
        """The object's address."""
        return str(self._at(job))

    def state(self, job: Job) -> State:
        """Whether the object exists and has the same source and options. Sends a HEAD request."""
        metadata = s3.metadata_of(self._at(job)) if self.address.is_folder else None
        if metadata is None:
            return State.OPEN
        if METADATA not in metadata:
            return State.FOREIGN
        return State.DONE if metadata[METADATA] == self._digest(job) else State.OPEN

    def begin(self, job: Job) -> None:
        """Does nothing: an upload is atomic."""

    def deliver(self, job: Job, *, whole: bool = True) -> None:
        """Upload the result and delete the local file."""
        s3.upload(job.result, self._at(job), {METADATA: self._digest(job) if whole else "truncated"})
        job.result.unlink()

    def finish(self, job: Job, model_version: str) -> None:
        """Does nothing."""

    def _at(self, job: Job) -> s3.Address:
        return self.address.below(job.result.relative_to(self.local)) if self.address.is_folder else self.address

    def _digest(self, job: Job) -> str:
        source_and_options = {**job.source.identity(), "options": dict(self.options)}
        return hashlib.sha256(json.dumps(source_and_options, sort_keys=True).encode()).hexdigest()
