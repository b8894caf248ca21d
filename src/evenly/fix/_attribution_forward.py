"""Attribution forward: transposed and sub-pixel convolutions are made even by balancing their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenly.errors import ParameterError, UsageError
from evenly.fix._attribution_subject import Part, Signals, check_finite
from evenly.fix.backend import Backend, Edit, Floats, Layer
from evenly.fix.balance import balanced
from evenly.fix.geometry import Rows, padded
from evenly.fix.solve import Calibration, Moments, moments
from evenly.theory.balance import excluded_directions

__all__ = ["Forward"]

Array = NDArray[np.float64]

MOST_FEATURES = 2048
"""Taps times channels of a group, above which weights are balanced without moments: 34 MB and a second for a layer."""


class Forward:
    """A model forward (:class:`evenly.fix._attribution_subject.Subject`).

    Made even is a layer whose weights meet the DC condition: balanced at the smallest change of its output on these
    batches (:func:`evenly.fix.balance.balanced`), or, with too many features for that, at the smallest change of the
    weights (Sugawara, Shiota & Kiya, arXiv 1806.02658). A sub-pixel convolution gets one bias for all phases. Kernels
    that are shorter than the stride get the taps that they lack.

    Args:
        backend: The model.
        batches: What it is run on.
        output: Which output is explained; by default the only one with positions.

    Raises:
        UsageError: If there is no such output, or several without a choice, or a batch does not fit.
    """

    def __init__(self, backend: Backend, batches: Sequence[Any], output: str | None) -> None:
        self._backend, self._batches = backend, batches
        self.output = _chosen(backend.run(batches[0]).outputs, output)
        self._layers = {layer.name: layer for layer in backend.layers()}
        self._edited: dict[tuple[str, ...], Backend] = {(): backend}

    @property
    def batches(self) -> int:
        """How many."""
        return len(self._batches)

    def signals(self, batch: int, even: Sequence[str], record: Sequence[str]) -> Signals:
        """Run one batch with these layers made even, record those."""
        names = tuple(even)
        if names not in self._edited:
            self._edited[names] = self._backend.edited([self._edits[name] for name in names])
        run = self._edited[names].run(self._batches[batch], record)
        return Signals(run.outputs[self.output], run.inputs, run.results)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Layers in the order in which they ran; at the end those that the backend does not list."""
        unlisted: Mapping[str, str] = getattr(self._backend, "unlisted", {})
        return (
            *(self._part(layer) for layer in self._layers.values()),
            *(Part(name, "convolution", None, why, True, recorded=False) for name, why in unlisted.items()),
        )

    # ---- which layers ------------------------------------------------------------------------------------------------

    @cached_property
    def _obstacles(self) -> Mapping[str, str]:
        """Why layers that write several phases cannot be made even."""
        found = {}
        for name, layer in self._layers.items():
            if layer.fixed:
                found[name] = layer.fixed
            elif layer.upsampling != (1,) * len(layer.kernel):
                why = self._unrecorded.get(name) or _unbalanceable(layer)
                if why:
                    found[name] = why
        return found

    @cached_property
    def _unrecorded(self) -> Mapping[str, str]:
        """Layers that do not run, or run more than once."""
        found = {}
        for name, layer in self._layers.items():
            if layer.fixed or layer.note:  # others ran once
                try:
                    self._backend.run(self._batches[0], [name])
                except UsageError as error:
                    found[name] = str(error)
        return found

    @cached_property
    def _edits(self) -> Mapping[str, Edit]:
        """The layers made even."""
        candidates = [
            layer
            for name, layer in self._layers.items()
            if layer.upsampling != (1,) * len(layer.kernel) and name not in self._obstacles
        ]
        known = self._moments([layer for layer in candidates if _few(layer)])
        return {layer.name: _evened(layer, known.get(layer.name)) for layer in candidates}

    def _part(self, layer: Layer) -> Part:
        recorded = layer.name not in self._unrecorded
        if layer.name in self._obstacles:
            return Part(layer.name, layer.kind, None, self._obstacles[layer.name], True, recorded)
        if layer.name in self._edits:
            return Part(layer.name, layer.kind, f"balanced by {'output' if _few(layer) else 'weights'}")
        why = "its phases are alike: it weighs lines that arrive, and creates none"
        return Part(layer.name, layer.kind, None, why, recorded=recorded)

    # ---- what they are made of ---------------------------------------------------------------------------------------

    def _moments(self, layers: Sequence[Layer]) -> Mapping[str, Sequence[Moments]]:
        """Second moments by group, mean over all signals."""
        grams: dict[str, list[Array]] = {layer.name: [] for layer in layers}
        signals = 0
        for batch in self._batches if layers else ():
            run = self._backend.run(batch, list(grams))
            count = 0
            for layer in layers:
                check_finite(run.results[layer.name])
                found = _grams(layer, run.inputs[layer.name], run.results[layer.name])
                count = len(run.inputs[layer.name])
                before = grams[layer.name] or [np.zeros_like(gram) for gram in found]
                grams[layer.name] = [old + count * gram for old, gram in zip(before, found, strict=True)]
            signals += count
        return {name: [Moments(gram / max(signals, 1), {}) for gram in each] for name, each in grams.items()}


def _chosen(outputs: Mapping[str, Floats], wanted: str | None) -> str:
    listed = ", ".join(f"{name} {values.shape}" for name, values in outputs.items())
    if wanted is not None and wanted not in outputs:
        raise UsageError(f"the model has no output {wanted!r}; its outputs are {listed}")
    able = [name for name, values in outputs.items() if 3 <= values.ndim <= 5]
    if wanted in able:
        return wanted
    if wanted is not None or not able:
        raise UsageError(f"the outputs are {listed}; expected one of shape (N, C, *sizes) with one to three axes")
    if len(able) > 1:
        raise UsageError(f"the model has several outputs, {listed}; say with output=... which one is to be explained")
    return able[0]


def _rows(layer: Layer) -> Rows:
    lacking = (s - k for s, k in zip(layer.stride, layer.kernel, strict=True))
    extra = tuple(max(0, (n + 1) // 2) if layer.kind == "transposed" else 0 for n in lacking)
    return Rows(layer, extra, (1,) * len(layer.kernel))


def _unbalanceable(layer: Layer) -> str | None:
    rows = _rows(layer)
    if not np.isfinite(layer.weight).all():
        return "its weights are not finite"
    try:
        excluded_directions(rows.places(), rows.stride)
    except ParameterError as error:
        return f"no kernel of its geometry is even: {error}"
    return None


def _few(layer: Layer) -> bool:
    rows = _rows(layer)
    channels = layer.weight.shape[1] if layer.kind == "subpixel" else layer.weight.shape[0] // layer.groups
    taps = prod(rows.kernel) * (prod(layer.factor) if layer.kind == "subpixel" else 1)
    return bool(taps * channels <= MOST_FEATURES)


def _grams(layer: Layer, inputs: Floats, results: Floats) -> list[Array]:
    rows = _rows(layer)
    read = padded(rows, inputs)
    table = rows.scatter(read.shape[2:], results.shape[2:])
    groups = zip(np.split(read, layer.groups, 1), np.split(results, layer.groups, 1), strict=True)
    return [moments(table, [Calibration(x, y)], []).gram for x, y in groups]


def _evened(layer: Layer, known: Sequence[Moments] | None) -> Edit:
    rows = _rows(layer)
    wanted = rows.weights()
    if known is None:
        directions = excluded_directions(rows.places(), rows.stride)
        return rows.edit([_projected(directions, weights) for weights in wanted])
    made = []
    for moment, weights in zip(known, wanted, strict=True):
        if layer.bias is None:  # and none is added: the constant is no feature of this layer
            moment.gram[-1, :-1] = moment.gram[:-1, -1] = 0
        made.append(balanced(moment, weights, rows.places(), rows.stride))
    return rows.edit(made)


def _projected(directions: Array, weights: Array) -> Array:
    taps = weights[:-1].reshape(len(directions), -1)
    even = taps - directions @ (directions.T @ taps)
    return np.concatenate([even.reshape(-1, weights.shape[1]), weights[-1:]])
