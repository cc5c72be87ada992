"""A model to be compared: weights, or a .mar as `build_mar.sh` makes it, run by serving's own engine."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from humanseg.segmentation.engine import Engine, OpenVinoEngine
from humanseg.segmentation.frame import frame_shape
from humanseg.segmentation.model_files import GRAPH, INFO, ModelInfo
from humanseg.segmentation.photo import Pixels
from humanseg.segmentation.pipeline import segment
from humanseg.segmentation.result import Segmentation
from humanseg.segmentation.spec import Spec

_BIN = str(Path(GRAPH).with_suffix(".bin"))


@dataclass(frozen=True)
class Candidate:
    """A model that is ready to run. weights_sha256: of the file that it was built from."""

    name: str
    weights_sha256: str
    spec: Spec
    engine: Engine

    def segment(self, pixels: Pixels) -> Segmentation:
        """What this model would answer with: `pixels` is uint8 [H, W, 3] RGB."""
        return segment(self.engine, self.spec, pixels)

    def frame(self, pixels: Pixels) -> tuple[int, int]:
        """Height and width of the frame that it makes of a photo."""
        return frame_shape(pixels.shape[0], pixels.shape[1], self.spec)


def load_candidate(
    path: Path,
    scratch: Path,
    *,
    threads: int = 1,
    precision: str = "auto",
    engine: type[OpenVinoEngine] = OpenVinoEngine,
) -> Candidate:
    """The model in `path`, a .mar or any file of weights; its graph lies in the folder `scratch` while it runs.

    Raises:
        WeightsError, ValueError: the file holds no model that can be run.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    graph: Any = scratch / GRAPH
    if path.suffix == ".mar":
        with zipfile.ZipFile(path) as mar:
            missing = {INFO, GRAPH, _BIN} - set(mar.namelist())
            if missing:
                raise ValueError(f"{path} holds no {', '.join(sorted(missing))}; build it anew with ./build_mar.sh")
            for name in (INFO, GRAPH, _BIN):
                (scratch / name).write_bytes(mar.read(name))
        info = ModelInfo.read(scratch)
        spec, digest = info.spec, info.weights_sha256
    else:
        from humanseg.segmentation.models import load_model
        from humanseg.segmentation.weights import Weights

        model = load_model(path)
        spec, digest = model.spec, model.sha256
        if isinstance(model, Weights):
            from humanseg.serve.export import write_graph

            write_graph(model.network, spec, graph)
        else:
            graph = model.model
    return Candidate(path.name, digest, spec, engine(graph, spec, threads=threads, precision=precision))
