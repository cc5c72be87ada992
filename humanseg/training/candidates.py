"""A model for comparison: weights, or a .mar of `build_mar.sh`, run by the serving engine."""

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
    """A loaded model. weights_sha256: of the file from which it was built."""

    name: str
    weights_sha256: str
    spec: Spec
    engine: Engine

    def segment(self, pixels: Pixels) -> Segmentation:
        """Segment `pixels`, uint8 [H, W, 3] RGB, as the server would."""
        return segment(self.engine, self.spec, pixels)

    def frame(self, pixels: Pixels) -> tuple[int, int]:
        """Height and width of its frame for a photo."""
        return frame_shape(pixels.shape[0], pixels.shape[1], self.spec)


def load_candidate(
    path: Path,
    scratch: Path,
    *,
    threads: int = 1,
    precision: str = "auto",
    engine: type[OpenVinoEngine] = OpenVinoEngine,
) -> Candidate:
    """Load the model in `path`, a .mar or any weights file. Its graph is stored in the folder `scratch`.

    Raises:
        WeightsError, ValueError: the file contains no supported model.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    graph: Any = scratch / GRAPH
    if path.suffix == ".mar":
        with zipfile.ZipFile(path) as mar:
            missing = {INFO, GRAPH, _BIN} - set(mar.namelist())
            if missing:
                raise ValueError(f"{path} contains no {', '.join(sorted(missing))}; rebuild it with ./build_mar.sh")
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
