"""Classifiers of parallel branches: DenseNet and GoogLeNet, channels times ``width``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from corpus import architecture, scaled
from corpus.classifiers import ConvNormAct, GlobalHead

# ------------------------------------------------------------------------------------------------ DenseNet, GoogLeNet


class _Dense(nn.Module):
    def __init__(self, before: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *[nn.BatchNorm2d(before), nn.ReLU(), nn.Conv2d(before, 4 * growth, 1, bias=False)],
            *[nn.BatchNorm2d(4 * growth), nn.ReLU(), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)],
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


@architecture(
    "densenet121",
    inputs=lambda: (torch.zeros(1, 3, 64, 64),),
    source="Huang et al., DenseNet (arXiv 1608.06993), table 1",
    period=(None,),
    gradient_period=(4,),
    rules="EV201 EV203",
    simulate=None,
    notes="The output has no lattice. Transitions average without overlap, which is even.",
)
def _densenet121(width: float) -> nn.Module:
    growth, counts = scaled(32, width), (6, 12, 24, 16)
    before = 2 * growth
    layers: list[nn.Module] = [ConvNormAct(3, before, 7, 2), nn.MaxPool2d(3, 2, 1)]
    for stage, count in enumerate(counts):
        for _ in range(count):
            layers.append(_Dense(before, growth))
            before += growth
        layers += [nn.BatchNorm2d(before), nn.ReLU()]
        if stage < len(counts) - 1:
            layers += [nn.Conv2d(before, before // 2, 1, bias=False), nn.AvgPool2d(2, 2)]
            before //= 2
    return nn.Sequential(*layers, GlobalHead(before))


class _Inception(nn.Module):
    def __init__(self, before: int, sizes: Sequence[int]) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pool = sizes
        self.one = ConvNormAct(before, one, 1)
        self.three = nn.Sequential(ConvNormAct(before, reduce3, 1), ConvNormAct(reduce3, three, 3))
        self.five = nn.Sequential(ConvNormAct(before, reduce5, 1), ConvNormAct(reduce5, five, 5))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), ConvNormAct(before, pool, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)


# One row per module (its 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5 and pool channels, in sixteenths); None: max pooling.
_GOOGLENET: tuple[tuple[int, ...] | None, ...] = (
    (4, 6, 8, 1, 2, 2),
    (8, 8, 12, 2, 6, 4),
    None,
    (12, 6, 13, 1, 3, 4),
    (10, 7, 14, 2, 4, 4),
    (8, 8, 16, 2, 4, 4),
    (7, 9, 18, 2, 4, 4),
    (16, 10, 20, 2, 8, 8),
    None,
    (16, 10, 20, 2, 8, 8),
    (24, 12, 24, 3, 8, 8),
)


@architecture(
    "googlenet",
    inputs=lambda: (torch.zeros(1, 3, 128, 128),),
    source="Szegedy et al., Inception v1 (arXiv 1409.4842), table 1, with batch normalisation, without auxiliary heads",
    period=(None,),
    gradient_period=(32,),
    rules="EV201 EV203",
    simulate=None,
    simulate_backward={"borders": "canvas", "inputs": lambda: (torch.zeros(1, 3, 768, 768),)},
    notes="The output has no lattice.",
)
def _googlenet(width: float) -> nn.Module:
    unit = scaled(16, width, least=2)
    layers: list[nn.Module] = [ConvNormAct(3, 4 * unit, 7, 2), nn.MaxPool2d(3, 2, ceil_mode=True)]
    layers += [
        ConvNormAct(4 * unit, 4 * unit, 1),
        ConvNormAct(4 * unit, 12 * unit, 3),
        nn.MaxPool2d(3, 2, ceil_mode=True),
    ]
    before = 12 * unit
    for row in _GOOGLENET:
        if row is None:
            layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            continue
        sizes = [n * unit for n in row]
        layers.append(_Inception(before, sizes))
        before = sizes[0] + sizes[2] + sizes[4] + sizes[5]
    return nn.Sequential(*layers, GlobalHead(before))
