"""Repair the layer that makes a model's output: all periods at once, plain weights, no training.

The layer's weights are solved on calibration data (:mod:`evenly.fix.solve`), with more taps than it had; then the
edited model is run and its lines are read as anyone would read them. What a layer's lines do to the model's output
behind it (a tanh, a clamp) is met by a few rounds: targets move by as much as the lines that were read missed theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenly.errors import UsageError
from evenly.fix.backend import Backend, Layer
from evenly.fix.geometry import Rows, padded
from evenly.fix.levels import Level, line_levels, resolvable
from evenly.fix.solve import Calibration, Moments, moments, solve

__all__ = ["Repaired", "last_layers", "psnr", "repair_last"]

Array = NDArray[np.float64]

AIM_DB = 1.0
"""Lines are brought this far inside of what is asked for, in dB: other data will differ."""
_ROUNDS = 4
_ALIKE = 1e-6


@dataclass(frozen=True, eq=False)
class Repaired:
    """A repaired model and what it cost, read on the calibration data.

    Attributes:
        backend: The edited model.
        layer: The layer that was solved.
        before, after: Levels of the output's lines, by period.
        reference: Levels of what they are compared with, by period; empty without it.
        psnr: Of the output against what it was, in dB; the peak is `peak`.
        peak: Range of the values, in the output's units.
    """

    backend: Backend = field(repr=False)
    layer: str
    before: Mapping[int, Level]
    after: Mapping[int, Level]
    reference: Mapping[int, Level]
    psnr: float
    peak: float


def psnr(changed: NDArray[np.floating], original: NDArray[np.floating], peak: float) -> float:
    """Peak signal-to-noise ratio in dB; infinite for equal signals."""
    error = float(np.mean((changed.astype(np.float64) - original) ** 2))
    return float(10 * np.log10(peak**2 / error)) if error else float("inf")


def last_layers(backend: Backend, batch: Any) -> Mapping[str, tuple[Layer, ...]]:
    """By output, the layers whose result is the output up to a monotone function of each value, such as tanh.

    Layers that cannot be rewritten are among them, with their reason in ``Layer.fixed``.
    """
    layers = {layer.name: layer for layer in backend.layers()}
    run = backend.run(batch, layers)
    return {
        name: tuple(layers[n] for n, result in run.results.items() if _monotone(result, output))
        for name, output in run.outputs.items()
    }


def _monotone(result: NDArray[np.floating], output: NDArray[np.floating]) -> bool:
    """Whether values of the output rise with those of the result, place by place, in every channel by itself.

    Channels may have biases and factors of their own behind the layer.
    """
    if result.shape != output.shape or result.ndim < 2:
        return False
    first, second = (np.moveaxis(values, 1, 0).reshape(values.shape[1], -1) for values in (result, output))
    order = np.argsort(first, axis=1, kind="stable")
    steps = np.diff(np.take_along_axis(second, order, axis=1).astype(np.float64), axis=1)
    return bool((steps >= -_ALIKE * max(float(np.ptp(output)), 1e-30)).all())


def repair_last(
    backend: Backend,
    layer: Layer,
    batches: Sequence[Any],
    periods: Sequence[int],
    *,
    output: str,
    reference: NDArray[np.floating] | None = None,
    paired: bool = False,
    within_db: float = 3.0,
    extra: int = 1,
    phases: int = 1,
    gamma: float = 0.1,
) -> Repaired:
    """Bring all lines of an output to those of the reference by solving its last layer.

    Args:
        backend: The model.
        layer: One of :func:`last_layers`.
        batches: Calibration data, as the model takes them.
        periods: In samples of the output; those that its size does not resolve are left out.
        output: Name of the output.
        reference: Real data in the output's form; without it lines are compared with their own surroundings.
        paired: Whether the reference is what the model should give for the batches, in their order.
        within_db: How far lines may stand over the reference's.
        extra: Taps that are added to the layer on both sides of every axis.
        phases: Period of the weights of a plain convolution: the up-sampling factor before it.
        gamma: Weight of a paired reference.

    Raises:
        UsageError: If the layer cannot be rewritten, or there is nothing to calibrate with.
    """
    if layer.fixed is not None:
        raise UsageError(f"{layer.name} cannot be rewritten: {layer.fixed}")
    if not batches:
        raise UsageError("no calibration data; give some of the model's inputs, or random ones")
    runs = [backend.run(batch, [layer.name]) for batch in batches]
    original = np.concatenate([run.outputs[output] for run in runs])
    sizes = original.shape[2:]
    asked = [p for p in periods if resolvable(sizes, p)]
    wanted = {} if reference is None else line_levels(reference, asked)
    rows = Rows.of(layer, extra, phases)
    inputs = [padded(rows, run.inputs[layer.name]) for run in runs]
    known = _known(rows, inputs, [run.results[layer.name] for run in runs], asked, reference if paired else None)
    start = rows.weights()
    before = line_levels(original, asked)
    targets = [_first_targets(k, w, before, wanted, within_db) for k, w in zip(known, start, strict=True)]
    for _ in range(_ROUNDS):
        solved = [
            solve(k, w, t, gamma=gamma if paired else 0.0).weights
            for k, w, t in zip(known, start, targets, strict=True)
        ]
        edited = backend.edited([rows.edit(solved)])
        changed = np.concatenate([edited.run(batch).outputs[output] for batch in batches])
        after = line_levels(changed, asked)
        missed = {p: after[p].over(wanted.get(p)) - (within_db - AIM_DB) for p in asked}
        if all(abs(miss) < AIM_DB / 2 or (miss < 0 and p not in targets[0]) for p, miss in missed.items()):
            break
        for each, k, w in zip(targets, known, start, strict=True):
            for p, miss in missed.items():
                if p in each or miss > 0:
                    each[p] = each.get(p, k.power(p, w)) * 10 ** (-miss / 10)
    peak = float(np.ptp(original if reference is None else reference))
    return Repaired(edited, layer.name, before, after, wanted, psnr(changed, original, peak), peak)


def _known(
    rows: Rows,
    inputs: Sequence[NDArray[np.floating]],
    results: Sequence[NDArray[np.floating]],
    periods: Sequence[int],
    reference: NDArray[np.floating] | None,
) -> list[Moments]:
    """Moments group by group."""
    groups = rows.layer.groups
    table = rows.scatter(inputs[0].shape[2:], results[0].shape[2:])
    wanted = (
        [None] * len(inputs) if reference is None else np.split(reference, np.cumsum([len(x) for x in inputs])[:-1])
    )

    def part(signal: NDArray[np.floating] | None, group: int) -> NDArray[np.floating] | None:
        return None if signal is None else np.split(signal, groups, axis=1)[group]

    return [
        moments(
            table,
            (
                Calibration(np.split(x, groups, axis=1)[g], np.split(y, groups, axis=1)[g], part(w, g))
                for x, y, w in zip(inputs, results, wanted, strict=True)
            ),
            periods,
        )
        for g in range(groups)
    ]


def _first_targets(
    known: Moments, weights: Array, before: Mapping[int, Level], wanted: Mapping[int, Level], within_db: float
) -> dict[int, float]:
    """Powers that lines may have; none where they are low enough."""
    found = {}
    for period, level in before.items():
        excess = level.over(wanted.get(period)) - (within_db - AIM_DB)
        if excess > 0:
            found[period] = known.power(period, weights) * 10 ** (-excess / 10)
    return found
