"""Replay on a real Ray cluster of two nodes, one of which is killed while both are at work."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from humanseg.archive.ship.local_store import LocalStore
from humanseg.loop.predictions import Window
from humanseg.loop.replay import here, replay
from humanseg.training.encoder import load_encoder
from tests.archive.commands import archive_photos
from tests.archive.faults import FaultyProxy
from tests.archive.helpers import NOON, Bucket, bucket_of
from tests.running import ROOT

pytestmark = pytest.mark.slow
SEGMENTS, PHOTOS = 6, 2


class Holding(FaultyProxy):
    """A way to the store that holds what is asked for of all segments but the first two, until it is let go."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream, ("pass",))
        self.asked: Counter[tuple[str, str]] = Counter()  # (key, range)
        self.go = threading.Event()
        self.both_at_work = threading.Event()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """A node works on one segment at a time: two that are held are two nodes at work."""
        if request.command == "GET" and request.path.endswith(".tar"):
            self.asked[request.path, request.headers["Range"]] += 1
            segments = list(dict.fromkeys(path for path, _ in list(self.asked)))
            if len(segments) >= 4:
                self.both_at_work.set()
            if request.path in segments[2:]:
                self.go.wait(120)
        super().handle(request)


@pytest.fixture
def bucket(local_store: LocalStore) -> Bucket:
    return bucket_of(local_store)


@pytest.fixture
def cluster(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes with one CPU each. Their keys to the archive are in their own environment."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'humanseg[scale]'")
    from ray.cluster_utils import Cluster

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, bucket.environment[name])
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    with tempfile.TemporaryDirectory(
        prefix="ray-", ignore_cleanup_errors=True
    ) as folder:  # its sockets want a short path
        monkeypatch.setenv("RAY_TMPDIR", folder)
        (Path(folder) / "ray").mkdir()  # in which it notes the cluster's address
        node = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
        nodes = Cluster(initialize_head=True, head_node_args={**node, "temp_dir": folder})
        try:
            nodes.second = nodes.add_node(**node)
            nodes.wait_for_nodes()
            yield nodes
        finally:
            for node in [*nodes.worker_nodes, nodes.head_node]:
                kill(nodes, node)


def kill(cluster: Any, node: Any) -> None:
    """As a machine is lost: nothing of it is left."""
    (raylet,) = node.all_processes["raylet"]
    workers = psutil.Process(raylet.process.pid).children(recursive=True)
    cluster.remove_node(node, allow_graceful=False)
    for worker in workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()


def rows_in(folder: Path) -> list[dict[str, Any]]:
    """All predictions, by id, without the time that they took."""
    rows = [row for path in folder.glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    return sorted(({**row, "seconds": None} for row in rows), key=lambda row: row["request_id"])


def test_a_replay_on_two_nodes_of_which_one_is_killed_is_the_replay_without_ray(
    cluster: Any, bucket: Bucket, tmp_path: Path
) -> None:
    hours = [NOON + timedelta(hours=hour) for hour in range(SEGMENTS)]
    ids = [photo for hour in hours for photo in archive_photos(tmp_path, bucket, PHOTOS, time=hour)]
    model = ROOT / "model_store" / "human_segmentation.mar"
    encoder = load_encoder(model, tmp_path / "graph")
    window = Window(NOON - timedelta(hours=1))
    work = here(bucket.reader, encoder, window)
    replay(bucket.reader, encoder.candidate.weights_sha256, tmp_path / "plain", window, work)

    command = [
        sys.executable,
        "-m",
        "humanseg.cli.main",
        "replay",
        "--mar",
        model,
        "--to",
        tmp_path / "ray",
        "--json",
    ]
    command += ["--since", window.since.isoformat(), "--ray", cluster.address]
    with Holding(bucket.environment["ARCHIVE_ENDPOINT_URL"]) as proxy:
        environment = {**os.environ, **bucket.environment, "ARCHIVE_ENDPOINT_URL": proxy.url}
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            assert proxy.both_at_work.wait(120)
            kill(cluster, cluster.second)
            proxy.go.set()
            output, _ = process.communicate(timeout=240)
        finally:
            proxy.go.set()
            process.kill()
    assert process.returncode == 0
    report = json.loads(output)
    assert (report["segments"], report["photos"], report["failed"]) == (SEGMENTS, SEGMENTS * PHOTOS, [])
    assert max(proxy.asked.values()) == 2, "what the killed node was at work on was done again"
    assert sum(number - 1 for number in proxy.asked.values()) <= PHOTOS, "and nothing else was"
    assert sorted(row["request_id"] for row in rows_in(tmp_path / "ray")) == sorted(ids)
    assert rows_in(tmp_path / "ray") == rows_in(tmp_path / "plain")
