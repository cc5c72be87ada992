"""One forward pass in PyTorch eager, float32, one thread: prints its seconds. python -m benchmarks.eager MODEL"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.shapes import typical_frames
from humanseg.segmentation.weights import load_weights


def main() -> None:
    """Measure for about two seconds."""
    torch.set_num_threads(1)
    weights = load_weights(Path(sys.argv[1]) / "weights.safetensors")
    frame = torch.from_numpy(typical_frames(weights.spec))
    took: list[float] = []
    with torch.inference_mode():
        weights.network(frame)
        end = time.perf_counter() + 2
        while time.perf_counter() < end or len(took) < 5:
            start = time.perf_counter()
            torch.sigmoid(weights.network(frame))
            took.append(time.perf_counter() - start)
    print(float(np.mean(took)))


if __name__ == "__main__":
    main()
