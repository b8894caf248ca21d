"""The networks that the bench repairs: eight kinds, trained on crops of photographs (or on speech-like sounds).

Each kind is what people ship: autoencoders with transposed convolutions, sub-pixel super-resolution without ICNR, a
U-Net that removes noise, a vocoder. `trained` keeps what it trained in a folder, as safetensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from evenly.reproduce.data import open_data

SIZE = 64
WIDTH = 24
CELLS = 3
"""Of a photograph, on each axis; one in every row and column is held out."""
BANDS = 15
"""Of pitches and resonances; every third is held out."""


class Autoencoder(nn.Module):
    """Strided convolutions down, transposed convolutions up; the last one makes the picture."""

    def __init__(self, kernel: int, depth: int) -> None:
        super().__init__()
        widths = [WIDTH * 2**n for n in range(depth)]
        down: list[nn.Module] = []
        for before, after in zip([3, *widths], widths, strict=False):
            down += [nn.Conv2d(before, after, 3, 2, 1), nn.ReLU()]
        up: list[nn.Module] = []
        padding, extra = {3: (1, 1), 4: (1, 0), 5: (2, 1)}[kernel]
        for before, after in zip(widths[:0:-1], widths[-2::-1], strict=True):
            up += [nn.ConvTranspose2d(before, after, kernel, 2, padding, extra), nn.ReLU()]
        up += [nn.ConvTranspose2d(widths[0], 3, kernel, 2, padding, extra)]
        self.down, self.up = nn.Sequential(*down), nn.Sequential(*up)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x))


class SuperResolution(nn.Module):
    """Convolutions, then one sub-pixel convolution (Shi et al. 2016), as PyTorch initialises it."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, WIDTH, 5, padding=2), nn.ReLU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.ReLU()
        )
        self.head = nn.Sequential(nn.Conv2d(WIDTH, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class UNet(nn.Module):
    """Transposed convolutions, skip connections, and a stride-1 convolution that makes the picture."""

    def __init__(self) -> None:
        super().__init__()

        def block(before: int, after: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.Conv2d(after, after, 3, padding=1), nn.ReLU()
            )

        self.enter, self.middle, self.bottom = block(3, 16), block(16, 32), block(32, 48)
        self.up1, self.join1 = nn.ConvTranspose2d(48, 32, 2, 2), block(64, 32)
        self.up2, self.join2 = nn.ConvTranspose2d(32, 16, 2, 2), block(32, 16)
        self.leave = nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.enter(x)
        second = self.middle(functional.max_pool2d(first, 2))
        third = self.bottom(functional.max_pool2d(second, 2))
        second = self.join1(torch.cat([self.up1(third), second], 1))
        return self.leave(self.join2(torch.cat([self.up2(second), first], 1)))


class Vocoder(nn.Module):
    """Frames in, samples out: transposed convolutions with residual blocks and a last convolution, as HiFi-GAN has."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv1d(20, 48, 5, padding=2)
        self.ups = nn.ModuleList([nn.ConvTranspose1d(48, 32, 8, 4, 2), nn.ConvTranspose1d(32, 24, 8, 4, 2)])
        self.blocks = nn.ModuleList([nn.Conv1d(n, n, 5, padding=2) for n in (32, 24)])
        self.leave = nn.Conv1d(24, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for up, block in zip(self.ups, self.blocks, strict=True):
            x = up(functional.leaky_relu(x, 0.1))
            x = x + block(functional.leaky_relu(x, 0.1))
        return torch.tanh(self.leave(functional.leaky_relu(x, 0.1)))


@dataclass(frozen=True)
class Kind:
    """A kind of network and its task.

    Attributes:
        build: Makes it.
        pair: Inputs and targets from a generator, a count and whether they are held out.
        inside: Whether the last up-sampling layer is the output layer.
        work: Share of the steps that it is trained for: those with many layers take long.
    """

    build: Callable[[], nn.Module]
    pair: Callable[[Generator, int, bool], tuple[Tensor, Tensor]]
    inside: bool = True
    work: float = 1.0


@cache
def _windows(held_out: bool) -> list[Tensor]:
    """Cells of the photographs, three by three of each; three of the nine, one in every row and column, are held out.

    Which three differs from photograph to photograph, so that neither part sees more sky or more ground: lines beside
    their surroundings are a matter of flat places, and whole sides of sixteen photographs differ by 3 dB in that. A
    cell has the same role at every size that a photograph is read at.
    """
    found = []
    for number, (_, planes) in enumerate(open_data(None).pyramids):
        held = torch.randperm(CELLS, generator=Generator().manual_seed(number))
        for plane in planes:
            height, width = (side // CELLS for side in plane.shape[1:])
            if min(height, width) < SIZE:
                continue
            for row, column in product(range(CELLS), repeat=2):
                if (int(held[row]) == column) == held_out:
                    y, x = row * height, column * width
                    found.append(plane[:, y : y + height, x : x + width])
    return found


def _pictures(generator: Generator, count: int, held_out: bool) -> Tensor:
    def draw(limit: int) -> int:
        return int(torch.randint(limit, (), generator=generator))

    crops, windows = [], _windows(held_out)
    for _ in range(count):
        window = windows[draw(len(windows))]
        y, x = (draw(side - SIZE + 1) for side in window.shape[1:])
        crops.append(window[:, y : y + SIZE, x : x + SIZE])
    return torch.stack(crops).float() / 127.5 - 1


def _same(generator: Generator, count: int, held_out: bool) -> tuple[Tensor, Tensor]:
    x = _pictures(generator, count, held_out)
    return x, x


def _smaller(scale: int) -> Callable[[Generator, int, bool], tuple[Tensor, Tensor]]:
    def pair(generator: Generator, count: int, held_out: bool) -> tuple[Tensor, Tensor]:
        x = _pictures(generator, count, held_out)
        return functional.interpolate(x, scale_factor=1 / scale, mode="bicubic", antialias=True), x

    return pair


def _noisy(generator: Generator, count: int, held_out: bool) -> tuple[Tensor, Tensor]:
    x = _pictures(generator, count, held_out)
    return x + 0.2 * torch.randn(x.shape, generator=generator), x


def _speech(generator: Generator, count: int, held_out: bool) -> tuple[Tensor, Tensor]:
    """Harmonics of a moving pitch through two moving resonances, a little noise; frames are log band energies."""
    rate, hop, frames = 8000, 16, 128
    length = frames * hop
    t = torch.arange(length) / rate
    drawn = torch.randint(BANDS // 3, (count, 6), generator=generator) * 3
    band = drawn + (2 if held_out else torch.randint(2, (count, 6), generator=generator))
    draw = (band + torch.rand(count, 6, generator=generator)) / BANDS
    pitch = 90 + 160 * draw[:, :1] * (1 + 0.2 * torch.sin(2 * math.pi * (3 + 4 * draw[:, 1:2]) * t))
    phase = 2 * math.pi * torch.cumsum(pitch, 1) / rate
    sound = torch.zeros(count, length)
    for n in range(1, 24):
        f = n * pitch
        gain = sum(
            1 / (1 + ((f - (centre + wide * draw[:, k : k + 1])) / 150) ** 2)
            for k, (centre, wide) in ((2, (400, 500)), (3, (1200, 1400)))
        )
        sound += gain * torch.sin(n * phase) * (f < 3800)
    loud = 0.3 + 0.7 * (torch.sin(2 * math.pi * (2 + 3 * draw[:, 4:5]) * t) > -0.3).float()
    sound = 0.2 * sound * loud + 0.003 * torch.randn(count, length, generator=generator)
    window = torch.hann_window(64)
    power = torch.stft(sound, 64, hop, window=window, return_complex=True, pad_mode="constant").abs()[..., :frames]
    bands = functional.adaptive_avg_pool1d(power.transpose(1, 2), 20).transpose(1, 2)
    return torch.log(bands + 1e-3), sound[:, None]


KINDS: dict[str, Kind] = {
    "autoencoder k3, 2 layers": Kind(lambda: Autoencoder(3, 2), _same),
    "autoencoder k4, 2 layers": Kind(lambda: Autoencoder(4, 2), _same),
    "autoencoder k3, 3 layers": Kind(lambda: Autoencoder(3, 3), _same),
    "autoencoder k4, 3 layers": Kind(lambda: Autoencoder(4, 3), _same),
    "sub-pixel x2": Kind(lambda: SuperResolution(2), _smaller(2)),
    "sub-pixel x4": Kind(lambda: SuperResolution(4), _smaller(4)),
    "U-Net": Kind(UNet, _noisy, inside=False, work=0.4),
    "vocoder": Kind(Vocoder, _speech, inside=False, work=2.0),
}


def loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error for pictures, as trained."""
    if output.ndim == 4:
        return (output - target).square().mean()
    return (
        sum((_magnitude(output, n) - _magnitude(target, n)).abs().mean() for n in (64, 256)) / 2
        + (output - target).abs().mean()
    )


def _magnitude(sound: Tensor, size: int) -> Tensor:
    window = torch.hann_window(size)
    return torch.log(torch.stft(sound[:, 0], size, size // 4, window=window, return_complex=True).abs() + 1e-2)


def batches(kind: str, seed: int, count: int, held_out: bool) -> tuple[Tensor, Tensor]:
    """A fixed batch of a kind's task."""
    return KINDS[kind].pair(torch.Generator().manual_seed(seed), count, held_out)


def trained(kind: str, seed: int, steps: int, folder: Path) -> nn.Module:
    """A trained network of a kind, from the folder if it is there."""
    from safetensors.torch import load_file, save_file

    steps = round(steps * KINDS[kind].work)
    path = folder / f"{kind.replace(' ', '-').replace(',', '')}-{seed}-{steps}.safetensors"
    torch.manual_seed(seed)
    network = KINDS[kind].build()
    if path.is_file():
        network.load_state_dict(load_file(path))
        return network.eval()
    for _ in _training(network, kind, seed, steps):
        pass
    folder.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), path)
    return network.eval()


def _training(network: nn.Module, kind: str, seed: int, steps: int) -> Iterator[float]:
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        x, target = KINDS[kind].pair(generator, 16, False)
        value = loss(network(x), target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        yield value.item()
