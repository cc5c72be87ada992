"""Loads any model file, checkpoint or graph, and creates its engine on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from humanseg.segmentation.engine import Engine, OpenVinoEngine, reference_engine
from humanseg.segmentation.graph import Graph, graph_kind, load_graph
from humanseg.segmentation.weights import Weights, load_weights


def load_model(path: Path, options: Mapping[str, Any] | None = None, *, part: str | None = None) -> Weights | Graph:
    """The network in `path`; see `load_weights` and `load_graph`. Raises WeightsError."""
    if graph_kind(path) is None:
        return load_weights(path, options, part=part)
    return load_graph(path, options)


def reference(model: Weights | Graph, *, threads: int = 0) -> Engine:
    """`model` on the CPU in float32. threads: 0 keeps the library's default."""
    if isinstance(model, Weights):
        return reference_engine(model.network, model.spec, threads=threads)
    return OpenVinoEngine(model.model, model.spec, threads=threads, precision="float32")
