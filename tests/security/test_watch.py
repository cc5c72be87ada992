"""What hangs is replaced, and what is only slow is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import requests

from humanseg.serve.watch import STILL_SECONDS, STOPPED_SECONDS, Probe, Sample, Watch, _sampled, _waits_for_work
from tests.running import Server

UNKEPT = {"x-archive": "no"}  # else the stop would try to ship it
IDLE = Sample(pid=7, started=1.0, cpu=5.0, stopped=False, runnable=False, waiting=True)
STUCK = replace(IDLE, waiting=False)


def looks(watch: Watch, samples: Callable[[int], Sample], seconds: int, unanswered_since: float | None) -> list[int]:
    """What a watch that looks each second for `seconds` replaces."""
    return [pid for now in range(seconds) for pid in watch.find_stuck(now, [samples(now)], unanswered_since)]


def test_a_stopped_process_is_replaced_though_nobody_waits() -> None:
    stopped = replace(IDLE, stopped=True)
    assert looks(Watch(), lambda now: stopped, int(STOPPED_SECONDS), None) == []
    assert looks(Watch(), lambda now: stopped, int(STOPPED_SECONDS) + 1, None) == [7]


def test_one_that_goes_on_in_time_is_kept() -> None:
    watch = Watch()
    for now in range(60):
        assert watch.find_stuck(now, [replace(IDLE, stopped=now % 5 != 0)], None) == []


def test_a_worker_that_sits_on_a_photo_without_moving_is_replaced() -> None:
    assert 7 in looks(Watch(), lambda now: STUCK, int(STILL_SECONDS) + 2, 0.0)


@pytest.mark.parametrize(
    "sample",
    [
        lambda now: IDLE,  # waits for work: another one has the photo
        lambda now: replace(STUCK, runnable=True),  # wants the CPU and does not get it
        lambda now: replace(STUCK, cpu=now // 10),  # gets a little of it now and then
        lambda now: replace(STUCK, started=now // 10),  # started anew
    ],
)
def test_a_slow_machine_is_no_reason(sample: Callable[[int], Sample]) -> None:
    assert looks(Watch(), sample, 600, 0.0) == []


def test_nobody_waiting_is_no_reason() -> None:
    assert looks(Watch(), lambda now: STUCK, 600, None) == []


def test_the_probe_remembers_since_when_it_waits() -> None:
    now = [0.0]
    answers = iter([(False, False), (True, False), (True, True)])
    seen = []

    def ask() -> tuple[bool, bool]:
        seen.append(probe.since)
        now[0] += 10
        return next(answers)

    def over(seconds: float) -> bool:
        now[0] += seconds
        return len(seen) == 3

    probe = Probe(ask, lambda: now[0])
    probe.run(over)
    assert seen == [5.0, 5.0, 5.0]
    assert (probe.since, probe.heard) == (None, now[0] - 5.0)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits in a lock, for ever."""
    code = "import threading; lock = threading.Lock(); lock.acquire(); print(flush=True); lock.acquire()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


def test_real_processes_are_told_apart(sleeper: subprocess.Popen[bytes]) -> None:
    def sample(pid: int) -> Sample:
        (state,) = _sampled([psutil.Process(pid)], waits=_waits_for_work)
        return state

    def until(condition: Callable[[Sample], bool]) -> None:
        end = time.monotonic() + 60
        while not condition(sample(sleeper.pid)):
            assert time.monotonic() < end
            time.sleep(0.01)

    until(lambda state: not (state.runnable or state.waiting or state.stopped))
    sleeper.send_signal(signal.SIGSTOP)
    until(lambda state: state.stopped)
    sleeper.send_signal(signal.SIGCONT)
    until(lambda state: not state.stopped)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as reader:
        end = time.monotonic() + 60
        while not ((state := sample(reader.pid)).waiting and not state.runnable):
            assert time.monotonic() < end
            time.sleep(0.01)
        reader.kill()


def wait_for(condition: Callable[[], bool], server: Server) -> None:
    end = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < end, server.output
        time.sleep(0.2)


@pytest.mark.slow
def test_a_stopped_worker_and_a_stopped_frontend_are_replaced(
    make_server: Callable[..., Server], astronaut_jpeg: bytes
) -> None:
    server = make_server(WORKERS="2", ARCHIVE_BUCKET="none")
    wait_for(lambda: len(server.worker_pids()) == 2, server)  # READY says that one answers
    first, second = server.worker_pids()
    os.kill(first, signal.SIGSTOP)
    wait_for(lambda: first not in (pids := server.worker_pids()) and len(pids) == 2, server)
    assert second in server.worker_pids()
    assert any(f"worker {first} was stuck" in line for line in server.output)

    java = next(
        connection
        for connection in psutil.Process(server.process.pid).children(recursive=True)
        if connection.name() == "java"
    )
    os.kill(java.pid, signal.SIGSTOP)

    def answers() -> bool:
        try:
            return requests.post(server.predictions, astronaut_jpeg, headers=UNKEPT, timeout=5).status_code == 200
        except requests.RequestException:
            return False

    wait_for(lambda: not psutil.pid_exists(java.pid) and answers(), server)
    assert "serve: TorchServe was stuck; restarting it." in server.output
    assert server.stop() == 0
    assert not Path(f"/proc/{java.pid}").exists()
