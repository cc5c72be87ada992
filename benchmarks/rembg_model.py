"""Our network as rembg's custom model (u2net_custom), in ONNX.

    python -m benchmarks.rembg_model MODEL_FOLDER OUT.onnx

rembg gives such a model a photo stretched to 320x320, divided by its brightest value and normalised with ImageNet's
mean and deviation, and takes a map [1, 1, h, w], which it spreads to 0..255 itself. The graph undoes that, scales to
a square of about as many pixels as our frames have (shapes.py), and ends in the probability.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.shapes import square_side
from humanseg.segmentation.weights import load_weights

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
REMBG_SIZE = 320


class CustomModel(nn.Module):
    """rembg's input float32 [1, 3, 320, 320] to probability [1, 1, S, S]."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("deviation", torch.tensor(DEVIATION)[:, None, None])

    def forward(self, normalised: Tensor) -> Tensor:
        """The network's answer."""
        square = normalised * self.deviation + self.mean  # [1, 3, 320, 320] in 0..1
        small = nn.functional.interpolate(square, (self.size, self.size), mode="bilinear", align_corners=False)
        return torch.sigmoid(self.network(small))


def main() -> None:
    """Write the file."""
    folder, target = Path(sys.argv[1]), Path(sys.argv[2])
    weights = load_weights(folder / "weights.safetensors")
    model = CustomModel(weights.network, square_side(weights.spec)).eval()
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (torch.zeros(1, 3, REMBG_SIZE, REMBG_SIZE),), str(target),
            input_names=["photo"], output_names=["probability"], opset_version=17, dynamo=False,
        )  # fmt: skip


if __name__ == "__main__":
    main()
