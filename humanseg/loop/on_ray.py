"""Replay on a Ray cluster: one task per segment.

Each node receives the model once, and the location of the archive. It uses its own credentials (boto3's chain),
because every user of a cluster can read what is passed to Ray. Predictions return to the driver, which writes each
segment once, by its name, however often a node was lost meanwhile. Ray retries the task of a lost node. A segment
that crashed RETRIES workers is skipped and listed; the others continue.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
from botocore.exceptions import BotoCoreError, ClientError

from humanseg.archive.capture.settings import ArchiveSettings
from humanseg.archive.errors import ArchiveError
from humanseg.archive.read.reader import Reader
from humanseg.archive.read.shelf import Listed
from humanseg.archive.ship.destination import Destination
from humanseg.archive.ship.store import BucketSettings, Store
from humanseg.loop.predictions import Window, predict
from humanseg.loop.replay import Predicted, Work
from humanseg.training.encoder import Encoder, load_encoder

RETRIES = 5
AT_ONCE = 4  # submitted tasks per running one: pending tasks make an autoscaling cluster grow
_PLACE = ("ARCHIVE_BUCKET", "ARCHIVE_PREFIX", "ARCHIVE_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION")


@dataclass(frozen=True)
class Place:
    """The location of the archive: variables without credentials; `state_dir` has those of the embedded store."""

    variables: dict[str, str]
    state_dir: Path

    @classmethod
    def of(cls, state_dir: Path) -> Place:
        """Read it from this process's environment."""
        return cls({name: os.environ[name] for name in _PLACE if name in os.environ}, state_dir.resolve())

    def reader(self) -> Reader:
        """A reader with this machine's credentials."""
        destination = Destination.find(self.variables, self.state_dir)
        return Reader(Store.open(destination, BucketSettings.of(ArchiveSettings()), retries=4))


@dataclass(frozen=True)
class Job:
    """What all tasks of a replay share. name: the model's file name; its suffix is the format."""

    place: Place
    window: Window
    name: str
    threads: int


def on_ray(address: str, model: Path, job: Job) -> Work:
    """Process the segments on the Ray cluster at `address`.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        ConnectionError: the cluster can't be joined, when the first segment is requested.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports usage by default
    import ray

    def work(segments: list[Listed]) -> Iterator[Predicted]:
        if not segments:
            return
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError) as error:
            raise ConnectionError(f"the Ray cluster at {address} can't be joined: {error}") from error
        again: Any = [ArchiveError, BotoCoreError, ClientError]  # the store may be temporarily unavailable
        # Ray prints events of its nodes to stdout, which is for results.
        with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as last:
            last.callback(ray.shutdown)
            task = ray.remote(_task).options(num_cpus=job.threads, max_retries=RETRIES, retry_exceptions=again)
            parts = ray.put(model.read_bytes())
            waiting = list(reversed(segments))
            flying: dict[Any, Listed] = {}
            while waiting or flying:
                while waiting and len(flying) < AT_ONCE * max(1, _slots(ray, job.threads)):
                    listed = waiting.pop()
                    flying[task.remote(job, [parts], listed)] = listed
                ready, _ = ray.wait(list(flying))
                listed = flying.pop(ready[0])
                try:
                    packed = ray.get(ready[0])
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from error
                except ray.exceptions.RayError:
                    continue  # it crashed its workers: the caller lists it as missing
                yield listed, None if packed is None else pq.read_table(io.BytesIO(packed))

    return work


def _slots(ray: Any, threads: int) -> int:
    """The number of tasks that the cluster currently runs in parallel."""
    return int(ray.cluster_resources().get("CPU", 0)) // threads


# ---------------------------------------------------------------------- on the nodes


_ready: dict[str, tuple[Encoder, Reader, TemporaryDirectory[str]]] = {}  # cached for the next task of this process


def _task(job: Job, parts: list[Any], listed: Listed) -> bytes | None:
    """The predictions for one segment as a Parquet file; None if it was rewritten."""
    encoder, reader = _get_ready(job, parts[0])
    rows = predict(reader, encoder, listed, job.window)
    if rows is None:
        return None
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd")
    return sink.getvalue()


def _get_ready(job: Job, parts: Any) -> tuple[Encoder, Reader]:
    """The model and the reader, created once per Ray worker process."""
    import ray

    if parts.hex() not in _ready:
        _ready.clear()
        folder = TemporaryDirectory(prefix="replay-")
        model = Path(folder.name) / job.name
        model.write_bytes(ray.get(parts))
        encoder = load_encoder(model, Path(folder.name) / "graph", threads=job.threads)
        _ready[parts.hex()] = encoder, job.place.reader(), folder
    encoder, reader, _ = _ready[parts.hex()]
    return encoder, reader
