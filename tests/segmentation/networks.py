"""Networks that people train, written down independently of ours, to make the files that people have."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TutorialUNet(nn.Module):
    """The tutorial's network, written down independently of ours, to make the checkpoints that people have."""

    def __init__(self, features: list[int]) -> None:
        super().__init__()
        self.ups, self.downs = nn.ModuleList(), nn.ModuleList()
        self.pool = nn.MaxPool2d(kernel_size=2, stride=2)
        channels = 3
        for feature in features:
            self.downs.append(self.double(channels, feature))
            channels = feature
        for feature in features[::-1]:
            self.ups.append(nn.ConvTranspose2d(feature * 2, feature, kernel_size=2, stride=2))
            self.ups.append(self.double(feature * 2, feature))
        self.bottleneck = self.double(features[-1], features[-1] * 2)
        self.final_conv = nn.Conv2d(features[0], 1, kernel_size=1)

    @staticmethod
    def double(channels: int, out: int) -> nn.Module:
        holder = nn.Module()
        holder.conv = nn.Sequential(
            *(nn.Conv2d(channels, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)),
            *(nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)),
        )
        return holder

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.downs:
            x = down.conv(x)  # type: ignore[operator, union-attr]
            skips.append(x)
            x = self.pool(x)
        x = self.bottleneck.conv(x)  # type: ignore[operator]
        for index in range(0, len(self.ups), 2):
            x = torch.cat((skips[-1 - index // 2], self.ups[index](x)), dim=1)
            x = self.ups[index + 1].conv(x)  # type: ignore[operator, union-attr]
        answer: Tensor = self.final_conv(x)
        return answer


def trained(features: list[int]) -> TutorialUNet:
    """The tutorial's, as after training."""
    torch.manual_seed(len(features))
    return used(TutorialUNet(features))


def used(network: Any) -> Any:
    """With norms that are not the identity, in eval mode."""
    network.train()
    for _ in range(3):
        network(torch.rand(2, 3, 64, 64))
    return network.eval()


class CopiedUNet(nn.Module):
    """The network of milesial/Pytorch-UNet, as its readme and its state dict have it, at any width."""

    def __init__(self, classes: int, bilinear: bool, width: int = 8) -> None:
        super().__init__()
        factor = 2 if bilinear else 1
        sizes = [width, 2 * width, 4 * width, 8 * width, 16 * width // factor]
        self.inc = CopiedDouble(3, sizes[0])
        for index in range(1, 5):
            down = nn.Module()
            down.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), CopiedDouble(sizes[index - 1], sizes[index]))
            setattr(self, f"down{index}", down)
        channels = 16 * width
        for index in range(1, 5):
            up = nn.Module()
            out = channels // 2 // (factor if index < 4 else 1)
            if bilinear:
                up.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
                up.conv = CopiedDouble(channels, out, channels // 2)
            else:
                up.up = nn.ConvTranspose2d(channels, channels // 2, kernel_size=2, stride=2)
                up.conv = CopiedDouble(channels, out)
            setattr(self, f"up{index}", up)
            channels //= 2
        self.outc = nn.Module()
        self.outc.conv = nn.Conv2d(width, classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        ways = [self.inc(x)]
        for index in range(1, 5):
            ways.append(getattr(self, f"down{index}").maxpool_conv(ways[-1]))
        x = ways.pop()
        for index in range(1, 5):
            up, skip = getattr(self, f"up{index}"), ways.pop()
            x = up.up(x)
            rows, columns = skip.size()[2] - x.size()[2], skip.size()[3] - x.size()[3]
            x = F.pad(x, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
            x = up.conv(torch.cat([skip, x], dim=1))
        answer: Tensor = self.outc.conv(x)  # type: ignore[operator]
        return answer


class CopiedDouble(nn.Module):
    def __init__(self, channels: int, out: int, middle: int | None = None) -> None:
        super().__init__()
        middle = middle or out
        self.double_conv = nn.Sequential(
            *(nn.Conv2d(channels, middle, 3, padding=1, bias=False), nn.BatchNorm2d(middle), nn.ReLU(inplace=True)),
            *(nn.Conv2d(middle, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.double_conv(x)
        return out
