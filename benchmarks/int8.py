"""int8 by NNCF's post-training quantization: is it faster, and does it keep the masks?

    ./benchmarks/run.sh --only int8 --data ../shared/data

Calibrates on photos of ccp/train, quantizes the served OpenVINO graph, and measures both ways: one forward pass on
one core, interleaved, and mean IoU on every set with masks. It is worth serving only if it is faster and loses no
more than 0.003 on any set. The verdict goes into RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.shapes import typical_frames
from humanseg.segmentation.engine import OpenVinoEngine
from humanseg.segmentation.model_files import GRAPH, ModelInfo
from humanseg.segmentation.photo import read_photo
from humanseg.segmentation.pipeline import preprocess, segment
from humanseg.segmentation.quiet_openvino import core, openvino
from humanseg.segmentation.spec import Spec

SETS = ("ccp/val", "coco_people/val", "portraits_dev")
ALLOWED = 0.003  # of mean IoU
ROUNDS = 7


def frames(folder: Path, count: int, spec: Spec) -> list[NDArray[np.float32]]:
    """The first photos of ccp/train, every n-th, as the network sees them: float32 [1, 3, H, W]."""
    photos = sorted((folder / "img").glob("*.jpg"))
    chosen = photos[:: max(1, len(photos) // count)][:count]
    return [preprocess(read_photo(path.read_bytes()).pixels, spec)[None] for path in chosen]


def mean_iou(engine: OpenVinoEngine, model: ModelInfo, folder: Path, most: int | None) -> tuple[float, int]:
    """Mean IoU at the photos' own size over a set, and how many photos it has."""
    scores = []
    for path in sorted((folder / "img").glob("*.jpg"))[:most]:
        pixels = read_photo(path.read_bytes()).pixels
        found = segment(engine, model.spec, pixels).mask > 0
        true = np.asarray(Image.open(folder / "mask" / f"{path.stem}.png").convert("L")) > 0
        union = np.logical_or(found, true).sum()
        scores.append(np.logical_and(found, true).sum() / union if union else 1.0)
    return float(np.mean(scores)), len(scores)


def forward_seconds(engine: OpenVinoEngine, spec: Spec, seconds: float = 1.0) -> float:
    """CPU time of one pass: the engine runs on one thread, and a shared machine does not stretch it."""
    frame = typical_frames(spec)
    engine(frame)
    count, start, end = 0, time.process_time(), time.monotonic() + seconds
    while time.monotonic() < end:
        engine(frame)
        count += 1
    return (time.process_time() - start) / count


def main() -> None:
    """Quantize, measure, and write the JSON file that run.py puts into the report."""
    parser = argparse.ArgumentParser(description="Measure int8 against the served precision.")
    parser.add_argument("data", type=Path, help="folder with ccp/train and the measured sets")
    parser.add_argument("--model", type=Path, required=True, help="folder with network.xml and model.json")
    parser.add_argument("--calibration", type=int, default=300, help="photos of ccp/train (default: %(default)s)")
    parser.add_argument("--most", type=int, help="photos measured of each set (default: all)")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    arguments = parser.parse_args()
    import nncf

    model = ModelInfo.read(arguments.model)
    graph = core().read_model(arguments.model / GRAPH)
    photos = frames(arguments.data / "ccp" / "train", arguments.calibration, model.spec)
    quantized = nncf.quantize(
        graph, nncf.Dataset(photos), preset=nncf.QuantizationPreset.MIXED, subset_size=len(photos)
    )
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / GRAPH
        openvino.save_model(quantized, path, compress_to_fp16=False)
        served = OpenVinoEngine(arguments.model / GRAPH, model.spec, threads=1, precision="auto")
        int8 = OpenVinoEngine(path, model.spec, threads=1, precision="auto")
        times: dict[str, list[float]] = {"served": [], "int8": []}
        for _ in range(ROUNDS):
            times["served"].append(forward_seconds(served, model.spec))
            times["int8"].append(forward_seconds(int8, model.spec))
        sets = {}
        for name in SETS:
            before, count = mean_iou(served, model, arguments.data / name, arguments.most)
            after, _ = mean_iou(int8, model, arguments.data / name, arguments.most)
            sets[name] = {"photos": count, "served": before, "int8": after}
            print(f"{name}: served {before:.4f}, int8 {after:.4f}", flush=True)
    ratio = median(fast / slow for fast, slow in zip(times["int8"], times["served"], strict=True))
    loss = max(row["served"] - row["int8"] for row in sets.values())
    good = ratio < 1 and loss <= ALLOWED
    verdict = f"{'Worth serving' if good else 'Not worth serving'}: the largest loss of mean IoU is {loss:.4f}."
    found = {
        "seconds": {name: median(took) for name, took in times.items()},
        "ratio": ratio, "sets": sets, "calibration": len(photos), "verdict": verdict,
    }  # fmt: skip
    arguments.out.write_text(json.dumps(found, indent=1))
    print(f"ratio {ratio:.3f}; {verdict}")


if __name__ == "__main__":
    sys.exit(main())
