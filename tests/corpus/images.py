"""Image-to-image translation, style transfer and their discriminators."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from corpus import architecture, scaled


def image(size: int, channels: int = 3):
    return lambda: (torch.zeros(1, channels, size, size),)


@architecture(
    "pix2pix_unet256",
    inputs=image(256),
    source="Isola et al. 2017 (arXiv 1611.07004), appendix 6.1.1; UnetGenerator of pytorch-CycleGAN-and-pix2pix",
    period=(256,),
    gradient_period=(256,),
    rules="EV103 EV106",
    forbidden="EV101 EV102",
    prior=False,
    notes="eight levels of k4 s2 down to one position, so the period is the whole picture: no closed form",
)
def pix2pix_unet256(width: float) -> nn.Module:
    class Level(nn.Module):
        def __init__(self, outer: int, inner: int, deeper: nn.Module | None, *, outermost: bool = False) -> None:
            super().__init__()
            self.outermost = outermost
            first = 3 if outermost else outer
            down: list[nn.Module] = [] if outermost else [nn.LeakyReLU(0.2)]
            down.append(nn.Conv2d(first, inner, 4, 2, 1, bias=False))
            if deeper is not None and not outermost:
                down.append(nn.BatchNorm2d(inner))
            up: list[nn.Module] = [nn.ReLU()]
            up.append(nn.ConvTranspose2d(inner * (1 if deeper is None else 2), first, 4, 2, 1, bias=outermost))
            up.append(nn.Tanh() if outermost else nn.BatchNorm2d(outer))
            self.down, self.up = nn.Sequential(*down), nn.Sequential(*up)
            self.deeper = nn.Identity() if deeper is None else deeper

        def forward(self, x: Tensor) -> Tensor:
            y = self.up(self.deeper(self.down(x)))
            return y if self.outermost else torch.cat([x, y], 1)

    f = scaled(64, width)
    level = Level(8 * f, 8 * f, None)
    for outer, inner in ((8, 8), (8, 8), (8, 8), (4, 8), (2, 4), (1, 2)):
        level = Level(outer * f, inner * f, level)
    return Level(3, f, level, outermost=True)


def discriminator_tower(i: int, f: int, strides: tuple[int, ...], norm: Callable[[int], nn.Module]) -> list[nn.Module]:
    """k4 p1 convolutions with leaky ReLU, normalised but for the first."""
    layers: list[nn.Module] = []
    for level, stride in enumerate(strides):
        o = f * min(2**level, 8)
        layers.append(nn.Conv2d(i, o, 4, stride, 1))
        if level:
            layers.append(norm(o))
        layers.append(nn.LeakyReLU(0.2))
        i = o
    return layers


@architecture(
    "patchgan70",
    inputs=image(64, 6),
    source="Isola et al. 2017 (arXiv 1611.07004), appendix 6.1.2: 70x70 discriminator",
    period=(1,),
    gradient_period=(8,),
    forbidden="EV101 EV102 EV103 EV202",
    simulate={"inputs": image(128, 6), "borders": "canvas", "bound": 1},
    simulate_backward={"borders": "canvas", "inputs": image(256, 6)},
    notes="k4 s1 p1 shrinks the field by one, so it does not fit a torus",
)
def patchgan70(width: float) -> nn.Module:
    f = scaled(64, width)
    tower = discriminator_tower(6, f, (2, 2, 2, 1), nn.BatchNorm2d)
    return nn.Sequential(*tower, nn.Conv2d(8 * f, 1, 4, 1, 1))


@architecture(
    "dcgan_discriminator",
    inputs=image(64),
    source="Radford et al. 2016 (arXiv 1511.06434); kernels of pytorch/examples/dcgan/main.py",
    period=(None,),
    gradient_period=(16,),
    forbidden="EV101 EV102 EV103 EV202",
    simulate=None,
    simulate_backward={"inputs": image(256), "borders": "canvas"},
    notes="one number per picture: the last k4 convolution covers the whole 4x4 field; no lattice at the output",
)
def dcgan_discriminator(width: float) -> nn.Module:
    f = scaled(64, width)
    tower = discriminator_tower(3, f, (2, 2, 2, 2), nn.BatchNorm2d)
    return nn.Sequential(*tower, nn.Conv2d(8 * f, 1, 4, 1, 0), nn.Sigmoid())


class Residual(nn.Module):
    """Two 3x3 convolutions with reflection padding and instance normalisation."""

    def __init__(self, channels: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        block: list[nn.Module] = []
        for last in (False, True):
            block += [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3), norm(channels)]
            block += [] if last else [nn.ReLU()]
        self.block = nn.Sequential(*block)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


def translator(f: int, downs: int, blocks: int, up: Callable[[int, int], nn.Module]) -> nn.Sequential:
    """The generator of Johnson et al. as CycleGAN and pix2pixHD use it."""
    norm = nn.InstanceNorm2d
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, f, 7), norm(f), nn.ReLU()]
    for i in range(downs):
        layers += [nn.Conv2d(f * 2**i, f * 2 ** (i + 1), 3, 2, 1), norm(f * 2 ** (i + 1)), nn.ReLU()]
    layers += [Residual(f * 2**downs, norm) for _ in range(blocks)]
    for i in range(downs, 0, -1):
        layers += [up(f * 2**i, f * 2 ** (i - 1)), norm(f * 2 ** (i - 1)), nn.ReLU()]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(f, 3, 7), nn.Tanh())


def transposed(i: int, o: int) -> nn.Module:
    return nn.ConvTranspose2d(i, o, 3, 2, 1, output_padding=1)


def resize_conv(i: int, o: int) -> nn.Module:
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1), nn.Conv2d(i, o, 3))


@architecture(
    "cyclegan_resnet9",
    inputs=image(32),
    source="Zhu et al. 2017 (arXiv 1703.10593), appendix 7.2; ResnetGenerator, 9 blocks",
    period=(4,),
    gradient_period=(4,),
    rules="EV101 EV106 EV201",
    forbidden="EV102",
    fast=True,
)
def cyclegan_resnet9(width: float) -> nn.Module:
    return translator(scaled(64, width), 2, 9, transposed)


@architecture(
    "cyclegan_resize_conv",
    inputs=image(32),
    source="Zhu et al. 2017 with the resize-convolution of Odena et al. 2016 (doi 10.23915/distill.00003)",
    period=(1,),
    gradient_period=(4,),
    rules="EV201",
    forbidden="EV101 EV102 EV103 EV301",
)
def cyclegan_resize_conv(width: float) -> nn.Module:
    return translator(scaled(64, width), 2, 9, resize_conv)


@architecture(
    "pix2pixhd_global",
    inputs=image(64),
    source="Wang et al. 2018 (arXiv 1711.11585), appendix A: c7s1-64, d128..d1024, R1024 x9, u512..u64, c7s1-3",
    period=(16,),
    gradient_period=(16,),
    rules="EV101 EV106 EV201",
    forbidden="EV102",
    width=1 / 16,
)
def pix2pixhd_global(width: float) -> nn.Module:
    return translator(scaled(64, width), 4, 9, transposed)


class CroppedResidual(nn.Module):
    """Unpadded residual block whose shortcut is cropped by two on every side."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, channels, 3), nn.Conv2d(channels, channels, 3)
        self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return y + x[:, :, 2:-2, 2:-2]


@architecture(
    "fast_style_johnson",
    inputs=image(64),
    source="Johnson et al. 2016 (arXiv 1603.08155), supplementary table 1: unpadded residual blocks, k3 s2 transposed",
    period=(4,),
    gradient_period=(4,),
    rules="EV101 EV201",
    forbidden="EV102",
    simulate={"inputs": image(160), "borders": "canvas", "bound": 4},
    simulate_backward={"inputs": image(128), "borders": "canvas"},
    notes="published with 40 pixels of reflection padding in front so that the unpadded blocks give the input's size",
)
def fast_style_johnson(width: float) -> nn.Module:
    f = scaled(32, width)

    def block(conv: nn.Module, channels: int) -> list[nn.Module]:
        return [conv, nn.BatchNorm2d(channels), nn.ReLU()]

    layers: list[nn.Module] = [nn.ReflectionPad2d(40), *block(nn.Conv2d(3, f, 9, 1, 4), f)]
    layers += [*block(nn.Conv2d(f, 2 * f, 3, 2, 1), 2 * f), *block(nn.Conv2d(2 * f, 4 * f, 3, 2, 1), 4 * f)]
    layers += [CroppedResidual(4 * f) for _ in range(5)]
    layers += [*block(transposed(4 * f, 2 * f), 2 * f), *block(transposed(2 * f, f), f)]
    return nn.Sequential(*layers, nn.Conv2d(f, 3, 9, 1, 4), nn.Tanh())


@architecture(
    "fast_style_dumoulin",
    inputs=image(32),
    source="Dumoulin et al. 2017 (arXiv 1610.07629), table 1: nearest up-sampling, conditional instance normalisation",
    period=(1,),
    gradient_period=(4,),
    rules="EV201",
    forbidden="EV101 EV102 EV103 EV301",
)
def fast_style_dumoulin(width: float) -> nn.Module:
    f = scaled(32, width)

    def block(i: int, o: int, k: int, stride: int = 1, *, act: bool = True) -> list[nn.Module]:
        conv = nn.Conv2d(i, o, k, stride, k // 2, padding_mode="reflect")
        return [conv, nn.InstanceNorm2d(o, affine=True), *([nn.ReLU()] if act else [])]

    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(*block(4 * f, 4 * f, 3), *block(4 * f, 4 * f, 3, act=False))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.block(x)

    layers = [*block(3, f, 9), *block(f, 2 * f, 3, 2), *block(2 * f, 4 * f, 3, 2), *(Shortcut() for _ in range(5))]
    layers += [nn.UpsamplingNearest2d(scale_factor=2), *block(4 * f, 2 * f, 3)]
    layers += [nn.UpsamplingNearest2d(scale_factor=2), *block(2 * f, f, 3)]
    return nn.Sequential(*layers, *block(f, 3, 9, act=False), nn.Sigmoid())
