"""CPU and throughput of a served photo, archived and not, in turn on one server, and which process takes it."""

from __future__ import annotations

import contextlib
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil

from benchmarks.archive.served import served, users, wait_empty
from benchmarks.photos import SIZES, write_photos
from benchmarks.servers import DATA
from benchmarks.usage import cpu_seconds, tree

# A process belongs to the first part whose text its command line contains.
PARTS = {
    "store": "weed",
    "uploader": "humanseg.archive.ship.child",
    "frontend": "java",
    "workers": "model_service_worker",
}


Cost = dict[str, float]  # by part


def seconds_by_part(pid: int) -> Cost:
    """CPU seconds that each part of a server has used so far; the rest is `others`."""
    used: Cost = dict.fromkeys((*PARTS, "others"), 0.0)
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            command, times = " ".join(process.cmdline()), process.cpu_times()
            part = next((part for part, text in PARTS.items() if text in command), "others")
            used[part] += times.user + times.system
    used["others"] += cpu_seconds(pid) - sum(used.values())
    return used


def cpu(scratch: Path, pairs: int, seconds: float) -> dict[str, Any]:
    """CPU of a photo and throughput, archived and not; the uploader and the store included."""
    photos = write_photos(DATA / "photos")
    rows: dict[str, Any] = {}
    with served(scratch, photos) as server:
        pid = server.process.pid
        for name in SIZES:
            users(server, photos[name], "no", seconds)
            costs: dict[str, list[Cost]] = {"yes": [], "no": []}  # ms of a photo
            rates: dict[str, list[float]] = {"yes": [], "no": []}
            for pair in range(pairs):
                for archived in ("yes", "no") if pair % 2 else ("no", "yes"):
                    wait_empty(server)
                    before = seconds_by_part(pid)
                    seen = users(server, photos[name], archived, seconds)
                    wait_empty(server)
                    after = seconds_by_part(pid)
                    costs[archived].append(
                        {part: (after[part] - before[part]) * 1000 / seen.photos for part in after}
                    )
                    rates[archived].append(seen.rate)
            rows[f"{name}, {photos[name].stat().st_size / 1e6:.2f} MB"] = _row(costs, rates)
    return rows


def _row(costs: dict[str, list[Cost]], rates: dict[str, list[float]]) -> dict[str, Any]:
    ratios: dict[str, list[float]] = defaultdict(list)
    for yes, no in zip(costs["yes"], costs["no"], strict=True):
        ratios["all"].append(_all(yes) / _all(no))
        ratios["without the store"].append((_all(yes) - yes["store"]) / _all(no))
    slower = [1 - yes / no for yes, no in zip(rates["yes"], rates["no"], strict=True)]
    return {
        "CPU ms a photo, not archived": _median_by_part(costs["no"]),
        "CPU ms a photo, archived": _median_by_part(costs["yes"]),
        "ratio, median of pairs": round(statistics.median(ratios["all"]), 3),
        "ratio without the embedded store": round(statistics.median(ratios["without the store"]), 3),
        "all pairs": [round(ratio, 3) for ratio in ratios["all"]],
        "photos a second, not archived": round(statistics.median(rates["no"]), 1),
        "throughput lost, median of pairs": f"{statistics.median(slower):.1%}",
    }


def _all(cost: Cost) -> float:
    return sum(cost.values())


def _median_by_part(costs: list[Cost]) -> Cost:
    parts = {part: round(statistics.median(cost[part] for cost in costs), 1) for part in costs[0]}
    return {"all": round(statistics.median(map(_all, costs)), 1), **parts}
