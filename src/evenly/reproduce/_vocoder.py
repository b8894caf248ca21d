"""Small vocoders that differ in how they raise the rate alone, how they are trained, and what is measured of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss, leaky_relu

from evenly.errors import ParameterError
from evenly.measure.audio import measure_audio
from evenly.nn import BalancedConvTranspose1d, ResizeConv1d, SubpixelConv1d
from evenly.reproduce._speech import HOP, MELS, RATE, conditioning
from evenly.reproduce.train import train

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Generator

    from evenly.reproduce._speech import Speech
    from evenly.reproduce.experiment import Context
    from evenly.reproduce.train import Course

__all__ = ["STACKS", "STRIDES", "Recipe", "Vocoder", "fit", "lines", "sixteen_bit", "spoken", "vocoder"]

STRIDES = (8, 8, 2, 2)
"""Of the up-sampling layers, from the frames to the samples: HiFi-GAN V1 and V2, MelGAN."""

_Up = Callable[[int, int, int], nn.Module]


def _transposed(kernels: Mapping[int, int], layer: type[nn.Module] = nn.ConvTranspose1d) -> _Up:
    def made(c_in: int, c_out: int, stride: int) -> nn.Module:
        excess = kernels[stride] - stride
        padding = -(-excess // 2)  # as many samples as stride times frames, whatever the parity
        return layer(c_in, c_out, kernels[stride], stride, padding, output_padding=2 * padding - excess)

    return made


def _subpixel(icnr: bool) -> _Up:
    return lambda c_in, c_out, stride: SubpixelConv1d(c_in, c_out, 3, stride, padding_mode="replicate", icnr=icnr)


def _resize(mode: str) -> _Up:
    return lambda c_in, c_out, stride: ResizeConv1d(c_in, c_out, 2 * stride - 1, stride, mode, padding_mode="replicate")


_TWICE = {8: 16, 2: 4}
_HIFI, _MELGAN = ((3, (1, 3)), (7, (1, 3))), ((3, (1, 3, 9)),)

STACKS: Mapping[str, tuple[_Up, tuple[tuple[int, tuple[int, ...]], ...]]] = {
    "transposed": (_transposed(_TWICE), _HIFI),
    "transposed, uneven": (_transposed({8: 11, 2: 3}), _HIFI),
    "transposed, MelGAN": (_transposed(_TWICE), _MELGAN),
    "sub-pixel": (_subpixel(icnr=False), _HIFI),
    "sub-pixel, ICNR": (_subpixel(icnr=True), _HIFI),
    "balanced": (_transposed(_TWICE, BalancedConvTranspose1d), _HIFI),
    "nearest": (_resize("nearest"), _HIFI),
    "linear": (_resize("linear"), _HIFI),
}
"""Up-sampling layers by stride, and the kernels and dilations of the residual blocks after each: HiFi-GAN's fused
fields (Kong et al., arXiv 2010.05646; two of three) or MelGAN's stack (Kumar et al., arXiv 1910.06711)."""


class _Residual(nn.Module):
    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_conv(channels, channels, kernel, d) for d in dilations)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(leaky_relu(x, 0.1))
        return x


def _conv(c_in: int, c_out: int, kernel: int, dilation: int = 1) -> nn.Conv1d:
    # edges are repeated: zeros would be a sound of their own
    return nn.Conv1d(c_in, c_out, kernel, padding=dilation * (kernel // 2), dilation=dilation, padding_mode="replicate")


class Vocoder(nn.Module):
    """Frames to samples, 256 for each: a convolution, four up-sampling layers with residual blocks, a convolution.

    Args:
        kind: One of `STACKS`.
        width: Channels of the frames; halved by every up-sampling layer, at least 8.
        excited: Whether the excitation is an input, too; it is brought down to the rate of each stage by a strided
            convolution (as in Wang et al., arXiv 1904.12088), which repeats no pattern.

    Shape:
        ``(N, 40, T)`` and, if excited, ``(N, 2, 256 T)`` to ``(N, 256 T)``, from -1 to 1.
    """

    def __init__(self, kind: str, width: int, excited: bool) -> None:
        super().__init__()
        if kind not in STACKS:
            raise ParameterError(f"kind (={kind!r}) of a vocoder must be one of {', '.join(STACKS)}")
        up, blocks = STACKS[kind]
        widths = [max(8, width >> n) for n in range(len(STRIDES) + 1)]
        self.first = _conv(MELS, width, 7)
        self.ups = nn.ModuleList(up(i, o, s) for i, o, s in zip(widths[:-1], widths[1:], STRIDES, strict=True))
        self.blocks = nn.ModuleList(nn.ModuleList(_Residual(o, *block) for block in blocks) for o in widths[1:])
        self.sources = nn.ModuleList()
        for n, o in enumerate(widths[1:] if excited else ()):
            stride = int(np.prod(STRIDES[n + 1 :]))
            # kernels twice the stride, as there; odd at the full rate
            self.sources.append(_conv(2, o, 7) if stride == 1 else nn.Conv1d(2, o, 2 * stride, stride, stride // 2))
        self.last = _conv(widths[-1], 1, 7)

    def forward(self, frames: Tensor, source: Tensor | None = None) -> Tensor:
        """The samples; see the class for shapes."""
        x = self.first(frames)
        for n, up in enumerate(self.ups):
            x = up(leaky_relu(x, 0.1))
            if source is not None:
                x = x + self.sources[n](source)[..., : x.shape[-1]]
            x = torch.stack([block(x) for block in cast(nn.ModuleList, self.blocks[n])]).mean(0)
        samples: Tensor = torch.tanh(self.last(leaky_relu(x, 0.1)))[:, 0]
        return samples


def vocoder(kind: str, width: int, excited: bool = True) -> Vocoder:
    """A network as it starts."""
    return Vocoder(kind, width, excited)


@dataclass(frozen=True)
class Recipe:
    """How a vocoder is trained.

    Attributes:
        steps, batch: Of the training.
        frames: Of each example.
        rate: Adam's learning rate.
    """

    steps: int
    batch: int
    frames: int
    rate: float = 2e-3


def fit(context: Context, network: Vocoder, corpus: Speech, recipe: Recipe) -> tuple[Any, Course]:
    """Train with the distance of spectra at three resolutions and of mel spectrograms.

    Spectral convergence and the mean distance of logarithms at each resolution (Yamamoto et al., arXiv 1910.11480) and
    the L1 distance of logarithmic mel spectrograms (Kong et al., arXiv 2010.05646). There is no adversary.

    Returns:
        The network and the course of the training.
    """
    optimizer = torch.optim.Adam(network.parameters(), recipe.rate, betas=(0.8, 0.99))
    fabric = context.fabric
    network, optimizer = fabric.setup(network, optimizer)
    samples, source = torch.from_numpy(corpus.samples), torch.from_numpy(corpus.source)
    frames = conditioning(samples[None])[0]

    def step(number: int, random: Generator) -> Mapping[str, float]:
        begins = torch.randint(frames.shape[1] - recipe.frames + 1, (recipe.batch,), generator=random).tolist()
        told = torch.stack([frames[:, b : b + recipe.frames] for b in begins])
        span = [slice(b * HOP, (b + recipe.frames) * HOP) for b in begins]
        wanted, driven = (torch.stack([x[..., s] for s in span]) for x in (samples, source))
        told, wanted, driven = (fabric.to_device(x) for x in (told, wanted, driven))
        made = network(told, driven)
        loss = _distance(made, wanted)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        return {"distance": float(loss.detach())}

    course = train(context, "vocoder", {"network": network, "optimizer": optimizer}, recipe.steps, step)
    return network, course


def _distance(made: Tensor, wanted: Tensor) -> Tensor:
    total = 6 * l1_loss(conditioning(made), conditioning(wanted))  # 6: back to natural logarithms
    for size in (256, 512, 1024):
        window = torch.hann_window(size, device=made.device)
        # the small constant keeps the derivative of the root finite
        mine, other = (
            torch.stft(x, size, size // 4, window=window, return_complex=True).abs().square().add(1e-9).sqrt()
            for x in (made, wanted)
        )
        total = total + (other - mine).norm() / other.norm() + l1_loss(mine.log(), other.log())
    return total


@torch.no_grad()
def spoken(context: Context, network: Any, told: Speech) -> NDArray[np.float32]:
    """What a vocoder makes of a sound's conditioning, ``(T,)``."""
    frames = conditioning(torch.from_numpy(told.samples)[None])
    source = torch.from_numpy(told.source)[None]
    made: Tensor = network(context.fabric.to_device(frames), context.fabric.to_device(source))
    return np.asarray(made[0].float().cpu().numpy(), np.float32)


def sixteen_bit(samples: NDArray[Any], rng: np.random.Generator) -> NDArray[np.int16]:
    """As a 16-bit file holds them: triangular dither of two steps, then rounded; so silence has a floor."""
    steps = np.asarray(samples, np.float64) * 32767
    dither = rng.uniform(-0.5, 0.5, (2, *steps.shape)).sum(0)
    return np.asarray(np.clip(np.rint(steps + dither), -32768, 32767), np.int16)


def lines(samples: NDArray[np.int16]) -> list[dict[str, float | None]]:
    """Tones and replicas of every up-sampling layer, from the frames to the samples.

    A layer's period is the product of the strides from it on; lines that a later layer has, too, are counted there.

    Returns:
        For each layer the strongest tone over its local floor (``db``), its level (``dbfs``), ``log10_p`` of its tones
        and the level of the strongest replica in dB relative to the base band (``None`` where there is none).
    """
    periods = [int(np.prod(STRIDES[n:])) for n in range(len(STRIDES) + 1)]
    own = [[p for p in range(2, a + 1) if a % p == 0 and b % p] for a, b in pairwise(periods)]
    found = measure_audio(samples, RATE, [p for group in own for p in group]).periods
    layers: list[dict[str, float | None]] = []
    for group in own:
        there = [r for p in group if (r := found[p]) is not None]
        loudest = max((r.strongest for r in there), key=lambda tone: -np.inf if tone.db is None else tone.db)
        replicas = [r.replica_db for r in there if r.replica_db is not None]
        layers.append(
            {
                "db": 0.0 if loudest.db is None else float(loudest.db),
                "dbfs": loudest.level_dbfs,
                "log10_p": min(float(r.tone_log10_p) for r in there),
                "replica_db": max(replicas) if replicas else None,
            }
        )
    return layers
