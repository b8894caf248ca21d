"""What attribution asks of a direction: signals as they are, and with some layers made even."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evenly.errors import UsageError

__all__ = ["Part", "Signals", "Subject", "check_finite"]

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Part:
    """A layer, before anything was tried.

    Attributes:
        name, kind, even, untested, fixed: As in :class:`evenly.fix.attributed.LayerAttribution`.
        recorded: Whether its signals can be had.
        creates: Periods on the lattice of its result that it can create; ``None`` if any.
    """

    name: str
    kind: str
    even: str | None = None
    untested: str | None = None
    fixed: bool = False
    recorded: bool = True
    creates: tuple[int, ...] | None = None

    @property
    def tested(self) -> bool:
        """Whether it can be made even."""
        return self.even is not None


@dataclass(frozen=True, eq=False)
class Signals:
    """Signals of one batch, ``(N, C, *sizes)``.

    Attributes:
        whole: What is explained.
        arrived, results: What layers read and what they make of it, by name, as far as they were asked for.
    """

    whole: Floats
    arrived: Mapping[str, Floats]
    results: Mapping[str, Floats]


class Subject(Protocol):
    """A model in one direction, on batches that it keeps."""

    @property
    def output(self) -> str:
        """Name of the model's output."""
        ...

    @property
    def batches(self) -> int:
        """How many."""
        ...

    @property
    def parts(self) -> Sequence[Part]:
        """Layers in the order in which they ran."""
        ...

    def signals(self, batch: int, even: Sequence[str], record: Sequence[str]) -> Signals:
        """Run one batch with these layers made even, record those."""
        ...


def check_finite(signals: Floats) -> None:
    """Refuse what has no spectrum.

    Raises:
        UsageError: If a value is NaN or infinite.
    """
    if not np.isfinite(signals).all():
        raise UsageError("the signals hold NaN or infinities; give inputs for which every layer's result is finite")
