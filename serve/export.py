"""A PyTorch network to the OpenVINO graph that workers run."""

from __future__ import annotations

import warnings
from pathlib import Path

import openvino
import torch
from torch import Tensor, nn


class Probability(nn.Module):
    """The network with its last step: float32 [1, 3, S, S] to probability [1, S, S]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, square: Tensor) -> Tensor:
        """Sigmoid of the logits."""
        return torch.sigmoid(self.network(square))[:, 0]


def write_graph(network: nn.Module, size: int, path: Path) -> None:
    """Write `path` (.xml) and its .bin: the graph for one square of side `size`, weights in float32."""
    example = torch.zeros(1, 3, size, size)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # the networks check their input's size
        warnings.simplefilter("ignore", DeprecationWarning)  # OpenVINO 2026.4 still traces with torch.jit
        graph = openvino.convert_model(
            Probability(network).eval(), example_input=example, input=[(1, 3, size, size)]
        )
    openvino.save_model(graph, path, compress_to_fp16=False)
