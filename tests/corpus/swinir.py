"""Super-resolution by windowed attention, channels times ``width``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from corpus import architecture, scaled
from corpus.transformers_ import SwinBlock


class SwinIR(nn.Module):
    def __init__(self, width: int, groups: int, depth: int, heads: int, features: int, side: int = 8) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(3, width, 3, padding=1)
        self.groups = nn.ModuleList(
            nn.Sequential(*[SwinBlock(width, heads, side, i % 2 * side // 2, 2) for i in range(depth)])
            for _ in range(groups)
        )
        self.convs = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(groups))
        self.norm = nn.LayerNorm(width)
        self.conv_after_body = nn.Conv2d(width, width, 3, padding=1)
        self.conv_before_upsample = nn.Sequential(nn.Conv2d(width, features, 3, padding=1), nn.LeakyReLU())
        steps = [(nn.Conv2d(features, 4 * features, 3, padding=1), nn.PixelShuffle(2)) for _ in range(2)]
        self.upsample = nn.Sequential(*[layer for step in steps for layer in step])
        self.conv_last = nn.Conv2d(features, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        first = self.conv_first(image)
        x = first
        for group, conv in zip(self.groups, self.convs, strict=True):
            x = x + conv(group(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = first + self.conv_after_body(x)
        return self.conv_last(self.upsample(self.conv_before_upsample(x)))


@architecture(
    "swinir_x4",
    inputs=lambda: (torch.zeros(1, 3, 32, 32),),
    source="Liang et al., SwinIR (arXiv 2108.10257), classical super-resolution x4; 2 groups of 2 blocks, not 6 of 6",
    period=(4,),
    gradient_period=(8,),
    rules="EV105",
    forbidden="EV101 EV102",
    simulate_backward={"borders": "canvas", "inputs": lambda: (torch.zeros(1, 3, 128, 128),)},
    prior=False,
    gates=True,
    notes="Position biases and windows give the gradient a pattern of the window's size, 8 pixels.",
    simulate={"head": "conv_last"},
)
def _swinir_x4(width: float) -> nn.Module:
    return SwinIR(scaled(180, width, 6), 2, 2, 6, scaled(64, width))
