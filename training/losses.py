"""The loss: how wrong each pixel is, how wrong the region is, and the edge above all.

- binary cross-entropy, with the pixels around the mask's edge weighted up (U-Net, Ronneberger et al. 2015;
  the boundary loss of PortraitNet, Zhang et al. 2019, has the same aim);
- soft Jaccard on photos with somebody in them, the measure itself made smooth (Rahman and Wang 2016).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

EDGE = 9  # pixels, width of the band around the edge


def edge_band(target: Tensor) -> Tensor:
    """1 within a few pixels of the mask's edge, else 0; `[N, 1, S, S]` -> `[N, 1, S, S]`."""
    highest = F.max_pool2d(target, EDGE, 1, EDGE // 2)
    lowest = -F.max_pool2d(-target, EDGE, 1, EDGE // 2)
    return ((highest - lowest) > 0.5).to(target.dtype)


def segmentation_loss(logits: Tensor, target: Tensor, edge_weight: float) -> Tensor:
    """Mean over photos of the loss of logits `[N, 1, S, S]` against a target `[N, 1, S, S]` in 0..1."""
    weight = 1.0 + edge_weight * edge_band(target)
    pixel = F.binary_cross_entropy_with_logits(logits, target, weight, reduction="none").mean(dim=(1, 2, 3))
    probability = logits.sigmoid()
    both = (probability * target).sum(dim=(1, 2, 3))
    either = (probability + target - probability * target).sum(dim=(1, 2, 3))
    somebody = (target.amax(dim=(1, 2, 3)) > 0.5).to(logits.dtype)
    region = somebody * (1.0 - (both + 1.0) / (either + 1.0))
    return (pixel + region).mean()
