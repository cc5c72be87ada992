"""How long a photo takes alone, and while the server processes a clip."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import requests

from benchmarks.video.inputs import PORTRAIT
from benchmarks.video.ways import post_clip


def print_latency(predictions: str, clip: Path) -> None:
    """Print p50 and p99 of both. predictions: the server's address."""
    print(f"a photo alone          {_quantiles(photo_seconds(predictions, 6))}", flush=True)
    thread = threading.Thread(target=post_clip, args=(predictions, clip))
    thread.start()
    print(f"a photo beside a clip  {_quantiles(photo_seconds(predictions, 60, thread.is_alive))}", flush=True)
    thread.join()


def photo_seconds(predictions: str, most: float, go_on: Callable[[], bool] = lambda: True) -> list[float]:
    """Seconds of each photo, one after another, for `most` seconds or as long as `go_on()`."""
    body = PORTRAIT.read_bytes()
    times: list[float] = []
    end = time.perf_counter() + most
    with requests.Session() as session:
        while time.perf_counter() < end and go_on():
            start = time.perf_counter()
            session.post(predictions, data=body, headers={"x-archive": "no"}).raise_for_status()
            times.append(time.perf_counter() - start)
    return times


def _quantiles(times: list[float]) -> str:
    p50, p99 = 1000 * np.quantile(times, (0.5, 0.99))
    return f"p50 {p50:.0f} ms, p99 {p99:.0f} ms ({len(times)} photos)"
