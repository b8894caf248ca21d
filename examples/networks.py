"""Four small networks that show what ``evenly check`` finds, from their published configurations, narrowed.

Each function takes nothing and returns an ``nn.Module`` in eval mode, freshly initialised from a fixed seed as its
authors did (normal, 0.02), with ``example_inputs``. From this folder::

    evenly check networks:dcgan_generator
    evenly check networks:cyclegan_generator
    evenly check networks:cyclegan_resize_generator
    evenly check networks:strided_discriminator

Kernel sizes, strides and paddings are the published ones; only the channels are fewer.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "cyclegan_generator",
    "cyclegan_resize_generator",
    "dcgan_generator",
    "strided_discriminator",
]


def dcgan_generator() -> nn.Module:
    """DCGAN's generator for 64x64 pixels (Radford, Metz & Chintala, arXiv 1511.06434).

    Transposed convolutions ``k4 s2 p1``: the overlap is even, the phases are free.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        widths = (192, 96, 48, 24)
        layers: list[nn.Module] = [nn.ConvTranspose2d(100, widths[0], 4, 1, 0, bias=False)]
        for before, after in pairwise(widths):
            layers += [nn.BatchNorm2d(before), nn.ReLU(inplace=True)]
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)]
        layers += [nn.BatchNorm2d(widths[-1]), nn.ReLU(inplace=True)]
        layers += [nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1, bias=False), nn.Tanh()]
        return _finished(nn.Sequential(*layers), (1, 100, 1, 1))


def cyclegan_generator() -> nn.Module:
    """The generator of CycleGAN and of pix2pixHD's first stage (arXiv 1703.10593, 1711.11585).

    It up-samples by transposed convolutions ``k3 s2 p1`` with output padding 1: the overlap is uneven.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return _finished(_Translator(_transposed), (1, 3, 128, 128))


def cyclegan_resize_generator() -> nn.Module:
    """The same generator with its two transposed convolutions replaced by nearest resize and convolution.

    The remedy of Odena, Dumoulin & Olah 2016 (doi 10.23915/distill.00003).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return _finished(_Translator(_resized), (1, 3, 128, 128))


def strided_discriminator() -> nn.Module:
    """A discriminator that strides with ``k3 s2 p1``, as SRGAN's does (Ledig et al., arXiv 1609.04802).

    Each such layer sends its gradient to some positions four times as often as to others; the layers between even
    that out in part.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        width = 16
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1), nn.LeakyReLU(0.2)]
        layers += _strided(width, width, 2)
        for before, after in pairwise((width, 2 * width, 4 * width, 8 * width)):
            layers += _strided(before, after, 1) + _strided(after, after, 2)
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, 1)]
        return _finished(nn.Sequential(*layers), (1, 3, 96, 96))


class _Block(nn.Module):
    """Residual block with reflection padding."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(width, width, 3),
            nn.InstanceNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class _Translator(nn.Module):
    """``c7s1-f, d2f, d4f, R4f x 9, u2f, uf, c7s1-3`` in the notation of CycleGAN's appendix, ``f`` = 16."""

    def __init__(self, upsample: Callable[[int, int], nn.Module], width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7), nn.InstanceNorm2d(width), nn.ReLU(inplace=True)
        )
        self.down1 = _down(width, 2 * width)
        self.down2 = _down(2 * width, 4 * width)
        self.blocks = nn.Sequential(*[_Block(4 * width) for _ in range(9)])
        self.up1 = upsample(4 * width, 2 * width)
        self.up2 = upsample(2 * width, width)
        self.head = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.down2(self.down1(self.stem(x))))
        out: Tensor = self.head(self.up2(self.up1(x)))
        return out


def _down(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.InstanceNorm2d(after), nn.ReLU(inplace=True))


def _transposed(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(before, after, 3, 2, 1, output_padding=1), nn.InstanceNorm2d(after), nn.ReLU(inplace=True)
    )


def _resized(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.ReflectionPad2d(1),
        nn.Conv2d(before, after, 3),
        nn.InstanceNorm2d(after),
        nn.ReLU(inplace=True),
    )


def _strided(before: int, after: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]


def _finished(network: nn.Module, *shapes: tuple[int, ...]) -> nn.Module:
    """Initialise as DCGAN and CycleGAN do, switch to eval mode, add example inputs."""
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(part.weight, 0.0, 0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, 0.02)
    network.example_inputs = tuple(torch.randn(shape) for shape in shapes)  # type: ignore[assignment]
    return network.eval()
