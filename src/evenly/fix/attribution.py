"""Which layer makes a line: from a period in the output's spectrum back to the layers.

Two answers are given for every convolution-like layer, and they are kept apart:

* by *intervention*: how far each period's line falls when only this layer is made even and everything else, all other
  weights, biases, branches, is left as it is. This ranks the layers. It holds for any network, since the network itself
  is run.
* by *budget*: the power of the lines that arrive at the layer, that it passes on, that it creates. By linearity its
  result is ``y = y_even + y_created``, ``y_even`` being what the layer made even gives for the very same input, so
  ``found = passed + created + cross`` exactly. What non-linearities and branches do is the step between layers.

A line of period ``P`` in the output is one of period ``P / scale`` in a layer's result, ``scale`` being the ratio of
the sizes. It has to be the same whole number (or one over it) on every axis, up to fewer than two of the layer's
samples that layers without padding cut at the border; otherwise there is no budget, and the reason is given. Where
``P = scale`` the line arises behind the layer.

*Made even* forward: balanced weights, that is, equal DC gains of all phases (docs/theory.md, *Phases and the DC
condition*); see :mod:`evenly.fix._attribution_forward`. Backward: a low-pass before the decimation, felt by the
gradient only; see :mod:`evenly.fix._attribution_backward`.

Lines are read as :mod:`evenly.fix.levels` reads them. Odena, Dumoulin & Olah 2016 (doi 10.23915/distill.00003) name the
cause; that lines are attributed by making single layers even is this library's own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from evenly.errors import UsageError
from evenly.fix._attribution_budget import Ledger
from evenly.fix._attribution_inputs import random_inputs
from evenly.fix._attribution_subject import Part, Signals, Subject, check_finite
from evenly.fix.attributed import Attribution, Effect, LayerAttribution, Line
from evenly.fix.backend import Backend
from evenly.fix.levels import powers, resolvable
from evenly.measure.phases import check_periods
from evenly.measure.result import PERIODS

__all__ = ["attribute", "name_of", "opened"]

Array = NDArray[np.float64]
Floats = NDArray[np.floating]

FLOOR = 5e-6
"""Power that every surrounding has at least, over the signal's mean square: what rounding to 8 bits adds, ``1/12`` of a
squared step, to a signal whose root mean square is half the range."""
LEAST = 1e-3
"""Power of a line over its neighbours that counts at least: where there is none, decibels would be infinite."""


def attribute(
    model: Any,
    *example_inputs: Any,
    inputs: Iterable[Any] | None = None,
    periods: Sequence[int] | None = None,
    output: str | None = None,
    backward: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Attribution:
    """Name the layers that make the lines of a model's output, or of its input's gradient.

    Every tested layer costs one run per batch, and forward an edited copy of the model, which is kept meanwhile.

    Args:
        model: A torch module, an ONNX file or model, or a :class:`evenly.fix.backend.Backend`. It stays as it is.
        *example_inputs: What it takes, arrays or tensors; may be left out if `inputs` are given.
        inputs: Batches to run it on: arrays, sequences of arguments or mappings by name. By default 16 or more random
            signals of the example's shapes: standard normal noise, and forward, if the only input has up to 4 channels,
            half of them constants of random colour (backward, all positions of a max pool would tie); the result says
            which.
        periods: Of the lines, in samples of the output (of the input, backward); by default those that are measured
            everywhere, as far as the sizes allow.
        output: Name of the output, if there are several.
        backward: Explain the lines of the squared gradient by the input instead, from strided layers; torch only.
            Strides that are no modules (``x[::2]``, ``F.max_pool2d``) are not seen: what they make stays.
        seed: Of random inputs, and of the noise that dense outputs are derived with.
        progress: Told after each run how many are done, and of how many.

    Raises:
        UsageError: If the inputs do not fit, differ in size, are fewer than two signals, the output is none with
            positions, or its sizes are too small for every period.
        ParameterError: If a period is no integer of at least 2.
    """
    batches, words = _batches(example_inputs, inputs, seed, constants=not backward)
    subject = _subject(model, batches, output, backward, seed)
    wanted = check_periods(PERIODS if periods is None else periods)
    survey = _Survey(subject, wanted, progress or (lambda done, total: None))
    return Attribution(
        model=name_of(model),
        direction="backward" if backward else "forward",
        output=subject.output,
        inputs=words,
        signals=survey.signals,
        lines=survey.lines(),
        layers=tuple(survey.layer(part) for part in subject.parts),
        together=survey.together(),
        last_step={} if backward else survey.ledger.last_step(),
    )


class _Survey:
    """All runs, reduced to powers as they come: memory does not grow with the number of batches."""

    def __init__(self, subject: Subject, periods: Sequence[int], progress: Callable[[int, int], None]) -> None:
        self.parts = subject.parts
        self.tested = tuple(part.name for part in self.parts if part.tested)
        trials = dict.fromkeys([(), *((name,) for name in self.tested), self.tested])  # of one layer, it is all
        self._powers: dict[tuple[str, ...], list[Mapping[int, Array]]] = {trial: [] for trial in trials}
        self._progress, self._runs, self._done = progress, len(trials) * subject.batches, 0
        recorded = [part.name for part in self.parts if part.recorded]
        first = subject.signals(0, (), recorded)
        self.periods = _able(first.whole, periods)
        self.ledger = Ledger(first.whole.shape[2:], self.periods)
        for batch in range(subject.batches):
            self._add(subject, batch, subject.signals(batch, (), recorded) if batch else first)
        self.signals = sum(found[self.periods[0]].shape[1] for found in self._powers[()])
        if self.signals < 2:
            raise UsageError("one signal alone has no interval; expected two or more: give more inputs, or a batch")

    def _add(self, subject: Subject, batch: int, base: Signals) -> None:
        self.ledger.add_whole(base.whole)
        evened: dict[str, Floats] = {}
        for trial, found in self._powers.items():
            run = subject.signals(batch, trial, trial[:1] if len(trial) == 1 else ()) if trial else base
            found.append(_powers(run.whole, self.periods))
            self._done += 1
            self._progress(self._done, self._runs)
            if len(trial) == 1:
                evened.update(run.results)
        for part in self.parts:
            if part.name in base.results:
                name = part.name
                self.ledger.add(part, base.arrived.get(name), base.results[name], evened.get(name))

    def lines(self) -> dict[int, Line]:
        found = {}
        for period in self.periods:
            on, near = self._read((), period)
            found[period] = Line(period, *_interval(_db(np.maximum(on / near, LEAST))), self.signals)
        return found

    def layer(self, part: Part) -> LayerAttribution:
        periods = [p for p in self.periods if part.tested and self.ledger.creates(part, p)]
        effects = {p: self._effect((part.name,), p) for p in periods}
        budgets = self.ledger.budgets(part)
        return LayerAttribution(part.name, part.kind, part.even, effects, budgets, part.untested, part.fixed)

    def together(self) -> dict[int, Effect]:
        return {p: self._effect(self.tested, p) for p in self.periods} if self.tested else {}

    def _read(self, trial: tuple[str, ...], period: int) -> Array:
        return np.concatenate([found[period] for found in self._powers[trial]], 1)

    def _effect(self, trial: tuple[str, ...], period: int) -> Effect:
        (on, near), after = self._read((), period), self._read(trial, period)[0]
        heights = np.maximum(on, near), np.maximum(after, near)
        stands = 1 - near / heights[0]
        gone = np.maximum(1 - heights[1] / heights[0], -stands)
        removed = float(gone.sum() / stands.sum()) if stands.any() else 0.0
        return Effect(*_interval(_db(heights[0] / heights[1])), removed)


def _powers(signals: Floats, periods: Sequence[int]) -> dict[int, Array]:
    """Power on the lines and beside them, ``(2, N)``, by period; the latter no less than what rounding leaves."""
    check_finite(signals)
    values = signals.astype(np.float64)
    axes = tuple(range(2, values.ndim))
    floor = FLOOR * (values**2).mean((1, *axes)) + 1e-300
    values -= values.mean(axes, keepdims=True)
    found = {}
    for period in periods:
        on, near, _ = powers(values, period)
        found[period] = np.stack([on, np.maximum(near, floor)])
    return found


def _able(whole: Floats, periods: Sequence[int]) -> tuple[int, ...]:
    found = tuple(p for p in periods if resolvable(whole.shape[2:], p))
    if not found:
        sizes = " x ".join(map(str, whole.shape[2:]))
        raise UsageError(
            f"{sizes} samples are too few for lines of period {', '.join(map(str, periods))}; expected at least six "
            "periods on every axis: give larger inputs"
        )
    return found


def _db(ratio: Array) -> Array:
    return np.asarray(10 * np.log10(ratio), np.float64)


def _interval(values: Array) -> tuple[float, float, float]:
    """Mean and its 95 % interval by Student's t."""
    mean, count = float(values.mean()), len(values)
    if count < 2:
        return mean, -np.inf, np.inf
    half = float(special.stdtrit(count - 1, 0.975)) * float(values.std(ddof=1)) / count**0.5
    return mean, mean - half, mean + half


# ---- what is given ---------------------------------------------------------------------------------------------------


def _batches(example: Sequence[Any], inputs: Iterable[Any] | None, seed: int, constants: bool) -> tuple[list[Any], str]:
    if inputs is not None:
        batches = list(inputs)
        if not batches:
            raise UsageError("inputs holds no batch; give at least one")
        return batches, "as given"
    if not example:
        raise UsageError("there is nothing to run the model on; give an example of its inputs, or inputs=...")
    made, words = random_inputs(example, seed, constants)
    return list(made), words


def _subject(model: Any, batches: Sequence[Any], output: str | None, backward: bool, seed: int) -> Subject:
    """The model in one direction; torch and onnx are imported where they are needed."""
    if backward:
        from evenly.fix._attribution_backward import Backward

        return Backward(getattr(model, "model", model) if _is_backend(model) else model, batches, output, seed)
    from evenly.fix._attribution_forward import Forward

    return Forward(opened(model), batches, output)


def _is_backend(model: Any) -> bool:
    return all(hasattr(model, name) for name in ("layers", "run", "edited"))


def opened(model: Any) -> Backend:
    """A model as repairs see it; torch and onnx are imported where they are needed.

    Raises:
        UsageError: If it is none.
    """
    if "torch" in sys.modules and isinstance(model, sys.modules["torch"].nn.Module):
        from evenly.fix.torch_backend import TorchBackend

        return TorchBackend(model)
    if isinstance(model, str | os.PathLike) or type(model).__module__.startswith("onnx"):
        from evenly.fix.onnx_backend import OnnxBackend

        return OnnxBackend(model)
    if _is_backend(model):
        backend: Backend = model
        return backend
    raise UsageError(f"{type(model).__name__} is no model; give a torch module, an ONNX file or model, or a backend")


def name_of(model: Any) -> str:
    """Of a model, for people: the file's, else the class."""
    if isinstance(model, str | os.PathLike):
        return os.path.basename(os.fspath(model))
    return type(model.model if _is_backend(model) else model).__name__
