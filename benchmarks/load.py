"""Load from two known tools: wrk for the closed loop, h2load for the open one.

Closed loop: N clients, each sends its next photo when it has the last answer. What comes out is throughput at that
number of clients; its latencies are those of clients that wait for each other.

Open loop: a photo is sent every PERIOD, whether or not earlier ones were answered (h2load makes a new connection for
each), so a stalled server can't slow its own load down and hide the wait: there is no coordinated omission to
correct. h2load's log gives every request's own start; how far that lay behind the plan is reported beside it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LUA = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True)
class Target:
    """Where to send what. body: the file that is posted, a whole multipart form where the server wants one."""

    url: str
    body: Path
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Load:
    """What a load saw. rate: good answers a second; p50, p95, p99: seconds; bad: failed or refused requests.

    late: seconds by which the 99th percentile of the open loop's requests left behind the plan; 0 in the closed loop.
    """

    rate: float
    p50: float
    p95: float
    p99: float
    photos: int
    bad: int
    late: float = 0.0


def closed_loop(target: Target, clients: int, seconds: float) -> Load:
    """wrk with one thread and `clients` connections for about `seconds`."""
    environment = {
        **os.environ,
        "BODY": str(target.body),
        "HEADERS": "".join(f"{name}: {value}\n" for name, value in target.headers),
    }
    command = [
        "wrk",
        "-t1",
        f"-c{clients}",
        f"-d{seconds:.0f}s",
        "--timeout",
        "60s",
        "-s",
        str(LUA),
        target.url,
    ]
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=seconds + 90
    )
    match = re.search(r"^RESULT (\{.*\})$", result.stdout, re.MULTILINE)
    if not match:
        raise RuntimeError(f"wrk gave no result for {target.url}: {result.stdout[-500:]} {result.stderr[-500:]}")
    seen = json.loads(match[1])
    bad = seen["failed"] + seen["refused"]
    good = seen["photos"] - seen["refused"]
    return Load(good / seen["seconds"], seen["p50"], seen["p95"], seen["p99"], good, bad)


def fixed_loop(target: Target, clients: int, count: int, log: Path) -> Load:
    """h2load with `clients` waiting clients and exactly `count` photos: CPU time can be shared out among them."""
    log.unlink(missing_ok=True)
    command = [
        "h2load",
        "--h1",
        "-t1",
        f"-n{count}",
        f"-c{min(clients, count)}",
        *_post(target, log),
        target.url,
    ]
    subprocess.run(command, capture_output=True, check=True, timeout=600)
    rows = _rows(log)
    took = rows[:, 2] / 1e6
    good = int((rows[:, 1] == 200).sum())
    seconds = (rows[:, 0] + rows[:, 2]).max() / 1e6 - rows[:, 0].min() / 1e6
    p50, p95, p99 = np.percentile(took, (50, 95, 99))
    return Load(good / seconds, float(p50), float(p95), float(p99), good, count - good)


def _post(target: Target, log: Path) -> list[str]:
    headers = [word for name, value in target.headers for word in ("-H", f"{name}: {value}")]
    return ["-T120s", "-N120s", "-d", str(target.body), f"--log-file={log}", *headers]


def _rows(log: Path) -> NDArray[np.int64]:
    """h2load's log: start in microseconds since 1970, status, microseconds until the answer's end."""
    return np.array([[int(word) for word in line.split("\t")[:3]] for line in log.read_text().splitlines()])


def open_loop(target: Target, rate: float, seconds: float, log: Path) -> Load:
    """h2load sending `rate` photos a second for `seconds`, evenly spaced; whole milliseconds apart."""
    period = max(1, round(1000 / rate))
    count = max(20, round(seconds * 1000 / period))
    log.unlink(missing_ok=True)
    command = [
        *("h2load", "--h1", "-t1", f"-n{count}", f"-c{count}", "-r1", f"--rate-period={period}ms"),
        *_post(target, log),
        target.url,
    ]
    subprocess.run(command, capture_output=True, check=True, timeout=seconds + 120)
    rows = _rows(log)
    good = rows[:, 1] == 200
    took = rows[good, 2] / 1e6
    starts = np.sort(rows[:, 0]) / 1e6
    planned = starts[0] + np.arange(len(starts)) * period / 1000
    behind = np.maximum(0, starts - planned)
    p50, p95, p99 = np.percentile(took, (50, 95, 99))
    bad = count - int(good.sum())
    sent = (len(starts) - 1) / (starts[-1] - starts[0])
    return Load(
        float(sent),
        float(p50),
        float(p95),
        float(p99),
        int(good.sum()),
        bad,
        float(np.percentile(behind, 99)),
    )
