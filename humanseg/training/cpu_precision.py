"""Speeds up training steps on the CPU without changing their results.

oneDNN has no fast bfloat16 kernels for two gradients of depthwise convolutions: for the weights of a 5x5 kernel, and
for the input at stride 2. They took half of a training step; in float32 they take a quarter of that (torch.profiler
on torch 2.13.0, AMD EPYC with avx512_bf16).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def float32_where_quicker(network: nn.Module) -> None:
    """Make the depthwise convolutions with slow bfloat16 gradients compute in float32, in place.

    Call this last: copies of the changed modules would compute with the original's weights.
    """
    for module in network.modules():
        if not isinstance(module, nn.Conv2d) or module.groups == 1 or not module.weight.requires_grad:
            continue
        if module.kernel_size == (5, 5) or module.stride == (2, 2):
            module.forward = _in_float32(module)  # type: ignore[method-assign, assignment]


def _in_float32(conv: nn.Conv2d) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return nn.Conv2d.forward(conv, x.float()).to(x.dtype)

    return forward
