"""Replay on a Ray cluster: one task a segment, on as many machines as there are.

A machine gets the model's bytes, once, and the place of the archive; the keys to it are its own (boto3's chain), for
what is given to Ray can be read by all who use the cluster. Answers come back to the one process that writes, so
that a segment is written once, by its name, however often a machine was lost while it was at work. Ray starts a task
anew when its machine dies. A segment that has killed RETRIES workers is left out and named: the others go on.
"""

from __future__ import annotations

import contextlib
import io
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
from humanseg.archive.ship.store import BucketSettings, Store
from humanseg.archive.ship.target import Target
from humanseg.loop.predictions import Window, predict
from humanseg.loop.replay import Predicted, Work
from humanseg.training.encoder import Encoder, load_encoder

RETRIES = 5
AT_ONCE = 4  # tasks given out for each task that the cluster runs at a time: what waits tells it to grow
_PLACE = ("ARCHIVE_BUCKET", "ARCHIVE_PREFIX", "ARCHIVE_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION")


@dataclass(frozen=True)
class Place:
    """Where the archive is: variables without keys, and where a machine finds the embedded store's."""

    variables: dict[str, str]
    state_dir: Path

    @classmethod
    def of(cls, state_dir: Path) -> Place:
        """The place that this process's environment means."""
        return cls({name: os.environ[name] for name in _PLACE if name in os.environ}, state_dir.resolve())

    def reader(self) -> Reader:
        """A reader of it, with the keys that this machine has."""
        target = Target.find(self.variables, self.state_dir)
        return Reader(Store.open(target, BucketSettings.of(ArchiveSettings()), retries=4))


@dataclass(frozen=True)
class Job:
    """What every task of a replay must know. name: of the model's file, for its suffix."""

    place: Place
    window: Window
    name: str
    threads: int


def on_ray(address: str, model: Path, job: Job) -> Work:
    """The work done by the Ray cluster at `address`.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        ConnectionError: when work begins and the cluster can't be joined.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray tells its makers otherwise
    import ray

    def work(segments: list[Listed]) -> Iterator[Predicted]:
        if not segments:
            return
        try:
            ray.init(address=address, log_to_driver=False, logging_level="warning")
        except (ConnectionError, RuntimeError) as error:
            raise ConnectionError(f"the Ray cluster at {address} can't be joined: {error}") from error
        again: Any = [ArchiveError, BotoCoreError, ClientError]  # the store may be back by then
        # Ray prints what happens to nodes on stdout, which is for results.
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
                done, _ = ray.wait(list(flying))
                listed = flying.pop(done[0])
                try:
                    packed = ray.get(done[0])
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from error
                except ray.exceptions.RayError:
                    continue  # it killed its workers; whoever asked sees that it is missing
                yield listed, None if packed is None else pq.read_table(io.BytesIO(packed))

    return work


def _slots(ray: Any, threads: int) -> int:
    """How many tasks the cluster runs at a time, as it is now."""
    return int(ray.cluster_resources().get("CPU", 0)) // threads


# ---------------------------------------------------------------------- on the machines


_ready: dict[str, tuple[Encoder, Reader, TemporaryDirectory[str]]] = {}  # of this process, for the next task


def _task(job: Job, parts: list[Any], listed: Listed) -> bytes | None:
    """The predictions on one segment as a Parquet file; None when it has been rewritten."""
    encoder, reader = _get_ready(job, parts[0])
    rows = predict(reader, encoder, listed, job.window)
    if rows is None:
        return None
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd")
    return sink.getvalue()


def _get_ready(job: Job, parts: Any) -> tuple[Encoder, Reader]:
    """The model and the reader, made once in each process of Ray's."""
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
