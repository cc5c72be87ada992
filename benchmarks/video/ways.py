"""The ways to cut a person out of a clip, each with our network, and what one of them takes.

    limit   decode, network, smoothing, drawing and encoding in one loop without a server: this process, which is warm
    ours    `humanseg segment`: frames through a running server; the start of the command counts
    photos  a loop that sends each frame as a PNG, takes the cut-out back as a PNG, and encodes it
    http    the clip posted to the server
    rembg   `rembg b`: raw frames through a pipe; its start counts

Every way makes a VP9 clip with alpha, except rembg, which writes PNGs and has no other output.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import requests

from benchmarks.local_server import Server
from benchmarks.servers import ROOT
from benchmarks.usage import cpu_seconds
from benchmarks.video.inputs import SIZE
from humanseg.client import Client
from humanseg.segmentation.png import write_png
from humanseg.video.backdrop import backdrop
from humanseg.video.convert import Look, Network, Target, convert
from humanseg.video.decode import frames
from humanseg.video.encode import ClipWriter
from humanseg.video.probe import probe

Way = Callable[[Path], None]  # writes its result into a new folder; raises WayFailed


class WayFailed(Exception):
    """A way made no clip, such as one that takes longer than the server allows on a busy machine."""


@dataclass(frozen=True)
class Bench:
    """What the ways share. frames: of the clip. rembg: its environment, if it takes part."""

    folder: Path
    clip: Path
    frames: int
    network: Network
    server: Server
    rembg: Path | None


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock, and seconds of CPU of all processes that had a part in it."""

    seconds: float
    cpu: float


def spent(work: Callable[[], object], server: Server) -> Spent:
    """What `work` takes in this process, its children and the server. Raises what `work` raises."""

    def cpu() -> float:
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(each.ru_utime + each.ru_stime for each in usage) + cpu_seconds(server.process.pid)

    before, start = cpu(), time.perf_counter()
    work()
    return Spent(time.perf_counter() - start, cpu() - before)


def all_ways(bench: Bench) -> dict[str, Way]:
    """The ways by name; "limit" is the first."""
    ways: dict[str, Way] = {
        "limit": lambda out: loop_without_server(bench, out),
        "ours": lambda out: run_command(bench.clip, out / "result.webm", bench.server.url),
        "photos": lambda out: photo_by_photo(bench, out),
        "http": lambda out: post_clip(bench.server.predictions, bench.clip),
    }
    if bench.rembg:
        onnx = bench.folder / "network.onnx"
        words = [sys.executable, "-m", "benchmarks.rembg_model", str(bench.folder / "model"), str(onnx)]
        subprocess.run(words, check=True, cwd=ROOT)
        ways["rembg"] = lambda out: through_rembg(bench, out, onnx)
    return ways


def loop_without_server(bench: Bench, out: Path) -> None:
    """The limit."""
    target, look = Target(out / "result.webm", "webm"), Look("cutout", backdrop("#ffffff"))
    convert(probe(bench.clip), target, look, bench.network)


def run_command(clip: Path, result: Path, url: str) -> None:
    """`humanseg segment`."""
    words = [sys.executable, "-m", "humanseg.cli.main", "segment", str(clip), "-o", str(result), "--output", "cutout"]
    subprocess.run([*words, "--force", "--url", url], check=True, stderr=subprocess.DEVNULL, cwd=ROOT)


def photo_by_photo(bench: Bench, out: Path) -> None:
    """What people write first: one photo request after the other."""
    info = probe(bench.clip)
    writer = ClipWriter(out / "result.webm", "webm", "cutout", (info.width, info.height), info)
    with Client(bench.server.url) as client:
        for frame in frames(info):
            answer = client.segment(write_png(frame.pixels), output="cutout", archive=False)
            decoded = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
            picture = np.asarray(cv2.cvtColor(np.asarray(decoded), cv2.COLOR_BGRA2RGBA), np.uint8)
            writer.write(picture, frame.time, frame.duration)
    writer.close()


def post_clip(predictions: str, clip: Path) -> None:
    """The clip over HTTP. predictions: the address. Raises WayFailed."""
    with clip.open("rb") as file:
        answer = requests.post(predictions, data=file, headers={"x-output": "cutout"}, timeout=120)
    if not answer.ok:
        raise WayFailed(f"{answer.status_code} {answer.text}")


def through_rembg(bench: Bench, out: Path, onnx: Path) -> None:
    """`rembg b` as in its README, with our network. Raises WayFailed."""
    assert bench.rembg
    words = [str(bench.rembg / "bin" / "rembg"), "b", *map(str, SIZE), "-o", f"{out}/%05u.png"]
    words += ["-m", "u2net_custom", "-x", json.dumps({"model_path": str(onnx)})]
    # Where rembg looks for models, and where its Numba keeps what it compiles.
    variables = {**os.environ, "REMBG_HOME": str(onnx.parent), "NUMBA_CACHE_DIR": str(onnx.parent)}
    quiet = subprocess.DEVNULL  # a file as stdout ends it: it takes pipes and devices only
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, env=variables) as process:
        assert process.stdin
        for frame in frames(probe(bench.clip)):
            process.stdin.write(frame.pixels.tobytes())
        process.stdin.close()
    made = len(list(out.glob("*.png")))
    if process.returncode or made != bench.frames:
        raise WayFailed(f"rembg ended with {process.returncode} after {made} of {bench.frames} frames")
