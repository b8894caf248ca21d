"""What a repair works on: calibration data in two parts, one to solve with and one kept for the proof."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from evenly.errors import UsageError
from evenly.fix.backend import Backend, Floats
from evenly.fix.levels import Level, Reading

__all__ = ["Judgement", "Part", "Task", "chunks", "psnr"]

Array = NDArray[np.float64]

CHUNK = 16
"""Signals that are run at a time, where the model takes any number."""
_PROOF = 4
"""One chunk in so many is kept for the proof."""


def psnr(changed: NDArray[np.floating], original: NDArray[np.floating], peak: float) -> float:
    """Peak signal-to-noise ratio in dB; infinite for equal signals."""
    return _decibels(float(np.mean((changed.astype(np.float64) - original) ** 2)), peak)


def _decibels(error: float, peak: float) -> float:
    return float(10 * np.log10(peak**2 / error)) if error else float("inf")


@dataclass(frozen=True)
class Judgement:
    """One output of an edited model beside the original one.

    Attributes:
        levels: Of its lines, by period.
        error: Mean squared change of its values, in squared units.
        largest: Largest change of a value, in the output's units.
    """

    levels: Mapping[int, Level]
    error: float
    largest: float

    def psnr(self, peak: float) -> float:
        """In dB; infinite for equal signals."""
        return _decibels(self.error, peak)

    def over(self, wanted: Mapping[int, Level]) -> dict[int, float]:
        """How far every period's lines stand over the reference's, in dB."""
        return {period: level.over(wanted.get(period)) for period, level in self.levels.items()}


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the calibration data, with what the original model gives for it.

    Attributes:
        batches: As the model takes them.
        originals: Outputs of the original model by name, batch by batch.
        references: Real data by the outputs' names, batch by batch, where they belong to these very inputs; or none.
    """

    batches: tuple[Any, ...] = field(repr=False)
    originals: tuple[Mapping[str, Floats], ...] = field(repr=False)
    references: tuple[Mapping[str, Floats], ...] = field(default=(), repr=False)

    @property
    def signals(self) -> int:
        """How many."""
        return sum(_count(batch) for batch in self.batches)

    def reference(self, output: str, batch: int) -> Floats | None:
        """What the model should give for a batch, if that is known."""
        return self.references[batch].get(output) if self.references else None

    def missed(self, given: Iterable[Mapping[str, Floats]]) -> float | None:
        """Squared error towards what a model should give, over the variance of that (ratio, the worst output's).

        Args:
            given: Its outputs, batch by batch.

        Returns:
            ``None`` if it is not known what it should give.
        """
        errors: dict[str, float] = {}
        values: dict[str, list[Floats]] = {}
        for outputs, references in zip(given if self.references else (), self.references, strict=True):
            for name, real in references.items():
                errors[name] = errors.get(name, 0.0) + float(np.sum((outputs[name].astype(np.float64) - real) ** 2))
                values.setdefault(name, []).append(real)
        ratios = []
        for name, error in errors.items():
            real = np.concatenate(values[name]).astype(np.float64)
            ratios.append(error / max(float(np.sum((real - real.mean()) ** 2)), np.finfo(np.float64).tiny))
        return max(ratios, default=None)

    def judge(self, backend: Backend, periods: Mapping[str, Sequence[int]]) -> dict[str, Judgement]:
        """Run a model, and read its outputs.

        Args:
            backend: The model.
            periods: Of the lines, by output; other outputs are not read.

        Raises:
            UsageError: If an output has other sizes than it had, or values that are not finite.
        """
        readings = {name: Reading(wanted) for name, wanted in periods.items()}
        squares, counts, largest = (dict.fromkeys(periods, 0.0) for _ in range(3))
        for batch, before in zip(self.batches, self.originals, strict=True):
            outputs = backend.run(batch).outputs
            for name, reading in readings.items():
                new = outputs[name]
                expect_alike(name, new, before[name])
                reading.add(new)
                change = np.abs(new.astype(np.float64) - before[name])
                squares[name] += float(np.sum(change**2))
                counts[name] += change.size
                largest[name] = max(largest[name], float(change.max(initial=0.0)))
        return {
            name: Judgement(reading.levels(), squares[name] / max(counts[name], 1), largest[name])
            for name, reading in readings.items()
        }


def expect_alike(name: str, new: Floats, before: Floats) -> None:
    """Refuse an output that changed its form.

    Raises:
        UsageError: If it has other sizes, or values that are not finite.
    """
    if new.shape != before.shape:
        raise UsageError(f"output {name!r} has the shape {new.shape} after the repair, expected {before.shape}")
    if not np.isfinite(new).all():
        raise UsageError(f"output {name!r} holds NaN or infinities; give inputs for which it is finite")


@dataclass(frozen=True, eq=False)
class Task:
    """What is asked of a repair.

    Attributes:
        original: The model as it is.
        fit, proof: Calibration data to solve with, and to judge by.
        periods: Of the lines, by output, ascending; outputs without any are not repaired.
        wanted: Levels of the real data's lines, by output; empty where lines are compared with their surroundings.
        peaks: Range of values that a PSNR refers to, by output.
        within_db: How far lines may stand over the reference's.
        max_distortion: Least PSNR to the original output, in dB.
        words: What the calibration data are.
        notes: What to know about them.
    """

    original: Backend = field(repr=False)
    fit: Part
    proof: Part
    periods: Mapping[str, tuple[int, ...]]
    wanted: Mapping[str, Mapping[int, Level]]
    peaks: Mapping[str, float]
    within_db: float
    max_distortion: float
    words: str
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        backend: Backend,
        batches: Iterable[Any],
        words: str,
        *,
        reference: Any = None,
        paired: bool = False,
        periods: Sequence[int],
        within_db: float,
        max_distortion: float,
        peak: float | None = None,
    ) -> Self:
        """Run the original model on the calibration data, and read its lines and the reference's.

        Args:
            backend: The model.
            batches: Calibration data.
            words: What they are.
            reference: Real data ``(N, C, *sizes)`` in the form of the only output with positions, or by output.
            paired: Whether it is what the model should give for the calibration data, in their order.
            periods: In samples; those that an output's sizes do not resolve are left out for it.
            within_db: How far lines may stand over the reference's.
            max_distortion: Least PSNR, in dB.
            peak: Range of values; by default that of the reference, else of the original output.

        Raises:
            UsageError: If there is nothing to calibrate with, or the reference does not fit.
        """
        cut = chunks(backend, batches)
        originals = tuple(backend.run(batch).outputs for batch in cut)
        names = [name for name, value in originals[0].items() if value.ndim >= 3]
        for outputs in originals:
            for name in names:
                expect_alike(name, outputs[name], outputs[name])
        real = _by_output(reference, names, originals[0])
        notes = []
        references: tuple[Mapping[str, Floats], ...] = ()
        if paired:
            references = _paired(real, cut)
        kept = [k for k in range(len(cut)) if k % _PROOF == _PROOF - 1] or ([len(cut) - 1] if len(cut) > 1 else [])
        if not kept:
            kept = [0]
            notes.append("the calibration data are one batch: solved and proved on the same; give more")
        fitted = [k for k in range(len(cut)) if k not in kept] or kept

        def part(which: Sequence[int]) -> Part:
            return Part(
                tuple(cut[k] for k in which),
                tuple(originals[k] for k in which),
                tuple(references[k] for k in which) if references else (),
            )

        known: dict[str, tuple[int, ...]] = {}
        wanted, peaks = {}, {}
        for name in names:
            reading, levels = Reading(periods), Reading(periods)
            for outputs in originals:
                reading.add(outputs[name])
            known[name] = tuple(sorted(reading.levels()))
            if name in real:
                levels.add(real[name])
            wanted[name] = levels.levels()
            peaks[name] = peak or _range([real[name]] if name in real else [o[name] for o in originals])
        found = {name: able for name, able in known.items() if able}
        return cls(
            backend, part(fitted), part(kept), found, wanted, peaks, within_db, max_distortion, words, tuple(notes)
        )

    def over(self, found: Mapping[str, Judgement]) -> dict[int, float]:
        """The worst output's lines over the reference's, by period."""
        worst: dict[int, float] = {}
        for name, judgement in found.items():
            for period, value in judgement.over(self.wanted[name]).items():
                worst[period] = max(worst.get(period, -np.inf), value)
        return worst

    def psnr(self, found: Mapping[str, Judgement]) -> float:
        """The worst output's, in dB."""
        return min((judgement.psnr(self.peaks[name]) for name, judgement in found.items()), default=float("inf"))

    def reached(self, found: Mapping[str, Judgement]) -> bool:
        """Whether all lines are within the limit, at no more distortion than allowed."""
        return all(v <= self.within_db for v in self.over(found).values()) and self.psnr(found) >= self.max_distortion


def _range(arrays: Sequence[Floats]) -> float:
    """Largest less smallest value; 1 where all are equal."""
    return max(float(a.max()) for a in arrays) - min(float(a.min()) for a in arrays) or 1.0


def _by_output(reference: Any, names: Sequence[str], outputs: Mapping[str, Floats]) -> dict[str, Floats]:
    """Real data by output."""
    if reference is None:
        return {}
    if not isinstance(reference, Mapping):
        if len(names) != 1:
            raise UsageError(
                f"the model has {len(names)} outputs with positions ({', '.join(names) or 'none'}): "
                "give the reference as a mapping by output"
            )
        reference = {names[0]: reference}
    found = {}
    for name, value in reference.items():
        if name not in names:
            raise UsageError(f"the reference is for {name!r}; outputs with positions are {', '.join(names) or 'none'}")
        array = np.asarray(_plain(value))
        if (
            array.dtype.kind not in "fiu"
            or array.ndim != outputs[name].ndim
            or array.shape[1] != outputs[name].shape[1]
        ):
            raise UsageError(
                f"the reference for {name!r} has shape {array.shape} of {array.dtype}, expected numbers of the form "
                f"(N, {', '.join(map(str, outputs[name].shape[1:]))})"
            )
        if not np.isfinite(array).all():
            raise UsageError(f"the reference for {name!r} holds NaN or infinities; leave those signals out")
        found[name] = array.astype(np.float32) if array.dtype.kind != "f" else array
    return found


def _paired(real: Mapping[str, Floats], cut: Sequence[Any]) -> tuple[Mapping[str, Floats], ...]:
    """The reference, batch by batch."""
    ends = np.cumsum([_count(batch) for batch in cut])
    for name, value in real.items():
        if len(value) != ends[-1]:
            raise UsageError(
                f"paired: the reference for {name!r} has {len(value)} signals, the calibration data {ends[-1]}; "
                "expected one for each, in the same order"
            )
    split = {name: np.split(value, ends[:-1]) for name, value in real.items()}
    return tuple({name: parts[k] for name, parts in split.items()} for k in range(len(cut)))


# ---- batches ---------------------------------------------------------------------------------------------------------


def chunks(backend: Backend, batches: Iterable[Any]) -> list[Any]:
    """Batches as arrays, cut into chunks of equal length where the model takes them.

    Raises:
        UsageError: If there is no batch.
    """
    whole = [_arrays(batch) for batch in batches]
    if not whole:
        raise UsageError("no calibration data; give some of the model's inputs, or random ones")
    total = sum(_count(batch) for batch in whole)
    size = max(1, min(CHUNK, total // (2 * _PROOF)))
    cut = [part for batch in whole for part in _cut(batch, size)]
    if len(cut) == len(whole):
        return whole
    try:
        backend.run(cut[0])
    except UsageError:
        return whole  # a batch of another length does not fit
    return cut


def _arrays(batch: Any) -> Any:
    """A batch with its tensors as arrays."""
    if isinstance(batch, Mapping):
        return {str(key): _plain(value) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return tuple(_plain(value) for value in batch)
    return _plain(batch)


def _plain(value: Any) -> Any:
    if hasattr(value, "detach"):  # numpy has no bfloat16
        value = value.detach().cpu()
        return (value.float() if value.is_floating_point() and value.element_size() < 4 else value).numpy()
    return value


def _leaves(batch: Any) -> list[Any]:
    if isinstance(batch, Mapping):
        return list(batch.values())
    return list(batch) if isinstance(batch, tuple) else [batch]


def _count(batch: Any) -> int:
    """Signals of a batch: the length of its first array."""
    return next((len(leaf) for leaf in _leaves(batch) if isinstance(leaf, np.ndarray) and leaf.ndim), 1)


def _cut(batch: Any, size: int) -> list[Any]:
    """A batch in parts; arrays of another length than its first, and what is no array, go along with every part."""
    count = _count(batch)

    def part(value: Any, start: int) -> Any:
        mine = isinstance(value, np.ndarray) and value.ndim and len(value) == count
        return value[start : start + size] if mine else value

    found: list[Any] = []
    for start in range(0, count, size):
        if isinstance(batch, Mapping):
            found.append({key: part(value, start) for key, value in batch.items()})
        elif isinstance(batch, tuple):
            found.append(tuple(part(value, start) for value in batch))
        else:
            found.append(part(batch, start))
    return found
