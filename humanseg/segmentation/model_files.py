"""The files that make a model inside a .mar, written by build_mar.sh and read by the worker at load.

network.xml, network.bin    OpenVINO's graph, from pixels to logits
weights.safetensors         the same network for PyTorch
model.json                  what a worker must know about them, see `ModelInfo`
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

GRAPH = "network.xml"
WEIGHTS = "weights.safetensors"
INFO = "model.json"


@dataclass(frozen=True)
class ModelInfo:
    """architecture: "unet" or "efficient_unet". input_size: the long side of the network's frame, pixels.
    threshold: chosen with the weights, 0..1. weights_sha256: of the weights file that the .mar was built from.
    calibration: what the network's confidence means, as `Calibration.text` writes it."""

    architecture: str
    input_size: int
    threshold: float
    weights_sha256: str
    calibration: str

    def write(self, folder: Path) -> None:
        """Write model.json into `folder`."""
        (folder / INFO).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> ModelInfo:
        """Read `folder`/model.json. Raises FileNotFoundError or ValueError with the file's name."""
        path = folder / INFO
        try:
            return cls(**json.loads(path.read_text()))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is not what build_mar.sh writes: {error}") from None
