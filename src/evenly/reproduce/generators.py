"""Generators whose last layers differ, discriminators whose first layer does, and how the two are trained.

Everything but the layers in question is kept out of the way: stride-1 convolutions repeat the edge (zeros would mark
the border), discriminators go down with anti-aliased layers, whose gradient is even, and normalisation is by channel,
so that constants stay constants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from evenly.errors import ParameterError
from evenly.nn import AntialiasedConv2d, ResizeConv2d, SubpixelConv2d
from evenly.reproduce.instruments import axis_spectrum, levels, to_pixels
from evenly.reproduce.train import train
from evenly.theory.phases import dc_gains, ripple, subpixel_gains

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Generator

    from evenly.reproduce.experiment import Context

__all__ = [
    "PERIODS",
    "UPS",
    "Adversaries",
    "Recipe",
    "adversaries",
    "codes",
    "discriminator",
    "generator",
    "learned_ripples",
    "measured",
    "multiply_adds",
    "sample",
    "step_of",
    "up_layer",
    "watch",
]

PERIODS = (2, 4, 8)
"""In pixels, of the lines that are measured."""

CODE = 32
"""Numbers that a picture is generated from."""

_FIRST = 4
"""Side of the first feature map, in positions."""


def _transposed(kernel: int) -> Callable[[int, int], nn.Module]:
    # k3 needs one row more at the end to double the size
    return lambda c_in, c_out: nn.ConvTranspose2d(
        c_in, c_out, kernel, stride=2, padding=1, output_padding=1 if kernel == 3 else 0
    )


def _subpixel(icnr: bool) -> Callable[[int, int], nn.Module]:
    return lambda c_in, c_out: SubpixelConv2d(c_in, c_out, 3, 2, padding_mode="replicate", icnr=icnr)


def _resize(mode: str) -> Callable[[int, int], nn.Module]:
    return lambda c_in, c_out: ResizeConv2d(c_in, c_out, 3, 2, mode, padding_mode="replicate")


UPS: Mapping[str, Callable[[int, int], nn.Module]] = {
    "k3 s2": _transposed(3),
    "k4 s2": _transposed(4),
    "sub-pixel": _subpixel(icnr=False),
    "sub-pixel, ICNR": _subpixel(icnr=True),
    "nearest": _resize("nearest"),
    "bilinear": _resize("bilinear"),
}
"""Layers that double the size, by name: transposed convolutions, sub-pixel and resize-convolutions (3x3)."""


def up_layer(kind: str, c_in: int, c_out: int) -> nn.Module:
    """A layer from `UPS`.

    Raises:
        ParameterError: If it has no such layer.
    """
    if kind not in UPS:
        raise ParameterError(f"kind (={kind!r}) of an up-sampling layer must be one of {', '.join(UPS)}")
    return UPS[kind](c_in, c_out)


def generator(size: int, width: int, last: tuple[str, ...], refined: bool = False) -> nn.Sequential:
    """Codes ``(N, 32)`` to pictures ``(N, 3, size, size)`` from -1 to 1.

    Args:
        size: Of the pictures' sides: 4 times a power of two, in pixels.
        width: Channels of the feature map before the last layer.
        last: Kinds of the last up-sampling layers, in order; those before them are nearest-neighbour resizes.
        refined: Whether a nonlinearity and a stride-1 convolution follow the last up-sampling. Without it, the last
            layer writes the colours itself.

    Raises:
        ParameterError: If the size is none of these, or has too few doublings for the layers.
    """
    doublings = (size // _FIRST).bit_length() - 1
    if size != _FIRST << doublings or doublings < max(1, len(last)):
        raise ParameterError(
            f"size (={size}) must be {_FIRST} times a power of two, doubled at least {max(1, len(last))} times"
        )
    kinds = ("nearest",) * (doublings - len(last)) + last
    widths = [width * min(4, doublings - n) for n in range(doublings)] + [width if refined else 3]
    layers: list[nn.Module] = [nn.Linear(CODE, widths[0] * _FIRST**2), nn.Unflatten(1, (widths[0], _FIRST, _FIRST))]
    for kind, c_in, c_out in zip(kinds, widths[:-1], widths[1:], strict=True):
        layers += [_normalise(c_in), nn.ReLU(), up_layer(kind, c_in, c_out)]
    if refined:
        layers += [_normalise(width), nn.ReLU(), nn.Conv2d(width, 3, 3, padding=1, padding_mode="replicate")]
    return nn.Sequential(*layers, nn.Tanh())


def _normalise(channels: int) -> nn.Module:
    # statistics of the batch at hand, in every mode: measuring leaves no trace, and step 0 has a sensible contrast
    return nn.BatchNorm2d(channels, track_running_stats=False)


def discriminator(size: int, width: int, first_kernel: int = 3, first_stride: int = 1) -> nn.Sequential:
    """Pictures ``(N, 3, size, size)`` to logits ``(N, 1)``; all layers but the first have an even gradient.

    Args:
        size: Of the pictures' sides, in pixels.
        width: Channels after the first layer.
        first_kernel: Its kernel size.
        first_stride: Its stride.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(3, width, first_kernel, first_stride, first_kernel // 2, padding_mode="replicate"),
        nn.LeakyReLU(0.2),
    ]
    downs = (size // _FIRST).bit_length() - 1
    widths = [width * min(4, 2**n) for n in range(downs + 1)]
    for c_in, c_out in pairwise(widths):
        layers += [AntialiasedConv2d(c_in, c_out, 3, 2, padding=1), nn.LeakyReLU(0.2)]
    # the mean over positions, not one weight for each, so that the first stride changes no other layer
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 1))


@dataclass(frozen=True)
class Recipe:
    """How generator and discriminator are trained.

    Attributes:
        size: Of the pictures' sides, in pixels.
        width: Channels, of both.
        batch: Pictures a step.
        steps: Steps of each.
        stages: Shares of the steps after which the generator is looked at, rising, from 0 to 1.
        rate: Adam's, of both.
        penalty: Weight of R1, the squared gradient at real pictures (Mescheder et al., arXiv 1801.04406).
        penalty_every: Steps from one penalty to the next (Karras et al., arXiv 1912.04958, appendix B).
    """

    size: int
    width: int
    batch: int
    steps: int
    stages: tuple[float, ...] = (0.0, 0.1, 0.4, 1.0)
    rate: float = 1e-3
    penalty: float = 1.0
    penalty_every: int = 8

    def stops(self) -> tuple[int, ...]:
        """The steps after which the generator is looked at."""
        return tuple(round(share * self.steps) for share in self.stages)


@dataclass(frozen=True, eq=False)
class Adversaries:
    """A generator and a discriminator, on their device, with their optimisers."""

    generator: Any
    discriminator: Any
    state: Mapping[str, Any]


def adversaries(context: Context, recipe: Recipe, maker: nn.Module, judge: nn.Module) -> Adversaries:
    """Put two networks on the context's device, each with its Adam."""
    state: dict[str, Any] = {}
    for name, network in (("maker", maker), ("judge", judge)):
        optimizer = torch.optim.Adam(network.parameters(), recipe.rate, betas=(0.0, 0.99))
        state[name], state[f"{name}-optimizer"] = context.fabric.setup(network, optimizer)
    return Adversaries(state["maker"], state["judge"], state)


def watch(
    context: Context, recipe: Recipe, pair: Adversaries, count: int, shown: int
) -> tuple[dict[str, Any], dict[str, NDArray[np.uint8]]]:
    """Train with the non-saturating loss (Goodfellow et al., arXiv 1406.2661) and R1; measure at every stage.

    Args:
        context: The cell's.
        recipe: How.
        pair: The networks.
        count: Pictures to measure.
        shown: How many of them to keep of every stage.

    Returns:
        For an outcome: the stages' steps, `levels`, spectra and ripples, and curves of the losses; pictures by stage
        ``"pictures-0"``, ``"pictures-1"``, ....
    """
    stages: list[dict[str, Any]] = []
    losses: dict[str, list[float]] = {}
    arrays: dict[str, NDArray[np.uint8]] = {}
    before = 0
    for n, stop in enumerate(recipe.stops()):
        if stop > before:
            step = step_of(context, recipe, pair, before)
            for name, curve in train(context, f"to-{stop}", pair.state, stop - before, step).losses.items():
                losses.setdefault(name, []).extend(curve)
        before = stop
        made = sample(context, pair.generator, count)
        stages.append({"step": stop, "ripples": learned_ripples(pair.generator), **measured(made)})
        arrays[f"pictures-{n}"] = made[:shown]
    return {"stages": stages, "losses": losses}, arrays


def measured(pictures: NDArray[np.uint8]) -> dict[str, Any]:
    """Lines of periods 2, 4 and 8 pixels in dB over the background, and the spectrum, of ``(N, H, W, 3)``."""
    return {
        "db": {str(period): db for period, db in levels(pictures, PERIODS).db.items()},
        "spectrum": [values.tolist() for values in axis_spectrum(pictures)],
    }


def step_of(
    context: Context, recipe: Recipe, pair: Adversaries, begin: int
) -> Callable[[int, Generator], Mapping[str, float]]:
    """The steps of a training that goes on after `begin` steps."""
    return lambda number, random: _step(context, recipe, pair, begin + number, random)


def _step(context: Context, recipe: Recipe, pair: Adversaries, number: int, random: Generator) -> Mapping[str, float]:
    fabric = context.fabric
    optimizers = [pair.state[f"{name}-optimizer"] for name in ("judge", "maker")]
    real = fabric.to_device(context.data.batch(recipe.batch, recipe.size, random))
    first, second = (fabric.to_device(codes(recipe.batch, random)) for _ in range(2))
    penalised = number % recipe.penalty_every == 0
    real.requires_grad_(penalised)
    with torch.no_grad():
        made = pair.generator(first)
    truths = pair.discriminator(real)
    cost = softplus(-truths).mean() + softplus(pair.discriminator(made)).mean()
    total = cost
    if penalised:
        (slope,) = torch.autograd.grad(truths.sum(), real, create_graph=True)
        # lazily, so weighted by the steps it stands for
        total = cost + recipe.penalty_every * recipe.penalty / 2 * slope.square().sum((1, 2, 3)).mean()
    optimizers[0].zero_grad()
    fabric.backward(total)
    optimizers[0].step()
    fooled = softplus(-pair.discriminator(pair.generator(second))).mean()
    optimizers[1].zero_grad()
    fabric.backward(fooled)
    optimizers[1].step()
    return {"discriminator": float(cost.detach()), "generator": float(fooled.detach())}


def codes(count: int, random: Generator) -> Tensor:
    """Normal numbers ``(count, 32)``, drawn on the CPU."""
    return torch.randn(count, CODE, generator=random)


def sample(context: Context, network: Any, count: int) -> NDArray[np.uint8]:
    """Pictures ``(count, H, W, 3)`` of the same codes at every call, in one batch: it is normalised as one."""
    with torch.no_grad():
        random = torch.Generator().manual_seed(context.seed + 10_007)
        return to_pixels(network(context.fabric.to_device(codes(count, random))))


def learned_ripples(network: nn.Module) -> list[float]:
    """Ripple (:func:`evenly.theory.phases.ripple`) of every up-sampling layer, in order; resize-convolutions have 0."""
    found = []
    for layer in network.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            found.append(ripple(dc_gains(layer.weight.detach().cpu().numpy(), layer.stride)))
        elif isinstance(layer, SubpixelConv2d):
            found.append(ripple(subpixel_gains(layer.weight.detach().cpu().numpy(), layer.scale_factor)))
        elif isinstance(layer, ResizeConv2d):
            found.append(0.0)
    return found


def multiply_adds(network: nn.Module, *inputs: Tensor) -> int:
    """Multiply-adds of convolutions and matrix products in one forward pass, as they are really computed."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(*inputs)
    return int(counter.get_total_flops()) // 2
