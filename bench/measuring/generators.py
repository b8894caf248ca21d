"""Known truth: networks with random weights that up-sample, and what theory says they make of a constant.

A small photograph without native grids goes in as its own features; one to three up-sampling layers with ReLU between
them make a colour picture of it, which is scaled to the range of grey levels. Weights are drawn anew for every picture.
Free phases (transposed and sub-pixel convolutions) leave a mean trace at their stride; layers that meet the DC
condition leave none where their input is flat, though their edges may still tell that something was up-sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from evenly.nn import BalancedConvTranspose2d, FIRUpsample2d, ResizeConv2d, SubpixelConv2d
from measuring.photographs import Bytes, Floats, crop, crops, to_bytes

CHANNELS = 12
MARGIN = 12  # pixels cut off every side at least: what zeros around the input leave there is no periodic trace
SIZES = (28, 32, 64, 256)
INPUT = 160  # pixels; what the largest picture needs at depth one
Layer = Callable[[int, int], nn.Module]


@dataclass(frozen=True)
class Family:
    """A kind of up-sampling layer.

    Attributes:
        name: In the table.
        stride: Factor of one layer, and the period of the trace.
        even: Whether a constant stays a constant for every weight.
        layer: Makes one, from the numbers of channels.
        depths: How many of them in a row are tried.
    """

    name: str
    stride: int
    even: bool
    layer: Layer
    depths: tuple[int, ...] = (1, 2, 3)


def _transposed(k: int, s: int) -> Layer:
    return lambda i, o: nn.ConvTranspose2d(i, o, k, s)


def _resized(mode: str) -> Layer:
    return lambda i, o: nn.Sequential(nn.Upsample(scale_factor=2, mode=mode), nn.Conv2d(i, o, 3))


FAMILIES = (
    Family("transposed k3 s2", 2, False, _transposed(3, 2)),
    Family("transposed k4 s2", 2, False, _transposed(4, 2)),
    Family("transposed k5 s2", 2, False, _transposed(5, 2)),
    Family("transposed k2 s2", 2, False, _transposed(2, 2)),
    Family("transposed k6 s3", 3, False, _transposed(6, 3), (1, 2)),
    Family("transposed k8 s4", 4, False, _transposed(8, 4), (1, 2)),
    Family("PixelShuffle", 2, False, lambda i, o: nn.Sequential(nn.Conv2d(i, 4 * o, 3), nn.PixelShuffle(2))),
    Family("Upsample nearest, Conv", 2, True, _resized("nearest")),
    Family("Upsample bilinear, Conv", 2, True, _resized("bilinear")),
    Family("evenly ResizeConv nearest", 2, True, lambda i, o: ResizeConv2d(i, o, 3)),
    Family("evenly ResizeConv linear", 2, True, lambda i, o: ResizeConv2d(i, o, 3, mode="linear")),
    Family("evenly ResizeConv fir:1,3,3,1", 2, True, lambda i, o: ResizeConv2d(i, o, 3, mode="fir:1,3,3,1")),
    Family("evenly SubpixelConv, ICNR", 2, True, lambda i, o: SubpixelConv2d(i, o, 3)),
    Family("evenly SubpixelConv, balanced", 2, True, lambda i, o: SubpixelConv2d(i, o, 3, balanced=True, icnr=False)),
    Family("evenly BalancedConvTranspose", 2, True, lambda i, o: BalancedConvTranspose2d(i, o, 4, 2)),
    Family("evenly FIRUpsample, Conv", 2, True, lambda i, o: nn.Sequential(FIRUpsample2d(2), nn.Conv2d(i, o, 3))),
)


@cache
def families() -> dict[str, Family]:
    """By name."""
    return {f.name: f for f in FAMILIES}


def network(family: Family, depth: int) -> nn.Sequential:
    """Layers of a family in a row, ReLU between them, three colours at the end; weights from torch's generator."""
    layers: list[nn.Module] = []
    for at in range(depth):
        layers.append(family.layer(3 if at == 0 else CHANNELS, 3 if at == depth - 1 else CHANNELS))
        if at < depth - 1:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers).eval().requires_grad_(False)


def _picture(out: Tensor, size: int, rng: np.random.Generator) -> Bytes:
    """A square of a network's output, scaled to grey levels, bent where it would leave their range."""
    values = out[0].permute(1, 2, 0).numpy()
    y, x = (int(rng.integers(MARGIN, n - size - MARGIN + 1)) for n in values.shape[:2])
    values = values[y : y + size, x : x + size]
    values = (values - values.mean((0, 1))) / (values.std() + 1e-6)
    return to_bytes(127.5 + 127.5 * np.tanh(values / 2))


@cache
def _inputs(photo: str, count: int, seed: int) -> tuple[Floats, ...]:
    """Pictures that the inputs are cut from; the same for all networks."""
    return tuple(crops(photo, INPUT, count, seed))


def generated(name: str, depth: int, size: int, photo: str, count: int, seed: int) -> Iterator[Bytes]:
    """Pictures made from one photograph."""
    family = families()[name]
    torch.manual_seed(crc32(f"{name} {depth} {size} {photo} {seed}".encode()))
    rng = np.random.default_rng((seed, size, depth))
    small = -(-(size + 2 * MARGIN + 8) // family.stride**depth) + 6
    for whole in _inputs(photo, count, seed):
        image = crop(whole, small, rng)
        colour = image if image.ndim == 3 else np.repeat(image[..., None], 3, -1)
        x = torch.from_numpy(colour / np.float32(127.5) - 1).permute(2, 0, 1)[None]
        yield _picture(network(family, depth)(x), size, rng)
