"""Inference engines. Each is one small class, called with a batch of frames of one shape.

`engine(batch)`: float32 [N, 3, H, W], RGB in 0..1, to the probability of a person, float32 [N, H, W] in 0..1.
OpenVINO on the CPU, PyTorch on CUDA, ONNX Runtime for an ONNX graph on CUDA if it is installed, and PyTorch on the
CPU as the reference for all.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from humanseg.segmentation.frame import Batch, to_input, to_probability
from humanseg.segmentation.spec import Spec

if TYPE_CHECKING:
    from torch import nn

TORCH_SOURCES = (".safetensors", ".torchscript", ".pt2")


class Engine(Protocol):
    """Runs a network. `output` is the network's raw output, before its conversion to a probability."""

    name: str

    def __call__(self, batch: Batch) -> Batch:
        """Frames of one shape, float32 [N, 3, H, W] in 0..1, to probabilities, float32 [N, H, W] in 0..1."""
        ...

    def output(self, batch: Batch) -> Batch:
        """Frames of one shape to the network's raw output."""
        ...


class OpenVinoEngine:
    """The network's OpenVINO graph on the CPU, one photo at a time.

    The graph takes frames of any shape with a batch of one: with one thread per worker a larger batch is not faster,
    and delays the first photo of a batch until the last is done. A new shape costs 10 ms once, and 4 MB.
    """

    def __init__(self, graph: Any, spec: Spec, *, threads: int, precision: str) -> None:
        """graph: the path of an .xml, or an `openvino.Model`."""
        from humanseg.segmentation.quiet_openvino import core

        bfloat16 = "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        use_bfloat16 = bfloat16 if precision == "auto" else precision == "bfloat16"
        settings: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "bf16" if use_bfloat16 else "f32",
            "ENABLE_CPU_PINNING": False,  # pinning would put two workers on the same core
        }
        model = core().compile_model(str(graph) if isinstance(graph, Path) else graph, "CPU", settings)
        self._request, self._spec = model.create_infer_request(), spec
        self.name = f"openvino {'bfloat16' if use_bfloat16 else 'float32'}, {threads} thread{'s'[: threads != 1]}"

    def __call__(self, batch: Batch) -> Batch:
        """See `Engine`."""
        shape = batch.shape[-2:]
        return np.concatenate([to_probability(self._one(frame), self._spec, shape) for frame in batch])

    def output(self, batch: Batch) -> Batch:
        """See `Engine`."""
        return np.concatenate([self._one(frame).copy() for frame in batch])

    def _one(self, frame: Batch) -> Batch:
        """The raw output for one frame; the next call overwrites it."""
        self._request.infer([to_input(frame[None], self._spec)], share_inputs=True)
        said: Batch = self._request.get_output_tensor(0).data
        return said


class TorchEngine:
    """The network in PyTorch: on CUDA with channels_last and autocast, on the CPU in float32."""

    def __init__(
        self, network: nn.Module, spec: Spec, *, device: str, threads: int, precision: str, batches: bool = True
    ) -> None:
        """batches: whether the network takes several photos at once."""
        import torch

        if threads:
            torch.set_num_threads(threads)
        self._torch, self._spec, self._batches = torch, spec, batches
        self._device = torch.device(device)
        on_gpu = self._device.type == "cuda"
        self._half = on_gpu if precision == "auto" else precision == "bfloat16"
        layout = torch.channels_last if on_gpu and spec.layout == "NCHW" else torch.contiguous_format
        self._network = network.to(self._device, memory_format=layout)  # type: ignore[call-overload]
        self.name = f"torch {device} {'bfloat16' if self._half else 'float32'}"

    def __call__(self, batch: Batch) -> Batch:
        """See `Engine`."""
        return to_probability(self.output(batch), self._spec, batch.shape[-2:])

    def output(self, batch: Batch) -> Batch:
        """See `Engine`."""
        frames = to_input(batch, self._spec)
        parts = [frames] if self._batches else np.split(frames, len(frames))
        return np.concatenate([self._run(part) for part in parts])

    def _run(self, frames: Batch) -> Batch:
        torch = self._torch
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            found = self._network(torch.from_numpy(frames).to(self._device))
            if isinstance(found, dict):
                found = found[self._spec.output_name] if self._spec.output_name else next(iter(found.values()))
            if isinstance(found, (list, tuple)):
                found = found[int(self._spec.output_name or 0)]
            output: Batch = found.float().cpu().numpy()
        return output


class OnnxRuntimeEngine:
    """An ONNX graph in ONNX Runtime, on CUDA or on the CPU, one photo at a time."""

    def __init__(self, graph: Path, spec: Spec, *, device: str, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        provider: Any = "CPUExecutionProvider"
        if device != "cpu":
            provider = ("CUDAExecutionProvider", {"device_id": int(device.removeprefix("cuda:"))})
        self._session = onnxruntime.InferenceSession(str(graph), options, providers=[provider])
        used = self._session.get_providers()[0].removesuffix("ExecutionProvider")
        if device != "cpu" and used != "CUDA":
            raise ValueError(
                "ONNX Runtime could not initialise CUDA (see its log). Set engine: openvino to use the CPU"
            )
        self._input = self._session.get_inputs()[0].name
        names = [each.name for each in self._session.get_outputs()]
        self._output = spec.output_name if spec.output_name in names else names[0]
        self._spec = spec
        self.name = f"onnxruntime {device} float32"

    def __call__(self, batch: Batch) -> Batch:
        """See `Engine`."""
        return to_probability(self.output(batch), self._spec, batch.shape[-2:])

    def output(self, batch: Batch) -> Batch:
        """See `Engine`."""
        frames = to_input(batch, self._spec)
        outputs = [self._session.run([self._output], {self._input: frame[None]})[0] for frame in frames]
        return np.concatenate(outputs)


def make_engine(
    kind: str, *, graph: Path, source: Path | None, spec: Spec, threads: int, precision: str, gpu: int | None = None
) -> Engine:
    """Create the engine of the settings.

    graph: OpenVINO's .xml. source: the network for PyTorch or ONNX Runtime, if there is one (`ModelInfo.source`).
    gpu: the CUDA device that TorchServe assigned to the worker, if any.
    Raises ValueError if `kind` can't run the network.
    """
    suffix = source.suffix if source else ""
    if kind == "auto":
        kind = _fitting(suffix) if gpu is not None else "openvino"
    if kind == "openvino":
        return OpenVinoEngine(graph, spec, threads=threads, precision=precision)
    device = "cpu" if gpu is None else f"cuda:{gpu}"
    if kind == "onnxruntime" and suffix == ".onnx" and source:
        return OnnxRuntimeEngine(source, spec, device=device, threads=threads)
    if kind == "torch" and suffix in TORCH_SOURCES and source:
        network, batches = load_network(source, device)
        return TorchEngine(network, spec, device=device, threads=threads, precision=precision, batches=batches)
    what = suffix or "an OpenVINO graph only"
    raise ValueError(f"engine: {kind} can't run this network, which is {what}: set engine: auto")


def _fitting(suffix: str) -> str:
    """The engine for this kind of network on CUDA, or OpenVINO on the CPU if there is none."""
    if suffix in TORCH_SOURCES:
        return "torch"
    if suffix == ".onnx":
        try:
            import onnxruntime

            if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
                return "onnxruntime"
        except ImportError:
            pass
    return "openvino"


def load_network(source: Path, device: str = "cpu") -> tuple[nn.Module, bool]:
    """The network in a .safetensors, .torchscript or .pt2 file, and whether it supports batches."""
    from humanseg.segmentation.graph import load_torch_export, load_torchscript, photo_shape

    if source.suffix == ".safetensors":
        from humanseg.segmentation.weights import load_weights

        return load_weights(source).network, True
    if source.suffix == ".torchscript":
        return load_torchscript(source, device), True
    from torch.export.passes import move_to_device_pass

    program = load_torch_export(source)
    batches = not isinstance(photo_shape(program)[0], int)
    return move_to_device_pass(program, device).module(), batches


def reference_engine(network: nn.Module, spec: Spec, *, threads: int = 0) -> Engine:
    """PyTorch on the CPU in float32, the reference engine. threads: 0 keeps PyTorch's default."""
    return TorchEngine(network, spec, device="cpu", threads=threads, precision="float32")


def warm_up(engine: Engine, spec: Spec) -> None:
    """Warm up: run the engine once on the largest frame, to do its lazy initialisation before the first request."""
    width, height = spec.input_size
    engine(np.full((1, 3, height, width), 0.5, np.float32))
