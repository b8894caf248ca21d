"""Super-resolution and denoising."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from corpus import architecture, scaled


def image(size: int, channels: int = 3):
    return lambda: (torch.zeros(1, channels, size, size),)


@architecture(
    "srresnet",
    inputs=image(12),
    source="Ledig et al. 2017 (arXiv 1609.04802), figure 4: 16 blocks, two sub-pixel x2 stages (SRGAN's generator)",
    period=(4,),
    gradient_period=(1,),
    rules="EV105",
    forbidden="EV101 EV102",
    fast=True,
)
def srresnet(width: float) -> nn.Module:
    class Block(nn.Module):
        def __init__(self, f: int) -> None:
            super().__init__()
            self.conv1, self.bn1, self.act = nn.Conv2d(f, f, 3, 1, 1), nn.BatchNorm2d(f), nn.PReLU()
            self.conv2, self.bn2 = nn.Conv2d(f, f, 3, 1, 1), nn.BatchNorm2d(f)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))

    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            f = scaled(64, width)
            self.head = nn.Sequential(nn.Conv2d(3, f, 9, 1, 4), nn.PReLU())
            self.blocks = nn.Sequential(*(Block(f) for _ in range(16)), nn.Conv2d(f, f, 3, 1, 1), nn.BatchNorm2d(f))
            up = [m for _ in range(2) for m in (nn.Conv2d(f, 4 * f, 3, 1, 1), nn.PixelShuffle(2), nn.PReLU())]
            self.up = nn.Sequential(*up)
            self.tail = nn.Conv2d(f, 3, 9, 1, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.head(x)
            return torch.tanh(self.tail(self.up(x + self.blocks(x))))

    return Generator()


@architecture(
    "espcn_x3",
    inputs=image(12, 1),
    source="Shi et al. 2016 (arXiv 1609.05158), section 3.2: (5,64) (3,32) (3,r^2), tanh, x3",
    period=(3,),
    gradient_period=(1,),
    rules="EV105",
    forbidden="EV101 EV102",
    fast=True,
)
def espcn_x3(width: float) -> nn.Module:
    a, b = scaled(64, width), scaled(32, width)
    layers: list[nn.Module] = [nn.Conv2d(1, a, 5, 1, 2), nn.Tanh(), nn.Conv2d(a, b, 3, 1, 1), nn.Tanh()]
    return nn.Sequential(*layers, nn.Conv2d(b, 9, 3, 1, 1), nn.PixelShuffle(3))


@architecture(
    "fsrcnn_x3",
    inputs=image(12, 1),
    source="Dong et al. 2016 (arXiv 1608.00367), section 3.2: FSRCNN(56, 12, 4), 9x9 transposed convolution, stride 3",
    period=(3,),
    gradient_period=(1,),
    rules="EV103",
    forbidden="EV101 EV102",
    notes="k9 s3 p4 a2: the kernel is three strides, so the overlap is even",
)
def fsrcnn_x3(width: float) -> nn.Module:
    d, s = scaled(56, width), scaled(12, width)
    layers: list[nn.Module] = [nn.Conv2d(1, d, 5, 1, 2), nn.PReLU(d), nn.Conv2d(d, s, 1), nn.PReLU(s)]
    for _ in range(4):
        layers += [nn.Conv2d(s, s, 3, 1, 1), nn.PReLU(s)]
    layers += [nn.Conv2d(s, d, 1), nn.PReLU(d), nn.ConvTranspose2d(d, 1, 9, 3, 4, output_padding=2)]
    return nn.Sequential(*layers)


class PlainBlock(nn.Module):
    """Residual block without normalisation, its branch scaled."""

    def __init__(self, f: int, scale: float) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(f, f, 3, 1, 1), nn.ReLU(), nn.Conv2d(f, f, 3, 1, 1))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.body(x)


def edsr(width: float, stages: int) -> nn.Module:
    class Edsr(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            f = scaled(64, width)
            self.register_buffer("mean", torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1))
            self.head = nn.Conv2d(3, f, 3, 1, 1)
            self.body = nn.Sequential(*(PlainBlock(f, 0.1) for _ in range(16)), nn.Conv2d(f, f, 3, 1, 1))
            self.up = nn.Sequential(
                *(m for _ in range(stages) for m in (nn.Conv2d(f, 4 * f, 3, 1, 1), nn.PixelShuffle(2)))
            )
            self.tail = nn.Conv2d(f, 3, 3, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.head(x - self.mean)
            return self.tail(self.up(x + self.body(x))) + self.mean

    return Edsr()


OFFSET = "the mean colour is an offset, zero like every bias before training: a file cannot tell the two apart"
EDSR = "Lim et al. 2017 (arXiv 1707.02921), section 3.3 and table 1: baseline with 16 blocks of 64 channels"


@architecture(
    "edsr_x2",
    inputs=image(12),
    source=EDSR + ", x2",
    period=(2,),
    simulate={"zero": ("mean",)},
    notes=OFFSET,
    gradient_period=(1,),
    rules="EV105",
    forbidden="EV101 EV102",
)
def edsr_x2(width: float) -> nn.Module:
    return edsr(width, 1)


@architecture(
    "edsr_x4",
    inputs=image(12),
    source=EDSR + ", x4 in two stages without activation between them",
    period=(4,),
    simulate={"zero": ("mean",)},
    notes=OFFSET,
    gradient_period=(1,),
    rules="EV105",
    forbidden="EV101 EV102",
)
def edsr_x4(width: float) -> nn.Module:
    return edsr(width, 2)


@architecture(
    "rcan_x2",
    inputs=image(12),
    source="Zhang et al. 2018 (arXiv 1807.02758), section 3: channel attention, reduction 16; here 2 groups of 3",
    period=(2,),
    gradient_period=(1,),
    rules="EV105",
    forbidden="EV101 EV102",
    prior=False,
    gates=True,
)
def rcan_x2(width: float) -> nn.Module:
    class ChannelAttention(nn.Module):
        def __init__(self, f: int) -> None:
            super().__init__()
            small = max(1, f // 16)
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.gate = nn.Sequential(nn.Conv2d(f, small, 1), nn.ReLU(), nn.Conv2d(small, f, 1), nn.Sigmoid())

        def forward(self, x: Tensor) -> Tensor:
            return x * self.gate(self.pool(x))

    class Block(nn.Module):
        def __init__(self, f: int) -> None:
            super().__init__()
            body = (nn.Conv2d(f, f, 3, 1, 1), nn.ReLU(), nn.Conv2d(f, f, 3, 1, 1), ChannelAttention(f))
            self.body = nn.Sequential(*body)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.body(x)

    class Group(nn.Module):
        def __init__(self, f: int) -> None:
            super().__init__()
            self.body = nn.Sequential(*(Block(f) for _ in range(3)), nn.Conv2d(f, f, 3, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.body(x)

    f = scaled(64, width, least=16)
    shuffle = (nn.Conv2d(f, 4 * f, 3, 1, 1), nn.PixelShuffle(2))
    return nn.Sequential(nn.Conv2d(3, f, 3, 1, 1), Group(f), Group(f), *shuffle, nn.Conv2d(f, 3, 3, 1, 1))


@architecture(
    "esrgan_rrdb",
    inputs=image(12),
    source="Wang et al. 2018 (arXiv 1809.00219), section 3.1: dense residual blocks, nearest x2 twice; here 2 blocks",
    period=(1,),
    gradient_period=(1,),
    rules="EV301",
    forbidden="EV101 EV102 EV103 EV105",
)
def esrgan_rrdb(width: float) -> nn.Module:
    class Dense(nn.Module):
        def __init__(self, f: int, growth: int) -> None:
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(f + i * growth, growth if i < 4 else f, 3, 1, 1) for i in range(5))

        def forward(self, x: Tensor) -> Tensor:
            parts = [x]
            for conv in self.convs[:-1]:
                parts.append(F.leaky_relu(conv(torch.cat(parts, 1)), 0.2))
            return x + 0.2 * self.convs[-1](torch.cat(parts, 1))

    class Rrdb(nn.Module):
        def __init__(self, f: int, growth: int) -> None:
            super().__init__()
            self.dense = nn.Sequential(*(Dense(f, growth) for _ in range(3)))

        def forward(self, x: Tensor) -> Tensor:
            return x + 0.2 * self.dense(x)

    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            f, growth = scaled(64, width), scaled(32, width)
            self.head = nn.Conv2d(3, f, 3, 1, 1)
            self.body = nn.Sequential(Rrdb(f, growth), Rrdb(f, growth), nn.Conv2d(f, f, 3, 1, 1))
            self.up1, self.up2, self.high = (nn.Conv2d(f, f, 3, 1, 1) for _ in range(3))
            self.last = nn.Conv2d(f, 3, 3, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.head(x)
            x = x + self.body(x)
            for up in (self.up1, self.up2):
                x = F.leaky_relu(up(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
            return self.last(F.leaky_relu(self.high(x), 0.2))

    return Generator()
