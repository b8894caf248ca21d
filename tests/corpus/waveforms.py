"""Smaller parts of speech and music synthesis: WaveGAN, mel up-sampling, Vocos; channels times ``width``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from corpus import architecture, scaled

# ------------------------------------------------------------------------------------------------ WaveGAN


class WaveGAN(nn.Module):
    """``d``: the paper's model size."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.fc = nn.Linear(100, 256 * d)
        self.born = nn.Unflatten(1, (16 * d, 16))
        widths = (16 * d, 8 * d, 4 * d, 2 * d, d, 1)
        self.up = nn.ModuleList(nn.ConvTranspose1d(a, b, 25, 4, 11, output_padding=1) for a, b in pairwise(widths))

    def forward(self, z: Tensor) -> Tensor:
        x = F.relu(self.born(self.fc(z)))
        for conv in self.up[:-1]:
            x = F.relu(conv(x))
        return torch.tanh(self.up[-1](x))


@architecture(
    "wavegan_generator",
    inputs=lambda: (torch.zeros(1, 100),),
    source="Donahue, McAuley & Puckette, WaveGAN (arXiv 1802.04208), table 3: kernel 25, stride 4, same padding",
    period=(1024,),
    gradient_period=(None,),
    rules="EV101 EV106",
    start="born",
    simulate={"head": "up.4", "start_size": (4,)},
    simulate_backward=None,
    notes="The input is a latent vector without a lattice, so there is no gradient to simulate.",
)
def _wavegan_generator(width: float) -> nn.Module:
    return WaveGAN(scaled(64, width))


# ------------------------------------------------------------------------------------------------ Parallel WaveGAN


class MelUpsampler(nn.Module):
    """Parallel WaveGAN's ``ConvInUpsampleNetwork``: a picture of one channel, stretched in time and smoothed."""

    def __init__(self, scales: Sequence[int] = (4, 4, 4, 4), mel: int = 80) -> None:
        super().__init__()
        self.scales = tuple(scales)
        self.conv_in = nn.Conv1d(mel, mel, 5, bias=False)
        smooth = [nn.Conv2d(1, 1, (1, 2 * s + 1), padding=(0, s), bias=False) for s in self.scales]
        self.smooth = nn.ModuleList(weight_norm(conv) for conv in smooth)

    def forward(self, mel: Tensor) -> Tensor:
        x = self.conv_in(mel)[:, None]
        for scale, conv in zip(self.scales, self.smooth, strict=True):
            x = conv(F.interpolate(x, scale_factor=(1, scale), mode="nearest"))
        return x[:, 0]


@architecture(
    "parallel_wavegan_upsampler",
    inputs=lambda: (torch.zeros(1, 80, 12),),
    source="Yamamoto, Song & Kim, Parallel WaveGAN (arXiv 1910.11480), ConvInUpsampleNetwork of the public code",
    period=(1,),
    gradient_period=(1,),
    forbidden="EV101 EV102 EV103 EV106",
    notes="The mel bands are the height of a picture of one channel; nothing depends on the width factor.",
    simulate_backward={"borders": "canvas", "inputs": lambda: (torch.zeros(1, 80, 64),)},
)
def _parallel_wavegan_upsampler(width: float) -> nn.Module:
    return MelUpsampler()


# ------------------------------------------------------------------------------------------------ Vocos


class _ConvNeXtBlock1d(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, 3 * width)
        self.pwconv2 = nn.Linear(3 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), 1 / 8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).transpose(1, 2))
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.transpose(1, 2)


class VocosBackbone(nn.Module):
    def __init__(self, width: int, layers: int = 8, n_fft: int = 1024) -> None:
        super().__init__()
        self.embed = nn.Conv1d(100, width, 7, padding=3)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.convnext = nn.ModuleList(_ConvNeXtBlock1d(width) for _ in range(layers))
        self.final_layer_norm = nn.LayerNorm(width, eps=1e-6)
        self.out = nn.Linear(width, n_fft + 2)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(self.embed(mel).transpose(1, 2)).transpose(1, 2)
        for block in self.convnext:
            x = block(x)
        x = self.out(self.final_layer_norm(x.transpose(1, 2))).transpose(1, 2)
        magnitude, phase = x.chunk(2, dim=1)
        magnitude = magnitude.exp().clip(max=1e2)
        return magnitude * phase.cos(), magnitude * phase.sin()


@architecture(
    "vocos_backbone",
    inputs=lambda: (torch.zeros(1, 100, 32),),
    source="Siuzdak, Vocos (arXiv 2306.00814), vocos-mel-24khz, without the inverse Fourier transform",
    period=(1, 1),
    gradient_period=(1,),
    forbidden="EV101 EV102 EV103 EV106",
    fast=True,
)
def _vocos_backbone(width: float) -> nn.Module:
    return VocosBackbone(scaled(512, width))
