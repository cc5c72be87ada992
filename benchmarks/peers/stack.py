"""The two ways from a photo's bytes to a mask's bytes that every peer is measured with.

"torch": what the peers' own image examples do, PIL to decode and resize, PyTorch eager, PIL to write the PNG.
"ours": this project's engine, photo and mask code behind the peer's server, so that only the servers differ.

Environment: BENCH_MODEL, folder with network.xml, weights.safetensors and model.json; BENCH_STACK, "torch" or
"ours"; BENCH_THREADS, threads a worker.
"""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from benchmarks.shapes import square_side

MODEL = Path(os.environ.get("BENCH_MODEL", "."))
THREADS = int(os.environ.get("BENCH_THREADS", "1"))
WORKERS = int(os.environ.get("BENCH_WORKERS", "1"))
PORT = int(os.environ.get("BENCH_PORT", "0"))
BATCH = 4  # photos at most
DELAY = 0.001  # seconds to wait for a batch to fill


class Stack(Protocol):
    """decode: bytes to what `predict` takes, and what `encode` needs to know. All in this process."""

    def decode(self, data: bytes) -> tuple[Any, Any]: ...

    def predict(self, inputs: list[Any]) -> list[Any]: ...

    def encode(self, probability: Any, about: Any) -> bytes: ...


class TorchStack:
    """PIL and PyTorch eager in float32: the photo is stretched to the square, as torchvision's transforms do."""

    def __init__(self) -> None:
        import torch

        from humanseg.segmentation.weights import load_weights

        torch.set_num_threads(THREADS)
        self._torch = torch
        weights = load_weights(MODEL / "weights.safetensors")
        self._network, self._threshold = weights.network, weights.spec.threshold
        self._size = square_side(weights.spec)

    def decode(self, data: bytes) -> tuple[Any, tuple[int, int]]:
        return self.square(Image.open(BytesIO(data)))

    def square(self, photo: Image.Image) -> tuple[Any, tuple[int, int]]:
        """float32 tensor [3, S, S] in 0..1 (what ToTensor gives) and the photo's (width, height)."""
        small = photo.convert("RGB").resize((self._size, self._size), Image.Resampling.BILINEAR)
        return self._torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255, photo.size

    def predict(self, squares: list[Any]) -> list[Any]:
        torch = self._torch
        with torch.inference_mode():
            return list(torch.sigmoid(self._network(torch.stack(squares)))[:, 0].numpy())

    def picture(self, probability: Any, size: tuple[int, int]) -> Image.Image:
        """The mask at the photo's size, from the upsampled probability."""
        grey = Image.fromarray((probability * 255).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
        return grey.point(lambda level: 255 if level > 255 * self._threshold else 0)

    def encode(self, probability: Any, about: tuple[int, int]) -> bytes:
        file = BytesIO()
        self.picture(probability, about).save(file, "PNG")
        return file.getvalue()


class OurStack:
    """handler/'s own functions, in the order in which the served model calls them."""

    def __init__(self) -> None:
        import cv2

        from humanseg.segmentation.engine import make_engine, warm_up
        from humanseg.segmentation.model_files import GRAPH, ModelInfo

        cv2.setNumThreads(THREADS)
        self._model = ModelInfo.read(MODEL)
        self._engine = make_engine(
            "openvino", graph=MODEL / GRAPH, source=None, spec=self._model.spec, threads=THREADS, precision="auto"
        )
        warm_up(self._engine, self._model.spec)

    def decode(self, data: bytes) -> tuple[Any, Any]:
        from humanseg.segmentation.photo import read_photo
        from humanseg.segmentation.pipeline import preprocess

        photo = read_photo(data, least_side=self._model.spec.least_side)
        frame = preprocess(photo.pixels, self._model.spec)
        return frame, (frame, photo.width, photo.height)

    def predict(self, frames: list[Any]) -> list[Any]:
        return [self._engine(frame[None])[0] for frame in frames]

    def encode(self, probability: Any, about: Any) -> bytes:
        from humanseg.segmentation.picture import encode
        from humanseg.segmentation.pipeline import postprocess

        frame, width, height = about
        spec = self._model.spec
        return encode(postprocess(probability, frame, spec, width, height, threshold=spec.threshold).mask, "png")


def make_stack() -> Stack:
    """The stack that BENCH_STACK names."""
    return {"torch": TorchStack, "ours": OurStack}[os.environ["BENCH_STACK"]]()
