"""The U-Net of `inc`, `down1`, `up1`, `outc`: the parameter names of milesial/Pytorch-UNet, the most copied one.

Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation" (2015), with batch
normalisation and padded convolutions. The decoder uses bilinear upsampling or transposed convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from humanseg.segmentation.unet import double_conv


class _Double(nn.Module):
    def __init__(self, channels: int, widths: tuple[int, int], norm: bool, bias: bool) -> None:
        super().__init__()
        self.double_conv = double_conv(channels, *widths, norm=norm, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.double_conv(x)
        return out


class _Down(nn.Module):
    def __init__(self, channels: int, widths: tuple[int, int], norm: bool, bias: bool) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), _Double(channels, widths, norm, bias))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.maxpool_conv(x)
        return out


class _Up(nn.Module):
    def __init__(
        self, channels: int, skip: int, widths: tuple[int, int], transposed: int | None, norm: bool, bias: bool
    ) -> None:
        super().__init__()
        self.up: nn.Module
        if transposed is None:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        else:
            self.up = nn.ConvTranspose2d(channels, transposed, 2, 2)
        self.conv = _Double(skip + (channels if transposed is None else transposed), widths, norm, bias)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.up(x)
        if x.shape[-2:] != skip.shape[-2:]:  # an odd side before pooling
            down, right = skip.shape[-2] - x.shape[-2], skip.shape[-1] - x.shape[-1]
            x = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        out: Tensor = self.conv(torch.cat((skip, x), dim=1))
        return out


class IncUNet(nn.Module):
    """Logits `[N, outputs, H, W]` of a float32 batch `[N, 3, H, W]`.

    downs, ups: (middle, out) channels of each double convolution, `downs` with `inc` first.
    transposed: output channels of each transposed convolution; None for bilinear upsampling.

    >>> IncUNet(((4, 4), (8, 8)), ((4, 4),), (4,))(torch.zeros(1, 3, 32, 48)).shape
    torch.Size([1, 1, 32, 48])
    """

    def __init__(
        self,
        downs: Sequence[tuple[int, int]],
        ups: Sequence[tuple[int, int]],
        transposed: Sequence[int] | None = None,
        *,
        outputs: int = 1,
        norm: bool = True,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.depth = len(ups)
        self.inc = _Double(3, downs[0], norm, bias)
        channels = downs[0][1]
        skips = [channels]
        for index, widths in enumerate(downs[1:], 1):
            self.add_module(f"down{index}", _Down(channels, widths, norm, bias))
            channels = widths[1]
            skips.append(channels)
        for index, (widths, skip) in enumerate(zip(ups, reversed(skips[:-1]), strict=True), 1):
            wide = None if transposed is None else transposed[index - 1]
            self.add_module(f"up{index}", _Up(channels, skip, widths, wide, norm, bias))
            channels = widths[1]
        self.outc = nn.Module()
        self.outc.conv = nn.Conv2d(channels, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[N, outputs, H, W]`."""
        skips = [self.inc(x)]
        for index in range(1, self.depth + 1):
            skips.append(getattr(self, f"down{index}")(skips[-1]))
        x = skips.pop()
        for index in range(1, self.depth + 1):
            x = getattr(self, f"up{index}")(x, skips.pop())
        logits: Tensor = self.outc.conv(x)  # type: ignore[operator]
        return logits
