"""Worked one-dimensional examples (C23), and what layers do to the order of their input (C24).

From a mathematical review of Odena, Dumoulin & Olah 2016; see docs/claims.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv1d, conv_transpose1d, interpolate

__all__ = ["EXAMPLES", "LAYERS", "examples", "orders", "overturned"]

Array = NDArray[np.float64]
KERNEL = (1, 2, 3)
EXAMPLES = {
    "convolution of 1 to 7": (range(1, 8), "convolution", 1),
    "convolution of 1 to 7, stride 2": (range(1, 8), "convolution", 2),
    "transposed convolution of 1 to 5": (range(1, 6), "transposed", 1),
    "transposed convolution of 1 to 5, stride 2": (range(1, 6), "transposed", 2),
    "transposed convolution of five ones": ((1,) * 5, "transposed", 1),
    "transposed convolution of five ones, stride 2": ((1,) * 5, "transposed", 2),
    "transposed convolution of five ones, stride 3": ((1,) * 5, "transposed", 3),
}
"""Inputs, layer and stride; the kernel is 1, 2, 3 and there is no padding."""


def by_hand(values: Sequence[int], layer: str, stride: int) -> list[int]:
    """The example by the definition, one product after the other."""
    taps = len(KERNEL)
    if layer == "convolution":
        places = range(0, len(values) - taps + 1, stride)
        return [sum(KERNEL[t] * values[n + t] for t in range(taps)) for n in places]
    out = [0] * (stride * (len(values) - 1) + taps)
    for i, value in enumerate(values):
        for t in range(taps):
            out[stride * i + t] += KERNEL[t] * value
    return out


def _signal(values: Sequence[float]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float64)[None, None]


def examples() -> dict[str, dict[str, list[int]]]:
    """Every example's input, and its output by hand and by PyTorch's layer."""
    found = {}
    for name, (values, layer, stride) in EXAMPLES.items():
        operator = conv1d if layer == "convolution" else conv_transpose1d
        out = operator(_signal(values), _signal(KERNEL), None, stride)[0, 0]
        found[name] = {
            "input": [int(value) for value in values],
            "by hand": by_hand(values, layer, stride),
            "layer": [round(float(value)) for value in out],
        }
    return found


def _resize(x: Tensor, weight: Tensor) -> Tensor:
    return conv1d(interpolate(x, scale_factor=2), weight)


LAYERS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], int]] = {
    "convolution k3": (conv1d, 3),
    "convolution k3 s2": (lambda x, w: conv1d(x, w, stride=2), 3),
    "transposed convolution k3": (conv_transpose1d, 3),
    "transposed convolution k3 s2": (lambda x, w: conv_transpose1d(x, w, stride=2), 3),
    "transposed convolution k4 s2": (lambda x, w: conv_transpose1d(x, w, stride=2), 4),
    "nearest resize x2, convolution k3": (_resize, 3),
}
"""Layers whose interior outputs are looked at, and the number of their taps."""
WEIGHTS = ("positive", "of both signs")
INPUTS = ("rising", "in any order")
_ROUNDING = 1e-12
"""What sums of a few products of numbers about 1 may differ by (float64)."""


def _interior(out: Array, name: str, taps: int) -> Array:
    """Without the outputs of a transposed convolution that lack some of their inputs."""
    return out[taps - 1 : len(out) - taps + 1] if name.startswith("transposed") else out


def _keeps(x: Array, out: Array) -> bool:
    """Whether the output never falls where the input rises throughout; else whether every pair keeps its order.

    An output belongs to the input at the same relative place; pairs of one input are in no order then.
    """
    if (np.diff(x) >= 0).all():
        return bool((np.diff(out) >= -_ROUNDING).all())
    place = np.minimum((np.arange(len(out)) + 0.5) * len(x) / len(out), len(x) - 1).astype(int)
    before, after = np.sign(np.subtract.outer(x[place], x[place])), np.subtract.outer(out, out)
    return bool((before * after >= -_ROUNDING).all())


def _draw(rng: np.random.Generator, taps: int, weights: str, inputs: str) -> tuple[Array, Array]:
    x = rng.random(int(rng.integers(8, 17)))
    weight = rng.random(taps) if weights == "positive" else rng.standard_normal(taps)
    return np.sort(x) if inputs == "rising" else x, weight


def orders(rng: np.random.Generator, draws: int) -> dict[str, dict[str, int]]:
    """How many of `draws` drawn inputs and kernels keep their order, by layer, then ``weights/inputs``."""
    found: dict[str, dict[str, int]] = {}
    for name, (operator, taps) in LAYERS.items():
        counts = found[name] = {}
        for weights in WEIGHTS:
            for inputs in INPUTS:
                kept = 0
                for _ in range(draws):
                    x, weight = _draw(rng, taps, weights, inputs)
                    out = operator(_signal(x.tolist()), _signal(weight.tolist()))[0, 0].numpy()
                    kept += _keeps(x, _interior(out, name, taps))
                counts[f"{weights}/{inputs}"] = kept
    return found


def overturned(rng: np.random.Generator, tries: int = 1000) -> dict[str, list[float]]:
    """Among drawn rising inputs and positive kernels, the one whose transposed convolution k3 s2 falls most.

    Returns:
        ``input``, ``weight``, ``transposed`` (interior) and ``convolution``: the output of the convolution with the
        same weights; all with the output's largest value 1.
    """
    found: dict[str, list[float]] = {}
    most = -1.0
    for _ in range(tries):
        x, weight = _draw(rng, 3, "positive", "rising")
        up = conv_transpose1d(_signal(x.tolist()), _signal(weight.tolist()), stride=2)[0, 0].numpy()[2:-2]
        fall = float(-np.diff(up).min() / up.max())
        if fall > most:
            most = fall
            plain = conv1d(_signal(x.tolist()), _signal(weight.tolist()))[0, 0].numpy()
            found = {
                "input": x.tolist(),
                "weight": weight.tolist(),
                "transposed": (up / up.max()).tolist(),
                "convolution": (plain / plain.max()).tolist(),
            }
    return found
