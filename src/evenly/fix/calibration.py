"""From what the user names to a repair: calibration data and real data, in the form of the model."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenly.errors import UsageError
from evenly.fix import engine
from evenly.fix.attribution import opened
from evenly.fix.data import Data, load_batches, load_reference
from evenly.fix.network import Network
from evenly.fix.restoring import origin
from evenly.fix.result import FixResult

__all__ = ["SIGNALS", "Calibration", "calibration_of", "fix_network", "reference_of"]

SIGNALS = 64
"""Random signals, where nobody gives calibration data."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What a model is run on.

    Attributes:
        batches: As the model takes them.
        words: What they are, for people.
        notes: What was left out, and why.
    """

    batches: list[Any] = field(repr=False)
    words: str
    notes: tuple[str, ...] = ()


def calibration_of(
    network: Network,
    source: Iterable[Any] | str | os.PathLike[str] | None,
    *,
    values: tuple[float, float],
    limit: int,
    seed: int,
) -> Calibration:
    """Batches for a network.

    Args:
        network: The network.
        source: Batches, a path as :func:`evenly.fix.data.load_batches` takes it, or ``None`` for random signals.
        values: What black and white of pictures become.
        limit: Most signals from a path.
        seed: Of random signals.

    Raises:
        EvenlyError: If there is nothing that the network takes.
    """
    if source is None:
        return Calibration(*network.random(seed, constants=True, signals=SIGNALS))
    if isinstance(source, str | os.PathLike):
        data = load_batches(source, network.inputs, limit=limit, values=values)
        return Calibration(network.batches(data), data.words, _left_out(data))
    batches = list(source)
    if not batches:
        raise UsageError("calibration holds no batch; give batches of the model's inputs, or leave it out")
    return Calibration(batches, "as given")


def reference_of(
    network: Network,
    batch: Any,
    source: str | os.PathLike[str],
    *,
    values: tuple[float, float],
    limit: int,
) -> tuple[NDArray[np.floating], tuple[str, ...]]:
    """Real data in the form of a network's output, and notes.

    Args:
        network: The network.
        batch: What it is run on to see the form of its output.
        source: A path, see :func:`evenly.fix.data.load_reference`.
        values: What black and white become.
        limit: Most signals.

    Returns:
        ``(N, C, *sizes)``, float32.

    Raises:
        UsageError: If it has not exactly one output with positions.
        EvenlyError: If the path holds nothing of this form.
    """
    outputs = opened(network.model).run(batch).outputs
    shapes = {name: value.shape for name, value in outputs.items() if value.ndim >= 3}
    if len(shapes) != 1:
        raise UsageError(
            f"{network.name} has {len(shapes)} outputs with positions ({', '.join(shapes) or 'none'}); a reference in "
            "files is for one. In Python, give evenly.fix a mapping by output"
        )
    (shape,) = shapes.values()
    data = load_reference(source, shape[2:], shape[1], limit=limit, values=values)
    return np.concatenate(data.arrays), _left_out(data)


def _left_out(data: Data) -> tuple[str, ...]:
    return tuple(f"left out: {failure.path}: {failure.reason}" for failure in data.left_out)


def fix_network(
    network: Network,
    calibration: Iterable[Any] | str | os.PathLike[str] | None,
    reference: Any,
    *,
    values: tuple[float, float],
    limit: int,
    seed: int,
    **options: Any,
) -> FixResult:
    """Repair an opened network.

    Args:
        network: The network.
        calibration: As in :func:`calibration_of`.
        reference: Real data, or a path as in :func:`reference_of`.
        values: What black and white of pictures become.
        limit: Most signals from a path.
        seed: Of everything that is drawn.
        **options: Those of :func:`evenly.fix.engine.fix`.

    Raises:
        EvenlyError: As :func:`evenly.fix.engine.fix`.
    """
    data = calibration_of(network, calibration, values=values, limit=limit, seed=seed)
    notes = (*network.notes, *data.notes)
    if isinstance(reference, str | os.PathLike):
        reference, more = reference_of(network, data.batches[0], reference, values=values, limit=limit)
        notes += more
    found = engine.fix(network.model, calibration=data.batches, reference=reference, seed=seed, **options)
    report, cause = found.report, found.report.attribution
    report = replace(
        report,
        model=network.name,
        calibration=data.words + report.calibration.removeprefix("as given"),
        attribution=None if cause is None else replace(cause, model=network.name, inputs="of the calibration data"),
        notes=tuple(dict.fromkeys((*notes, *report.notes))),
    )
    return replace(
        found,
        report=report,
        original=origin(network.model) if network.differentiable else None,
        example=data.batches[0],
    )
