"""Detects stuck processes that must be replaced: the frontend (Java), or a worker.

An overloaded machine is slow, too, and killing slow processes makes it slower. Missing answers are therefore not
sufficient. A process is replaced only if it makes no progress at all: it is stopped (SIGSTOP), or, while a prediction
waits, it uses no CPU time, is not waiting for the CPU, and is not waiting for work.

`Watch.find_stuck` decides from its arguments and is tested without processes; `Processes` inspects real ones.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

LOOK_SECONDS = 2.0  # between two inspections of the processes
PROBE_SECONDS = 5.0  # between the end of a prediction and the next
STOPPED_SECONDS = 6.0  # a debugger or an operator may stop a process for a moment
STILL_SECONDS = 14.0  # without an answer and without progress
DEAF_SECONDS = 240.0  # the frontend answers nothing at all
WORKER = "model_service_worker.py"
# Linux system calls in which an idle worker waits for the next batch: read, recvfrom, recvmsg (x86-64; arm64).
READING = {"x86_64": {0, 45, 47}, "aarch64": {63, 207, 212}}.get(os.uname().machine, set())


@dataclass(frozen=True)
class Sample:
    """A snapshot of a process.

    cpu: seconds used. stopped: by a signal. runnable: uses or waits for the CPU or the disk.
    waiting: it waits for work; assumed if unknown, so that the process is left alone.
    """

    pid: int
    started: float
    cpu: float
    stopped: bool
    runnable: bool
    waiting: bool


@dataclass
class Watch:
    """Tracks since when each process has made no progress. All times are of one clock, in seconds."""

    _stopped: dict[tuple[int, float], float] = field(default_factory=dict)
    _still: dict[tuple[int, float], tuple[float, float]] = field(default_factory=dict)

    def find_stuck(self, now: float, samples: Iterable[Sample], unanswered_since: float | None) -> list[int]:
        """Return the processes to replace. unanswered_since: when the pending prediction was sent, if any."""
        hung = []
        stopped, still = {}, {}
        for sample in samples:
            key = (sample.pid, sample.started)
            if sample.stopped:
                stopped[key] = self._stopped.get(key, now)
                if now - stopped[key] >= STOPPED_SECONDS:
                    hung.append(sample.pid)
                continue
            since, cpu = self._still.get(key, (now, sample.cpu))
            if sample.runnable or sample.waiting or sample.cpu > cpu or unanswered_since is None:
                since = now
            still[key] = (since, sample.cpu)
            if unanswered_since is not None and now - max(since, unanswered_since) >= STILL_SECONDS:
                hung.append(sample.pid)
        self._stopped, self._still = stopped, still
        return hung


class Processes:
    """The frontend and its workers, from /proc."""

    def __init__(self, frontend: int) -> None:
        self.frontend = frontend

    def samples(self) -> tuple[list[Sample], list[Sample]]:
        """(the frontend, its workers)."""
        with contextlib.suppress(psutil.Error):
            java = psutil.Process(self.frontend)
            workers = [child for child in java.children(recursive=True) if _is_worker(child)]
            return _sampled([java], waits=lambda pid: True), _sampled(workers, waits=_waits_for_work)
        return [], []


def kill(pid: int) -> None:
    """SIGKILL, which also ends a stopped process. The frontend restarts its workers automatically."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return any(WORKER in word for word in process.cmdline())
    return False


def _sampled(processes: list[psutil.Process], waits: Callable[[int], bool]) -> list[Sample]:
    samples = []
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            states = _thread_states(process.pid)
            times = process.cpu_times()
            samples.append(
                Sample(
                    pid=process.pid,
                    started=process.create_time(),
                    cpu=times.user + times.system,
                    stopped=states == {"T"},
                    runnable=bool(states & {"R", "D"}),
                    waiting=waits(process.pid),
                )
            )
    return samples


def _thread_states(pid: int) -> set[str]:
    """The states of all threads (proc(5)): R runnable, S sleeping, D waiting for the disk, T stopped."""
    return {(task / "stat").read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").iterdir()}


def _waits_for_work(pid: int) -> bool:
    """Whether the main thread is blocked in a read, like an idle worker."""
    try:
        call = Path(f"/proc/{pid}/syscall").read_text().split()[0]
    except (OSError, IndexError):
        return True
    return call == "running" or not READING or (call.lstrip("-").isdigit() and int(call) in READING)


class Probe:
    """Makes one prediction after another. `ask` returns (whether there was a response, whether it was a mask).

    since: the time when the pending prediction was sent; None in between. heard: the time of the last response.
    """

    def __init__(self, ask: Callable[[], tuple[bool, bool]], clock: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._clock = ask, clock
        self.since: float | None = None
        self.heard = clock()

    def run(self, over: Callable[[float], bool]) -> None:
        """Repeat predictions until `over(seconds)`, which waits, returns True."""
        while not over(PROBE_SECONDS):
            self.since = self._clock()
            while True:
                heard, answered = self._ask()
                if heard:
                    self.heard = self._clock()
                if answered:
                    break
                if over(1.0):
                    return
            self.since = None
