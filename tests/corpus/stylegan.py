"""StyleGAN2's generator and discriminator, with the FIR filters as buffers."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from corpus import architecture, scaled

SOURCE = "Karras et al. 2020 (arXiv 1912.04958), section 4 and figure 7; layer order of rosinality/stylegan2-pytorch"


class Fir(nn.Module):
    """The separable filter ``[1, 3, 3, 1]``: blur, or resampling by two with it."""

    taps: Tensor

    def __init__(self, pad: tuple[int, int] = (0, 0), gain: float = 1.0, *, up: bool = False) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("taps", torch.outer(taps, taps)[None, None] * gain)
        self.pad, self.up = pad, up

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        taps = self.taps.repeat(channels, 1, 1, 1)
        if self.up:
            return F.conv_transpose2d(x, taps, stride=2, padding=1, groups=channels)
        return F.conv2d(F.pad(x, (*self.pad, *self.pad)), taps, groups=channels)


class EqualLinear(nn.Linear):
    """Dense layer with equalised learning rate."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight / math.sqrt(self.in_features), self.bias)


class ModulatedConv(nn.Module):
    """Convolution whose weights are scaled by the style and normalised (weight demodulation), one group per sample."""

    def __init__(self, i: int, o: int, k: int, style: int, *, up: bool = False, demodulate: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, o, i, k, k))
        self.affine = EqualLinear(style, i)
        nn.init.ones_(self.affine.bias)
        self.scale, self.up, self.demodulate = 1 / math.sqrt(i * k * k), up, demodulate
        self.blur = Fir((1, 1), 4.0) if up else nn.Identity()

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        b, i, h, v = x.shape
        _, o, _, k, _ = self.weight.shape
        weight = self.scale * self.weight * self.affine(w).view(b, 1, i, 1, 1)
        if self.demodulate:
            weight = weight * torch.rsqrt(weight.square().sum([2, 3, 4], keepdim=True) + 1e-8)
        x = x.reshape(1, b * i, h, v)
        if self.up:
            weight = weight.transpose(1, 2).reshape(b * i, o, k, k)
            y = F.conv_transpose2d(x, weight, stride=2, groups=b)
        else:
            y = F.conv2d(x, weight.reshape(b * o, i, k, k), padding=k // 2, groups=b)
        return self.blur(y.reshape(b, o, *y.shape[2:]))


class StyledConv(nn.Module):
    """Modulated convolution, noise, bias, leaky ReLU."""

    def __init__(self, i: int, o: int, style: int, *, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(i, o, 3, style, up=up)
        self.strength = nn.Parameter(torch.zeros(1))  # as published; the noise is learned later
        self.bias = nn.Parameter(torch.zeros(1, o, 1, 1))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = self.conv(x, w)
        noise = torch.randn(x.shape[0], 1, *x.shape[2:], device=x.device, dtype=x.dtype)
        return F.leaky_relu(x + self.strength * noise + self.bias, 0.2) * math.sqrt(2)


class ToRgb(nn.Module):
    """1x1 modulated convolution to colours, added to the up-sampled colours of the level before."""

    def __init__(self, i: int, style: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(i, 3, 1, style, demodulate=False)
        self.up = Fir(gain=4.0, up=True)

    def forward(self, x: Tensor, w: Tensor, skip: Tensor | None) -> Tensor:
        y = self.conv(x, w)
        return y if skip is None else y + self.up(skip)


@architecture(
    "stylegan2_generator",
    inputs=lambda: (torch.zeros(1, 64),),
    source=SOURCE,
    period=(1,),
    gradient_period=(1,),
    forbidden="EV102 EV103 EV104",
    prior=False,
    gates=True,
    start="constant",
    simulate={"start_size": (12, 12), "borders": "canvas", "bound": 16},
    simulate_backward=None,
    fast=True,
    notes=(
        "k3 s2 writes period 2, the fixed blur after it removes it; the noise starts with strength 0, as published; "
        "the latent has no lattice, so its gradient has no period, and it flows through computed weights only"
    ),
)
def stylegan2_generator(width: float) -> nn.Module:
    class Constant(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.value = nn.Parameter(torch.randn(1, channels, 4, 4))

        def forward(self, w: Tensor) -> Tensor:
            return self.value.repeat(w.shape[0], 1, 1, 1)

    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            c = [scaled(n, width) for n in (512, 512, 512, 256, 128)]
            style = 64
            self.mapping = nn.Sequential(*(m for _ in range(4) for m in (EqualLinear(64, style), nn.LeakyReLU(0.2))))
            self.constant = Constant(c[0])
            self.first, self.first_rgb = StyledConv(c[0], c[0], style), ToRgb(c[0], style)
            pairs = list(pairwise(c))
            self.ups = nn.ModuleList(StyledConv(i, o, style, up=True) for i, o in pairs)
            self.convs = nn.ModuleList(StyledConv(o, o, style) for _, o in pairs)
            self.rgbs = nn.ModuleList(ToRgb(o, style) for _, o in pairs)

        def forward(self, z: Tensor) -> Tensor:
            w = self.mapping(z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8))
            x = self.first(self.constant(w), w)
            rgb = self.first_rgb(x, w, None)
            for up, conv, to_rgb in zip(self.ups, self.convs, self.rgbs, strict=True):
                x = conv(up(x, w), w)
                rgb = to_rgb(x, w, rgb)
            return rgb

    return Generator()


@architecture(
    "stylegan2_discriminator",
    inputs=lambda: (torch.zeros(1, 3, 64, 64),),
    source=SOURCE,
    period=(None,),
    gradient_period=(1,),
    forbidden="EV101 EV102 EV103",
    simulate=None,
    simulate_backward={"end": "blocks"},
    notes=(
        "one number per picture: no lattice at the output; minibatch standard deviation with a batch of one is zero; "
        "the blur before every stride removes what the stride writes into the gradient, as it does forward"
    ),
)
def stylegan2_discriminator(width: float) -> nn.Module:
    class Block(nn.Module):
        def __init__(self, i: int, o: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(i, i, 3, 1, 1)
            self.blur2, self.conv2 = Fir((2, 2)), nn.Conv2d(i, o, 3, 2)
            self.blur_skip, self.skip = Fir((1, 1)), nn.Conv2d(i, o, 1, 2, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            y = F.leaky_relu(self.conv1(x), 0.2) * math.sqrt(2)
            y = F.leaky_relu(self.conv2(self.blur2(y)), 0.2) * math.sqrt(2)
            return (y + self.skip(self.blur_skip(x))) / math.sqrt(2)

    class Discriminator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            c = [scaled(n, width) for n in (128, 256, 512, 512, 512)]
            self.from_rgb = nn.Conv2d(3, c[0], 1)
            self.blocks = nn.Sequential(*(Block(i, o) for i, o in pairwise(c)))
            self.conv = nn.Conv2d(c[-1] + 1, c[-1], 3, 1, 1)
            self.dense1, self.dense2 = EqualLinear(16 * c[-1], c[-1]), EqualLinear(c[-1], 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.blocks(F.leaky_relu(self.from_rgb(x), 0.2))
            deviation = torch.sqrt(y.var(0, unbiased=False) + 1e-8).mean([0, 1, 2], keepdim=True)
            deviation = deviation[None].expand(y.shape[0], 1, *y.shape[2:])
            y = F.leaky_relu(self.conv(torch.cat([y, deviation], 1)), 0.2)
            return self.dense2(F.leaky_relu(self.dense1(y.flatten(1)), 0.2))

    return Discriminator()
