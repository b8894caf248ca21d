"""What follows from arithmetic alone, on PyTorch's own layers (C1 to C5, C8 to C12, C23, C24).

Odena, Dumoulin & Olah 2016, sections "Deconvolution & Overlap" and "Overlap & Learning"; the last two claims are of a
mathematical review of the article. Nothing is trained. Where a grid is gone through whole, numbers are exact; where
cases are drawn, they carry intervals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from evenly.reproduce.experiment import Cell, Context, Experiment, Outcome, Scale
from evenly.reproduce.registry import EXPERIMENTS
from evenly.reproduce.result import Architecture, Conclusion

if TYPE_CHECKING:
    from torch import nn

    from evenly.reproduce.painting import Layer

__all__ = ["EXPERIMENT"]


@dataclass(frozen=True)
class _Settings:
    """Sizes of grids and numbers of draws, by scale.

    Attributes:
        kernels, strides, dilations: Largest of the grid of one-dimensional layers.
        plane: Largest kernel size of the grid of pairs of axes; strides up to 3.
        ranks: Largest kernel size whose ranks are taken; strides up to 4.
        stacks: Stacks drawn for each seed.
        layers: Layers drawn for each seed: sub-pixel, resize, last ones.
        orders: Inputs and kernels drawn for each layer, weights, order and seed.
        pictures, seen: Photographs whose borders are looked at, one crop of each for each seed, and kernels for each.
    """

    kernels: int
    strides: int
    dilations: int
    plane: int
    ranks: int
    stacks: int
    layers: int
    orders: int
    pictures: int
    seen: int


_SETTINGS = {
    Scale.SMOKE: _Settings(5, 3, 2, 3, 4, 60, 20, 25, 6, 2),
    Scale.SMALL: _Settings(9, 6, 4, 5, 8, 600, 200, 400, 18, 10),
    Scale.FULL: _Settings(16, 8, 6, 7, 10, 10_000, 2_000, 4_000, 256, 20),
}
_EXACT = ("overlap", "matrices", "worked")
_DRAWN = ("stacks", "last", "layers", "boundary", "order")


def _cells(scale: Scale, seeds: Sequence[int]) -> list[Cell]:
    return [Cell(name) for name in _EXACT] + [
        Cell(f"{name}/seed-{seed}", {}, seed) for name in _DRAWN for seed in seeds
    ]


def _run(cell: Cell, context: Context) -> Outcome:
    topic = {
        "overlap": _overlap, "matrices": _matrices, "worked": _worked, "stacks": _stacks, "last": _last,
        "layers": _layers, "boundary": _boundary, "order": _order,
    }  # fmt: skip
    return topic[cell.name.partition("/")[0]](_SETTINGS[context.scale], context)


def _overlap(settings: _Settings, context: Context) -> Outcome:
    import torch

    from evenly.reproduce.instruments import architecture
    from evenly.reproduce.painting import grid, in_two_dimensions

    numbers: dict[str, Any] = {
        "grid": grid(settings.kernels, settings.strides, settings.dilations),
        "plane": in_two_dimensions(settings.plane, 3),
        **_equal_last(settings),
        "architectures": [asdict(architecture(name, net, torch.zeros(1, 4, 12, 12))) for name, net in _networks()],
    }
    return Outcome(numbers)


def _networks() -> Iterator[tuple[str, nn.Module]]:
    """The layers that the claims are about, as ``evenly check`` sees them."""
    from torch import nn

    from evenly.nn import ResizeConv2d, SubpixelConv2d

    def up(kernel: int, stride: int, padding: int) -> nn.Module:
        return nn.ConvTranspose2d(4, 4, kernel, stride, padding)

    yield "transposed convolution k3 s2", up(3, 2, 1)
    yield "transposed convolution k4 s2", up(4, 2, 1)
    yield "three transposed convolutions k3 s2", nn.Sequential(up(3, 2, 1), up(3, 2, 1), up(3, 2, 1))
    yield "transposed convolution k3 s2, last k4 s1", nn.Sequential(up(3, 2, 1), up(4, 1, 1))
    yield "sub-pixel convolution", SubpixelConv2d(4, 4, 3, 2, icnr=False)
    yield "nearest resize-convolution", ResizeConv2d(4, 4, 3, 2)
    yield "bilinear resize-convolution", ResizeConv2d(4, 4, 3, 2, "bilinear")


def _equal_last(settings: _Settings) -> dict[str, Any]:
    """Last layers of stride 1 and equal weights behind every uneven layer of the grid."""
    from evenly.reproduce.painting import Layer, attenuation

    counts = dict.fromkeys(("dividing", "removed", "others", "reduced"), 0)
    deviation = 0.0
    for layer in _uneven(settings):
        for size in range(2, 2 * settings.strides + 1):
            before, after, left = attenuation(layer, size, np.ones(size))
            frequency = np.arange(1, layer.stride) / layer.stride
            expected = np.abs(np.sin(np.pi * size * frequency) / (size * np.sin(np.pi * frequency)))
            deviation = max(deviation, float(np.abs(after - expected * before).max()))
            divides = size % layer.stride == 0
            counts["dividing" if divides else "others"] += 1
            counts["removed"] += divides and left < 1e-10
            counts["reduced"] += not divides and left < 1
    shown = {
        str(s): {
            "size": list(range(1, 13)),
            "left": [100 * attenuation(Layer(s + 1, s), size, np.ones(size))[2] for size in range(1, 13)],
        }
        for s in (2, 3, 4)
    }
    return {"last": {**{name: int(count) for name, count in counts.items()}, "deviation": deviation}, "left": shown}


def _uneven(settings: _Settings) -> list[Layer]:
    from evenly.reproduce.painting import Layer

    grid = [Layer(k, s) for s in range(2, settings.strides + 1) for k in range(1, settings.kernels + 1)]
    return [layer for layer in grid if layer.uneven]


def _last(settings: _Settings, context: Context) -> Outcome:
    """Changes in dB of drawn patterns behind last layers with drawn weights."""
    from evenly.reproduce.painting import attenuation

    rng, layers = context.rng(1), _uneven(settings)
    numbers: dict[str, Any] = {}
    for kind, draw in (("positive", rng.random), ("signed", rng.standard_normal)):
        groups: dict[str, list[float]] = {"divides": [], "others": []}
        for number in range(settings.layers):
            layer = layers[int(rng.integers(len(layers)))]
            size = int(rng.integers(2, 2 * settings.strides + 1))
            if number % 2:  # half of them as the claim wants it
                size = layer.stride * int(rng.integers(1, 3))
            left = attenuation(layer, size, draw(size))[2]
            groups["others" if size % layer.stride else "divides"].append(20 * float(np.log10(max(left, 1e-20))))
        numbers[kind] = groups
    return Outcome(numbers)


def _stacks(settings: _Settings, context: Context) -> Outcome:
    from evenly.reproduce.painting import Layer, centroid, composed, drawn_stack, origins, period_of, scales
    from evenly.theory.overlap import ratio

    rng = context.rng(2)
    counts = dict.fromkeys(
        ("some_uneven", "several_uneven", "several_scales", "worse", "cancelled", "periods", "periods_as_strides"), 0
    )
    examples: list[list[tuple[int, int]]] = []
    octaves: list[float] = []
    for _ in range(settings.stacks):
        layers = drawn_stack(rng, int(rng.integers(2, 5)))
        pattern, uneven = composed(layers), [layer.uneven for layer in layers]
        even = bool(np.ptp(pattern) == 0)  # sums of ones: exact
        counts["some_uneven"] += any(uneven)
        counts["cancelled"] += any(uneven) and even
        if any(uneven) and even:
            examples.append([(layer.kernel, layer.stride) for layer in layers])
        if sum(uneven) >= 2:
            counts["several_uneven"] += 1
            counts["several_scales"] += len(scales(layers, pattern)) >= 2
            counts["worse"] += ratio(pattern) > max(ratio(composed([layer])) for layer in layers)
        own = origins(layers, rng)
        for place, one in enumerate(own):
            counts["periods"] += 1
            counts["periods_as_strides"] += period_of(one) == prod(layer.stride for layer in layers[place:])
        if len(layers) == 3:
            octaves.append(float(np.log2(centroid(own[0]) / centroid(own[-1]))))
    spectra = [
        [np.abs(np.fft.fft(one)) ** 2 for one in origins([Layer(3, 2)] * 3, rng)] for _ in range(settings.layers)
    ]
    return Outcome(
        {
            **{name: int(count) for name, count in counts.items()},
            "examples": sorted(examples, key=lambda stack: (len(stack), prod(s for _, s in stack)))[:5],
            "octaves": octaves,
            "spectra": np.mean(spectra, axis=0).tolist(),
        }
    )


def _matrices(settings: _Settings, context: Context) -> Outcome:
    from evenly.reproduce.layer_matrices import costs, freedoms, linear, matrices, tied

    return Outcome(
        {
            "matrices": {name: value.tolist() for name, value in matrices(6).items()},
            "linear": linear(context.rng(3), settings.layers),
            "tied": tied(settings.ranks, 4),
            "freedoms": freedoms(settings.ranks, 4),
            "costs": costs(),
        }
    )


def _layers(settings: _Settings, context: Context) -> Outcome:
    from evenly.reproduce.layer_matrices import equal_layers, keep_constants

    return Outcome(
        {
            "subpixel": equal_layers(context.rng(4), settings.layers),
            "constants": keep_constants(context.rng(5), settings.layers),
        }
    )


def _boundary(settings: _Settings, context: Context) -> Outcome:
    from evenly.reproduce.boundaries import errors, photographs, shown

    rng = context.rng(6)
    pictures = photographs(context.data, rng, settings.pictures)
    crops = list(pictures.values())
    numbers = {"pictures": list(pictures), "errors": errors(crops, rng, settings.seen, settings.layers)}
    return Outcome(numbers, shown(context.data, rng, settings.pictures))


def _worked(settings: _Settings, context: Context) -> Outcome:
    from evenly.reproduce.worked_examples import examples

    return Outcome({"examples": examples()})


def _order(settings: _Settings, context: Context) -> Outcome:
    from evenly.reproduce.worked_examples import orders, overturned

    rng = context.rng(7)
    return Outcome({"draws": settings.orders, "kept": orders(rng, settings.orders), "example": overturned(rng)})


def _conclude(scale: Scale, outcomes: Mapping[str, Outcome]) -> Conclusion:
    from evenly.reproduce import overlap_findings, structure_findings
    from evenly.reproduce.arithmetic_evidence import evidence
    from evenly.reproduce.arithmetic_outcomes import Arithmetic

    read = Arithmetic(outcomes)
    architectures = [Architecture(**form) for form in read.one("overlap")["architectures"]]
    settings = _SETTINGS[scale]
    return Conclusion(
        (*overlap_findings.findings(read), *structure_findings.findings(read)),
        (*evidence(read), *architectures),
        "Nothing is trained here: this is what layers can do, and what they do with drawn weights. Grids reach to "
        f"kernels of {settings.kernels}, strides of {settings.strides} and dilations of {settings.dilations}; "
        "intervals are over drawn cases, and another way of drawing them would give other shares.",
    )


EXPERIMENT = Experiment(
    "arithmetic",
    "Convolution arithmetic: overlap, stacks, matrices, borders",
    "Odena, Dumoulin & Olah 2016, sections Deconvolution & Overlap, Overlap & Learning and Better Upsampling",
    EXPERIMENTS["arithmetic"][1],
    {Scale.SMOKE: 2, Scale.SMALL: 3, Scale.FULL: 10},
    _cells,
    _run,
    _conclude,
)
