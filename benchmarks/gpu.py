"""Photos a second on a GPU: the torch engine alone, and with decode and encode on the CPU beside it.

python -m benchmarks.gpu MODEL_FOLDER PHOTO     prints a line of JSON; {"gpu": null} where there is none
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from benchmarks.limit import Way
from benchmarks.shapes import typical_frames
from humanseg.segmentation.engine import make_engine, warm_up
from humanseg.segmentation.model_files import GRAPH, WEIGHTS, ModelInfo
from humanseg.segmentation.photo import Photo, read_photo
from humanseg.segmentation.picture import encode
from humanseg.segmentation.pipeline import postprocess, preprocess

BATCHES = (1, 4, 16, 64)


def main() -> None:
    """Measure where CUDA is there."""
    if not torch.cuda.is_available():
        print(json.dumps({"gpu": None}))
        return
    folder, data = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()
    model = ModelInfo.read(folder)
    engine = make_engine(
        "torch",
        graph=folder / GRAPH,
        source=folder / WEIGHTS,
        spec=model.spec,
        threads=1,
        precision="auto",
        gpu=0,
    )
    spec = model.spec
    warm_up(engine, spec)
    forward = {}
    for batch in BATCHES:
        frames = typical_frames(spec, batch)
        engine(frames)
        forward[batch] = batch * rate(lambda frames=frames: engine(frames))

    def decode(_: int) -> tuple[np.ndarray, Photo]:
        photo = read_photo(data, least_side=spec.least_side)
        return preprocess(photo.pixels, spec), photo

    def finish(raw: np.ndarray, frame: np.ndarray, photo: Photo) -> bytes:
        result = postprocess(raw, frame, spec, photo.width, photo.height, threshold=spec.threshold)
        return encode(result.mask, "png")

    with ThreadPoolExecutor() as pool:

        def batch_of(count: int) -> None:
            frames, photos = zip(*pool.map(decode, range(count)), strict=True)
            list(pool.map(finish, engine(np.stack(frames)), frames, photos))

        whole = 16 * rate(lambda: batch_of(16))
    way = Way(folder)
    cpu = rate(way.forward)
    name = torch.cuda.get_device_name(0)
    print(json.dumps({"gpu": name, "forward": forward, "whole": whole, "one_core_forward": cpu}))


def rate(work: object, seconds: float = 2.0) -> float:
    """Calls a second."""
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        work()  # type: ignore[operator]
        count += 1
    return count / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
