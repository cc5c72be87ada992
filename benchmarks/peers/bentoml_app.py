"""BentoML, as its image examples show: a method that takes an uploaded picture and gives one back.

Its adaptive batching is left out in BentoML's favour: a batchable method answers with a list, which can't be a PNG,
and the second service that its documentation puts in front for single photos costs another hop between processes;
with one thread a worker, a batch of four is no faster for this network than four photos.
With our own code the method takes the file itself: BentoML's conversion to PIL would decode the whole photo.
"""

from __future__ import annotations

import os
from pathlib import Path

import bentoml
from PIL.Image import Image

from benchmarks.peers.stack import WORKERS, TorchStack, make_stack

settings = {"workers": WORKERS, "traffic": {"timeout": 60}, "logging": {"access": {"enabled": False}}}


@bentoml.service(name="segmentation", **settings)
class OnTorch:
    """PIL in, PIL out: BentoML itself decodes the upload and writes the PNG."""

    def __init__(self) -> None:
        self.stack = TorchStack()

    @bentoml.api
    def predict(self, image: Image) -> Image:
        square, size = self.stack.square(image)
        (mask,) = self.stack.predict([square])
        return self.stack.picture(mask, size)


@bentoml.service(name="segmentation", **settings)
class OnOurs:
    """The uploaded file in, a file out."""

    def __init__(self) -> None:
        self.stack = make_stack()

    @bentoml.api
    def predict(self, image: Path, context: bentoml.Context) -> Path:
        square, about = self.stack.decode(image.read_bytes())
        (mask,) = self.stack.predict([square])
        answer = Path(context.temp_dir) / "mask.png"
        answer.write_bytes(self.stack.encode(mask, about))
        return answer


Segmentation = {"torch": OnTorch, "ours": OnOurs}[os.environ["BENCH_STACK"]]
