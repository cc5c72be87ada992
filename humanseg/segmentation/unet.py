"""The two segmentation networks: the classic U-Net and the efficient U-Net that ships.

Both take a float32 batch of RGB photos `[N, 3, H, W]` in 0..1 and return logits `[N, 1, H, W]`
(sigmoid of a logit is the probability of "person"); any normalisation is inside the network.

- `UNet`: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image
  Segmentation" (2015), with batch normalisation and padded convolutions, as in tutorials.
- `EfficientUNet`: the encoder of EfficientNet-Lite0 (Tan and Le, "EfficientNet", 2019; built of the
  inverted residuals of MobileNetV2, Sandler et al. 2018), and a decoder of depthwise separable
  convolutions with a skip connection at every resolution; the photo itself enters as blocks of 2x2 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def double_conv(channels: int, middle: int, out: int, *, norm: bool = True, bias: bool = False) -> nn.Sequential:
    """Twice conv 3x3, batch norm (with `norm`), ReLU: `[N, channels, H, W]` -> `[N, out, H, W]`."""
    layers: list[nn.Module] = []
    for before, after in ((channels, middle), (middle, out)):
        layers.append(nn.Conv2d(before, after, 3, 1, 1, bias=bias))
        if norm:
            layers.append(nn.BatchNorm2d(after))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class DoubleConv(nn.Module):
    """`double_conv` under its name in tutorial checkpoints."""

    def __init__(self, channels: int, out: int, *, norm: bool = True, bias: bool = False) -> None:
        super().__init__()
        self.conv = double_conv(channels, out, out, norm=norm, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, D, H, W]."""
        out: Tensor = self.conv(x)
        return out


class UNet(nn.Module):
    """The classic U-Net, with the parameter names of common tutorial checkpoints.

    `features` are the encoder's channels per resolution, finest first; `bottleneck` those of the coarsest,
    by default twice the last. Any input size of at least `2 ** len(features)` works.

    >>> UNet(features=(4, 8))(torch.zeros(1, 3, 30, 20)).shape
    torch.Size([1, 1, 30, 20])
    """

    def __init__(
        self,
        features: Sequence[int] = (64, 128, 256, 512),
        *,
        bottleneck: int | None = None,
        outputs: int = 1,
        norm: bool = True,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.features = tuple(features)
        self.downs = nn.ModuleList()
        self.ups = nn.ModuleList()
        self.pool = nn.MaxPool2d(2, 2)
        channels = 3
        for width in self.features:
            self.downs.append(DoubleConv(channels, width, norm=norm, bias=bias))
            channels = width
        deepest = 2 * channels if bottleneck is None else bottleneck
        self.bottleneck = DoubleConv(channels, deepest, norm=norm, bias=bias)
        channels = deepest
        for width in reversed(self.features):
            self.ups.append(nn.ConvTranspose2d(channels, width, 2, 2))
            self.ups.append(DoubleConv(2 * width, width, norm=norm, bias=bias))
            channels = width
        self.final_conv = nn.Conv2d(channels, outputs, 1)
        # Whether it is the tutorial's own network, which can be trained further.
        self.plain = norm and not bias and outputs == 1

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[N, outputs, H, W]` of a float32 RGB batch `[N, 3, H, W]`."""
        skips: list[Tensor] = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
            x = self.pool(x)
        x = self.bottleneck(x)
        for up, conv, skip in zip(self.ups[::2], self.ups[1::2], reversed(skips), strict=True):
            x = up(x)
            if x.shape[-2:] != skip.shape[-2:]:  # a side that pooling could not halve evenly
                x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = conv(torch.cat((skip, x), dim=1))
        logits: Tensor = self.final_conv(x)
        return logits


def _same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Zero padding like TensorFlow's SAME on even sides, for the ported weights."""
    total = kernel - stride
    return F.pad(x, (total // 2, total - total // 2, total // 2, total - total // 2))


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise, 1x1 projection; `[N, in, H, W]` -> `[N, out, H / stride, W / stride]`.

    It has biases and no batch norm: the pretrained norm is folded into the convolutions before
    training starts (`humanseg/training/imagenet.py`), because batches on a CPU are too small to
    re-estimate it, and the norm would cost a third of each training step.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = in_channels * expand
        self.kernel, self.stride = kernel, stride
        self.residual = stride == 1 and in_channels == out_channels
        self.expand = nn.Conv2d(in_channels, hidden, 1) if expand != 1 else None
        padding = kernel // 2 if stride == 1 else 0
        self.depthwise = nn.Conv2d(hidden, hidden, kernel, stride, padding, groups=hidden)
        self.project = nn.Conv2d(hidden, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to [N, D, H / stride, W / stride]."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        if self.stride != 1:
            y = _same(y, self.kernel, self.stride)
        y = F.relu6(self.depthwise(y))
        out: Tensor = self.project(y)
        return x + out if self.residual else out


class Up(nn.Module):
    """Upsamples `x` by 2, concatenates the skip, and applies one depthwise separable convolution.

    `[N, in, H, W]` and `[N, skip, 2H, 2W]` -> `[N, out, 2H, 2W]`.
    """

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int) -> None:
        super().__init__()
        both = in_channels + skip_channels
        self.depthwise = nn.Conv2d(both, both, 3, 1, 1, groups=both, bias=False)
        self.pointwise = nn.Conv2d(both, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Upsample `x`, [N, C, H, W], and join `skip`, [N, S, 2 H, 2 W]: [N, D, 2 H, 2 W]."""
        with torch.autocast(x.device.type, enabled=False):  # on a CPU it would convert bfloat16 to float32
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        x = self.pointwise(self.depthwise(torch.cat((skip.to(x.dtype), x), dim=1)))
        return F.relu(self.norm(x))


class Blocks(nn.Module):
    """The finest stage: concatenates the photo, and predicts blocks of 2x2 pixels.

    `[N, in, H/2, W/2]` and the photo `[N, 3, H, W]` -> logits `[N, 1, H, W]`. A block's 12 values are channels of one
    position, and so are its 4 outputs (sub-pixel convolution, Shi et al. 2016): this takes half the time of the same
    stage at full resolution, where moving pixels in memory dominates.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        both = in_channels + 3 * 4
        self.depthwise = nn.Conv2d(both, both, 3, 1, 1, groups=both, bias=False)
        self.pointwise = nn.Conv2d(both, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.head_depthwise = nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False)
        self.head_pointwise = nn.Conv2d(width, 4, 1)

    def forward(self, x: Tensor, photo: Tensor) -> Tensor:
        """Features `x` and the photo they come from, [N, 3, H, W], to logits, [N, 1, H, W]."""
        blocks = F.pixel_unshuffle(photo.to(x.dtype), 2)  # [N, 12, H/2, W/2]
        x = self.pointwise(self.depthwise(torch.cat((blocks, x), dim=1)))
        x = self.head_pointwise(self.head_depthwise(F.relu(self.norm(x))))  # [N, 4, H/2, W/2]
        return F.pixel_shuffle(x, 2)


# EfficientNet-Lite0 without its last stage and classifier: (expand, kernel, stride, channels, repeats).
# A stage with stride 2 starts a new resolution; the stage before it provides the decoder's skip.
_STAGES = (
    (1, 3, 1, 16, 1),  # [N, 16, H/2, W/2]
    (6, 3, 2, 24, 2),  # [N, 24, H/4, W/4]
    (6, 5, 2, 40, 2),  # [N, 40, H/8, W/8]
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),  # [N, 112, H/16, W/16]
    (6, 5, 2, 192, 4),  # [N, 192, H/32, W/32]
)


class EfficientUNet(nn.Module):
    """EfficientNet-Lite0 encoder, light decoder; both sides of the input must be multiples of 32.

    `decoder` holds the channels of the decoder at 1/16, 1/8, 1/4 and 1/2 of the input's size, and of its finest
    stage, for a block of 2x2 pixels.

    >>> EfficientUNet()(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 1, 64, 64])
    """

    def __init__(self, decoder: Sequence[int] = (112, 64, 40, 24, 48)) -> None:
        super().__init__()
        self.decoder = tuple(decoder)
        self.stem = nn.Conv2d(3, 32, 3, 2)
        stages: list[nn.Module] = []
        channels = 32
        skips: list[int] = []
        for expand, kernel, stride, width, repeats in _STAGES:
            if stride == 2:
                skips.append(channels)
            blocks: list[nn.Module] = []
            for index in range(repeats):
                step = stride if index == 0 else 1
                blocks.append(InvertedResidual(channels, width, kernel, step, expand))
                channels = width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        # Global context, added to every position (ParseNet, Liu et al. 2015): an empty street and a face that fills
        # the frame look similar in a small window.
        self.context = nn.Conv2d(channels, channels, 1)
        ups: list[nn.Module] = []
        for width, skip in zip(self.decoder[:-1], reversed(skips), strict=True):
            ups.append(Up(channels, skip, width))
            channels = width
        self.ups = nn.ModuleList(ups)
        self.finest = Blocks(channels, self.decoder[-1])

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[N, 1, H, W]` of a float32 RGB batch `[N, 3, H, W]` in 0..1.

        Raises ValueError if a side is not a multiple of 32.
        """
        if x.shape[-1] % 32 or x.shape[-2] % 32:
            height, width = x.shape[-2:]
            raise ValueError(
                f"input is {height}x{width}; both sides must be multiples of 32: "
                f"pad it to {-(-height // 32) * 32}x{-(-width // 32) * 32}"
            )
        photo = x * (255.0 / 128.0) - 127.0 / 128.0  # EfficientNet-Lite's normalisation
        skips: list[Tensor] = []
        x = F.relu6(self.stem(_same(photo, 3, 2)))  # [N, 32, H/2, W/2]
        for stage, (_, _, stride, _, _) in zip(self.stages, _STAGES, strict=True):
            if stride == 2:
                skips.append(x)
            x = stage(x)
        x = F.relu(x + self.context(x.mean(dim=(2, 3), keepdim=True)))  # [N, 192, H/32, W/32]
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            x = up(x, skip)
        logits: Tensor = self.finest(x, photo)
        return logits
