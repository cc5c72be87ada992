"""A PyTorch network to the OpenVINO graph that workers run."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from humanseg.segmentation.quiet_openvino import openvino
from humanseg.segmentation.spec import Spec


def write_graph(network: nn.Module, spec: Spec, path: Path) -> None:
    """Write `path` (.xml) and its .bin: input float32 [1, 3, H, W] to logits, of every shape that `spec` makes.

    In float32, to be run in less. The sigmoid is not part of it: `humanseg.segmentation.frame.sigmoid` says why.
    On a CPU it runs as fast as a graph of each shape's own (2 % apart), at 4 MB a shape instead of 37.
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
