"""Clips: frames a second and CPU a frame beside other ways, a photo's latency beside a clip, memory, and steadiness.

    python -m benchmarks.video [--rembg FOLDER_OF_ITS_ENVIRONMENT] [--frames N] [--rounds N] [--only speed|steady]

One run, one clip of 1280x720 with a person moving in it, the same cores for all: numbers are comparable within a run
only. The ways take turns, and each is compared with the limit of its own round; what is told is the median. Every way
makes a VP9 clip with alpha, but rembg, which writes PNGs and has no other output.

    limit   decode, network, steady, encode in one loop without a server, a process with two threads of work
    ours    `humanseg segment`, frames through a running server
    photos  a loop that sends each frame as a PNG, takes the cut-out back as a PNG, and encodes it
    http    the clip posted to the server
    rembg   `rembg b`: raw frames through a pipe, with the same network
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import psutil
import requests
from PIL import Image

from benchmarks import scenes
from benchmarks.servers import ROOT
from humanseg.client import Client
from humanseg.common.ports import free_ports
from humanseg.segmentation import mask as masks
from humanseg.segmentation import pipeline
from humanseg.segmentation.engine import make_engine
from humanseg.segmentation.frame import to_frame_size
from humanseg.segmentation.model_files import GRAPH, ModelInfo
from humanseg.segmentation.png import write_png
from humanseg.video.backdrop import backdrop
from humanseg.video.convert import Look, Network, Target, convert
from humanseg.video.decode import frames
from humanseg.video.encode import ClipWriter
from humanseg.video.probe import probe
from humanseg.video.steady import Steady

SIZE = (1280, 720)
PORTS = ("INFERENCE_PORT", "MANAGEMENT_PORT", "METRICS_PORT", "GRPC_INFERENCE_PORT")


@dataclass(frozen=True)
class Spent:
    """What a way took: seconds by the clock, and seconds of CPU of all processes that had a part in it."""

    seconds: float
    cpu: float


def photo() -> scenes.Pixels:
    """The portrait, as in the tests: uint8 [512, 512, 3]."""
    with Image.open(ROOT / "tests" / "photos" / "astronaut.jpg") as picture:
        return np.asarray(picture.convert("RGB"))


def make_clip(path: Path, count: int) -> Path:
    """The portrait moving over a photograph, 1280x720 at 25 a second, H.264."""
    behind = cv2.resize(scenes.backgrounds()[0], SIZE)
    person, alpha = photo(), np.full((512, 512), 255, np.uint8)
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "18"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for index in range(count):
            place = np.array([[1.3, 0, 100 + 2 * (index % 200)], [0, 1.3, 60]], np.float32)
            front = cv2.warpAffine(person, place, SIZE)
            share = cv2.warpAffine(alpha, place, SIZE)[..., None] / 255
            picture = (share * front + (1 - share) * behind).astype(np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(stream.encode(None))
    return path


def network(folder: Path, mar: Path, parallel: int = 1) -> Network:
    """The network of a .mar in this process, on one thread."""
    with zipfile.ZipFile(mar) as archive:
        archive.extractall(folder)
    model = ModelInfo.read(folder)
    engine = make_engine("openvino", graph=folder / GRAPH, source=None, spec=model.spec, threads=1, precision="auto")
    lock = threading.Lock()

    def ask(pixels: scenes.Pixels) -> scenes.Pixels:
        with lock:
            return pipeline.probability(engine, model.spec, pixels)

    return Network(model.spec, model.spec.threshold, "", ask, parallel)


class Running:
    """`serve.sh` on free ports, with two workers."""

    def __init__(self, folder: Path) -> None:
        ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        variables = {**os.environ, **ports, "STATE_DIR": str(folder), "WORKERS": "2"}
        self.url = f"http://127.0.0.1:{ports['INFERENCE_PORT']}"
        self.process = subprocess.Popen(
            [str(ROOT / "serve.sh")], env=variables, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("READY "):
                break
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def cpu(self) -> float:
        """Seconds of CPU of the server's processes, ended children included."""
        parent = psutil.Process(self.process.pid)
        times = [each.cpu_times() for each in (parent, *parent.children(recursive=True))]
        return sum(t.user + t.system + t.children_user + t.children_system for t in times)

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(60)


def spent(work: Callable[[], object], server: Running | None) -> Spent:
    """What `work` takes in this process, its children and the server."""

    def cpu() -> float:
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(u.ru_utime + u.ru_stime for u in usage) + (server.cpu() if server else 0)

    before, start = cpu(), time.perf_counter()
    work()
    return Spent(time.perf_counter() - start, cpu() - before)


def command(clip: Path, out: Path, url: str) -> int:
    """`humanseg segment`; returns the most memory that it had, bytes."""
    words = [sys.executable, "-m", "humanseg.cli.main", "segment", str(clip), "-o", str(out), "--output", "cutout"]
    subprocess.run([*words, "--force", "--url", url], check=True, stderr=subprocess.DEVNULL, cwd=ROOT)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def photo_loop(clip: Path, out: Path, url: str) -> None:
    """What people write first: one photo request after the other."""
    info = probe(clip)
    writer = ClipWriter(out, "webm", "cutout", (info.width, info.height), info)
    with Client(url) as client:
        for frame in frames(info):
            answer = client.segment(write_png(frame.pixels), output="cutout", archive=False)
            decoded = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
            picture = np.asarray(cv2.cvtColor(np.asarray(decoded), cv2.COLOR_BGRA2RGBA), np.uint8)
            writer.write(picture, frame.time, frame.duration)
    writer.close()


def through_rembg(clip: Path, out: Path, environment: Path, onnx: Path) -> None:
    """`rembg b`, as its README has it, with our network."""
    out.mkdir()
    extras = json.dumps({"model_path": str(onnx)})
    words = [str(environment / "bin" / "rembg"), "b", *map(str, SIZE), "-o", f"{out}/%05u.png"]
    words += ["-m", "u2net_custom", "-x", extras]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin
        for frame in frames(probe(clip)):
            process.stdin.write(frame.pixels.tobytes())
        process.stdin.close()
    if process.returncode:
        raise SystemExit(f"rembg ended with {process.returncode}")


def latency(url: str, seconds: float, while_true: Callable[[], bool] = lambda: True) -> list[float]:
    """Seconds of photo after photo, one at a time."""
    body = (ROOT / "tests" / "photos" / "astronaut.jpg").read_bytes()
    took: list[float] = []
    end = time.perf_counter() + seconds
    with requests.Session() as session:
        while time.perf_counter() < end and while_true():
            start = time.perf_counter()
            answer = session.post(f"{url}/predictions/human_segmentation", data=body, headers={"x-archive": "no"})
            answer.raise_for_status()
            took.append(time.perf_counter() - start)
    return took


def told(took: list[float]) -> str:
    """p50 and p99."""
    return f"p50 {1000 * np.quantile(took, 0.5):.0f} ms, p99 {1000 * np.quantile(took, 0.99):.0f} ms ({len(took)})"


def post_clip(url: str, clip: Path) -> None:
    """The clip over HTTP."""
    with clip.open("rb") as file:
        answer = requests.post(
            f"{url}/predictions/human_segmentation", data=file, headers={"x-output": "cutout"}, timeout=120
        )
    if not answer.ok:
        print(f"http: {answer.status_code} {answer.text}", flush=True)  # on a busy machine a clip may take too long


def people(net: Network) -> dict[str, tuple[scenes.Pixels, scenes.Pixels]]:
    """Who moves: a picture, uint8 [h, w, 3], and the alpha of the person in it, uint8 [h, w]."""
    from skimage import data

    def cut(picture: scenes.Pixels) -> tuple[scenes.Pixels, scenes.Pixels]:
        height, width = picture.shape[:2]
        probability = net.ask(to_frame_size(picture, net.spec)) / np.float32(255)
        return picture, masks.soft_alpha(masks.to_photo_size(probability, width, height), net.threshold)

    camera = np.asarray(cv2.cvtColor(data.camera(), cv2.COLOR_GRAY2RGB), np.uint8)
    return {
        "portrait": cut(photo()),
        "man": cut(camera),
        "drawn": scenes.drawn_person(),
        "flat": scenes.flat_person(),
    }


def steadiness(net: Network, seed: int) -> Iterator[tuple[str, str, float, float, float, float]]:
    """(who, scene, IoU frame by frame, IoU steadied, flicker frame by frame, flicker steadied)."""
    threshold = net.threshold
    for who, (person, alpha) in people(net).items():
        for name, plan in scenes.PLANS.items():
            steady = Steady()
            before: list[Any] = [None, None]
            found: list[list[float]] = [[], [], [], []]
            for moment in scenes.clip(plan, person, alpha, seed):
                small = to_frame_size(moment.frame, net.spec)
                raw = net.ask(small).astype(np.float32) / 255
                for at, one in enumerate((raw, steady(raw, small))):
                    large = masks.to_photo_size(one, *scenes.SIZE)
                    mask, soft = large > threshold * 255, masks.soft_alpha(large, threshold).astype(np.float32) / 255
                    found[at].append(float((mask & moment.truth).sum() / max(1, (mask | moment.truth).sum())))
                    if before[at] is not None and moment.known.any():
                        found[2 + at].append(scenes.flicker(soft, before[at], moment))
                    before[at] = soft
            yield who, name, *(float(np.mean(each)) for each in found)  # type: ignore[misc]


def tell_steadiness(net: Network, seeds: list[int]) -> None:
    """Each scene with each person, and each over all; the flat drawing, which is hardly found, stands apart."""
    rows = [row for seed in seeds for row in steadiness(net, seed)]

    def line(title: str, chosen: list[Any]) -> None:
        iou, steadied, flicker, less = np.mean([row[2:] for row in chosen], axis=0)
        ratio = f"x {less / flicker:.2f}" if flicker > 0.001 else "hardly found"
        print(f"{title:24} IoU {iou:.4f} -> {steadied:.4f}   flicker {flicker:.4f} {ratio}")

    for who, name in dict.fromkeys((row[0], row[1]) for row in rows):
        line(f"{who}, {name}", [row for row in rows if row[:2] == (who, name)])
    found = [row for row in rows if row[0] != "flat"]
    for name in scenes.PLANS:
        line(f"all but flat, {name}", [row for row in found if row[1] == name])
    line("all but flat", found)
    line("all", rows)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rembg", type=Path)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("speed", "steady"))
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[11], help="Of the scenes; steady.py was set on 1 and 2."
    )
    given = parser.parse_args()
    cv2.setNumThreads(1)
    mar = ROOT / "model_store" / "human_segmentation.mar"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        net = network(folder / "model", mar)
        if given.only != "speed":
            tell_steadiness(net, given.seeds)
        if given.only != "steady":
            speed(folder, net, given.frames, given.rounds, given.rembg)


def speed(folder: Path, net: Network, count: int, rounds: int, rembg: Path | None) -> None:
    """Every way in turn, then a photo beside a clip, and the memory of the command."""
    clip = make_clip(folder / "clip.mp4", count)
    look = Look("cutout", backdrop("#ffffff"))
    onnx = folder / "network.onnx"
    if rembg:
        words = [sys.executable, "-m", "benchmarks.rembg_model", str(folder / "model"), str(onnx)]
        subprocess.run(words, check=True, cwd=ROOT)
    server = Running(folder / "state")
    try:
        command(clip, folder / "warm.webm", server.url)
        ways: dict[str, Callable[[Path], object]] = {
            "limit": lambda out: convert(probe(clip), Target(out / "limit.webm", "webm"), look, net),
            "ours": lambda out: command(clip, out / "ours.webm", server.url),
            "photos": lambda out: photo_loop(clip, out / "loop.webm", server.url),
            "http": lambda out: post_clip(server.url, clip),
        }
        if rembg:
            ways["rembg"] = lambda out: through_rembg(clip, out / "rembg", rembg, onnx)
        found: dict[str, list[Spent]] = {name: [] for name in ways}
        print(f"{count} frames, {rounds} rounds; load of this machine before: {os.getloadavg()[0]:.1f}", flush=True)
        for number in range(rounds):
            out = folder / str(number)
            out.mkdir()
            for name, work in ways.items():
                found[name].append(spent(lambda work=work, out=out: work(out), server))  # type: ignore[misc]
        for name, times in found.items():
            rate = count / np.median([one.seconds for one in times])
            cpu = 1000 * np.median([one.cpu for one in times]) / count
            shares = [limit.seconds / one.seconds for limit, one in zip(found["limit"], times, strict=True)]
            said = f"{np.median(shares):.2f} of the limit ({min(shares):.2f} to {max(shares):.2f})"
            print(f"{name:7} {rate:6.1f} frames/s  {cpu:6.1f} ms CPU a frame  {said}", flush=True)
        print(f"a photo alone          {told(latency(server.url, 6))}", flush=True)
        thread = threading.Thread(target=post_clip, args=(server.url, clip))
        thread.start()
        print(f"a photo beside a clip  {told(latency(server.url, 60, thread.is_alive))}", flush=True)
        thread.join()
        short = make_clip(folder / "short.mp4", max(1, count // 4))
        usage = [_peak(short, folder, server.url), _peak(clip, folder, server.url)]
        print(f"memory of the command: {usage[0] / 1e6:.0f} MB, with 4 times the frames {usage[1] / 1e6:.0f} MB")
    finally:
        server.stop()


def _peak(clip: Path, folder: Path, url: str) -> int:
    """The most memory of one `humanseg segment`, bytes: measured by a child, whose children are that one alone."""
    code = "import sys; from pathlib import Path; from benchmarks.video import command; " + (
        "print(command(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))"
    )
    words = [sys.executable, "-c", code, str(clip), str(folder / f"peak-{clip.stem}.webm"), url]
    return int(subprocess.run(words, check=True, capture_output=True, text=True, cwd=ROOT).stdout)


if __name__ == "__main__":
    main()
