"""Vocoders from their published configurations, channels times ``width``."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from corpus import architecture, scaled


def _conv(before: int, after: int, kernel: int, dilation: int = 1, **options: object) -> nn.Conv1d:
    padding = dilation * (kernel - 1) // 2
    return weight_norm(nn.Conv1d(before, after, kernel, 1, padding, dilation, **options))


def _up(before: int, after: int, kernel: int, stride: int) -> nn.ConvTranspose1d:
    return weight_norm(nn.ConvTranspose1d(before, after, kernel, stride, (kernel - stride) // 2))


# ------------------------------------------------------------------------------------------------ HiFi-GAN


class _ResBlock(nn.Module):
    """``pairs``: ResBlock1, each dilated convolution is followed by an undilated one; else ResBlock2."""

    def __init__(self, width: int, kernel: int, dilations: Sequence[int], pairs: bool) -> None:
        super().__init__()
        self.first = nn.ModuleList(_conv(width, width, kernel, d) for d in dilations)
        self.second = nn.ModuleList(_conv(width, width, kernel) for _ in dilations) if pairs else None

    def forward(self, x: Tensor) -> Tensor:
        for index, conv in enumerate(self.first):
            y = conv(F.leaky_relu(x, 0.1))
            if self.second is not None:
                y = self.second[index](F.leaky_relu(y, 0.1))
            x = x + y
        return x


class HiFiGAN(nn.Module):
    def __init__(
        self,
        channels: int,
        rates: Sequence[int],
        kernels: Sequence[int],
        block_kernels: Sequence[int],
        block_dilations: Sequence[Sequence[int]],
        pairs: bool,
    ) -> None:
        super().__init__()
        self.conv_pre = _conv(80, channels, 7)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for rate, kernel in zip(rates, kernels, strict=True):
            self.ups.append(_up(channels, channels // 2, kernel, rate))
            channels //= 2
            blocks = zip(block_kernels, block_dilations, strict=True)
            self.resblocks.append(nn.ModuleList(_ResBlock(channels, k, d, pairs) for k, d in blocks))
        self.conv_post = _conv(channels, 1, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_pre(x)
        for up, blocks in zip(self.ups, self.resblocks, strict=True):
            x = up(F.leaky_relu(x, 0.1))
            x = sum(block(x) for block in blocks) / len(blocks)
        return torch.tanh(self.conv_post(F.leaky_relu(x)))


_PAIRED = ((3, 7, 11), ((1, 3, 5),) * 3, True)
_SINGLE = ((3, 5, 7), ((1, 2), (2, 6), (3, 12)), False)


@architecture(
    "hifigan_v1",
    inputs=lambda: (torch.zeros(1, 80, 8),),
    source="Kong, Kim & Bae, HiFi-GAN (arXiv 2010.05646), config_v1.json of the published code",
    period=(256,),
    gradient_period=(1,),
    rules="EV103 EV106",
    forbidden="EV101 EV102",
    simulate={"head": "conv_post"},
)
def _hifigan_v1(width: float) -> nn.Module:
    return HiFiGAN(scaled(512, width, 16), (8, 8, 2, 2), (16, 16, 4, 4), *_PAIRED)


@architecture(
    "hifigan_v3",
    inputs=lambda: (torch.zeros(1, 80, 8),),
    source="Kong, Kim & Bae, HiFi-GAN (arXiv 2010.05646), config_v3.json of the published code",
    period=(256,),
    gradient_period=(1,),
    rules="EV103 EV106",
    forbidden="EV101 EV102",
    fast=True,
    simulate={"head": "conv_post"},
)
def _hifigan_v3(width: float) -> nn.Module:
    return HiFiGAN(scaled(256, width, 8), (8, 8, 4), (16, 16, 8), *_SINGLE)


# ------------------------------------------------------------------------------------------------ MelGAN


class _MelResidual(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.LeakyReLU(0.2),
            nn.ReflectionPad1d(dilation),
            weight_norm(nn.Conv1d(width, width, 3, dilation=dilation)),
            nn.LeakyReLU(0.2),
            weight_norm(nn.Conv1d(width, width, 1)),
        )
        self.shortcut = weight_norm(nn.Conv1d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.block(x)


@architecture(
    "melgan",
    inputs=lambda: (torch.zeros(1, 80, 16),),
    source="Kumar et al., MelGAN (arXiv 1910.06711), mel2wav/modules.py of the published code",
    period=(256,),
    gradient_period=(1,),
    rules="EV103 EV106",
    forbidden="EV101 EV102",
    simulate={"head": "24"},
)
def _melgan(width: float) -> nn.Module:
    ratios = (8, 8, 2, 2)
    channels = scaled(512, width, 16)
    layers: list[nn.Module] = [nn.ReflectionPad1d(3), weight_norm(nn.Conv1d(80, channels, 7))]
    for r in ratios:
        up = nn.ConvTranspose1d(channels, channels // 2, 2 * r, r, r // 2 + r % 2, output_padding=r % 2)
        layers += [nn.LeakyReLU(0.2), weight_norm(up)]
        channels //= 2
        layers += [_MelResidual(channels, 3**j) for j in range(3)]
    layers += [nn.LeakyReLU(0.2), nn.ReflectionPad1d(3), weight_norm(nn.Conv1d(channels, 1, 7)), nn.Tanh()]
    return nn.Sequential(*layers)


# ------------------------------------------------------------------------------------------------ BigVGAN


def kaiser_sinc(cutoff: float, half_width: float, size: int) -> Tensor:
    """BigVGAN's low-pass filter, of sum 1 (its ``alias_free_activation/torch/filter.py``)."""
    attenuation = 2.285 * (size // 2 - 1) * math.pi * 4 * half_width + 7.95
    if attenuation > 50:
        beta = 0.1102 * (attenuation - 8.7)
    else:
        beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21) if attenuation >= 21 else 0.0
    window = torch.kaiser_window(size, periodic=False, beta=beta, dtype=torch.float64)
    time = torch.arange(-(size // 2), size // 2, dtype=torch.float64) + 0.5
    taps = 2 * cutoff * window * torch.sinc(2 * cutoff * time)
    return (taps / taps.sum()).float().reshape(1, 1, size)


class SnakeBeta(nn.Module):
    """``x + sin(exp(alpha) x)^2 / exp(beta)``, one ``alpha`` and ``beta`` per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        alpha, beta = self.alpha.exp()[None, :, None], self.beta.exp()[None, :, None]
        return x + (x * alpha).sin().square() / (beta + 1e-9)


class AntiAliased(nn.Module):
    """Up-sample by 2 with a FIR filter of 12 taps, apply the function, low-pass and take every second sample."""

    def __init__(self, function: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.register_buffer("up_filter", kaiser_sinc(0.25, 0.3, 12))
        self.register_buffer("down_filter", kaiser_sinc(0.25, 0.3, 12))

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        x = F.pad(x, (5, 5), mode="replicate")
        x = 2 * F.conv_transpose1d(x, self.up_filter.expand(channels, -1, -1), stride=2, groups=channels)
        x = self.function(x[..., 15:-15])
        x = F.pad(x, (5, 6), mode="replicate")
        return F.conv1d(x, self.down_filter.expand(channels, -1, -1), stride=2, groups=channels)


class _AMPBlock(nn.Module):
    def __init__(self, width: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.first = nn.ModuleList(_conv(width, width, kernel, d) for d in dilations)
        self.second = nn.ModuleList(_conv(width, width, kernel) for _ in dilations)
        self.activations = nn.ModuleList(AntiAliased(SnakeBeta(width)) for _ in range(2 * len(dilations)))

    def forward(self, x: Tensor) -> Tensor:
        for index, (first, second) in enumerate(zip(self.first, self.second, strict=True)):
            y = first(self.activations[2 * index](x))
            x = x + second(self.activations[2 * index + 1](y))
        return x


class BigVGAN(nn.Module):
    def __init__(self, channels: int, rates: Sequence[int], kernels: Sequence[int]) -> None:
        super().__init__()
        self.conv_pre = _conv(100, channels, 7)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for rate, kernel in zip(rates, kernels, strict=True):
            self.ups.append(_up(channels, channels // 2, kernel, rate))
            channels //= 2
            self.resblocks.append(nn.ModuleList(_AMPBlock(channels, k, (1, 3, 5)) for k in (3, 7, 11)))
        self.activation_post = AntiAliased(SnakeBeta(channels))
        self.conv_post = _conv(channels, 1, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_pre(x)
        for up, blocks in zip(self.ups, self.resblocks, strict=True):
            x = up(x)
            x = sum(block(x) for block in blocks) / len(blocks)
        return torch.tanh(self.conv_post(self.activation_post(x)))


@architecture(
    "bigvgan_base",
    inputs=lambda: (torch.zeros(1, 100, 8),),
    source="Lee et al., BigVGAN (arXiv 2206.04658), bigvgan_base_24khz_100band.json of the published code",
    period=(256,),
    gradient_period=(1,),
    rules="EV103 EV106",
    forbidden="EV101 EV102",
    simulate={"head": "conv_post"},
    notes="torch.onnx.export merges activations that filter the same signal by the same filter: fewer layers, "
    "compared with the graph in which they are merged.",
)
def _bigvgan_base(width: float) -> nn.Module:
    return BigVGAN(scaled(512, width, 16), (8, 8, 2, 2), (16, 16, 4, 4))
