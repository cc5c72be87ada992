"""CPU and throughput of a served photo, archived and not, in turn on one server."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks.archive.served import served, users, wait_empty
from benchmarks.photos import SIZES, write_photos
from benchmarks.servers import DATA
from benchmarks.usage import cpu_seconds, tree


def store_seconds(pid: int) -> float:
    """CPU seconds of the embedded store of a server."""
    used = [process.cpu_times() for process in tree(pid) if process.name() == "weed"]
    return sum(times.user + times.system for times in used)


def cpu(scratch: Path, pairs: int, seconds: float) -> dict[str, Any]:
    """CPU of a photo and throughput, archived and not; the uploader and the store included."""
    photos = write_photos(DATA / "photos")
    rows: dict[str, Any] = {}
    with served(scratch, photos) as server:
        for name in SIZES:
            users(server, photos[name], "no", seconds)
            costs: dict[str, list[float]] = {"yes": [], "no": []}
            apart: list[float] = []  # of the costs of archived photos, without the embedded store
            rates: dict[str, list[float]] = {"yes": [], "no": []}
            for pair in range(pairs):
                for archived in ("yes", "no") if pair % 2 else ("no", "yes"):
                    wait_empty(server)
                    before, theirs = cpu_seconds(server.process.pid), store_seconds(server.process.pid)
                    seen = users(server, photos[name], archived, seconds)
                    wait_empty(server)
                    used = cpu_seconds(server.process.pid) - before
                    costs[archived].append(used / seen.photos * 1000)
                    if archived == "yes":
                        used -= store_seconds(server.process.pid) - theirs
                        apart.append(used / seen.photos * 1000)
                    rates[archived].append(seen.rate)
            ratios = [yes / no for yes, no in zip(costs["yes"], costs["no"], strict=True)]
            elsewhere = [yes / no for yes, no in zip(apart, costs["no"], strict=True)]
            slower = [1 - yes / no for yes, no in zip(rates["yes"], rates["no"], strict=True)]
            rows[f"{name}, {photos[name].stat().st_size / 1e6:.2f} MB"] = {
                "CPU ms a photo, not archived": round(statistics.median(costs["no"]), 1),
                "CPU ms a photo, archived": round(statistics.median(costs["yes"]), 1),
                "ratio, median of pairs": round(statistics.median(ratios), 3),
                "ratio without the embedded store": round(statistics.median(elsewhere), 3),
                "all pairs": [round(ratio, 3) for ratio in ratios],
                "photos a second, not archived": round(statistics.median(rates["no"]), 1),
                "throughput lost, median of pairs": f"{statistics.median(slower):.1%}",
            }
    return rows
