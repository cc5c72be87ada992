"""Frames a second and CPU a frame of every way, in turn, and both compared with the limit of the same round."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from benchmarks.video.ways import Bench, Spent, Way, WayFailed, spent

Pair = tuple[Spent, Spent]  # the limit and a way, of one round


def print_speed(bench: Bench, ways: Mapping[str, Way], rounds: int) -> None:
    """Run `ways`, the limit among them, once to warm up and then `rounds` times; print the medians."""
    _one_round(bench, ways, bench.folder / "warm")
    print(f"{bench.frames} frames, {rounds} rounds; load of the machine before: {os.getloadavg()[0]:.1f}", flush=True)
    pairs: dict[str, list[Pair]] = {name: [] for name in ways}
    for number in range(rounds):
        times = _one_round(bench, ways, bench.folder / str(number))
        for name, time in times.items():
            pairs[name].append((times["limit"], time))
    for name in ways:
        print(f"{name:7} {_row(pairs[name], bench.frames)}", flush=True)


def _one_round(bench: Bench, ways: Mapping[str, Way], folder: Path) -> dict[str, Spent]:
    times = {}
    for name, way in ways.items():
        out = folder / name
        out.mkdir(parents=True)
        try:
            times[name] = spent(lambda way=way, out=out: way(out), bench.server)  # type: ignore[misc]
        except WayFailed as reason:
            print(f"{name} failed in {folder.name}: {reason}", flush=True)
    return times


def _row(pairs: list[Pair], frames: int) -> str:
    if not pairs:
        return "failed in every round"
    rate = frames / np.median([way.seconds for _, way in pairs])
    cpu = 1000 * np.median([way.cpu for _, way in pairs]) / frames
    shares = [limit.seconds / way.seconds for limit, way in pairs]
    more = np.median([way.cpu / limit.cpu for limit, way in pairs])
    return (
        f"{rate:6.1f} frames/s, {np.median(shares):.2f} of the limit ({min(shares):.2f} to {max(shares):.2f}); "
        f"{cpu:6.1f} ms CPU a frame, {more:.2f} times the limit's"
    )
