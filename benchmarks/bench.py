"""The shared state of a run: the plan, the photos, the model, the started servers, and the results."""

from __future__ import annotations

import json
import time
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.load import closed_loop
from benchmarks.machine import Clock, describe
from benchmarks.photos import write_photos
from benchmarks.servers import DATA, ROOT, Running, Spec, start
from benchmarks.usage import cpu_seconds
from humanseg.archive.capture.spool import Spool

RESULTS = DATA / "results.json"
IDLE = 0.5  # cores; a photo takes one, and LitServe's loops take 0.15 when nobody asks
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Plan:
    """rounds: repetitions, of which the median counts. seconds: of each load. requests: of the memory part."""

    rounds: int
    seconds: float
    open_seconds: float
    requests: int


FULL = Plan(rounds=3, seconds=4, open_seconds=8, requests=50_000)
QUICK = Plan(rounds=1, seconds=2, open_seconds=4, requests=2_000)


class Bench:
    """The shared state: photos, model, started servers, and results."""

    def __init__(self, plan: Plan, scratch: Path, photographs: Path | None, *, quick: bool) -> None:
        self.plan, self.scratch, self.photographs, self.quick = plan, scratch, photographs, quick
        self.photos = write_photos(DATA / "photos")
        self.mar = ROOT / "model_store" / "human_segmentation.mar"
        self.model = unpacked(self.mar, scratch / "model")
        self.results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        self.running: dict[str, Running] = {}

    def save(self, part: str, results: Any) -> None:
        """Save a part's result with its time and machine."""
        self.results[part] = {"found": results, "about": describe(self.model, self.plan.rounds)}
        RESULTS.write_text(json.dumps(self.results, indent=1))
        report.write(self.results)

    def start(self, spec: Spec) -> Running | None:
        """Start a server; a failure is reported and the server skipped."""
        say(f"starting {spec.name}")
        state = self.scratch / spec.name.replace(", ", "-").replace(" ", "-")
        try:
            self.running[spec.name] = start(spec, state, self.photos["small"])
        except RuntimeError as error:
            say(f"left out: {error}")
            return None
        return self.running[spec.name]

    def load(self, server: Running, photo: str, output: str, clients: int) -> dict[str, Any]:
        """A closed loop with its CPU cost; with the archive on, including the shipping afterwards."""
        target = server.target(self.photos[photo], output)
        server.go_on()
        before, clock = cpu_seconds(server.process.pid), Clock()
        seen = closed_loop(target, clients, self.plan.seconds)
        settle(server)
        used = cpu_seconds(server.process.pid) - before
        server.halt()
        return {**asdict(seen), "cpu": used / max(1, seen.photos), "others": clock.others(used)}


def say(text: str) -> None:
    """One line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def unpacked(mar: Path, folder: Path) -> Path:
    """The model's files out of the .mar."""
    with zipfile.ZipFile(mar) as archive:
        archive.extractall(folder)
    return folder


def settle(server: Running, seconds: float = 60) -> None:
    """Wait until the server is idle and its spool empty, so that it does not disturb the next server.

    wrk leaves at the end of its time, with a photo of each client still in the server.
    """
    spool = Spool(server.state / "served" / "spool")
    end, used = time.monotonic() + seconds, -1.0
    while time.monotonic() < end:
        before, used = used, cpu_seconds(server.process.pid)
        shipped = spool.is_empty()
        if not shipped:
            spool.request_flush()  # what is small would be waited for
        if shipped and used - before < IDLE * POLL_SECONDS:
            return
        time.sleep(POLL_SECONDS)
