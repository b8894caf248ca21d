"""What an experiment is made of: cells that are run one by one, kept, and concluded from.

A cell is the smallest piece of work that is kept: one network with one seed, as a rule. Its outcome depends on the
cell, the scale and the data alone, never on other cells or on the order in which they run; so a job that was killed
goes on with the cells that are missing, and cells may run in several processes at once. What an experiment says is a
pure function of the outcomes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from evenly.reproduce.data import Data
    from evenly.reproduce.result import Conclusion

__all__ = ["Cell", "Context", "Experiment", "Outcome", "Scale"]


class Scale(StrEnum):
    """How much work an experiment does."""

    SMOKE = "smoke"
    """Seconds: shows that everything runs; decides little."""
    SMALL = "small"
    """Every training within 5 minutes and every experiment within an hour on two CPU cores."""
    FULL = "full"
    """For a GPU."""


@dataclass(frozen=True)
class Cell:
    """One piece of work.

    Attributes:
        name: Unique in its experiment, such as ``"two-transposed/seed-0"``.
        options: What it is to do; JSON values only.
        seed: Of everything random in it.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a cell gave.

    Attributes:
        numbers: JSON values: mappings with string keys, lists, strings, numbers, booleans, None.
        arrays: Arrays by name, of numbers or booleans: pictures (uint8), sounds (float32), whatever is to be shown.
        seconds: How long it took; filled in by whoever ran it.
    """

    numbers: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    seconds: float = 0.0


def _silent(done: int, total: int, note: str) -> None:
    pass


@dataclass
class Context:
    """What a cell may use while it runs.

    Attributes:
        scale: How much to do.
        folder: For checkpoints of this cell; may be empty or hold those of a killed run.
        seed: The cell's.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
        source: Folder or archive with the user's own pictures, or ``None`` for the photographs of the wheels.
        progress: Told the steps done and to do, and what is being done.
        checkpoint_seconds: How often trainings are kept; does not change what they give.
    """

    scale: Scale
    folder: Path
    seed: int = 0
    device: str = "cpu"
    source: Path | None = None
    progress: Callable[[int, int, str], None] = _silent
    checkpoint_seconds: float = 20.0
    _fabric: Fabric | None = None

    @property
    def fabric(self) -> Fabric:
        """Lightning Fabric for the device: ``setup``, ``backward``, ``to_device``."""
        if self._fabric is None:
            from evenly.reproduce.train import fabric

            self._fabric = fabric(self.device)
        return self._fabric

    @property
    def data(self) -> Data:
        """The pictures to train on."""
        from evenly.reproduce.data import open_data

        return open_data(self.source)

    def rng(self, *key: int) -> np.random.Generator:
        """A generator of its own for whatever `key` names, the same in every run of this cell."""
        return np.random.default_rng((self.seed, *key))


@dataclass(frozen=True)
class Experiment:
    """One experiment; every module of an experiment has one, called ``EXPERIMENT``.

    Attributes:
        name: As on the command line.
        title: In a few words.
        source: The paper, with section.
        claims: Numbers of the claims it speaks about, in order.
        seeds: How many seeds it takes by default, by scale.
        cells: What is to be run, from the scale and the seeds.
        run: Runs a cell.
        conclude: Says what came out, from the scale and the outcomes by the cells' names; a pure function.
        revision: To be raised when the same cell would give something else than before; kept outcomes are dropped then.
    """

    name: str
    title: str
    source: str
    claims: tuple[str, ...]
    seeds: Mapping[Scale, int]
    cells: Callable[[Scale, Sequence[int]], Sequence[Cell]]
    run: Callable[[Cell, Context], Outcome]
    conclude: Callable[[Scale, Mapping[str, Outcome]], Conclusion]
    revision: int = 1
