"""Decoders of neural audio codecs from their published configurations, channels times ``width``."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from corpus import architecture, scaled

# ------------------------------------------------------------------------------------------------ DAC


class Snake(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.alpha + 1e-9).reciprocal() * torch.sin(self.alpha * x).pow(2)


class _DACResidual(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            Snake(width),
            weight_norm(nn.Conv1d(width, width, 7, padding=3 * dilation, dilation=dilation)),
            Snake(width),
            weight_norm(nn.Conv1d(width, width, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x)
        pad = (x.shape[-1] - y.shape[-1]) // 2
        if pad > 0:
            x = x[..., pad:-pad]
        return x + y


@architecture(
    "dac_decoder",
    inputs=lambda: (torch.zeros(1, 1024, 4),),
    source="Kumar et al., Descript Audio Codec (arXiv 2306.06546), dac/model/dac.py, 44 kHz",
    period=(512,),
    gradient_period=(1,),
    rules="EV103 EV106",
    forbidden="EV101 EV102",
    width=1 / 24,
    simulate={"head": "22"},
)
def _dac_decoder(width: float) -> nn.Module:
    channels, latent, rates = scaled(1536, width, 16), 1024, (8, 8, 4, 2)
    layers: list[nn.Module] = [weight_norm(nn.Conv1d(latent, channels, 7, padding=3))]
    for stride in rates:
        up = nn.ConvTranspose1d(
            channels, channels // 2, 2 * stride, stride, math.ceil(stride / 2), output_padding=stride % 2
        )
        layers += [Snake(channels), weight_norm(up)]
        channels //= 2
        layers += [_DACResidual(channels, d) for d in (1, 3, 9)]
    layers += [Snake(channels), weight_norm(nn.Conv1d(channels, 1, 7, padding=3)), nn.Tanh()]
    return nn.Sequential(*layers)


# ------------------------------------------------------------------------------------------------ SEANet, EnCodec


class CausalConv(nn.Module):
    """All padding before, by reflection (EnCodec) or zeros (SoundStream)."""

    def __init__(self, before: int, after: int, kernel: int, dilation: int = 1, mode: str = "reflect") -> None:
        super().__init__()
        self.mode, self.padding = mode, (kernel - 1) * dilation
        self.conv = weight_norm(nn.Conv1d(before, after, kernel, dilation=dilation))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (self.padding, 0), mode=self.mode))


class CausalUp(nn.Module):
    """``k = 2 s``; what hangs over is cut at the end."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = weight_norm(nn.ConvTranspose1d(before, after, 2 * stride, stride))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)[..., : -self.stride]


class _SEANetBlock(nn.Module):
    def __init__(self, width: int, kernel: int, dilation: int, hidden: int, shortcut: bool, mode: str) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.ELU(), CausalConv(width, hidden, kernel, dilation, mode), nn.ELU(), CausalConv(hidden, width, 1, 1, mode)
        )
        self.shortcut = CausalConv(width, width, 1, 1, mode) if shortcut else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.block(x)


class SkipLSTM(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(2, 0, 1)
        y, _ = self.lstm(x)
        return (y + x).permute(1, 2, 0)


@architecture(
    "encodec_decoder",
    inputs=lambda: (torch.zeros(1, 128, 12),),
    source="Defossez et al., EnCodec (arXiv 2210.13438), 24 kHz; encodec/modules/seanet.py",
    period=(None,),
    gradient_period=(None,),
    allowed_unknown={"lstm": "a recurrent network runs over time; what it does to a pattern is not known in general"},
    prior=False,
    simulate=None,
    simulate_backward=None,
    notes="Not simulated: the state of the LSTM reaches a constant only in the limit.",
)
def _encodec_decoder(width: float) -> nn.Module:
    latent, ratios = 128, (8, 5, 4, 2)
    channels = scaled(512, width, 32)
    layers: list[nn.Module] = [CausalConv(latent, channels, 7), SkipLSTM(channels)]
    for ratio in ratios:
        layers += [nn.ELU(), CausalUp(channels, channels // 2, ratio)]
        channels //= 2
        layers.append(_SEANetBlock(channels, 3, 1, channels // 2, True, "reflect"))
    return nn.Sequential(*layers, nn.ELU(), CausalConv(channels, 1, 7))


@architecture(
    "soundstream_decoder",
    inputs=lambda: (torch.zeros(1, 128, 12),),
    source="Zeghidour et al., SoundStream (arXiv 2107.03312), section III: a SEANet decoder, causal, strides 8 5 4 2",
    period=(320,),
    gradient_period=(1,),
    rules="EV103 EV106",
    forbidden="EV101 EV102",
    simulate={"head": "22.conv", "borders": "canvas", "bound": 320, "inputs": lambda: (torch.zeros(1, 128, 64),)},
    simulate_backward={"borders": "canvas", "inputs": lambda: (torch.zeros(1, 128, 64),)},
    fast=True,
)
def _soundstream_decoder(width: float) -> nn.Module:
    latent, ratios = 128, (8, 5, 4, 2)
    channels = scaled(512, width, 16)
    layers: list[nn.Module] = [CausalConv(latent, channels, 7, mode="constant")]
    for ratio in ratios:
        layers += [nn.ELU(), CausalUp(channels, channels // 2, ratio)]
        channels //= 2
        layers += [_SEANetBlock(channels, 7, d, channels, False, "constant") for d in (1, 3, 9)]
    return nn.Sequential(*layers, nn.ELU(), CausalConv(channels, 1, 7, mode="constant"))
