"""Balance every up-sampling layer, and fit what follows to what it used to give: constants in give constants out.

Layer by layer, in the order in which the model runs them, an up-sampling layer gets the weights that meet the DC
condition (theory.md, *Phases and the DC condition*; Sugawara, Shiota & Kiya, arXiv 1806.02658) and come closest to the
*original* model's result at this place, for the inputs that the *edited* model has there. So each layer makes up for
what the layers before it have changed. Plain convolutions in between are fitted anew to their original results in the
same way. All is linear least squares on calibration data, no training; :mod:`evenly.fix.finetune` goes on from here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenly.errors import ParameterError, UsageError
from evenly.fix._fitting import MOST_FEATURES, Fit, features_of, nearest
from evenly.fix.backend import Backend, Layer
from evenly.fix.candidates import described
from evenly.fix.geometry import Rows
from evenly.fix.result import LayerRepair
from evenly.theory.balance import excluded_directions

__all__ = ["EQUAL", "Balanced", "balance_layers", "certificate", "frontier"]

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]

EQUAL = 1e-5
"""Largest difference of the phases' gains, over the gain's norm (ratio), that counts as none: single precision."""


@dataclass(frozen=True, eq=False)
class Balanced:
    """A balanced model.

    Attributes:
        backend: The edited model.
        repairs: Layers that were changed (``balance``, ``refit``), and those that should have been and could not be, in
            the order in which the model runs them.
        certificate: Whether all phases of every up-sampling layer have equal DC gains and biases, within :data:`EQUAL`.
        why_not: What stands in the way of the certificate, layer by layer; empty with it.
    """

    backend: Backend = field(repr=False)
    repairs: tuple[LayerRepair, ...]
    certificate: bool
    why_not: tuple[str, ...]


def balance_layers(
    backend: Backend,
    batches: Sequence[Any],
    *,
    layers: Sequence[str] | None = None,
    strength: float = 1.0,
    order: int = 1,
    refit: bool = True,
    extra: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Balanced:
    """Balance up-sampling layers at the least change of their results, and refit what follows.

    Memory does not grow with the number of batches; every layer costs two runs of the model per batch.

    Args:
        backend: The model; it stays as it is.
        batches: Calibration data, as the model takes them.
        layers: Names of up-sampling layers that are to be balanced; by default all.
        strength: 1 meets the condition, 0 changes nothing; between them the ripple falls in proportion.
        order: Of the condition: 1 keeps constants, 2 slopes (:mod:`evenly.theory.balance`).
        refit: Whether plain convolutions behind the first balanced layer are fitted anew, and balanced layers to what
            they gave in the original model; otherwise each layer is balanced for itself.
        extra: Taps that balanced layers get on both sides of every axis. Kernels too short for the condition get what
            they lack in any case.
        seed: Of outputs that are drawn where there are more than a fit needs.
        progress: Told after each layer how many are done, and of how many.

    Raises:
        UsageError: If there are no batches, a name is none of an up-sampling layer, or a batch does not fit.
        ParameterError: If the strength, the order or the number of taps is out of range.
    """
    if not batches:
        raise UsageError("no calibration data; give some of the model's inputs, or random ones")
    if not 0 <= strength <= 1:
        raise ParameterError(f"strength (={strength}) must be within 0 (as it is) to 1 (balanced)")
    if extra < 0:
        raise ParameterError(f"extra (={extra}) must be 0 or more taps")
    backend.run(batches[0])  # shows the order of the layers
    found = backend.layers()
    plan = _plan(found, layers, refit)
    work = _Work(backend, batches, strength, order, refit, extra, seed)
    for done, (layer, up) in enumerate(plan, start=1):
        work.repair(layer, up)
        if progress is not None:
            progress(done, len(plan))
    why_not = certificate(work.current, order)
    return Balanced(work.current, tuple(work.repairs), not why_not, why_not)


def frontier(
    backend: Backend,
    batches: Sequence[Any],
    strengths: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    *,
    layers: Sequence[str] | None = None,
    order: int = 1,
    refit: bool = True,
    extra: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[tuple[float, Balanced], ...]:
    """Balance by parts: less artifact at more distortion, for choosing between them.

    Args:
        backend: The model; it stays as it is.
        batches: Calibration data.
        strengths: See :func:`balance_layers`; their order is kept.
        layers: See there, as the other arguments.
        order: See there.
        refit: See there.
        extra: See there.
        seed: See there.
        progress: Told after each strength how many are done, and of how many.

    Raises:
        UsageError: As there.
        ParameterError: As there.
    """
    found = []
    for strength in strengths:
        each = balance_layers(
            backend, batches, layers=layers, strength=strength, order=order, refit=refit, extra=extra, seed=seed
        )
        found.append((strength, each))
        if progress is not None:
            progress(len(found), len(strengths))
    return tuple(found)


def _plan(found: Sequence[Layer], names: Sequence[str] | None, refit: bool) -> list[tuple[Layer, bool]]:
    """Layers in order, and whether they are to be balanced, or else refitted.

    A sub-pixel convolution that is not to be balanced stays as it is: fitted anew it would lose its biases by phase.
    """
    able = [layer.name for layer in found if prod(layer.upsampling) > 1]
    unknown = sorted(set(names or ()) - set(able))
    if unknown:
        raise UsageError(
            f"{', '.join(map(repr, unknown))} is no up-sampling layer of the model; expected some of "
            f"{', '.join(map(repr, able)) or 'none: it has no such layer'}"
        )
    wanted = set(able if names is None else names)
    first = next((k for k, layer in enumerate(found) if layer.name in wanted), len(found))
    return [
        (layer, layer.name in wanted)
        for layer in found[first:]
        if layer.name in wanted or (refit and layer.kind != "subpixel")
    ]


# ---- one layer after the other ---------------------------------------------------------------------------------------


class _Work:
    """The model while it is being edited."""

    def __init__(
        self, original: Backend, batches: Sequence[Any], strength: float, order: int, refit: bool, extra: int, seed: int
    ) -> None:
        self.original, self.current = original, original
        self.repairs: list[LayerRepair] = []
        self._batches, self._seed = batches, seed
        self._strength, self._order, self._refit, self._extra = strength, order, refit, extra

    def repair(self, layer: Layer, up: bool) -> None:
        """Balance a layer, or else refit it, and say so."""
        method = "balance" if up else "refit"
        notes: list[str] = []
        try:
            rows = self._rows(layer, notes) if up else Rows(layer, (0,) * len(layer.kernel), (1,) * len(layer.kernel))
            if layer.fixed is not None:
                raise UsageError(layer.fixed)
            changed, solved = self._solve(layer, rows, up, notes)
        except (UsageError, ParameterError) as error:
            self.repairs.append(LayerRepair(layer.name, method, described(layer), None, None, str(error)))
            return
        if not changed:
            return  # nothing before a plain convolution was changed
        edit = rows.edit(solved)
        self.current = self.current.edited([edit])
        self.repairs.append(
            LayerRepair(
                layer.name,
                method,
                described(layer),
                described(replace(layer, kernel=edit.kernel)),
                _weight_change(rows, solved),
                "; ".join([*notes, *([layer.note] if layer.note else [])]) or None,
            )
        )

    def _rows(self, layer: Layer, notes: list[str]) -> Rows:
        """The layer with the taps that it gets."""
        ones = (1,) * len(layer.kernel)
        lacking = [0] * len(ones)
        if layer.kind == "transposed":
            needed = [self._order * (s - 1) + 1 for s in layer.stride]
            lacking = [max(0, (n - k + 1) // 2) for n, k in zip(needed, layer.kernel, strict=True)]
        rows = Rows(layer, tuple(max(self._extra, n) for n in lacking), ones)
        excluded_directions(rows.places(), rows.stride, self._order)  # refuses what cannot be met
        if any(n > self._extra for n in lacking):
            notes.append(f"its kernel {layer.kernel} is too short for the condition; it becomes {rows.kernel}")
        return rows

    def _solve(self, layer: Layer, rows: Rows, up: bool, notes: list[str]) -> tuple[bool, list[Array]]:
        """Whether there is anything to do, and the new weights."""
        before = rows.weights()
        try:
            first = self._signals(layer, self._batches[0])
        except UsageError as error:  # it does not run
            if not up:
                raise
            notes.append(f"balanced by its weights alone: {error}")
            return True, [nearest(rows, w, self._order, self._strength) for w in before]
        if not up and np.array_equal(first[0], first[2]):
            return False, before
        if features_of(rows) > MOST_FEATURES:
            message = f"{features_of(rows)} features are too many for a fit (most: {MOST_FEATURES})"
            if not up:
                raise UsageError(message)
            notes.append(f"balanced by its weights alone: {message}")
            return True, [nearest(rows, w, self._order, self._strength) for w in before]
        phases = prod(rows.stride)
        expected = first[1][:, 0].size // phases * len(self._batches)
        fits = [Fit(rows, group, expected, self._seed) for group in range(layer.groups)]
        for number, batch in enumerate(self._batches):
            now, wanted, _ = self._signals(layer, batch) if number else first
            for fit in fits:
                fit.add(now, wanted)
        if not up:
            return True, [fit.weights(w) for fit, w in zip(fits, before, strict=True)]
        return True, [fit.balanced(w, self._order, self._strength) for fit, w in zip(fits, before, strict=True)]

    def _signals(self, layer: Layer, batch: Any) -> tuple[Array, Array, Array]:
        """What a layer reads now, what it should give, and what it read in the original model."""
        was = self.original.run(batch, [layer.name])
        now = self.current.run(batch, [layer.name])
        read = now.inputs[layer.name]
        wanted = was.results[layer.name] if self._refit else now.results[layer.name]
        for values in (read, wanted):
            if not np.isfinite(values).all():
                raise UsageError(f"{layer.name} has values that are not finite on the calibration data")
        return read, wanted, was.inputs[layer.name]  # type: ignore[return-value]


def _weight_change(rows: Rows, solved: Sequence[Array]) -> float:
    before = np.concatenate([w[:-1] for w in rows.weights()], 1)
    change = np.concatenate([w[:-1] for w in solved], 1) - before
    return float(np.linalg.norm(change) / max(float(np.linalg.norm(before)), 1e-30))


# ---- the certificate -------------------------------------------------------------------------------------------------


def certificate(backend: Backend, order: int = 1) -> tuple[str, ...]:
    """Why constants do not stay constant in a model's up-sampling layers, layer by layer; empty if they do.

    Args:
        backend: The model.
        order: Of the condition that is checked.
    """
    return tuple(why for layer in backend.layers() if (why := _unequal(layer, order)) is not None)


def _unequal(layer: Layer, order: int) -> str | None:
    if prod(layer.upsampling) == 1:
        return None
    rows = Rows.of(layer)
    reason = f" ({layer.fixed})" if layer.fixed else ""
    if not np.isfinite(layer.weight).all():
        return f"{layer.name}: its weights are not known{reason}"
    try:
        directions = excluded_directions(rows.places(), rows.stride, order)
    except ParameterError as error:
        return f"{layer.name}: {error}"
    worst = 0.0
    for weights in rows.weights():
        taps = weights[:-1].reshape(len(directions), -1)
        worst = max(worst, float(np.linalg.norm(directions.T @ taps)) / max(float(np.linalg.norm(taps)), 1e-30))
    if layer.kind == "subpixel" and layer.bias is not None:
        biases = np.asarray(layer.bias, np.float64).reshape(-1, prod(layer.factor))
        spread = biases.max(1) - biases.min(1)
        worst = max(worst, float(spread.max()) / max(float(np.abs(biases).max()), 1e-30))
    if worst > EQUAL:
        return f"{layer.name}: gains of its phases differ by {worst:.1e} of its weights' norm{reason}"
    return None
