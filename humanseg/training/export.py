"""Converts checkpoints to a weights file for `build_mar.sh` (`humanseg export`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from humanseg.segmentation.checkpoint import Checkpoint, TensorSet
from humanseg.segmentation.errors import WeightsError
from humanseg.segmentation.weights import Network, Weights, load_weights, network_of, save_weights, trainable


@dataclass(frozen=True)
class _Found:
    network: Network
    size: int
    threshold: float
    peak: float = 0.0


def export(
    sources: Sequence[Path],
    out: Path,
    *,
    threshold: float | None = None,
    peak: float | None = None,
    size: int | None = None,
) -> Weights:
    """Write `out` from run folders, their `last.ckpt`, or weights, and read it back like the server.

    Several sources are averaged, with the size, threshold and peak of the last: consecutive runs are in the same loss
    basin, and their mean is often better than each (Wortsman et al., "Model soups", 2022).

    Raises WeightsError if a source contains no network, if two differ in architecture, or the result can't be served.
    """
    loaded = [_read(source) for source in sources]
    last = loaded[-1]
    last.network.load_state_dict(_mean(sources, [item.network.state_dict() for item in loaded]))
    out.parent.mkdir(parents=True, exist_ok=True)
    save_weights(
        out,
        last.network,
        input_size=size or last.size,
        threshold=threshold or last.threshold,
        peak=repr(last.peak if peak is None else peak),
    )
    return load_weights(out)


def _mean(sources: Sequence[Path], states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each tensor; counters (batch norm's) are the last one's."""
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in states]
    for source, shape in zip(sources, shapes, strict=True):
        if shape != shapes[0]:
            raise WeightsError(f"{source} and {sources[0]} are different networks and can't be averaged")
    return {
        name: torch.stack([state[name] for state in states]).mean(0) if tensor.is_floating_point() else tensor
        for name, tensor in states[-1].items()
    }


def _read(source: Path) -> _Found:
    if source.is_dir() or source.name == "last.ckpt":
        return _from_checkpoint(source / "last.ckpt" if source.is_dir() else source)
    weights = load_weights(source)
    spec = weights.spec
    return _Found(trainable(source, weights.network), spec.long_side, spec.threshold, spec.peak)


def _from_checkpoint(path: Path) -> _Found:
    """The averaged network of a run's checkpoint, and the size it was trained at."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; is the folder a training run?")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    average = {
        name.removeprefix("module."): tensor for name, tensor in state["average"].items() if name != "n_averaged"
    }
    network = network_of(path, Checkpoint((TensorSet("average", average),)))
    settings = json.loads((path.parent / "settings.json").read_text())["settings"]
    return _Found(network.eval(), int(settings["size"]), 0.5)
