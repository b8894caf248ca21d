"""Restoration with up-sampling inside or in stages: LapSRN, DBPN; and without: DnCNN, RED-Net."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from corpus import architecture, scaled


def image(size: int, channels: int = 1):
    return lambda: (torch.zeros(1, channels, size, size),)


@architecture(
    "lapsrn_x4",
    inputs=image(12),
    source="Lai et al. 2017 (arXiv 1704.03915), section 3.1: k4 s2 p1 for features and pictures, outputs x2 and x4",
    period=(2, 4),
    gradient_period=(1,),
    rules="EV103",
    forbidden="EV101 EV102",
    notes="pictures are up-sampled by a trained k4 s2 that starts from a bilinear kernel",
)
def lapsrn_x4(width: float) -> nn.Module:
    def tower(f: int) -> nn.Module:
        convs = [m for _ in range(10) for m in (nn.Conv2d(f, f, 3, 1, 1), nn.LeakyReLU(0.2))]
        return nn.Sequential(*convs, nn.ConvTranspose2d(f, f, 4, 2, 1), nn.LeakyReLU(0.2))

    class LapSrn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            f = scaled(64, width)
            self.head = nn.Sequential(nn.Conv2d(1, f, 3, 1, 1), nn.LeakyReLU(0.2))
            self.features = nn.ModuleList(tower(f) for _ in range(2))
            self.images = nn.ModuleList(nn.ConvTranspose2d(1, 1, 4, 2, 1, bias=False) for _ in range(2))
            self.residuals = nn.ModuleList(nn.Conv2d(f, 1, 3, 1, 1) for _ in range(2))

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            features, outputs = self.head(x), []
            for feature, enlarge, residual in zip(self.features, self.images, self.residuals, strict=True):
                features = feature(features)
                x = enlarge(x) + residual(features)
                outputs.append(x)
            return tuple(outputs)

    return LapSrn()


@architecture(
    "dncnn",
    inputs=image(16),
    source="Zhang et al. 2017 (arXiv 1608.03981), section III-A: depth 17, residual learning",
    period=(1,),
    gradient_period=(1,),
    forbidden="EV101 EV102 EV103 EV105 EV201 EV301",
)
def dncnn(width: float) -> nn.Module:
    class DnCnn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            f = scaled(64, width)
            middle = [
                m for _ in range(15) for m in (nn.Conv2d(f, f, 3, 1, 1, bias=False), nn.BatchNorm2d(f), nn.ReLU())
            ]
            self.body = nn.Sequential(nn.Conv2d(1, f, 3, 1, 1), nn.ReLU(), *middle, nn.Conv2d(f, 1, 3, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return x - self.body(x)

    return DnCnn()


@architecture(
    "dbpn_x2",
    inputs=image(12, 3),
    source="Haris et al. 2018 (arXiv 1803.02735), section 3: up- and down-projection units, k6 s2 p2; here 2 stages",
    period=(2,),
    gradient_period=(1,),
    rules="EV103",
    forbidden="EV101 EV102 EV202",
)
def dbpn_x2(width: float) -> nn.Module:
    def up(f: int) -> nn.Module:
        return nn.Sequential(nn.ConvTranspose2d(f, f, 6, 2, 2), nn.PReLU(f))

    def down(f: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(f, f, 6, 2, 2), nn.PReLU(f))

    class Unit(nn.Module):
        def __init__(self, f: int, *, rise: bool) -> None:
            super().__init__()
            there, back = (up, down) if rise else (down, up)
            self.first, self.back, self.second = there(f), back(f), there(f)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            return y + self.second(self.back(y) - x)

    class Dbpn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            f = scaled(64, width)
            self.head = nn.Sequential(nn.Conv2d(3, f, 3, 1, 1), nn.PReLU(f), nn.Conv2d(f, f, 1), nn.PReLU(f))
            self.up1, self.down1, self.up2 = Unit(f, rise=True), Unit(f, rise=False), Unit(f, rise=True)
            self.tail = nn.Conv2d(2 * f, 3, 3, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            high = self.up1(self.head(x))
            return self.tail(torch.cat([high, self.up2(self.down1(high))], 1))

    return Dbpn()


@architecture(
    "red_net30",
    inputs=image(16),
    source="Mao et al. 2016 (arXiv 1603.09056), section 3.1: 15 convolutions, 15 stride-1 transposed, symmetric skips",
    period=(1,),
    gradient_period=(1,),
    forbidden="EV101 EV102 EV103",
    notes="a transposed convolution of stride 1 is a convolution",
)
def red_net30(width: float) -> nn.Module:
    class RedNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            f = scaled(64, width)
            self.down = nn.ModuleList(nn.Conv2d(f if i else 1, f, 3, 1, 1) for i in range(15))
            self.up = nn.ModuleList(nn.ConvTranspose2d(f, f if i < 14 else 1, 3, 1, 1) for i in range(15))

        def forward(self, x: Tensor) -> Tensor:
            kept, y = [], x
            for i, conv in enumerate(self.down):
                y = torch.relu(conv(y))
                if i % 2:
                    kept.append(y)
            for i, conv in enumerate(self.up):
                y = conv(y) + kept.pop() if i % 2 and kept else conv(y)
                y = y if i == 14 else torch.relu(y)
            return y + x

    return RedNet()
