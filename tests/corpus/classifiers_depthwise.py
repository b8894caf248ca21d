"""Classifiers of depthwise convolutions: MobileNetV2, EfficientNet and ConvNeXt, channels times ``width``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from corpus import architecture, scaled
from corpus.classifiers import CLASSES, ConvNormAct, GlobalHead

# ------------------------------------------------------------------------------------------------ MobileNetV2 and after


class _SqueezeExcite(nn.Module):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.expand(F.silu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * gate.sigmoid()


class _Inverted(nn.Module):
    """Expand, depthwise, (squeeze and excite,) project; residual where the shape stays."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expand: int, excite: bool) -> None:
        super().__init__()
        act = nn.SiLU if excite else nn.ReLU6
        hidden = before * expand
        layers: list[nn.Module] = [ConvNormAct(before, hidden, 1, act=act)] if expand > 1 else []
        layers.append(ConvNormAct(hidden, hidden, kernel, stride, hidden, act))
        if excite:
            layers.append(_SqueezeExcite(hidden, max(1, before // 4)))
        self.body = nn.Sequential(*layers, nn.Conv2d(hidden, after, 1, bias=False), nn.BatchNorm2d(after))
        self.residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


def _inverted_stages(rows: Sequence[Sequence[int]], first: int, last: int, width: float, excite: bool) -> nn.Module:
    """Rows: expansion, channels, repeats, stride, kernel."""
    act = nn.SiLU if excite else nn.ReLU6
    before = scaled(first, width)
    layers: list[nn.Module] = [ConvNormAct(3, before, 3, 2, act=act)]
    for expand, channels, repeats, stride, kernel in rows:
        after = scaled(channels, width)
        for index in range(repeats):
            layers.append(_Inverted(before, after, kernel, 1 if index else stride, expand, excite))
            before = after
    return nn.Sequential(*layers, ConvNormAct(before, scaled(last, width), 1, act=act), GlobalHead(scaled(last, width)))


@architecture(
    "mobilenet_v2",
    inputs=lambda: (torch.zeros(1, 3, 64, 64),),
    source="Sandler et al., MobileNetV2 (arXiv 1801.04381), table 2",
    period=(None,),
    gradient_period=(32,),
    rules="EV201",
    simulate=None,
    notes="The output has no lattice.",
)
def _mobilenet_v2(width: float) -> nn.Module:
    rows = (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 32, 3, 2, 3),
        (6, 64, 4, 2, 3),
        (6, 96, 3, 1, 3),
        (6, 160, 3, 2, 3),
        (6, 320, 1, 1, 3),
    )
    return _inverted_stages(rows, 32, 1280, width, excite=False)


@architecture(
    "efficientnet_b0",
    inputs=lambda: (torch.zeros(1, 3, 64, 64),),
    source="Tan & Le, EfficientNet (arXiv 1905.11946), table 1",
    period=(None,),
    gradient_period=(32,),
    rules="EV201",
    simulate=None,
    gates=True,
    notes="The output has no lattice. Squeeze and excite multiplies all positions by the same number.",
)
def _efficientnet_b0(width: float) -> nn.Module:
    rows = (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 40, 2, 2, 5),
        (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    )
    return _inverted_stages(rows, 32, 1280, width, excite=True)


# ------------------------------------------------------------------------------------------------ ConvNeXt


class LayerNorm2d(nn.LayerNorm):
    """Over the channels at every position."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _ConvNeXt(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        y = self.gamma * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


@architecture(
    "convnext_tiny",
    inputs=lambda: (torch.zeros(1, 3, 64, 64),),
    source="Liu et al., ConvNeXt (arXiv 2201.03545), table 9, ConvNeXt-T",
    period=(None,),
    gradient_period=(32,),
    forbidden="EV201 EV202 EV203",
    simulate=None,
    notes="The output has no lattice.",
)
def _convnext_tiny(width: float) -> nn.Module:
    widths = tuple(scaled(c, width) for c in (96, 192, 384, 768))
    layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 4), LayerNorm2d(widths[0], eps=1e-6)]
    for stage, count in enumerate((3, 3, 9, 3)):
        if stage:
            layers += [LayerNorm2d(widths[stage - 1], eps=1e-6), nn.Conv2d(widths[stage - 1], widths[stage], 2, 2)]
        layers += [_ConvNeXt(widths[stage]) for _ in range(count)]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(widths[-1], eps=1e-6))
    return nn.Sequential(*layers, head, nn.Linear(widths[-1], CLASSES))
