"""The PNG plots beside RESULTS.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.figures import OURS, OURS_OFF, PHOTOS, ratio_to_limit

FOLDER = Path(__file__).resolve().parent / "plots"
INK, BLUE, GREY, RED = "#333333", "#3884ff", "#b8bcc4", "#e0503a"


def draw(results: Mapping[str, Any]) -> list[str]:
    """Draw the results; returns the file names in order."""
    FOLDER.mkdir(exist_ok=True)
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 110})
    drawn = []
    for name, function in (("race", race), ("sweep", sweep), ("open", open_loop), ("memory", memory)):
        if name in results:
            function(results[name]["found"])
            plt.tight_layout()
            plt.savefig(FOLDER / f"{name}.png")
            plt.close()
            drawn.append(f"{name}.png")
    return drawn


def race(results: Mapping[str, Any]) -> None:
    """Bars: share of the limit, by server and photo."""
    names = list(results["servers"])
    _, axes = plt.subplots(1, len(PHOTOS), figsize=(11, 0.32 * len(names) + 1.2), sharey=True)
    for axis, photo in zip(axes, PHOTOS, strict=True):
        values = [ratio_to_limit(results, name, photo) for name in names]
        colours = [BLUE if name.startswith("ours") else GREY for name in names]
        axis.barh(names, values, color=colours)
        axis.axvline(1, color=RED, linewidth=1)
        limit = median(run["rate"] for run in results["limit"][photo])
        axis.set_title(f"{photo}: limit {limit:.1f} photos/s")
        axis.set_xlabel("share of the limit")
        for at, value in enumerate(values):
            axis.text(value + 0.01, at, f"{value:.2f}", va="center", color=INK)
        axis.set_xlim(0, 1.15)
    axes[0].invert_yaxis()


def sweep(results: Mapping[str, Any]) -> None:
    """Throughput and median latency by number of clients."""
    _, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    for name, photos in results["servers"].items():
        for photo, levels in photos.items():
            if len(levels) < 2:
                continue
            clients = sorted(int(level) for level in levels)
            style = "-" if name != OURS else "--"
            label = f"{photo}" + (", archive on" if name == OURS else "")
            rate = [median(seen["rate"] for seen in levels[str(count)]) for count in clients]
            wait = [1000 * median(seen["p50"] for seen in levels[str(count)]) for count in clients]
            left.plot(clients, rate, style, marker="o", label=label)
            right.plot(clients, wait, style, marker="o", label=label)
    left.set_ylabel("photos a second")
    right.set_ylabel("p50, ms")
    right.set_yscale("log")
    for axis in (left, right):
        axis.set_xscale("log", base=2)
        axis.set_xlabel("clients (closed loop)")
    left.legend(frameon=False)


def open_loop(results: Mapping[str, Any]) -> None:
    """p50, p95 and p99 by share of the capacity."""
    _, axes = plt.subplots(1, len(PHOTOS), figsize=(11, 3))
    for axis, photo in zip(axes, PHOTOS, strict=True):
        for name, style in ((OURS_OFF, "-"), (OURS, "--")):
            rows = results.get(name, {}).get(photo, [])
            for part, colour in (("p50", BLUE), ("p95", INK), ("p99", RED)):
                label = f"{part}{', archive on' if name == 'ours' else ''}"
                shares = [100 * row["share"] for row in rows]
                axis.plot(shares, [1000 * row[part] for row in rows], style, marker="o", color=colour, label=label)
        axis.set_title(photo)
        axis.set_xlabel("sent, % of capacity (open loop)")
        axis.set_yscale("log")
    axes[0].set_ylabel("ms")
    axes[0].legend(frameon=False)


def memory(results: Mapping[str, Any]) -> None:
    """Resident memory of a worker over the requests."""
    _, axis = plt.subplots(figsize=(7, 3))
    requests, size = zip(*results["samples"], strict=True)
    axis.plot(requests, size, color=BLUE)
    axis.set_ylim(0, max(size) * 1.2)
    axis.set_xlabel("requests answered")
    axis.set_ylabel("largest worker, MB")
