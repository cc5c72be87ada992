"""A network's embedding of a photo: similar photos have close vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import imagehash
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from humanseg.segmentation.engine import Engine, reference_engine
from humanseg.segmentation.photo import Pixels
from humanseg.segmentation.pipeline import segment
from humanseg.segmentation.spec import Spec
from humanseg.training.choosing import disagreement


@dataclass(frozen=True)
class Seen:
    """The network's view of a photo.

    features: float32 [D], of length 1. confidence, disagreement (with its mirror): 0..1. mask: uint8 [H, W], 0/255.
    """

    features: NDArray[np.float32]
    confidence: float
    disagreement: float
    mask: Pixels


class Encoder:
    """A PyTorch network that also returns its deepest layer's output, averaged over the picture.

    The deepest layer is the last one with the smallest spatial size: a U-Net's bottleneck, whatever its name.
    """

    def __init__(self, network: nn.Module, spec: Spec) -> None:
        self._spec = spec
        self._found: Tensor | None = None
        self._engine: Engine = reference_engine(network, spec)
        _deepest(network, spec).register_forward_hook(self._keep)

    def look(self, pixels: Pixels) -> Seen:
        """Process a photo, uint8 [H, W, 3] RGB, and its mirror image."""
        found = segment(self._engine, self._spec, pixels)
        assert self._found is not None
        vector = self._found.float().mean(dim=(0, 2, 3)).numpy()
        mirrored = segment(self._engine, self._spec, np.ascontiguousarray(pixels[:, ::-1])).mask[:, ::-1]
        length = np.float32(max(1e-12, float(np.linalg.norm(vector))))
        return Seen(
            np.asarray(vector / length, np.float32),
            found.summary(self._spec.calibration).confidence,
            disagreement(found.mask, mirrored),
            found.mask,
        )

    def _keep(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._found = output.detach()


def _deepest(network: nn.Module, spec: Spec) -> nn.Module:
    width, height = spec.input_size
    seen: list[tuple[int, nn.Module]] = []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] * output.shape[-2] > 1:
            seen.append((output.shape[-1] * output.shape[-2], module))

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 3, height, width))
    for hook in hooks:
        hook.remove()
    if not seen:
        raise ValueError("the network has no layer with a spatial output; its features can't be used")
    smallest = min(size for size, _ in seen)
    return next(module for size, module in reversed(seen) if size == smallest)


def perceptual_hash(pixels: Pixels) -> np.uint64:
    """The 64-bit perceptual hash of a photo, uint8 [H, W, 3] (the DCT hash of the library imagehash)."""
    bits = imagehash.phash(Image.fromarray(pixels)).hash.ravel()
    return np.uint64(int("".join("1" if bit else "0" for bit in bits), 2))
