"""Where the power of every layer's lines comes from: sums over batches, then budgets."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from evenly.errors import UsageError
from evenly.fix._attribution_subject import Part
from evenly.fix.attributed import Budget
from evenly.fix.levels import powers, resolvable

__all__ = ["Ledger"]

Floats = NDArray[np.floating]

_BORDER = 2


class Ledger:
    """Powers of lines at all layers, as means over signals.

    Args:
        sizes: Of what is explained, per axis.
        periods: Of its lines, in its samples.
    """

    def __init__(self, sizes: Sequence[int], periods: Sequence[int]) -> None:
        self._sizes, self._periods = tuple(sizes), tuple(periods)
        self._sums: dict[tuple[str, str, int], float] = {}
        self._scales: dict[str, Fraction | None] = {}
        self._here: dict[str, dict[int, int | str]] = {}
        self._whole = dict.fromkeys(self._periods, 0.0)
        self._signals = 0
        self._order: list[str] = []

    def add_whole(self, whole: Floats) -> None:
        """What is explained, of one batch; before its layers.

        Raises:
            UsageError: If it has not the sizes of the first batch.
        """
        if whole.shape[2:] != self._sizes:
            found, first = (" x ".join(map(str, sizes)) for sizes in (whole.shape[2:], self._sizes))
            raise UsageError(f"a batch has {found} samples, the first one {first}; give inputs of one size")
        self._signals += len(whole)
        for period in self._periods:
            self._whole[period] += float(powers(_centred(whole), period)[0].sum())

    def add(self, part: Part, arrived: Floats | None, result: Floats, even: Floats | None) -> None:
        """A layer's signals of one batch; `even` is its result for the same input, made even."""
        name = part.name
        if name not in self._here:
            self._order.append(name)
            self._scales[name] = _common(self._sizes, result.shape[2:])
            self._here[name] = {p: corresponding(p, self._sizes, result.shape[2:]) for p in self._periods}
        signals = {"found": _centred(result)}
        if even is not None:
            made = _centred(even)
            signals.update(passed=made, created=signals["found"] - made, opposed=2 * made - signals["found"])
        for period, here in self._here[name].items():
            if isinstance(here, str):
                continue
            for key, values in signals.items():
                on, near, _ = powers(values, here)
                self._add(name, key, period, on)
                if key == "found":
                    self._add(name, "background", period, near)
            before = None if arrived is None else corresponding(here, result.shape[2:], arrived.shape[2:])
            if arrived is not None and isinstance(before, int):
                self._add(name, "arrived", period, powers(_centred(arrived), before)[0])

    def creates(self, part: Part, period: int) -> bool:
        """Whether a layer can create lines of a period; where that is not comparable, it is taken for able to."""
        scale = self._scales.get(part.name)
        return part.creates is None or scale is None or period / scale in part.creates

    def _add(self, name: str, key: str, period: int, values: NDArray[np.float64]) -> None:
        place = (name, key, period)
        self._sums[place] = self._sums.get(place, 0.0) + float(values.sum())

    def _mean(self, name: str, key: str, period: int) -> float | None:
        found = self._sums.get((name, key, period))
        return None if found is None else found / self._signals

    def budgets(self, part: Part) -> dict[int, Budget]:
        """Of one layer, by period of what is explained."""
        return {p: self._budget(part, p) for p in self._periods} if part.name in self._here else {}

    def _budget(self, part: Part, period: int) -> Budget:
        here = self._here[part.name][period]
        if isinstance(here, str):
            return Budget(reason=here)
        found, background = self._mean(part.name, "found", period), self._mean(part.name, "background", period)
        arrived = self._mean(part.name, "arrived", period)
        passed, created = self._mean(part.name, "passed", period), self._mean(part.name, "created", period)
        opposed = self._mean(part.name, "opposed", period)
        cross = residual = None
        reason = part.untested if part.fixed else None
        if found is not None and passed is not None and created is not None and opposed is not None:
            cross = (found - opposed) / 2  # |a + b|^2 - |a - b|^2 is four times the product
            residual = found - passed - created - cross
        elif not part.fixed:
            passed, created, cross, residual = found, 0.0, 0.0, 0.0
        return Budget(
            here, found, background, arrived, created, passed, cross, residual,
            self._between(part.name, period, arrived), reason,
        )  # fmt: skip

    def _between(self, name: str, period: int, arrived: float | None) -> float | None:
        place = self._order.index(name)
        found = self._mean(self._order[place - 1], "found", period) if place else None
        return None if arrived is None or found is None else arrived - found

    def last_step(self) -> dict[int, float | None]:
        """By period, power in what is explained less that in the last layer's result."""
        steps: dict[int, float | None] = {}
        for period, total in self._whole.items():
            found = self._mean(self._order[-1], "found", period) if self._order else None
            steps[period] = None if found is None else total / self._signals - found
        return steps


def corresponding(period: int, sizes: Sequence[int], here: Sequence[int]) -> int | str:
    """Period on a lattice of sizes `here` of what has a period on one of `sizes`, or why there is none."""
    if len(sizes) != len(here):
        return f"not comparable: {len(here)} axes here, {len(sizes)} there"
    scale = _common(sizes, here)
    if scale is None:
        shown = (" x ".join(map(str, s)) for s in (here, sizes))
        return "not comparable: sizes {} against {} have no common whole ratio".format(*shown)
    found = period / scale
    if found == 1:
        return "it arises elsewhere: a constant here"
    if found.denominator > 1:
        return f"not comparable: period {period} is {found} samples here"
    if not resolvable(here, int(found)):
        return f"not comparable: {' x '.join(map(str, here))} samples are too few for lines of period {found}"
    return int(found)


def _common(sizes: Sequence[int], here: Sequence[int]) -> Fraction | None:
    """The ratio of sizes that all axes share, if it is whole or one over a whole number."""
    if len(sizes) != len(here):
        return None
    scales = {_scale(size, own) for size, own in zip(sizes, here, strict=True)}
    return scales.pop() if len(scales) == 1 else None


def _scale(size: int, here: int) -> Fraction | None:
    """The whole ratio of two sizes, or one over it; up to fewer than two samples of the coarser one."""
    large, small = max(size, here), min(size, here)
    ratio = round(large / small) if small else 0
    if not ratio or abs(large - ratio * small) >= (_BORDER * ratio if ratio > 1 else _BORDER):
        return None
    return Fraction(ratio) if size >= here else Fraction(1, ratio)


def _centred(signals: Floats) -> NDArray[np.float64]:
    values = signals.astype(np.float64)
    return np.asarray(values - values.mean(tuple(range(2, values.ndim)), keepdims=True), np.float64)
