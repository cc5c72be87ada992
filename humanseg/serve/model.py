"""Converts a network in any form to a model's files (see humanseg/segmentation/model_files.py)."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import torch
from torch import nn

from humanseg.segmentation.graph import Graph
from humanseg.segmentation.model_files import GRAPH, WEIGHTS, ModelInfo
from humanseg.segmentation.quiet_openvino import openvino
from humanseg.segmentation.spec import Spec
from humanseg.segmentation.weights import Weights, save_weights
from humanseg.serve.export import write_graph
from humanseg.serve.golden import TOLERANCE, drift, write_golden

# The network's file name by format, for engines other than OpenVINO.
SOURCES = {"onnx": "network.onnx", "torchscript": "network.torchscript", "torch_export": "network.pt2"}


def write_model(model: Weights | Graph, path: Path, folder: Path) -> list[str]:
    """Write the files of `model`, read from `path`, into `folder`.

    Returns notes for the operator.
    """
    if isinstance(model, Weights):
        source: str | None = _write_weights(model, path, folder)
        write_graph(model.network, model.spec, folder / GRAPH)
    else:
        source = SOURCES.get(model.architecture)
        if source:
            shutil.copyfile(model.files[0], folder / source)
            for part in model.files[1:]:  # the graph refers to them
                shutil.copyfile(part, folder / part.name)
        openvino.save_model(model.model, folder / GRAPH, compress_to_fp16=False)
    write_golden(folder / GRAPH, model.spec, folder)
    ModelInfo(model.architecture, model.spec, model.sha256, source).write(folder)
    moved = drift(folder / GRAPH, model.spec, folder)
    if moved <= TOLERANCE:
        return []
    return [
        f"bfloat16, the precision of workers on this machine, changes its golden predictions by {moved:.3f}, but a "
        f"release allows {TOLERANCE}: set handler.precision: float32 in config/model-config.yaml"
    ]


def _write_weights(model: Weights, path: Path, folder: Path) -> str:
    if model.architecture == "smp_unet":  # its code is in another package, which a server may not have
        return _write_traced(model.network, model.spec, folder)
    if path.suffix == ".safetensors" and model.whole:
        shutil.copyfile(path, folder / WEIGHTS)
    else:
        save_weights(
            folder / WEIGHTS,
            model.network,
            architecture=model.architecture,
            input_size=model.spec.long_side,
            threshold=model.spec.threshold,
        )
        sort_metadata(folder / WEIGHTS)
    return WEIGHTS


def _write_traced(network: nn.Module, spec: Spec, folder: Path) -> str:
    name = SOURCES["torchscript"]
    width, height = spec.input_size
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, but supports every size
        traced = torch.jit.trace(network, torch.zeros(1, 3, height, width))  # type: ignore[no-untyped-call]
        traced.save(str(folder / name))
    return name


def sort_metadata(path: Path) -> None:
    """Sort the metadata of a safetensors file, which the library writes in random order."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")  # of the JSON header that follows
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
