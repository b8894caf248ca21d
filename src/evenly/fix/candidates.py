"""Which layers could be solved to bring an output's lines down, cheapest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from evenly.errors import UsageError
from evenly.fix.backend import Backend, Floats, Layer, Run
from evenly.fix.geometry import Rows

__all__ = ["Candidate", "candidates", "described", "multiply_adds", "recorded"]

EXTRA = (0, 1, 2, 3, 4, 5)
"""Taps that are added on both sides of every axis."""
GATHERED = (0, 2, 5)
"""Second moments are gathered for that many at once; those for fewer are a part of them."""
MOST_UNKNOWNS = 4500
"""Per output channel: their second moments take 160 MB, a solution some seconds."""
_ALIKE = 1e-6


@dataclass(frozen=True)
class Candidate:
    """A layer to be solved.

    Attributes:
        layer: Its name.
        extra: Taps added on both sides of every axis.
        phases: Period of the weights, of a plain convolution; 1 otherwise.
        cost: Multiply-adds of the whole model over what they were (ratio).
        gathered: Taps on both sides for which second moments are best gathered: those for the next candidates too.
    """

    layer: str
    extra: int
    phases: int
    cost: float
    gathered: int

    def __str__(self) -> str:
        taps = {0: "as many taps", 1: "1 more tap per side"}.get(self.extra, f"{self.extra} more taps per side")
        return f"solve {self.layer}, {taps}" + (f", weights by phase ({self.phases})" if self.phases > 1 else "")


def described(layer: Layer) -> str:
    """A layer in one line."""
    kind = {
        "transposed": "transposed convolution",
        "subpixel": "sub-pixel convolution",
        "convolution": "convolution",
    }[layer.kind]
    over = "x".join(map(str, layer.upsampling if layer.kind != "convolution" else layer.stride))
    dilated = "" if set(layer.dilation) == {1} else f", dilation {'x'.join(map(str, layer.dilation))}"
    groups = "" if layer.groups == 1 else f", {layer.groups} groups"
    return f"{kind}, kernel {'x'.join(map(str, layer.kernel))}, stride {over}{dilated}{groups}"


def recorded(backend: Backend, batch: Any) -> Run:
    """Run a batch with all layers recorded that run once."""
    names = [layer.name for layer in backend.layers()]
    try:
        return backend.run(batch, names)
    except UsageError:
        able = []
        for name in names:
            try:
                backend.run(batch, [name])
            except UsageError:
                continue
            able.append(name)
        return backend.run(batch, able)


def multiply_adds(layer: Layer, inputs: Sequence[int], results: Sequence[int]) -> int:
    """Of a layer, for signals of these shapes ``(N, C, *sizes)``; borders are counted as the interior."""
    taps = prod(layer.kernel)
    if layer.kind == "transposed":
        return prod(inputs) * results[1] // layer.groups * taps
    channels = results[1] * prod(layer.upsampling)
    positions = prod(results[2:]) // prod(layer.upsampling)
    return results[0] * positions * channels * inputs[1] // layer.groups * taps


def candidates(
    backend: Backend, batch: Any, output: str, periods: Sequence[int], layers: Sequence[str] | None = None
) -> tuple[list[Candidate], list[str]]:
    """Layers whose solution could bring an output's lines down, cheapest first, plain weights before others.

    That is the last up-sampling layer of every branch, at the output's own sizes; and, with weights that differ by
    phase, a convolution behind it that makes the output.

    Args:
        backend: The model.
        batch: What to run it on.
        output: Its name.
        periods: Of the lines.
        layers: Names to choose from; by default all.

    Returns:
        The candidates; and why layers in question are none, in one line each.
    """
    run = recorded(backend, batch)
    found, refused = [], []
    shapes = {name: (run.inputs[name].shape, run.results[name].shape) for name in run.results}
    listed = {layer.name: layer for layer in backend.layers()}
    total = sum(multiply_adds(listed[name], *shape) for name, shape in shapes.items())
    target = run.outputs[output]
    for name, layer in listed.items():
        if layers is not None and name not in layers:
            continue
        if name not in shapes:
            if set(layer.upsampling) != {1}:
                refused.append(f"{name}: it does not run, or runs more than once")
            continue
        for extra, phases in _ways(layer, run.results[name], target, periods):
            if layer.fixed is not None:
                refused.append(f"{name}: {layer.fixed}")
                break
            unknowns = Rows.of(layer, extra, phases).unknowns
            if unknowns > MOST_UNKNOWNS:
                refused.append(
                    f"{name}: {unknowns} unknowns per output channel with {extra} more taps per side"
                    f"{f' and {phases} phases' if phases > 1 else ''}; at most {MOST_UNKNOWNS} are solved for"
                )
                continue
            wider = replace(layer, kernel=Rows.of(layer, extra, phases).kernel)
            added = multiply_adds(wider, *shapes[name]) - multiply_adds(layer, *shapes[name])
            found.append(Candidate(name, extra, phases, 1 + added / max(total, 1), extra))
    found = [replace(each, gathered=_gathered(each, found)) for each in found]
    order = {name: number for number, name in enumerate(listed)}  # of equal cost, the one nearest to the output
    found.sort(key=lambda c: (c.phases > 1, c.cost, -order[c.layer]))
    return found, list(dict.fromkeys(refused))


def _gathered(candidate: Candidate, among: Sequence[Candidate]) -> int:
    alike = (each.extra for each in among if (each.layer, each.phases) == (candidate.layer, candidate.phases))
    return min(max(alike), next(extra for extra in GATHERED if extra >= candidate.extra))


def _ways(layer: Layer, result: Floats, output: Floats, periods: Sequence[int]) -> list[tuple[int, int]]:
    """Added taps and phases with which a layer could be solved for an output."""
    if result.shape[2:] != output.shape[2:]:
        return []
    if set(layer.upsampling) != {1}:
        return [(extra, 1) for extra in EXTRA]
    if layer.kind == "convolution" and set(layer.stride) == {1} and monotone(result, output):
        return [(extra, phases) for phases in sorted({min(periods), max(periods)}) for extra in EXTRA[:2]]
    return []


def monotone(result: Floats, output: Floats) -> bool:
    """Whether values of the output rise with those of the result, place by place, as behind a tanh.

    Every channel by itself: they may have biases and factors of their own behind the layer.
    """
    if result.shape != output.shape or result.ndim < 2:
        return False
    first, second = (np.moveaxis(values, 1, 0).reshape(values.shape[1], -1) for values in (result, output))
    order = np.argsort(first, axis=1, kind="stable")
    steps = np.diff(np.take_along_axis(second, order, axis=1).astype(np.float64), axis=1)
    return bool((steps >= -_ALIKE * max(float(np.ptp(output)), 1e-30)).all())
