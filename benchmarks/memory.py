"""Resident memory of the workers over many requests: its growth per thousand requests."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass

import numpy as np
import psutil

from benchmarks.load import Target
from benchmarks.usage import tree


@dataclass(frozen=True)
class Growth:
    """slope, error: kB a 1000 requests and its standard error (least squares over what follows the first fifth).

    samples: (requests answered so far, MB of the largest worker), over the whole run.
    """

    requests: int
    seconds: float
    slope: float
    error: float
    samples: list[tuple[float, float]]


def worker_memory(pid: int) -> float:
    """MB of the largest TorchServe worker in the tree of `pid`."""
    sizes = [0.0]
    for process in tree(pid):
        try:
            if any("model_service_worker" in word for word in process.cmdline()):
                sizes.append(process.memory_info().rss / 1e6)
        except psutil.Error:
            continue
    return max(sizes)


def grow(target: Target, pid: int, requests: int) -> Growth:
    """Send `requests` photos with h2load (8 clients) and watch. The rate is taken as even over the run."""
    command = [
        *("h2load", "--h1", "-t1", f"-n{requests}", "-c8", "-T60s", "-N60s", "-d", str(target.body)),
        *(word for name, value in target.headers for word in ("-H", f"{name}: {value}")),
        target.url,
    ]
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    seen: list[tuple[float, float]] = []
    while process.poll() is None:
        seen.append((time.monotonic() - start, worker_memory(pid)))
        time.sleep(max(0.1, min(2.0, requests / 20_000)))
    seconds = time.monotonic() - start
    assert process.stdout
    report = process.stdout.read()
    if f"{requests} succeeded" not in report:
        raise RuntimeError(f"not every request was answered:\n{report[-800:]}")
    samples = [(requests * at / seconds, size) for at, size in seen]
    slope, error = trend([sample for sample in samples if sample[0] >= requests / 5])
    return Growth(requests, seconds, slope, error, samples)


def trend(samples: list[tuple[float, float]]) -> tuple[float, float]:
    """Least squares through (requests, MB): slope in kB a 1000 requests, and its standard error."""
    if len(samples) < 4:
        return float("nan"), float("nan")
    x, y = np.array(samples).T
    x, y = x / 1000, y * 1000
    deviation = x - x.mean()
    slope = float((deviation * y).sum() / (deviation**2).sum())
    rest = y - y.mean() - slope * deviation
    return slope, float(np.sqrt((rest**2).sum() / (len(x) - 2) / (deviation**2).sum()))
