"""Converts graphs (ONNX, TorchScript, torch.export, TensorFlow Lite, OpenVINO's own) to OpenVINO.

A graph defines the computation but not the format of its input and output: `inspect` infers what it can from the
shapes and the last operation. The rest must come from the person who trained it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from humanseg.segmentation.errors import WeightsError
from humanseg.segmentation.spec import Spec, SpecError, read_spec_file, spec_file

Kind = Literal["onnx", "torchscript", "torch_export", "tflite", "openvino"]
SUFFIXES: dict[str, Kind] = {".onnx": "onnx", ".tflite": "tflite", ".xml": "openvino", ".pt2": "torch_export"}
TITLES: dict[str, str] = {
    "onnx": "an ONNX graph",
    "torchscript": "a TorchScript graph",
    "torch_export": "a torch.export graph",
    "tflite": "a TensorFlow Lite graph",
    "openvino": "an OpenVINO graph",
}
DYNAMIC = -1
# Operations at the end of a graph that only rearrange values.
MOVES = {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Convert", "ShapeOf", "Interpolate", "Pad"}
MOST_CHANNELS = 256  # a longer axis is a spatial one


@dataclass(frozen=True)
class Graph:
    """A network as a graph, with the information for serving.

    architecture: its format. model: an `openvino.Model` with one input [1, 3, H, W] or [1, H, W, 3] float32 and one
    output. files: its source files, the named one first. sha256: of that one. notes: assumptions.
    """

    architecture: Kind
    spec: Spec
    sha256: str
    files: tuple[Path, ...]
    model: Any = field(repr=False)
    notes: tuple[str, ...] = ()


def graph_kind(path: Path) -> Kind | None:
    """The format of the graph in `path`; None if it is not a graph (it may be a checkpoint)."""
    if path.suffix.lower() in SUFFIXES:
        return SUFFIXES[path.suffix.lower()]
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return None
    if any(name.endswith("/archive_format") for name in names):
        return "torch_export"
    # Both kinds of torch.save are zips, too; only TorchScript contains code.
    return "torchscript" if any("/code/" in name for name in names) else None


def load_graph(path: Path, options: Mapping[str, Any] | None = None) -> Graph:
    """Read the graph in `path`. Precedence of the spec: `options`, the YAML file, the graph itself.

    Raises WeightsError (including SpecError) if it can't be read, or its output is not a mask.
    """
    kind = graph_kind(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    if kind is None:
        raise WeightsError(f"{path}: not a graph; supported are ONNX, TorchScript, .pt2, .tflite and OpenVINO's .xml")
    given = {**read_spec_file(spec_file(path)), **(options or {})}
    try:
        model, size = _convert(path, kind, Spec.from_mapping(given) if "input_size" in given else None)
    except WeightsError:
        raise
    except Exception as error:  # five readers with their own exceptions
        raise WeightsError(f"{path}: not readable as {TITLES[kind]} ({_reason(error)})") from None
    try:
        inferred, notes = inspect(model, given, size)
        spec = Spec.from_mapping({**inferred, **given})
        model = _fitted(model, spec)
        _check_channels(model, spec)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None
    weights = [path.with_suffix(".bin")] if kind == "openvino" else []
    beside = [item for item in (path.with_name(f"{path.name}.data"),) if kind == "onnx" and item.is_file()]
    sha256 = hashlib.sha256(b"".join(item.read_bytes() for item in (path, *weights, *beside))).hexdigest()
    return Graph(kind, spec, sha256, (path, *weights, *beside), model, notes)


def inspect(
    model: Any, given: Mapping[str, Any], size: tuple[int, int] | None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Infer the spec from a graph beyond the `given` keys, with notes on assumptions.

    size: (width, height) if the file has it but the converted graph does not.
    """
    if len(model.inputs) != 1:
        raise SpecError(f"has {len(model.inputs)} inputs; a photo is one")
    shape = _dimensions(model.inputs[0])
    if len(shape) != 4:
        raise SpecError(f"has the input shape {_text(shape)}; a photo is [1, 3, H, W] or [1, H, W, 3]")
    layout = "NHWC" if shape[3] == 3 and shape[1] != 3 else "NCHW"
    if shape[1 if layout == "NCHW" else 3] not in (3, DYNAMIC):
        raise SpecError(f"has the input shape {_text(shape)} without 3 channels; a photo is RGB")
    inferred: dict[str, Any] = {"layout": layout}
    notes = []
    height, width = shape[2:] if layout == "NCHW" else shape[1:3]
    if size is None and DYNAMIC not in (height, width):
        size = width, height
    if size is not None:
        inferred |= {"input_size": f"{size[0]}x{size[1]}", "resize": "stretch"}
    elif "input_size" not in given:
        raise SpecError(
            "accepts any size: specify the training size with --input-size 320x320 (or 320: the long side)"
        )
    output, note = _output(model, given.get("output_name"))
    notes += note
    inferred |= _inferred_from_output(output, given)
    if "mean" not in given and "scale" not in given:
        notes.append("its input is assumed to be pixels in 0..1 (--scale 1/255, --mean 0, --std 1)")
    return inferred, tuple(notes)


def _output(model: Any, name: str | None) -> tuple[Any, list[str]]:
    """The output that is the mask."""
    names = [_name(item, index) for index, item in enumerate(model.outputs)]
    if name is not None:
        if name.isdecimal() and int(name) < len(names):
            return model.outputs[int(name)], []
        if name not in names:
            raise SpecError(
                f"output_name is {name!r}; the graph has {', '.join(names)}, or use their index 0, 1, ..."
            )
        return model.outputs[names.index(name)], []
    maps = [item for item in model.outputs if len(_dimensions(item)) in (3, 4)]
    if not maps:
        shapes = ", ".join(_text(_dimensions(item)) for item in model.outputs)
        raise SpecError(f"has the output {shapes}, which is not a map of pixels")
    if len(maps) == 1:
        return maps[0], []
    index = model.outputs.index(maps[0])
    return maps[0], [f"it has the outputs {', '.join(names)}: {names[index]} is used; --output-name selects another"]


def _inferred_from_output(output: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    kind = output.get_element_type().to_string()
    if not kind.startswith(("f", "bf")):
        raise SpecError(f"has integer output ({kind}), such as class labels; export it without its argmax")
    shape = _dimensions(output)
    layout, channels = "NCHW", 1
    if len(shape) == 4:
        first, last = shape[1], shape[3]
        if last != DYNAMIC and last <= MOST_CHANNELS and (first in (DYNAMIC,) or last < first):
            layout = "NHWC"
        channels = last if layout == "NHWC" else first
    inferred: dict[str, Any] = {"output_layout": given.get("output_layout", layout)}
    last_operation = _last_operation(output)
    if last_operation in ("Sigmoid", "HSigmoid", "SoftMax", "Softmax"):
        inferred["output_activation"] = "none"
    else:
        inferred["output_activation"] = "sigmoid" if channels == 1 else "softmax"
    inferred["person_channel"] = 1 if channels == 2 else 0
    if channels > 2 and not {"person_channel", "background_channel"} & given.keys():
        raise SpecError(
            f"has {channels} output channels: specify the person's (--person-channel 15), or the background's if "
            "all others are people (--background-channel 0)"
        )
    return inferred


def _last_operation(output: Any) -> str:
    """The name of the operation that computes the output, ignoring later rearrangements."""
    node = output.get_node()
    while True:
        if node.get_type_name() not in MOVES | {"Result"} or not node.inputs():
            return str(node.get_type_name())
        node = node.input_value(0).get_node()


def _convert(path: Path, kind: Kind, spec: Spec | None) -> tuple[Any, tuple[int, int] | None]:
    """The graph in OpenVINO, and (width, height) of its input if only the file has it."""
    from humanseg.segmentation.quiet_openvino import openvino

    if kind == "torchscript":
        return _from_torchscript(path, spec), None
    if kind == "torch_export":
        return _from_torch_export(path)
    core = openvino.Core()
    if kind == "tflite":
        from openvino.frontend import ConversionExtension

        core.add_extension(ConversionExtension("Convolution2DTransposeBias", _transposed_convolution))
    return core.read_model(str(path)), None


def _from_torchscript(path: Path, spec: Spec | None) -> Any:
    import torch

    from humanseg.segmentation.quiet_openvino import openvino

    with _quiet():
        # Freezing removes branches on the module's own settings, few of which OpenVINO can read.
        module = torch.jit.freeze(load_torchscript(path))
        shape = [1, DYNAMIC, DYNAMIC, 3] if spec and spec.layout == "NHWC" else [1, 3, DYNAMIC, DYNAMIC]
        return openvino.convert_model(module, input=[openvino.PartialShape(shape)])


def load_torchscript(path: Path, device: str = "cpu") -> Any:
    """The `ScriptModule` in `path`, in eval mode. Raises as torch does."""
    import torch

    with _quiet():
        return torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]


def load_torch_export(path: Path) -> Any:
    """The `ExportedProgram` in `path`, read without running its code. Raises like torch."""
    import torch

    # Without this, torch.export falls back to unrestricted unpickling of example inputs.
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        with _quiet():
            return torch.export.load(str(path))
    finally:
        if before is None:
            del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        else:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before


def photo_shape(program: Any) -> tuple[Any, ...]:
    """The shape of an exported program's only input: an int for a fixed side."""
    names = set(program.graph_signature.user_inputs)
    shapes = [
        node.meta["val"].shape for node in program.graph.nodes if node.op == "placeholder" and node.name in names
    ]
    if len(shapes) != 1:
        raise SpecError(f"has {len(shapes)} inputs; a photo is one")
    return tuple(shapes[0])


def _from_torch_export(path: Path) -> tuple[Any, tuple[int, int] | None]:
    from humanseg.segmentation.quiet_openvino import openvino

    program = load_torch_export(path)
    shape = photo_shape(program)
    fixed = [item if isinstance(item, int) else DYNAMIC for item in shape]
    with _quiet():
        model = openvino.convert_model(program)
    size = None
    if len(fixed) == 4:
        rows, columns = (2, 3) if fixed[1] == 3 else (1, 2)
        if DYNAMIC not in (fixed[rows], fixed[columns]):
            size = fixed[columns], fixed[rows]
    return model, size


def _transposed_convolution(node: Any) -> list[Any]:
    """MediaPipe's own operation of TensorFlow Lite: a transposed convolution with a bias, in NHWC.

    OpenVINO does not expose its stride; in MediaPipe's networks it is the kernel's size.
    """
    from openvino import opset13

    data, kernel, bias = (node.get_input(index) for index in range(3))
    stride = [kernel.get_partial_shape()[axis].get_length() for axis in (1, 2)]
    planes = opset13.transpose(data, np.array([0, 3, 1, 2]))
    weights = opset13.transpose(kernel, np.array([3, 0, 1, 2]))
    grown = opset13.convolution_backprop_data(planes, weights, stride)
    return [opset13.add(opset13.transpose(grown, np.array([0, 2, 3, 1])), bias).output(0)]


def _fitted(model: Any, spec: Spec) -> Any:
    """`model` with float32 input and output, the sizes used in serving, and the mask as its only output."""
    from humanseg.segmentation.quiet_openvino import openvino

    output, _ = _output(model, spec.output_name)
    names = [_name(item, index) for index, item in enumerate(model.outputs)]
    if len(model.outputs) > 1:
        node = output.get_node()
        model = openvino.Model([node], model.get_parameters(), model.get_friendly_name())
    prepared = openvino.preprocess.PrePostProcessor(model)
    if model.input(0).get_element_type() != openvino.Type.f32:
        prepared.input().tensor().set_element_type(openvino.Type.f32)
    prepared.output().tensor().set_element_type(openvino.Type.f32)
    model = prepared.build()
    width, height = spec.input_size
    if spec.resize == "fit":
        side = openvino.Dimension(spec.multiple, spec.long_side)
        sides = [side, side]
    else:
        sides = [openvino.Dimension(height), openvino.Dimension(width)]
    one, three = openvino.Dimension(1), openvino.Dimension(3)
    shape = [one, three, *sides] if spec.layout == "NCHW" else [one, *sides, three]
    try:
        model.reshape(openvino.PartialShape(shape))
    except RuntimeError as error:
        raise SpecError(
            f"does not accept {width}x{height} ({_reason(error)}); outputs are {', '.join(names)}"
        ) from None
    return model


def _check_channels(model: Any, spec: Spec) -> None:
    shape = _dimensions(model.outputs[0])
    channels = 1 if len(shape) == 3 else shape[3 if spec.output_layout == "NHWC" else 1]
    for key in ("person_channel", "background_channel"):
        wanted = getattr(spec, key)
        if wanted is not None and channels != DYNAMIC and wanted >= channels:
            raise SpecError(f"{key} is {wanted}; the network has {channels} output channels, counted from 0")
    if spec.output_activation == "softmax" and channels == 1:
        raise SpecError(
            "output_activation is 'softmax'; the network has one output channel, which needs sigmoid or none"
        )


def _dimensions(port: Any) -> list[int]:
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return []
    return [item.get_length() if item.is_static else DYNAMIC for item in shape]


def _name(output: Any, index: int) -> str:
    return min(output.get_names(), default=str(index))


def _text(shape: list[int]) -> str:
    return f"[{', '.join('?' if item == DYNAMIC else str(item) for item in shape)}]"


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    relevant = [
        line for line in lines if not line.startswith(("Check ", "Exception from", "FrontEnd API", "Summary"))
    ]
    return (relevant or lines or [type(error).__name__])[0][:200]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, but such files exist
        yield
