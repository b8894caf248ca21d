"""Autoencoders and diffusion networks: VQ-VAE, VQGAN, Stable Diffusion's AutoencoderKL, a diffusion U-Net."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from corpus import architecture, scaled


def field(channels: int, size: int):
    return lambda: (torch.zeros(1, channels, size, size),)


class PlainResidual(nn.Module):
    """``x + conv1(relu(conv3(relu(x))))``, van den Oord et al. 2017 (arXiv 1711.00937), section 4.1."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, hidden, 3, 1, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)


@architecture(
    "vqvae2_decoder",
    inputs=lambda: (torch.zeros(1, 64, 8, 8), torch.zeros(1, 64, 16, 16)),
    source="Razavi et al. 2019 (arXiv 1906.00446), figure 2a; kernels of rosinality/vq-vae-2-pytorch vqvae.py",
    period=(8,),
    gradient_period=(1, 1),
    rules="EV103 EV106",
    forbidden="EV101 EV102",
    fast=True,
    notes="inputs: quantised codes of the top and the bottom level",
)
def vqvae2_decoder(width: float) -> nn.Module:
    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            f, hidden = scaled(128, width), scaled(32, width)
            self.upsample_top = nn.ConvTranspose2d(64, 64, 4, 2, 1)
            self.blocks = nn.Sequential(
                nn.Conv2d(128, f, 3, 1, 1), PlainResidual(f, hidden), PlainResidual(f, hidden), nn.ReLU()
            )
            self.up1, self.up2 = nn.ConvTranspose2d(f, f // 2, 4, 2, 1), nn.ConvTranspose2d(f // 2, 3, 4, 2, 1)

        def forward(self, top: Tensor, bottom: Tensor) -> Tensor:
            x = self.blocks(torch.cat([self.upsample_top(top), bottom], 1))
            return self.up2(F.relu(self.up1(x)))

    return Decoder()


@architecture(
    "vqvae_encoder",
    inputs=field(3, 32),
    source="van den Oord et al. 2017 (arXiv 1711.00937), section 4.1: two k4 s2 convolutions, two residual blocks",
    period=(1,),
    gradient_period=(4,),
    forbidden="EV101 EV102 EV103 EV202",
)
def vqvae_encoder(width: float) -> nn.Module:
    f, hidden = scaled(256, width), scaled(256, width)
    return nn.Sequential(
        nn.Conv2d(3, f, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(f, f, 4, 2, 1),
        PlainResidual(f, hidden),
        PlainResidual(f, hidden),
        nn.ReLU(),
        nn.Conv2d(f, 64, 1),
    )


class NormResidual(nn.Module):
    """Residual block with group normalisation and SiLU, Ho et al. 2020 (arXiv 2006.11239), appendix B."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(4, i), nn.Conv2d(i, o, 3, 1, 1)
        self.norm2, self.conv2 = nn.GroupNorm(4, o), nn.Conv2d(o, o, 3, 1, 1)
        self.shortcut = nn.Conv2d(i, o, 1) if i != o else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        return self.conv2(F.silu(self.norm2(y))) + self.shortcut(x)


class NormAttention(nn.Module):
    """Single-head attention over all positions as in taming-transformers' AttnBlock."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        y = self.norm(x)
        q = self.q(y).reshape(b, c, h * w).permute(0, 2, 1)
        k = self.k(y).reshape(b, c, h * w)
        scores = torch.softmax(torch.bmm(q, k) * c**-0.5, dim=2).permute(0, 2, 1)
        mixed = torch.bmm(self.v(y).reshape(b, c, h * w), scores).reshape(b, c, h, w)
        return x + self.proj_out(mixed)


@architecture(
    "vqgan_decoder",
    inputs=field(256, 4),
    source="Esser et al. 2021 (arXiv 2012.09841), table 7; ch_mult 1,1,2,2,4 of CompVis/taming-transformers",
    period=(1,),
    gradient_period=(1,),
    rules="EV301",
    forbidden="EV101 EV102 EV103",
    prior=False,
    gates=True,
)
def vqgan_decoder(width: float) -> nn.Module:
    class Up(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(channels, channels, 3, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))

    f = scaled(128, width, 4)
    c = [m * f for m in (4, 2, 2, 1, 1)]
    layers: list[nn.Module] = [nn.Conv2d(256, c[0], 3, 1, 1)]
    layers += [NormResidual(c[0], c[0]), NormAttention(c[0]), NormResidual(c[0], c[0])]
    before = c[0]
    for level, channels in enumerate(c):
        for _ in range(2):
            layers.append(NormResidual(before, channels))
            before = channels
            if level == 0:
                layers.append(NormAttention(channels))
        if level < 4:
            layers.append(Up(channels))
    return nn.Sequential(*layers, nn.GroupNorm(4, before), nn.SiLU(), nn.Conv2d(before, 3, 3, 1, 1))


class Sample(nn.Module):
    """A diffusers network whose output is a dataclass, as a plain tensor function."""

    def __init__(self, network: Any, call: str) -> None:
        super().__init__()
        self.network, self.call = network, call

    def forward(self, *inputs: Tensor) -> Tensor:
        return getattr(self, self.call)(*inputs)

    def decode(self, z: Tensor) -> Tensor:
        return self.network.decode(z, return_dict=False)[0]

    def encode(self, x: Tensor) -> Tensor:
        return self.network.encode(x, return_dict=False)[0].parameters

    def denoise(self, x: Tensor, time: Tensor) -> Tensor:
        return self.network(x, time, return_dict=False)[0]


def kl(width: float) -> nn.Module:
    from diffusers import AutoencoderKL

    c = [scaled(n, width, 32, 32) for n in (128, 256, 512, 512)]
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=tuple(c),
        layers_per_block=2,
        latent_channels=4,
    ).eval()


SD = "Rombach et al. 2022 (arXiv 2112.10752), appendix E; diffusers AutoencoderKL, configuration of stable-diffusion-v1"


@architecture(
    "sd_vae_decoder",
    inputs=field(4, 4),
    source=SD,
    period=(1,),
    gradient_period=(1,),
    rules="EV301",
    forbidden="EV101 EV102 EV103",
    prior=False,
    gates=True,
)
def sd_vae_decoder(width: float) -> nn.Module:
    return Sample(kl(width), "decode")


@architecture(
    "sd_vae_encoder",
    inputs=field(3, 32),
    source=SD + "; down-sampling pads only after, k3 s2",
    period=(1,),
    gradient_period=(8,),
    rules="EV201",
    forbidden="EV101 EV102 EV103 EV202",
    prior=False,
    gates=True,
)
def sd_vae_encoder(width: float) -> nn.Module:
    return Sample(kl(width), "encode")


@architecture(
    "diffusion_unet",
    inputs=lambda: (torch.zeros(1, 3, 32, 32), torch.zeros(1, dtype=torch.int64)),
    source="Ho et al. 2020 (arXiv 2006.11239), appendix B; diffusers UNet2DModel, configuration of ddpm-cifar10-32",
    period=(1,),
    gradient_period=(8, None),
    rules="EV201 EV301",
    forbidden="EV101 EV102 EV103",
    prior=False,
    gates=True,
    fast=True,
)
def diffusion_unet(width: float) -> nn.Module:
    from diffusers import UNet2DModel

    c = [scaled(n, width, 32, 32) for n in (128, 256, 256, 256)]
    return Sample(
        UNet2DModel(
            sample_size=32,
            block_out_channels=tuple(c),
            down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
            downsample_padding=0,
            flip_sin_to_cos=False,
            freq_shift=1,
            norm_eps=1e-6,
        ).eval(),
        "denoise",
    )
