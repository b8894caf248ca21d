"""Segmentation: fully convolutional networks and the U-Net family."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from corpus import architecture, scaled


def image(size: int, channels: int = 3):
    return lambda: (torch.zeros(1, channels, size, size),)


def vgg(f: int, convs: tuple[int, ...], first_padding: int = 1) -> list[nn.Sequential]:
    """The five stages of VGG-16, each ending in a 2x2 max pool."""
    stages, i = [], 3
    for level, count in enumerate(convs):
        o = f * min(2**level, 8)
        layers: list[nn.Module] = []
        for n in range(count):
            padding = first_padding if level == n == 0 else 1
            layers += [nn.Conv2d(i, o, 3, 1, padding), nn.ReLU()]
            i = o
        stages.append(nn.Sequential(*layers, nn.MaxPool2d(2, 2, ceil_mode=True)))
    return stages


class Fcn(nn.Module):
    """Skips from pool 4 and pool 3 as in FCN-16s and FCN-8s, scores cropped to the finer field."""

    def __init__(self, width: float, skips: int, classes: int = 5) -> None:
        super().__init__()
        f = scaled(64, width)
        dense = scaled(4096, width / 4)
        self.stages = nn.ModuleList(vgg(f, (2, 2, 3, 3, 3), first_padding=100))
        self.head = nn.Sequential(nn.Conv2d(8 * f, dense, 7), nn.ReLU(), nn.Conv2d(dense, dense, 1), nn.ReLU())
        self.score = nn.Conv2d(dense, classes, 1)
        self.skips = nn.ModuleList(nn.Conv2d(i * f, classes, 1) for i in (8, 4)[:skips])
        self.ups = nn.ModuleList(nn.ConvTranspose2d(classes, classes, 4, 2, bias=False) for _ in range(skips))
        last = 32 // 2**skips
        self.last = nn.ConvTranspose2d(classes, classes, 2 * last, last, bias=False)
        self.offset = (19, 27, 31)[skips]

    def forward(self, x: Tensor) -> Tensor:
        y, pools = x, []
        for stage in self.stages:
            y = stage(y)
            pools.append(y)
        y = self.score(self.head(y))
        for up, skip, pool, margin in zip(self.ups, self.skips, (pools[3], pools[2]), (5, 9), strict=False):
            y = up(y)
            h, w = y.shape[2:]
            y = y + skip(pool)[:, :, margin : margin + h, margin : margin + w]
        o = self.offset
        return self.last(y)[:, :, o : o + x.shape[2], o : o + x.shape[3]]


@architecture(
    "fcn32s",
    inputs=image(64),
    source="Long et al. 2015 (arXiv 1411.4038), section 4; voc-fcn32s: first padding 100, k64 s32, crop at 19",
    period=(32,),
    gradient_period=(1,),
    rules="EV103",
    forbidden="EV101 EV102",
    simulate={"inputs": image(640), "borders": "canvas", "bound": 32},
    simulate_backward=None,
    width=1 / 16,
    notes="non-overlapping max pools are even on average; with 100 padded in front only a large canvas has an interior",
)
def fcn32s(width: float) -> nn.Module:
    return Fcn(width, 0)


@architecture(
    "fcn8s",
    inputs=image(64),
    source="Long et al. 2015 (arXiv 1411.4038), section 4.2 and figure 3; voc-fcn8s: k4 s2 twice, k16 s8, crop at 31",
    period=(32,),
    gradient_period=(1,),
    rules="EV103 EV106",
    forbidden="EV101 EV102",
    simulate={"inputs": image(768), "borders": "canvas", "bound": 32},
    simulate_backward=None,
    width=1 / 16,
)
def fcn8s(width: float) -> nn.Module:
    return Fcn(width, 2)


def double_conv(i: int, o: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, 3, 1, 1), nn.ReLU(), nn.Conv2d(o, o, 3, 1, 1), nn.ReLU())


class AttentionGate(nn.Module):
    """Oktay et al. 2018 (arXiv 1804.03999), figure 2: the skip, gated at half its resolution."""

    def __init__(self, skip: int, gate: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(skip, skip, 2, 2, bias=False)
        self.phi, self.psi = nn.Conv2d(gate, skip, 1), nn.Conv2d(skip, 1, 1)
        self.out = nn.Conv2d(skip, skip, 1)

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        weights = torch.sigmoid(self.psi(F.relu(self.theta(x) + self.phi(gate))))
        weights = F.interpolate(weights, scale_factor=2, mode="bilinear", align_corners=False)
        return self.out(weights * x)


class UNet(nn.Module):
    """Five levels; ``up`` doubles the size and halves the channels."""

    def __init__(self, f: int, up: Callable[[int, int], nn.Module], *, gated: bool = False) -> None:
        super().__init__()
        c = [f * 2**i for i in range(5)]
        self.down = nn.ModuleList(double_conv(i, o) for i, o in zip([3, *c], c, strict=False))
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(up(c[i + 1], c[i]) for i in reversed(range(4)))
        self.join = nn.ModuleList(double_conv(2 * c[i], c[i]) for i in reversed(range(4)))
        self.gates = nn.ModuleList(AttentionGate(c[i], c[i + 1]) for i in reversed(range(4))) if gated else None
        self.head = nn.Conv2d(f, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for level, stage in enumerate(self.down):
            x = stage(self.pool(x) if level else x)
            skips.append(x)
        skips.pop()
        for level, (up, join) in enumerate(zip(self.up, self.join, strict=True)):
            skip = skips.pop()
            skip = self.gates[level](skip, x) if self.gates is not None else skip
            x = join(torch.cat([skip, up(x)], 1))
        return self.head(x)


@architecture(
    "unet",
    inputs=image(32),
    source="Ronneberger et al. 2015 (arXiv 1505.04597), figure 1: 2x2 up-convolutions; padded, so that sizes match",
    period=(16,),
    gradient_period=(1,),
    rules="EV103 EV106",
    forbidden="EV101 EV102",
    fast=True,
)
def unet(width: float) -> nn.Module:
    return UNet(scaled(64, width), lambda i, o: nn.ConvTranspose2d(i, o, 2, 2))


@architecture(
    "unet_bilinear",
    inputs=image(32),
    source="Ronneberger et al. 2015, the bilinear variant of milesial/Pytorch-UNet (align_corners=False)",
    period=(1,),
    gradient_period=(1,),
    forbidden="EV101 EV102 EV103",
)
def unet_bilinear(width: float) -> nn.Module:
    def up(i: int, o: int) -> nn.Module:
        return nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False), nn.Conv2d(i, o, 1))

    return UNet(scaled(64, width), up)


@architecture(
    "attention_unet",
    inputs=image(32),
    source="Oktay et al. 2018 (arXiv 1804.03999), figures 1 and 2",
    period=(16,),
    gradient_period=(16,),
    rules="EV103",
    forbidden="EV101 EV102",
    prior=False,
    gates=True,
    notes="the gates read the skips through a k2 s2 convolution, which makes the gradient periodic",
)
def attention_unet(width: float) -> nn.Module:
    return UNet(scaled(64, width), lambda i, o: nn.ConvTranspose2d(i, o, 2, 2), gated=True)


@architecture(
    "unet_plus_plus",
    inputs=image(32),
    source="Zhou et al. 2018 (arXiv 1807.10165), figure 1; L3, k2 s2 up-convolutions, one output per column",
    period=(2, 4, 8),
    gradient_period=(1,),
    rules="EV103",
    forbidden="EV101 EV102",
)
def unet_plus_plus(width: float) -> nn.Module:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            c = [scaled(32, width) * 2**i for i in range(4)]
            self.pool = nn.MaxPool2d(2)
            self.first = nn.ModuleList(double_conv(i, o) for i, o in zip([3, *c], c, strict=False))
            self.ups, self.nodes, self.heads = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleList()
            for j in range(1, 4):
                for i in range(4 - j):
                    self.ups[f"{i}_{j}"] = nn.ConvTranspose2d(c[i + 1], c[i], 2, 2)
                    self.nodes[f"{i}_{j}"] = double_conv(c[i] * (j + 1), c[i])
                self.heads.append(nn.Conv2d(c[0], 1, 1))

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            grid: dict[tuple[int, int], Tensor] = {}
            for i, stage in enumerate(self.first):
                x = grid[i, 0] = stage(self.pool(x) if i else x)
            for j in range(1, 4):
                for i in range(4 - j):
                    parts = [grid[i, n] for n in range(j)] + [self.ups[f"{i}_{j}"](grid[i + 1, j - 1])]
                    grid[i, j] = self.nodes[f"{i}_{j}"](torch.cat(parts, 1))
            return tuple(torch.sigmoid(head(grid[0, j + 1])) for j, head in enumerate(self.heads))

    return Nested()
