"""The limit: photos through decode, forward and encode in a tight loop, without a server. One process for each core.

    python -m benchmarks.limit MODEL_FOLDER

reads jobs from stdin, one a line: `PHOTO_FILE OUTPUT SECONDS`, or `forward SECONDS` for the network alone, and
answers each with a line of JSON: {"photos", "seconds", "cpu", "stages": {name: milliseconds}}.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from benchmarks.shapes import typical_frames
from handler import response
from handler.request import Options, PhotoRequest
from humanseg.segmentation.engine import make_engine, warm_up
from humanseg.segmentation.model_files import GRAPH, ModelInfo
from humanseg.segmentation.photo import read_photo
from humanseg.segmentation.picture import NEEDS_PHOTO
from humanseg.segmentation.pipeline import postprocess, preprocess


class Way:
    """The serving pipeline, called directly."""

    def __init__(self, folder: Path, precision: str = "auto") -> None:
        cv2.setNumThreads(1)
        self.model = ModelInfo.read(folder)
        self.engine = make_engine(
            "openvino", graph=folder / GRAPH, source=None, spec=self.model.spec, threads=1, precision=precision
        )
        warm_up(self.engine, self.model.spec)
        self.frame = typical_frames(self.model.spec)

    def forward(self) -> None:
        """The network alone."""
        self.engine(self.frame)

    def photo(self, data: bytes, output: str) -> tuple[bytes, dict[str, float]]:
        """One photo: the answer's body, and seconds by stage."""
        start = time.perf_counter()
        spec = self.model.spec
        photo = read_photo(data, least_side=None if output in NEEDS_PHOTO else spec.least_side)
        frame = preprocess(photo.pixels, spec)
        decoded = time.perf_counter()
        raw = self.engine(frame[None])[0]
        forwarded = time.perf_counter()
        segmentation = postprocess(raw, frame, spec, photo.width, photo.height, threshold=spec.threshold)
        origin = response.Origin("0", "", "", "")
        seconds = {"decode": decoded - start, "forward": forwarded - decoded}
        request = PhotoRequest(data, Options(output=output))
        summary = segmentation.summary()
        body = response.respond(photo, segmentation, summary, origin, request, seconds, forwarded).body
        seconds["encode"] = time.perf_counter() - forwarded
        return body, seconds


def loop(work: Callable[[], dict[str, float]], seconds: float) -> dict[str, object]:
    """Run `work` for about `seconds`; at least three times."""
    stages: dict[str, list[float]] = {}
    count, start, cpu = 0, time.perf_counter(), time.process_time()
    while count < 3 or time.perf_counter() - start < seconds:
        for name, took in work().items():
            stages.setdefault(name, []).append(took)
        count += 1
    return {
        "photos": count,
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "stages": {name: 1000 * float(np.median(took)) for name, took in stages.items()},
    }


def main() -> None:
    """Answer jobs until stdin ends."""
    way = Way(Path(sys.argv[1]), *sys.argv[2:3])
    print("READY", flush=True)
    for line in sys.stdin:
        words = line.split()
        if words[0] == "forward":

            def work() -> dict[str, float]:
                way.forward()
                return {}
        else:
            data = Path(words[0]).read_bytes()

            def work(data: bytes = data, output: str = words[1]) -> dict[str, float]:
                return way.photo(data, output)[1]

        work()
        print(json.dumps(loop(work, float(words[-1]))), flush=True)


if __name__ == "__main__":
    main()
