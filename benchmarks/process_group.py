"""One process per core that runs limit.py, concurrently."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.servers import ROOT
from humanseg.common.allocation import ENVIRONMENT as ALLOCATION

SERVED_PYTHON = ROOT / ".venv" / "bin" / "python"  # the environment that serves, not the peers'


@dataclass(frozen=True)
class Limit:
    """rate: photos a second of all processes together. seconds: one photo's time in one process, median of them.

    cpu: CPU seconds a photo. stages: milliseconds by stage, empty for the forward alone.
    """

    rate: float
    seconds: float
    cpu: float
    stages: dict[str, float]


class ProcessGroup:
    """Use as a context: `group.photos(path, "mask", 3.0)`, `group.forward(3.0)`."""

    def __init__(self, model: Path, processes: int, precision: str = "auto") -> None:
        environment = {**os.environ, **ALLOCATION, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command = [str(SERVED_PYTHON), "-m", "benchmarks.limit", str(model), precision]
        self._processes = [
            subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(processes)
        ]
        for process in self._processes:
            assert process.stdout and process.stdout.readline().startswith("READY")

    def __enter__(self) -> ProcessGroup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for process in self._processes:
            assert process.stdin
            process.stdin.close()
            process.wait(30)

    def photos(self, photo: Path, output: str, seconds: float, processes: int | None = None) -> Limit:
        """The whole pipeline for `photo`, on all processes or only the first few."""
        return self._job(f"{photo} {output} {seconds}", processes)

    def forward(self, seconds: float, processes: int | None = None) -> Limit:
        """The network alone."""
        return self._job(f"forward {seconds}", processes)

    def _job(self, line: str, processes: int | None) -> Limit:
        chosen = self._processes[:processes]
        for process in chosen:
            assert process.stdin
            process.stdin.write(line + "\n")
            process.stdin.flush()
        answers: list[dict[str, Any]] = []
        for process in chosen:
            assert process.stdout
            answers.append(json.loads(process.stdout.readline()))
        photos = sum(each["photos"] for each in answers)
        return Limit(
            rate=sum(each["photos"] / each["seconds"] for each in answers),
            seconds=sum(each["seconds"] for each in answers) / photos,
            cpu=sum(each["cpu"] for each in answers) / photos,
            stages={
                name: sum(each["stages"][name] for each in answers) / len(answers) for name in answers[0]["stages"]
            },
        )
