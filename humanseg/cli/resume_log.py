"""The resume log of a results folder, `.humanseg.jsonl`: one line per event, so that an interrupted run can resume.

A job gets a line before its photo is sent and another one after its result is written, so every result is known even
if the run is killed in between. A job is done if its last line has the same photo (size and modification time), the
same options, and the current size of the result. Otherwise it runs again. A file without a line is foreign and never
overwritten.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from humanseg.cli.jobs import Job, State

NAME = ".humanseg.jsonl"


class ResumeLog:
    """The record of one results folder, as `Results`. Its lines are appended by one thread.

    Args:
        folder: the results folder; made when missing.
        options: of the run; changed options reopen every job.
    """

    resumes = True

    def __init__(self, folder: Path, options: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._options = dict(options)
        self._path = folder / NAME
        self._lines = _read(self._path)
        # A run killed in the middle of a line must not spoil the next one.
        self._torn = self._path.exists() and not self._path.read_bytes().endswith(b"\n")

    def name(self, job: Job) -> str:
        """The result's path."""
        return str(job.result)

    def state(self, job: Job) -> State:
        """Whether the job is done, open, or blocked by a foreign file."""
        line = self._lines.get(self._line(job))
        if not job.result.exists():
            return State.OPEN
        if line is None:
            return State.FOREIGN
        wanted = {**self._of(job), "result_bytes": job.result.stat().st_size}
        return State.DONE if all(line.get(key) == value for key, value in wanted.items()) else State.OPEN

    def begin(self, job: Job) -> None:
        """Record that the job starts."""
        self._append({"result": self._line(job)})

    def deliver(self, job: Job, *, whole: bool = True) -> None:
        """Does nothing: the result is at its destination."""

    def finish(self, job: Job, model_version: str) -> None:
        """Record that the job's result is written."""
        size = job.result.stat().st_size
        line = {
            "result": self._line(job),
            **self._of(job),
            "result_bytes": size,
            "model_version": model_version,
        }
        self._append(line)

    def _append(self, line: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as log:
            log.write(("\n" if self._torn else "") + json.dumps(line) + "\n")
        self._torn = False
        self._lines[line["result"]] = line

    def _line(self, job: Job) -> str:
        return job.result.relative_to(self._folder).as_posix()

    def _of(self, job: Job) -> dict[str, Any]:
        return {**job.source.identity(), "options": self._options}


def _read(path: Path) -> dict[str, dict[str, Any]]:
    lines: dict[str, dict[str, Any]] = {}
    if path.exists():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
                lines[line["result"]] = line
            except (ValueError, KeyError, TypeError):
                continue  # truncated by a kill: the job is open
    return lines
