"""A checkpoint to the weights file that `build_mar.sh` packs (`humanseg export`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from handler.unet import EfficientUNet, UNet
from handler.weights import Weights, WeightsError, load_weights, save_weights


def export(source: Path, out: Path, *, threshold: float | None = None, size: int | None = None) -> Weights:
    """Write `out` from a run's folder, its `last.ckpt`, or weights, and read it back as serving would.

    Raises WeightsError when the source holds no network or the result can't be served.
    """
    if source.is_dir() or source.name == "last.ckpt":
        network, own_size = _from_checkpoint(source / "last.ckpt" if source.is_dir() else source)
        own_threshold = 0.5
    else:
        weights = load_weights(source)
        assert isinstance(weights.network, UNet | EfficientUNet)
        network, own_size, own_threshold = weights.network, weights.input_size, weights.threshold
    out.parent.mkdir(parents=True, exist_ok=True)
    save_weights(out, network, input_size=size or own_size, threshold=threshold or own_threshold)
    return load_weights(out)


def _from_checkpoint(path: Path) -> tuple[UNet | EfficientUNet, int]:
    """The averaged network of a run's checkpoint, and the size it was trained at."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; is the folder that of a run?")
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    average = {
        name.removeprefix("module."): tensor
        for name, tensor in state["average"].items()
        if name != "n_averaged"
    }
    if "final_conv.weight" in average:
        depth = sum(name.endswith(".conv.0.weight") and name.startswith("downs.") for name in average)
        network: UNet | EfficientUNet = UNet(
            [average[f"downs.{i}.conv.0.weight"].shape[0] for i in range(depth)]
        )
    else:
        network = EfficientUNet([average[f"ups.{i}.pointwise.weight"].shape[0] for i in range(5)])
    network.load_state_dict(average)
    settings = json.loads((path.parent / "settings.json").read_text())["settings"]
    return network.eval(), int(settings["size"])
