"""Sums over pictures in fixed point: whole numbers, so that addition is associative and exact."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from evenly.errors import FormatError
from evenly.measure.pooling import agreement, exceptions, strength

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from evenly.measure.result import Lines

__all__ = ["LN10", "LineSums", "Spread"]

LN10 = math.log(10)
UNIT = 2**30  # fixed point of sums
LINE_UNIT = 2**24  # of the lines' sums, whole in 64 bits for 10^10 pictures
LONGEST = 4.0  # one picture's evidence at a line counts up to this length (p = 1e-7), so that none outvotes many

EVIDENCE = 20  # bins of 0.05 in -log10 p up to 20, then 5 % each
MOST_EVIDENCE = 1e5
DECIBEL = 4  # bins of 0.25 dB
MOST_DECIBELS = 400.0


def _evidence_bin(evidence: float) -> int:
    if evidence < 20:
        return int(evidence * EVIDENCE)
    return 20 * EVIDENCE + int(math.log(evidence / 20) / math.log(1.05))


def _evidence_edge(number: int) -> float:
    """Upper edge of a bin."""
    if number < 20 * EVIDENCE:
        return (number + 1) / EVIDENCE
    return float(20 * 1.05 ** (number + 1 - 20 * EVIDENCE))


@dataclass
class Spread:
    """Histogram of a number over pictures: how many are in each bin, and their sum in units of ``1 / UNIT``."""

    bins: Counter[int] = field(default_factory=Counter)
    sums: Counter[int] = field(default_factory=Counter)

    def add_evidence(self, log10_p: float | None) -> None:
        """Count ``-log10 p``; what is not a number does not count."""
        if log10_p is None or math.isnan(log10_p):
            return
        evidence = min(max(-log10_p, 0.0), MOST_EVIDENCE)
        self._add(evidence, _evidence_bin(evidence))

    def add_decibels(self, db: float | None) -> None:
        """Count a power in dB; what is not a number does not count."""
        if db is None or math.isnan(db):
            return
        db = min(max(db, -MOST_DECIBELS), MOST_DECIBELS)
        self._add(db, math.floor(db * DECIBEL))

    def add_number(self, value: float | None) -> None:
        """Count a number without a histogram."""
        if value is not None and math.isfinite(value):
            self._add(value, 0)

    def _add(self, value: float, number: int) -> None:
        self.bins[number] += 1
        self.sums[number] += round(value * UNIT)

    def __iadd__(self, other: Spread) -> Self:
        self.bins.update(other.bins)
        self.sums.update(other.sums)
        return self

    def __sub__(self, other: Spread) -> Spread:
        """Evidence without that of the pictures of ``other``, which were counted here too."""
        return Spread(self.bins - other.bins, self.sums - other.sums)

    @property
    def count(self) -> int:
        """Pictures."""
        return self.bins.total()

    @property
    def mean(self) -> float | None:
        """The mean; ``None`` without pictures."""
        return self.sums.total() / UNIT / self.count if self.bins else None

    def log_p(self) -> float:
        """P-value (log) of the pictures' evidence together, without the exceptions that every set may have."""
        left = left_out = exceptions(self.count)
        total = self.sums.total() / UNIT
        for number in sorted(self.bins, reverse=True):
            here = min(left, self.bins[number])
            total -= min(here * _evidence_edge(number), self.sums[number] / UNIT)
            left -= here
            if not left:
                break
        return strength(self.count, max(total, 0.0) * LN10, left_out=left_out)

    def to_list(self) -> list[list[int]]:
        """JSON form."""
        return [[number, count, self.sums[number]] for number, count in sorted(self.bins.items())]

    @classmethod
    def from_list(cls, form: Any) -> Spread:
        """From the JSON form."""
        return cls(Counter({int(b): int(n) for b, n, _ in form}), Counter({int(b): int(s) for b, _, s in form}))


@dataclass
class LineSums:
    """Sums over pictures of each line's evidence as a vector: parts and squared length, in units of ``LINE_UNIT``."""

    index: NDArray[np.int64]
    count: int
    sums: NDArray[np.int64]

    @classmethod
    def of(cls, traces: Sequence[Lines]) -> list[LineSums]:
        """Of all traces of one picture, in one pass."""
        if not traces:
            return []
        z = np.concatenate([lines.z for lines in traces]).astype(np.complex128)
        z[np.isnan(z)] = 0
        length = np.abs(z)
        far = length > LONGEST
        z[far] = LONGEST * np.exp(1j * np.angle(z[far]))
        parts = np.stack([z.real, z.imag, np.minimum(length, LONGEST) ** 2], axis=1)
        whole = np.rint(parts * LINE_UNIT).astype(np.int64)
        ends = np.cumsum([len(lines.z) for lines in traces]).tolist()
        starts = [0, *ends[:-1]]
        return [cls(t.index, 1, whole[a:b]) for t, a, b in zip(traces, starts, ends, strict=True)]

    def __iadd__(self, other: LineSums) -> Self:
        if self.index is not other.index and not np.array_equal(self.index, other.index):
            raise FormatError("states list different lines for the same period; they were not made by the same version")
        self.count += other.count
        self.sums += other.sums
        return self

    def copy(self) -> LineSums:
        """With sums of its own."""
        return LineSums(self.index, self.count, self.sums.copy())

    def log_p(self, period: int, direction: str | None = None) -> float:
        """P-value (log) of the agreement of phases, of all lines or of those of one direction."""
        on_x, on_y = self.index[:, 0] == 0, self.index[:, 1] == 0
        chosen = {None: np.full(len(on_x), True), "x": on_x, "y": on_y, "diagonal": ~(on_x | on_y)}[direction]
        real = (2 * self.index % period == 0).all(axis=1)
        return agreement(self.count, self.sums[chosen] / LINE_UNIT, real[chosen], (on_x | on_y)[chosen])

    def to_list(self) -> list[Any]:
        """JSON form."""
        return [self.index.tolist(), self.count, self.sums.tolist()]

    @classmethod
    def from_list(cls, form: Any) -> LineSums:
        """From the JSON form."""
        index, count, sums = form
        return cls(np.array(index, np.int64).reshape(-1, 2), int(count), np.array(sums, np.int64).reshape(-1, 3))
