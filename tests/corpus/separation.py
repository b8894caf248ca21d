"""Music source separation from published configurations, channels times ``width``."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from corpus import architecture, scaled

# ------------------------------------------------------------------------------------------------ Demucs


class Demucs(nn.Module):
    def __init__(self, channels: int, depth: int = 6, audio: int = 2, sources: int = 4) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        before = audio
        for index in range(depth):
            self.encoder.append(
                nn.Sequential(
                    nn.Conv1d(before, channels, 8, 4), nn.ReLU(), nn.Conv1d(channels, 2 * channels, 1), nn.GLU(dim=1)
                )
            )
            after = before if index else sources * audio
            decode: list[nn.Module] = [nn.Conv1d(channels, 2 * channels, 3), nn.GLU(dim=1)]
            decode += [nn.ConvTranspose1d(channels, after, 8, 4)] + ([nn.ReLU()] if index else [])
            self.decoder.insert(0, nn.Sequential(*decode))
            before, channels = channels, 2 * channels

    def forward(self, x: Tensor) -> Tensor:
        saved = []
        for encode in self.encoder:
            x = encode(x)
            saved.append(x)
        for decode in self.decoder:
            skip = saved.pop()
            extra = skip.shape[-1] - x.shape[-1]
            if extra:
                skip = skip[..., extra // 2 : skip.shape[-1] - (extra - extra // 2)]
            x = decode(x + skip)
        return x


@architecture(
    "demucs_v2",
    inputs=lambda: (torch.zeros(1, 2, 21844),),
    source="Defossez et al., Demucs (arXiv 1911.13254), demucs/model.py v2 with lstm_layers=0 and resample=False",
    period=(4096,),
    gradient_period=(4096,),
    rules="EV103 EV106",
    forbidden="EV101 EV102",
    prior=False,
    notes="The period of 4096 samples is beyond the exact closed form.",
    simulate={"head": "decoder.5.2", "borders": "canvas", "bound": 4096, "inputs": lambda: (torch.zeros(1, 2, 46420),)},
    simulate_backward={"borders": "canvas", "inputs": lambda: (torch.zeros(1, 2, 70996),)},
)
def _demucs_v2(width: float) -> nn.Module:
    return Demucs(scaled(64, width))


# ------------------------------------------------------------------------------------------------ Wave-U-Net


class WaveUNet(nn.Module):
    def __init__(self, filters: int, layers: int = 12, sources: int = 2) -> None:
        super().__init__()
        widths = [1] + [filters * (i + 1) for i in range(layers)]
        self.down = nn.ModuleList(nn.Conv1d(a, b, 15, padding=7) for a, b in pairwise(widths))
        self.bottleneck = nn.Conv1d(widths[-1], filters * (layers + 1), 15, padding=7)
        self.up = nn.ModuleList()
        before = filters * (layers + 1)
        for width in reversed(widths[1:]):
            self.up.append(nn.Conv1d(before + width, width, 5, padding=2))
            before = width
        self.head = nn.Conv1d(before + 1, sources, 1)

    def forward(self, mix: Tensor) -> Tensor:
        x, saved = mix, []
        for conv in self.down:
            x = F.leaky_relu(conv(x), 0.2)
            saved.append(x)
            x = x[..., ::2]
        x = F.leaky_relu(self.bottleneck(x), 0.2)
        for conv in self.up:
            x = F.interpolate(x, scale_factor=2, mode="linear", align_corners=False)
            x = F.leaky_relu(conv(torch.cat([saved.pop(), x], 1)), 0.2)
        return torch.tanh(self.head(torch.cat([mix, x], 1)))


@architecture(
    "wave_u_net",
    inputs=lambda: (torch.zeros(1, 1, 16384),),
    source="Stoller, Ewert & Dixon, Wave-U-Net (arXiv 1806.03185), table 1, same padding; half-pixel interpolation",
    period=(1,),
    gradient_period=(4096,),
    forbidden="EV101 EV102 EV103 EV106",
    width=1 / 6,
    notes="torch.onnx.export spells linear interpolation of one axis out as reads by index: no Resize.",
)
def _wave_u_net(width: float) -> nn.Module:
    return WaveUNet(scaled(24, width))
