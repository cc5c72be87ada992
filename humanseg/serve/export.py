"""Converts a PyTorch network to the OpenVINO graph that workers run."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from humanseg.segmentation.quiet_openvino import openvino
from humanseg.segmentation.spec import Spec


def write_graph(network: nn.Module, spec: Spec, path: Path) -> None:
    """Write `path` (.xml) and its .bin: input float32 [1, 3, H, W] to logits, for every shape of `spec`.

    The graph is float32; engines may run it in a lower precision. It excludes the sigmoid, see
    `humanseg.segmentation.frame.sigmoid`. On a CPU it is as fast as one graph per shape (within 2 %), at 4 MB per
    shape instead of 37.
    """
    width, height = spec.input_size
    example = torch.zeros(1, 3, height, width)
    with torch.inference_mode(), warnings.catch_warnings():
        # the networks check their input's size
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        warnings.simplefilter("ignore", DeprecationWarning)  # OpenVINO 2026.4 still traces with torch.jit
        graph = openvino.convert_model(network.eval(), example_input=example, input=[(1, 3, height, width)])
    if spec.resize == "fit":
        side = openvino.Dimension(spec.multiple, spec.long_side)
        graph.reshape(openvino.PartialShape([1, 3, side, side]))
    openvino.save_model(graph, path, compress_to_fp16=False)
