"""Throughput of `humanseg replay`: one process without Ray, and Ray with one and two workers.

    .venv/bin/python -m benchmarks.replay     about a minute; needs the extra `scale`. Results: ARCHIVE.md

All runs read the same archive in this machine's embedded store. The throughput is measured after the first segment of
each worker; the startup before it is a separate column. The process without Ray runs first and last, which shows the
influence of other load on the machine. CPU time includes all processes: the embedded store, Ray itself, the workers.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from benchmarks.archive.samples import disc, exchange, uploader_of
from benchmarks.photos import SIZES, make_photo
from benchmarks.servers import ROOT
from benchmarks.usage import cpu_seconds
from humanseg.archive.capture.hook import Archive
from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.read.reader import Reader
from humanseg.archive.ship.destination import Destination
from humanseg.archive.ship.local_store import LocalStore
from humanseg.archive.ship.store import BucketSettings, Store
from humanseg.loop.on_ray import Job, Place, on_ray
from humanseg.loop.predictions import Window
from humanseg.loop.replay import Work, here, replay
from humanseg.training.encoder import load_encoder

MODEL = ROOT / "model_store" / "human_segmentation.mar"
START = datetime(2026, 11, 20, tzinfo=timezone.utc)


def fill(folder: Path, segments: int, photos: int, name: str) -> None:
    """An archive of so many segments, an hour each."""
    size, settings = SIZES[name], ArchiveSettings()
    photo, mask = make_photo(size), disc(size.width, size.height)
    archive = Archive.start(settings, folder, upload=False)
    for hour in range(segments):
        for _ in range(photos):
            archive.keep(exchange(photo, mask, (size.width, size.height), START + timedelta(hours=hour)))
    archive.close()
    assert uploader_of(folder, settings).drain(120).left.segments == 0


def measure(reader: Reader, weights: str, folder: Path, window: Window, work: Work, workers: int) -> dict[str, Any]:
    """Photos a second of a replay into a new folder, their CPU, and the seconds before its first segment was done."""
    began = time.monotonic()
    steps: list[tuple[float, float]] = []  # when a segment was done, and the CPU seconds of all processes by then
    result = replay(
        reader,
        weights,
        folder,
        window,
        work,
        progress=lambda number, total: steps.append((time.monotonic(), cpu_seconds(os.getpid()))),
    )
    assert not result.failed and not result.problems
    first, last = steps[workers - 1], steps[-1]
    photos = result.photos / result.segments * (len(steps) - workers)
    return {
        "photos a second": round(photos / (last[0] - first[0]), 1),
        "CPU ms a photo": round(1000 * (last[1] - first[1]) / photos, 1),
        "seconds to the first segment": round(steps[0][0] - began, 1),
    }


def compare(folder: Path, segments: int, photos: int, name: str) -> dict[str, Any]:
    from ray.cluster_utils import Cluster

    with LocalStore(folder / "store") as store:
        os.environ.update(store.environment())
        # Ray gives its workers a low priority, which on a busy machine is most of the difference.
        os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"})
        fill(folder, segments, photos, name)
        destination = Destination.find(os.environ, folder)
        reader = Reader(Store.open(destination, BucketSettings.of(ArchiveSettings()), retries=4))
        window = Window(START)
        encoder = load_encoder(MODEL, folder / "graph")

        def run(title: str, work: Work, workers: int = 1) -> dict[str, Any]:
            print(title, time.strftime("%T"), file=sys.stderr)
            return {title: measure(reader, encoder.candidate.weights_sha256, folder / title, window, work, workers)}

        rows = run("the loop", here(reader, encoder, window))
        for workers in (1, 2):
            cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
            nodes = [cluster.head_node] + [cluster.add_node(num_cpus=1) for _ in range(workers - 1)]
            cluster.wait_for_nodes()
            job = Job(Place.of(folder), window, MODEL.name, threads=1)
            rows |= run(f"Ray, {workers} worker{'s' * (workers > 1)}", on_ray(cluster.address, MODEL, job), workers)
            for node in reversed(nodes):
                cluster.remove_node(node, allow_graceful=False)
        return rows | run("the loop again", here(reader, encoder, window))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=12)
    parser.add_argument("--photos", type=int, default=6, help="of each segment")
    parser.add_argument("--photo", choices=sorted(SIZES), default="typical")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="replay-", ignore_cleanup_errors=True) as folder:
        rows = compare(Path(folder), options.segments, options.photos, options.photo)
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
