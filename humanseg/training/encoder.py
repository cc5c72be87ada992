"""A network's embedding of a photo: similar photos have close vectors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from humanseg.segmentation.engine import OpenVinoEngine
from humanseg.segmentation.frame import Batch
from humanseg.segmentation.graph import MOVES
from humanseg.segmentation.photo import Pixels
from humanseg.segmentation.result import Segmentation
from humanseg.segmentation.spec import Spec
from humanseg.training.candidates import Candidate, load_candidate
from humanseg.training.choosing import disagreement

Features = NDArray[np.float32]
EMBEDDED = 32  # numbers of an embedding


class EncoderEngine(OpenVinoEngine):
    """An engine that also keeps the output of the network's deepest layer, averaged over the picture.

    The deepest layer is the last one with the smallest spatial size: a U-Net's bottleneck, whatever its name.
    """

    def __init__(self, graph: Any, spec: Spec, *, threads: int, precision: str) -> None:
        """See `OpenVinoEngine`. Raises ValueError if no layer has a spatial output."""
        from humanseg.segmentation.quiet_openvino import core

        model = core().read_model(str(graph)) if isinstance(graph, Path) else graph
        super().__init__(_with_deepest(model, spec), spec, threads=threads, precision=precision)
        self.features: Features = np.zeros(0, np.float32)  # of the last frame, [channels]

    def _one(self, frame: Batch) -> Batch:
        output = super()._one(frame)
        self.features = self._request.get_output_tensor(1).data[0].astype(np.float32)
        return output


@dataclass(frozen=True)
class Prediction:
    """The network's answer for a photo.

    features: float32 [D], of length 1. confidence, disagreement (with its mirror): 0..1. mask: uint8 [H, W], 0/255.
    """

    features: Features
    confidence: float
    disagreement: float
    mask: Pixels


@dataclass(frozen=True)
class Encoder:
    """A model with the serving pipeline's answers and its encoder's features."""

    candidate: Candidate
    engine: EncoderEngine

    def segment(self, pixels: Pixels) -> tuple[Segmentation, Features]:
        """Segment a photo, uint8 [H, W, 3] RGB: the answer, and its features, float32 [D] of length 1."""
        segmentation = self.candidate.segment(pixels)
        vector = self.engine.features
        return segmentation, vector / np.float32(max(1e-12, float(np.linalg.norm(vector))))

    def predict(self, pixels: Pixels) -> Prediction:
        """Process a photo, uint8 [H, W, 3] RGB, and its mirror image."""
        segmentation, features = self.segment(pixels)
        mirrored = self.candidate.segment(np.ascontiguousarray(pixels[:, ::-1])).mask[:, ::-1]
        confidence = segmentation.summary(self.candidate.spec.calibration).confidence
        return Prediction(features, confidence, disagreement(segmentation.mask, mirrored), segmentation.mask)


def load_encoder(path: Path, scratch: Path, *, threads: int = 1) -> Encoder:
    """Load the model in `path`, a .mar or any weights file. Its graph is stored in the folder `scratch`.

    Raises:
        WeightsError, ValueError: the file contains no usable model.
    """
    candidate = load_candidate(path, scratch, threads=threads, engine=EncoderEngine)
    assert isinstance(candidate.engine, EncoderEngine)
    return Encoder(candidate, candidate.engine)


def embed(features: Features) -> NDArray[np.float16]:
    """Compress `features`, float32 [D] of length 1, to float16 [EMBEDDED] by a fixed random projection.

    The projection approximately preserves distances (Achlioptas, "Database-friendly random projections", 2003). Its
    signs come from NumPy's legacy generator, which returns the same numbers in every version.
    """
    return np.asarray(features @ _signs(len(features)) / np.sqrt(EMBEDDED), np.float16)


@cache
def _signs(channels: int) -> NDArray[Any]:
    return np.random.RandomState(0).randint(0, 2, (channels, EMBEDDED)) * 2.0 - 1.0


def _with_deepest(model: Any, spec: Spec) -> Any:
    """Add a second output to `model`: the spatial mean of its deepest layer, float32 [1, channels]."""
    from humanseg.segmentation.quiet_openvino import openvino

    width, height = spec.input_size
    still = model.clone()
    still.reshape([1, 3, height, width] if spec.layout == "NCHW" else [1, height, width, 3])
    sizes = {
        node.get_friendly_name(): int(node.output(0).shape[2] * node.output(0).shape[3])
        for node in _from_input(still)
        if node.get_output_size() == 1 and len(node.output(0).shape) == 4 and node.get_type_name() not in MOVES
    }
    pictures = {name: size for name, size in sizes.items() if size > 1}
    if not pictures:
        raise ValueError("the network has no layer with a spatial output; its features can't be used")
    smallest = min(pictures.values())
    deepest = [name for name, size in pictures.items() if size == smallest][-1]
    node = next(op for op in model.get_ordered_ops() if op.get_friendly_name() == deepest)
    # OpenVINO fuses a layer with its upsampling: an output in between changes bfloat16 rounding, and the mask.
    grown = [target.get_node() for target in node.output(0).get_target_inputs()]
    if len(grown) == 1 and grown[0].get_type_name() == "Interpolate":
        node = grown[0]
    mean = openvino.opset13.reduce_mean(node.output(0), np.array([2, 3]), keep_dims=False)
    return openvino.Model([*model.outputs, mean.output(0)], model.get_parameters(), model.get_friendly_name())


def _from_input(model: Any) -> Iterator[Any]:
    """The nodes of a graph that depend on the photo, in topological order, without weights and other constants."""
    reached = {parameter.get_friendly_name() for parameter in model.get_parameters()}
    for node in model.get_ordered_ops():
        if any(value.get_node().get_friendly_name() in reached for value in node.input_values()):
            reached.add(node.get_friendly_name())
            if node.get_type_name() != "Result":
                yield node
