"""Generators of adversarial networks that start from a latent vector."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from corpus import architecture, scaled

NOISE = "the latent has one position; simulations put a constant where the 4x4 lattice is born"


def latent(channels: int = 100, *sizes: int):
    return lambda: (torch.zeros(1, channels, *sizes),)


@architecture(
    "dcgan_generator",
    inputs=latent(100, 1, 1),
    source="Radford et al. 2016 (arXiv 1511.06434), figure 1; kernels of pytorch/examples/dcgan/main.py",
    period=(16,),
    gradient_period=(None,),
    rules="EV103 EV106",
    forbidden="EV101 EV102",
    start="main.0",
    simulate={"start_size": (4, 4)},
    simulate_backward=None,
    fast=True,
    notes=NOISE,
)
def dcgan_generator(width: float) -> nn.Module:
    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            f = scaled(64, width)
            layers: list[nn.Module] = [nn.ConvTranspose2d(100, 8 * f, 4, 1, 0, bias=False)]
            for i in (8, 4, 2):
                layers += [nn.BatchNorm2d(i * f), nn.ReLU(True)]
                layers += [nn.ConvTranspose2d(i * f, i // 2 * f, 4, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(f), nn.ReLU(True), nn.ConvTranspose2d(f, 3, 4, 2, 1, bias=False), nn.Tanh()]
            self.main = nn.Sequential(*layers)

        def forward(self, z: Tensor) -> Tensor:
            return self.main(z)

    return Generator()


@architecture(
    "progan_generator",
    inputs=latent(64, 1, 1),
    source="Karras et al. 2018 (arXiv 1710.10196), table 2: 4x4 convolution padded by 3, then nearest x2 and two 3x3",
    period=(1,),
    gradient_period=(None,),
    rules="EV301",
    forbidden="EV101 EV102 EV103",
    start="first",
    simulate={"start_size": (4, 4)},
    simulate_backward=None,
    onnx=False,
    notes=NOISE + "; PyTorch's exporter drops the 1e-8 of the pixel norm, so the file is another network (0/0 at zero)",
)
def progan_generator(width: float) -> nn.Module:
    class PixelNorm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)

    class Block(nn.Module):
        def __init__(self, i: int, o: int) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(i, o, 3, 1, 1), nn.Conv2d(o, o, 3, 1, 1)
            self.norm = PixelNorm()

        def forward(self, x: Tensor) -> Tensor:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = self.norm(F.leaky_relu(self.conv1(x), 0.2))
            return self.norm(F.leaky_relu(self.conv2(x), 0.2))

    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            c = [scaled(n, width) for n in (512, 512, 512, 512, 256, 128)]
            self.norm = PixelNorm()
            self.first = nn.Conv2d(64, c[0], 4, 1, 3)
            self.second = nn.Conv2d(c[0], c[0], 3, 1, 1)
            self.blocks = nn.ModuleList(Block(i, o) for i, o in pairwise(c))
            self.to_rgb = nn.Conv2d(c[-1], 3, 1)

        def forward(self, z: Tensor) -> Tensor:
            x = self.norm(F.leaky_relu(self.first(self.norm(z)), 0.2))
            x = self.norm(F.leaky_relu(self.second(x), 0.2))
            for block in self.blocks:
                x = block(x)
            return self.to_rgb(x)

    return Generator()


class NearestBlock(nn.Module):
    """Pre-activation residual block that doubles the size by nearest interpolation in both branches."""

    def __init__(self, i: int, o: int, condition: int = 0) -> None:
        super().__init__()
        wrap = nn.utils.parametrizations.spectral_norm
        self.bn1, self.bn2 = nn.BatchNorm2d(i, affine=not condition), nn.BatchNorm2d(o, affine=not condition)
        self.conv1, self.conv2 = wrap(nn.Conv2d(i, o, 3, 1, 1)), wrap(nn.Conv2d(o, o, 3, 1, 1))
        self.shortcut = wrap(nn.Conv2d(i, o, 1))
        self.gains = nn.ModuleList(nn.Linear(condition, n) for n in (i, o)) if condition else None
        self.shifts = nn.ModuleList(nn.Linear(condition, n) for n in (i, o)) if condition else None

    def _modulate(self, x: Tensor, y: Tensor | None, which: int) -> Tensor:
        if self.gains is None or self.shifts is None or y is None:
            return x
        return x * (1 + self.gains[which](y))[:, :, None, None] + self.shifts[which](y)[:, :, None, None]

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = F.relu(self._modulate(self.bn1(x), y, 0))
        h = self.conv1(F.interpolate(h, scale_factor=2, mode="nearest"))
        h = self.conv2(F.relu(self._modulate(self.bn2(h), y, 1)))
        return h + self.shortcut(F.interpolate(x, scale_factor=2, mode="nearest"))


@architecture(
    "sngan_resnet_generator",
    inputs=latent(128),
    source="Miyato et al. 2018 (arXiv 1802.05957), table 4: ResNet for CIFAR-10",
    period=(1,),
    gradient_period=(None,),
    rules="EV301",
    forbidden="EV101 EV102 EV103",
    start="view",
    simulate={"start_size": (4, 4)},
    simulate_backward=None,
    notes="the lattice is born in the reshape after the dense layer",
)
def sngan_resnet_generator(width: float) -> nn.Module:
    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            f = scaled(256, width)
            self.dense = nn.Linear(128, 4 * 4 * f)
            self.view = nn.Unflatten(1, (f, 4, 4))
            self.blocks = nn.Sequential(*(NearestBlock(f, f) for _ in range(3)))
            self.head = nn.Sequential(nn.BatchNorm2d(f), nn.ReLU(), nn.Conv2d(f, 3, 3, 1, 1), nn.Tanh())

        def forward(self, z: Tensor) -> Tensor:
            return self.head(self.blocks(self.view(self.dense(z))))

    return Generator()


class SelfAttention(nn.Module):
    """Zhang et al. 2019 (arXiv 1805.08318), figure 2; with ``pool`` keys and values as in BigGAN."""

    def __init__(self, channels: int, *, pool: bool = False) -> None:
        super().__init__()
        small, value = max(1, channels // 8), max(1, channels // 2) if pool else channels
        self.pool = pool
        self.query, self.key = nn.Conv2d(channels, small, 1), nn.Conv2d(channels, small, 1)
        self.value = nn.Conv2d(channels, value, 1)
        self.out = nn.Conv2d(value, channels, 1) if pool else nn.Identity()
        self.gamma = nn.Parameter(torch.ones(1))  # published start: 0, which would hide the attention

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        query, key, value = self.query(x), self.key(x), self.value(x)
        if self.pool:
            key, value = F.max_pool2d(key, 2), F.max_pool2d(value, 2)
        scores = torch.softmax(torch.bmm(query.flatten(2).transpose(1, 2), key.flatten(2)), dim=-1)
        mixed = torch.bmm(value.flatten(2), scores.transpose(1, 2)).view(b, -1, h, w)
        return x + self.gamma * self.out(mixed)


@architecture(
    "sagan_generator",
    inputs=latent(128, 1, 1),
    source="Zhang et al. 2019 (arXiv 1805.08318); transposed-convolution form of heykeems/self-attention-gan-pytorch",
    period=(16,),
    gradient_period=(None,),
    rules="EV103 EV106",
    forbidden="EV101 EV102",
    prior=False,
    gates=True,
    start="l1.0",
    simulate={"start_size": (4, 4)},
    simulate_backward=None,
    notes=NOISE,
)
def sagan_generator(width: float) -> nn.Module:
    wrap = nn.utils.parametrizations.spectral_norm

    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            c = [scaled(n, width, 8, 8) for n in (512, 256, 128, 64)]

            def block(i: int, o: int, *numbers: int) -> nn.Module:
                return nn.Sequential(wrap(nn.ConvTranspose2d(i, o, *numbers)), nn.BatchNorm2d(o), nn.ReLU())

            self.l1 = block(128, c[0], 4)
            self.l2, self.l3, self.l4 = (block(i, o, 4, 2, 1) for i, o in pairwise(c))
            self.attn1, self.attn2 = SelfAttention(c[2]), SelfAttention(c[3])
            self.last = nn.Sequential(nn.ConvTranspose2d(c[3], 3, 4, 2, 1), nn.Tanh())

        def forward(self, z: Tensor) -> Tensor:
            x = self.attn1(self.l3(self.l2(self.l1(z))))
            return self.last(self.attn2(self.l4(x)))

    return Generator()


@architecture(
    "biggan_generator",
    inputs=lambda: (torch.zeros(1, 120), torch.zeros(1, 128)),
    source="Brock et al. 2019 (arXiv 1809.11096), table 4: 128x128, conditional normalisation, attention at 64x64",
    period=(1,),
    gradient_period=(None, None),
    rules="EV301",
    forbidden="EV101 EV102 EV103",
    prior=False,
    gates=True,
    start="view",
    simulate={"start_size": (4, 4)},
    simulate_backward=None,
    notes="only the attention's 2x2 max pool has a stride, and nothing reads its lattice by position",
)
def biggan_generator(width: float) -> nn.Module:
    class Generator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            f = scaled(96, width, 8, 8)
            c = [16 * f, 16 * f, 8 * f, 4 * f, 2 * f, f]
            self.dense = nn.Linear(20, 4 * 4 * c[0])
            self.view = nn.Unflatten(1, (c[0], 4, 4))
            self.blocks = nn.ModuleList(NearestBlock(i, o, 148) for i, o in pairwise(c))
            self.attention = SelfAttention(c[4], pool=True)
            self.head = nn.Sequential(nn.BatchNorm2d(f), nn.ReLU(), nn.Conv2d(f, 3, 3, 1, 1), nn.Tanh())

        def forward(self, z: Tensor, y: Tensor) -> Tensor:
            first, *chunks = z.split(20, 1)
            x = self.view(self.dense(first))
            for i, (block, chunk) in enumerate(zip(self.blocks, chunks, strict=True)):
                x = block(x, torch.cat([y, chunk], 1))
                if i == 3:
                    x = self.attention(x)
            return self.head(x)

    return Generator()
