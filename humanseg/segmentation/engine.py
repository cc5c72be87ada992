"""Engines: what runs the network. Each is one small class, called with a batch of frames of one shape.

`engine(batch)`: float32 [N, 3, H, W], RGB in 0..1, to the probability of a person, float32 [N, H, W] in 0..1.
OpenVINO on the CPU, PyTorch on CUDA, and PyTorch on the CPU as the reference that both are measured against.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from humanseg.segmentation.weights import Network

Batch = NDArray[np.float32]


class Engine(Protocol):
    """What the handler needs of an engine."""

    name: str

    def __call__(self, batch: Batch) -> Batch:
        """Frames of one shape, float32 [N, 3, H, W] in 0..1, to probabilities, float32 [N, H, W] in 0..1."""
        ...


class OpenVinoEngine:
    """The network's OpenVINO graph on the CPU, one photo after the other. The graph ends in the logits.

    The graph takes frames of any shape, and a batch of one: with one thread a worker a larger batch is not faster,
    it only makes the first photo of a batch wait for the last. A new shape costs 10 ms once, and 4 MB.
    """

    def __init__(self, graph: Path, *, threads: int, precision: str) -> None:
        from humanseg.segmentation.quiet_openvino import openvino

        core = openvino.Core()
        bfloat16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        use_bfloat16 = bfloat16 if precision == "auto" else precision == "bfloat16"
        settings: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "bf16" if use_bfloat16 else "f32",
            "ENABLE_CPU_PINNING": False,  # two workers would be pinned to the same core
        }
        model = core.compile_model(str(graph), "CPU", settings)
        if len(model.output(0).partial_shape) != 4:
            raise ValueError(
                f"{graph} ends in no logits [1, 1, H, W]: another version built it. Run build_mar.sh again."
            )
        self._request = model.create_infer_request()
        self.name = f"openvino {'bfloat16' if use_bfloat16 else 'float32'}, {threads} thread{'s'[: threads != 1]}"

    def __call__(self, batch: Batch) -> Batch:
        """See `Engine`."""
        return np.stack([self._one(frame) for frame in batch])

    def _one(self, frame: Batch) -> Batch:
        self._request.infer([frame[None]], share_inputs=True)
        logits: Batch = self._request.get_output_tensor().data[0, 0]  # the next photo overwrites it
        return sigmoid(logits)


def sigmoid(logits: Batch) -> Batch:
    """Logits to probabilities in 0..1. OpenVINO's own takes ten times as long, a twentieth of the whole pass."""
    answer: Batch = np.tanh(logits * np.float32(0.5))  # no overflow, however sure the network is
    answer *= np.float32(0.5)
    answer += np.float32(0.5)
    return answer


class TorchEngine:
    """The network in PyTorch: on CUDA with channels_last and autocast, on the CPU plainly in float32."""

    def __init__(self, network: Network, *, device: str, threads: int, precision: str) -> None:
        import torch

        if threads:
            torch.set_num_threads(threads)
        self._torch = torch
        self._device = torch.device(device)
        on_gpu = self._device.type == "cuda"
        self._half = on_gpu if precision == "auto" else precision == "bfloat16"
        layout = torch.channels_last if on_gpu else torch.contiguous_format
        self._network = network.to(self._device, memory_format=layout)  # type: ignore[call-overload]
        self.name = f"torch {device} {'bfloat16' if self._half else 'float32'}"

    def __call__(self, batch: Batch) -> Batch:
        """See `Engine`."""
        torch = self._torch
        with torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            frames = torch.from_numpy(batch).to(self._device)
            probability = torch.sigmoid(self._network(frames).float())[:, 0]
        result: Batch = probability.cpu().numpy()
        return result


def make_engine(
    kind: str, *, graph: Path, weights: Path, threads: int, precision: str, gpu: int | None = None
) -> Engine:
    """The engine that the settings ask for. `gpu` is the CUDA device that TorchServe gave the worker, if any."""
    if kind == "auto":
        kind = "torch" if gpu is not None else "openvino"
    if kind == "openvino":
        return OpenVinoEngine(graph, threads=threads, precision=precision)
    from humanseg.segmentation.weights import load_weights

    device = "cpu" if gpu is None else f"cuda:{gpu}"
    return TorchEngine(load_weights(weights).network, device=device, threads=threads, precision=precision)


def reference_engine(network: Network, *, threads: int = 0) -> Engine:
    """PyTorch on the CPU in float32, which the others are measured against. threads: 0 leaves PyTorch's own."""
    return TorchEngine(network, device="cpu", threads=threads, precision="float32")


def warm_up(engine: Engine, size: int) -> None:
    """Run the engine once on the largest frame, in grey: the first user does not wait for lazy set-up."""
    engine(np.full((1, 3, size, size), 0.5, np.float32))
