"""The files of a model in a .mar, written by build_mar.sh and read by the worker.

network.xml, network.bin    OpenVINO's graph
model.json                  its description, see `ModelInfo`
and, if available, the network for other engines (`ModelInfo.source`):
weights.safetensors         of a supported architecture
network.torchscript, network.pt2, network.onnx      a graph of PyTorch's or ONNX's
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from humanseg.segmentation.spec import Spec

GRAPH = "network.xml"
WEIGHTS = "weights.safetensors"
INFO = "model.json"


@dataclass(frozen=True)
class ModelInfo:
    """A model's description for the worker.

    architecture: see `humanseg.segmentation.architectures`, or the format of a graph. spec: see `Spec`.
    weights_sha256: of the file from which the .mar was built. source: name of the file for PyTorch or ONNX Runtime.
    """

    architecture: str
    spec: Spec
    weights_sha256: str
    source: str | None

    def write(self, folder: Path) -> None:
        """Write model.json into `folder`."""
        content = {
            "architecture": self.architecture,
            "weights_sha256": self.weights_sha256,
            "source": self.source,
            "spec": self.spec.as_mapping(),
        }
        (folder / INFO).write_text(json.dumps(content, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> ModelInfo:
        """Read `folder`/model.json. Raises FileNotFoundError or ValueError with the file's name."""
        path = folder / INFO
        try:
            content = json.loads(path.read_text())
            return cls(**{**content, "spec": Spec.from_mapping(content["spec"])})
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"{path} is not a model.json of build_mar.sh: {error}. Run build_mar.sh again") from None
