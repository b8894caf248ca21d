"""3-D networks, and a 2-D decoder over the frames of a clip, from their published configurations."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from corpus import architecture, scaled

# ------------------------------------------------------------------------------------------------ 3-D U-Net


def _double(before: int, middle: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(before, middle, 3, padding=1),
        nn.BatchNorm3d(middle),
        nn.ReLU(),
        nn.Conv3d(middle, after, 3, padding=1),
        nn.BatchNorm3d(after),
        nn.ReLU(),
    )


class UNet3D(nn.Module):
    """Channels double before each pooling; up-convolutions ``k2 s2`` keep them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        self.encoder = nn.ModuleList([_double(3, w, 2 * w), _double(2 * w, 2 * w, 4 * w), _double(4 * w, 4 * w, 8 * w)])
        self.bottom = _double(8 * w, 8 * w, 16 * w)
        self.up = nn.ModuleList(nn.ConvTranspose3d(c, c, 2, 2) for c in (16 * w, 8 * w, 4 * w))
        self.decoder = nn.ModuleList(_double(3 * c, c, c) for c in (8 * w, 4 * w, 2 * w))
        self.head = nn.Conv3d(2 * w, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        saved = []
        for block in self.encoder:
            x = block(x)
            saved.append(x)
            x = F.max_pool3d(x, 2)
        x = self.bottom(x)
        for up, block in zip(self.up, self.decoder, strict=True):
            x = block(torch.cat([saved.pop(), up(x)], 1))
        return self.head(x)


@architecture(
    "unet_3d",
    inputs=lambda: (torch.zeros(1, 3, 16, 16, 16),),
    source="Cicek et al., 3D U-Net (arXiv 1606.06650), figure 2, with padded convolutions",
    period=(8,),
    gradient_period=(1,),
    rules="EV103 EV106",
    forbidden="EV101 EV102 EV201",
    simulate={"head": "head"},
)
def _unet_3d(width: float) -> nn.Module:
    return UNet3D(scaled(32, width))


# ------------------------------------------------------------------------------------------------ V-Net


class _VBlock(nn.Module):
    def __init__(self, before: int, width: int, count: int) -> None:
        super().__init__()
        self.repeat = width // before
        layers: list[nn.Module] = []
        for index in range(count):
            layers += [nn.Conv3d(before if index == 0 else width, width, 5, padding=2)]
            layers += [nn.PReLU(width)] if index < count - 1 else []
        self.block = nn.Sequential(*layers)
        self.activation = nn.PReLU(width)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x.repeat(1, self.repeat, 1, 1, 1) if self.repeat > 1 else x
        return self.activation(self.block(x) + shortcut)


class VNet(nn.Module):
    """Convolutions ``k5``, down ``k2 s2``, up ``k2 s2``, residual in every stage."""

    def __init__(self, width: int, classes: int = 2) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(5)]
        counts = (1, 2, 3, 3, 3)
        self.encoder = nn.ModuleList(
            _VBlock(1 if i == 0 else w, w, c) for i, (w, c) in enumerate(zip(widths, counts, strict=True))
        )
        self.down = nn.ModuleList(nn.Sequential(nn.Conv3d(a, b, 2, 2), nn.PReLU(b)) for a, b in pairwise(widths))
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        before = widths[-1]
        for skip, count in zip(widths[-2::-1], (3, 3, 2, 1), strict=True):
            self.up.append(nn.Sequential(nn.ConvTranspose3d(before, skip, 2, 2), nn.PReLU(skip)))
            self.decoder.append(_VBlock(2 * skip, 2 * skip, count))
            before = 2 * skip
        self.head = nn.Conv3d(before, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        saved = []
        for index, block in enumerate(self.encoder):
            x = block(x)
            if index < len(self.down):
                saved.append(x)
                x = self.down[index](x)
        for up, block in zip(self.up, self.decoder, strict=True):
            x = block(torch.cat([up(x), saved.pop()], 1))
        return self.head(x).softmax(1)


@architecture(
    "v_net",
    inputs=lambda: (torch.zeros(1, 1, 32, 32, 32),),
    source="Milletari, Navab & Ahmadi, V-Net (arXiv 1606.04797), figure 2; residuals as in the public PyTorch port",
    period=(16,),
    gradient_period=(16,),
    rules="EV103 EV106",
    forbidden="EV101 EV102",
    prior=False,
    notes="The period of 16 x 16 x 16 voxels is beyond the exact closed form.",
)
def _v_net(width: float) -> nn.Module:
    return VNet(scaled(16, width, least=2))


# ------------------------------------------------------------------------------------------------ 3D-GAN


@architecture(
    "gan_3d_generator",
    inputs=lambda: (torch.zeros(1, 200, 1, 1, 1),),
    source="Wu et al., 3D-GAN (arXiv 1610.07584), supplement: k4 s2 from 4^3 to 64^3",
    period=(16,),
    gradient_period=(None,),
    rules="EV103 EV106",
    forbidden="EV101 EV102",
    prior=False,
    start="0",
    width=1 / 16,
    simulate={"head": "12", "start_size": (2, 2, 2)},
    simulate_backward=None,
    notes="The input is one position, so there is no gradient to simulate. The period of 16 x 16 x 16 voxels is "
    "beyond the exact closed form.",
)
def _gan_3d_generator(width: float) -> nn.Module:
    widths = tuple(scaled(c, width) for c in (512, 256, 128, 64))
    layers: list[nn.Module] = [nn.ConvTranspose3d(200, widths[0], 4, 1, bias=False)]
    for before, after in pairwise(widths):
        layers += [nn.BatchNorm3d(before), nn.ReLU(), nn.ConvTranspose3d(before, after, 4, 2, 1, bias=False)]
    layers += [
        nn.BatchNorm3d(widths[-1]),
        nn.ReLU(),
        nn.ConvTranspose3d(widths[-1], 1, 4, 2, 1, bias=False),
        nn.Sigmoid(),
    ]
    return nn.Sequential(*layers)


# ------------------------------------------------------------------------------------------------ MONAI's AutoEncoder


@architecture(
    "autoencoder_3d",
    inputs=lambda: (torch.zeros(1, 1, 32, 32, 32),),
    source="MONAI's AutoEncoder (spatial_dims=3, strides 2 2 2, kernel_size=up_kernel_size=3), instance normalisation",
    period=(8,),
    gradient_period=(8,),
    rules="EV101 EV106 EV201",
    width=1 / 4,
    simulate={"head": "15", "borders": "canvas", "bound": 8, "inputs": lambda: (torch.zeros(1, 1, 64, 64, 64),)},
    simulate_backward={"borders": "canvas", "inputs": lambda: (torch.zeros(1, 1, 64, 64, 64),)},
)
def _autoencoder_3d(width: float) -> nn.Module:
    base = scaled(16, width)
    widths = (1, base, 2 * base, 4 * base)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv3d(before, after, 3, 2, 1), nn.InstanceNorm3d(after), nn.PReLU()]
    for before, after in pairwise(widths[::-1]):
        layers += [nn.ConvTranspose3d(before, after, 3, 2, 1, output_padding=1)]
        layers += [nn.InstanceNorm3d(after), nn.PReLU()] if after > 1 else []
    return nn.Sequential(*layers)


# ------------------------------------------------------------------------------------------------ video


class VideoDecoder(nn.Module):
    """A picture decoder run on every frame: frames folded into the batch, then a convolution over time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(4, 4 * width, 3, padding=1),
            nn.SiLU(),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1),
            nn.SiLU(),
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, 3, 3, padding=1),
        )
        self.time_mix = nn.Conv3d(3, 3, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, z: Tensor) -> Tensor:
        batch, frames = z.shape[:2]
        x = self.inner(z.flatten(0, 1))
        x = x.unflatten(0, (batch, frames)).transpose(1, 2)
        return self.time_mix(x)


@architecture(
    "video_decoder",
    inputs=lambda: (torch.zeros(1, 6, 4, 8, 8),),
    source="The scheme of diffusers' AutoencoderKLTemporalDecoder (frames in the batch, time_conv_out of (3, 1, 1))",
    period=((1, 4, 4),),
    gradient_period=(1,),
    rules="EV103",
    forbidden="EV101 EV102",
    simulate={"head": "time_mix", "channel_axis": 2},
    simulate_backward={"channel_axis": 2},
    fast=True,
)
def _video_decoder(width: float) -> nn.Module:
    return VideoDecoder(scaled(64, width))
