"""Clips beside other ways to segment them. Results: NOTES.md.

    .venv/bin/python -m benchmarks.video                  all of it
    .venv/bin/python -m benchmarks.video --only speed     frames a second and CPU a frame, of every way in turn
    .venv/bin/python -m benchmarks.video --only latency   a photo alone, and beside a clip
    .venv/bin/python -m benchmarks.video --only memory    of the command, over the length of a clip
    .venv/bin/python -m benchmarks.video --only steady    IoU and flicker of masks, on scenes with known masks

The clip has 1280x720 pixels and a person who moves in it. Compare numbers within one run only. `--rembg` is the
environment of requirements-rembg.txt (benchmarks/run.sh makes it in benchmarks/.venv/rembg); without it rembg is left
out. It needs about a second a frame, so give it few: `--only speed --frames 30 --rembg benchmarks/.venv/rembg`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2

from benchmarks.local_server import start_server
from benchmarks.servers import ROOT
from benchmarks.video.inputs import local_network, make_clip
from benchmarks.video.latency import print_latency
from benchmarks.video.memory import print_memory
from benchmarks.video.speed import print_speed
from benchmarks.video.steady import print_steadiness
from benchmarks.video.ways import Bench, all_ways
from humanseg.common.allocation import keep_freed_buffers

MAR = ROOT / "model_store" / "human_segmentation.mar"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("speed", "latency", "memory", "steady"))
    parser.add_argument("--frames", type=int, default=250, help="of the clip")
    parser.add_argument("--rounds", type=int, default=3, help="of speed; every way runs once in each")
    parser.add_argument("--rembg", type=Path, help="its environment")
    parser.add_argument("--without", nargs="+", default=[], help="ways to leave out")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[11], help="of the scenes; steady.py was set on 1 and 2"
    )
    given = parser.parse_args()
    parts = [given.only] if given.only else ["steady", "speed", "latency", "memory"]
    cv2.setNumThreads(1)
    keep_freed_buffers()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        network = local_network(MAR, folder / "model")
        if "steady" in parts:
            print_steadiness(network, given.seeds)
        if parts == ["steady"]:
            return
        clip = make_clip(folder / "clip.mp4", given.frames)
        server = start_server(folder / "state", WORKERS="2")
        try:
            bench = Bench(folder, clip, given.frames, network, server, given.rembg)
            if "speed" in parts:
                print_speed(
                    bench,
                    {name: way for name, way in all_ways(bench).items() if name not in given.without},
                    given.rounds,
                )
            if "latency" in parts:
                print_latency(server.predictions, clip)
            if "memory" in parts:
                print_memory(bench)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
