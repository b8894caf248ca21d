"""Image classifiers, for their gradients, from their published configurations, channels times ``width``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from corpus import architecture, scaled

CLASSES = 10


class ConvNormAct(nn.Sequential):
    """Convolution that keeps the size at stride 1, batch normalisation, activation."""

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        act: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(after), act())


class GlobalHead(nn.Sequential):
    """Global average pooling and a linear layer."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))


# ------------------------------------------------------------------------------------------------ ResNet


class BlurPool(nn.Module):
    """Zhang's anti-aliased down-sampling by 2 with ``[1, 3, 3, 1]`` in each direction."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        taps = taps[:, None] * taps[None, :]
        self.register_buffer("filt", (taps / taps.sum())[None, None].repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 2, 1, 2), mode="reflect"), self.filt, stride=2, groups=x.shape[1])


class _Residual(nn.Module):
    """Basic block (two ``k3``) or bottleneck (``k1 k3 k1``), the stride at the ``k3`` or in a BlurPool after it."""

    def __init__(self, before: int, width: int, stride: int, bottleneck: bool, blur: bool) -> None:
        super().__init__()
        after = 4 * width if bottleneck else width
        step = 1 if blur else stride
        low = [BlurPool(width)] if blur and stride > 1 else []
        if bottleneck:
            body = [
                ConvNormAct(before, width, 1),
                ConvNormAct(width, width, 3, step),
                *low,
                nn.Conv2d(width, after, 1, bias=False),
            ]
        else:
            body = [ConvNormAct(before, width, 3, step), *low, nn.Conv2d(width, after, 3, 1, 1, bias=False)]
        self.body = nn.Sequential(*body, nn.BatchNorm2d(after))
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or before != after:
            low = [BlurPool(before)] if blur and stride > 1 else []
            self.shortcut = nn.Sequential(*low, nn.Conv2d(before, after, 1, step, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def resnet(width: int, counts: Sequence[int], *, bottleneck: bool = False, blur: bool = False) -> nn.Module:
    """``k7 s2``, max pooling ``k3 s2`` (``blur``: max pooling ``k2 s1``, then BlurPool), four stages."""
    pool = [nn.MaxPool2d(2, 1), BlurPool(width)] if blur else [nn.MaxPool2d(3, 2, 1)]
    layers: list[nn.Module] = [ConvNormAct(3, width, 7, 2), *pool]
    before = width
    for stage, count in enumerate(counts):
        inner = width * 2**stage
        for index in range(count):
            layers.append(_Residual(before, inner, 2 if stage and not index else 1, bottleneck, blur))
            before = 4 * inner if bottleneck else inner
    return nn.Sequential(*layers, GlobalHead(before))


@architecture(
    "resnet18",
    inputs=lambda: (torch.zeros(1, 3, 64, 64),),
    source="He et al., ResNet (arXiv 1512.03385), table 1",
    period=(None,),
    gradient_period=(32,),
    rules="EV201 EV203",
    simulate=None,
    simulate_backward={"inputs": lambda: (torch.zeros(1, 3, 128, 128),)},
    notes="The output has no lattice.",
)
def _resnet18(width: float) -> nn.Module:
    return resnet(scaled(64, width), (2, 2, 2, 2))


@architecture(
    "resnet50",
    inputs=lambda: (torch.zeros(1, 3, 64, 64),),
    source="He et al., ResNet (arXiv 1512.03385), table 1; the stride at the 3x3 as in torchvision (v1.5)",
    period=(None,),
    gradient_period=(32,),
    rules="EV201 EV203",
    simulate=None,
    notes="The output has no lattice.",
)
def _resnet50(width: float) -> nn.Module:
    return resnet(scaled(64, width), (3, 4, 6, 3), bottleneck=True)


@architecture(
    "resnet18_blurpool",
    inputs=lambda: (torch.zeros(1, 3, 64, 64),),
    source="Zhang, Making convolutional networks shift-invariant again (arXiv 1904.11486), filter_size=4, pool_only",
    period=(None,),
    gradient_period=(2,),
    rules="EV201",
    simulate=None,
    simulate_backward={"borders": "canvas", "inputs": lambda: (torch.zeros(1, 3, 512, 512),)},
    notes="The output has no lattice. Only the first convolution strides without a filter.",
)
def _resnet18_blurpool(width: float) -> nn.Module:
    return resnet(scaled(64, width), (2, 2, 2, 2), blur=True)


# ------------------------------------------------------------------------------------------------ VGG and others


@architecture(
    "vgg16",
    inputs=lambda: (torch.zeros(1, 3, 224, 224),),
    source="Simonyan & Zisserman, VGG (arXiv 1409.1556), table 1, configuration D",
    period=(None,),
    gradient_period=(1,),
    forbidden="EV201 EV202",
    simulate=None,
    notes="The output has no lattice.",
    simulate_backward={"end": "30"},
)
def _vgg16(width: float) -> nn.Module:
    base = scaled(64, width)
    layers: list[nn.Module] = []
    before = 3
    for count, after in zip((2, 2, 3, 3, 3), (base, 2 * base, 4 * base, 8 * base, 8 * base), strict=True):
        for _ in range(count):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
            before = after
        layers.append(nn.MaxPool2d(2, 2))
    hidden = 64 * base
    layers += [nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(before * 49, hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, CLASSES))


@architecture(
    "alexnet",
    inputs=lambda: (torch.zeros(1, 3, 224, 224),),
    source="Krizhevsky, One weird trick (arXiv 1404.5997), as in torchvision",
    period=(None,),
    gradient_period=(32,),
    rules="EV201 EV203",
    simulate=None,
    simulate_backward={"borders": "canvas", "inputs": lambda: (torch.zeros(1, 3, 352, 352),), "end": "12"},
    notes="The output has no lattice.",
)
def _alexnet(width: float) -> nn.Module:
    w = scaled(64, width)
    return nn.Sequential(
        *[nn.Conv2d(3, w, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)],
        *[nn.Conv2d(w, 3 * w, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)],
        *[nn.Conv2d(3 * w, 6 * w, 3, padding=1), nn.ReLU()],
        *[nn.Conv2d(6 * w, 4 * w, 3, padding=1), nn.ReLU()],
        *[nn.Conv2d(4 * w, 4 * w, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)],
        *[nn.AdaptiveAvgPool2d(6), nn.Flatten(), nn.Linear(4 * w * 36, 16 * w), nn.ReLU()],
        *[nn.Linear(16 * w, 16 * w), nn.ReLU(), nn.Linear(16 * w, CLASSES)],
    )


class _Fire(nn.Module):
    def __init__(self, before: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(before, squeeze, 1)
        self.expand1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1(x)), F.relu(self.expand3(x))], 1)


@architecture(
    "squeezenet",
    inputs=lambda: (torch.zeros(1, 3, 255, 255),),
    source="Iandola et al., SqueezeNet (arXiv 1602.07360), version 1.1 of the published code",
    period=(None,),
    gradient_period=(16,),
    rules="EV201 EV203",
    width=1 / 2,
    simulate=None,
    simulate_backward={"borders": "canvas", "inputs": lambda: (torch.zeros(1, 3, 511, 511),)},
    notes="The output has no lattice.",
)
def _squeezenet(width: float) -> nn.Module:
    before = scaled(64, width, 4)
    s = before // 4
    layers: list[nn.Module] = [nn.Conv2d(3, before, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)]
    for squeeze, count in ((s, 2), (2 * s, 2)):
        for _ in range(count):
            layers.append(_Fire(before, squeeze, 4 * squeeze))
            before = 8 * squeeze
        layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
    for squeeze in (3 * s, 3 * s, 4 * s, 4 * s):
        layers.append(_Fire(before, squeeze, 4 * squeeze))
        before = 8 * squeeze
    return nn.Sequential(
        *layers, nn.Dropout(), nn.Conv2d(before, CLASSES, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
