"""Periodic patterns in gradients, of inputs or activations, and in saliency maps of other tools.

The squared gradient ``g^2``, averaged over channels and scaled to mean 1 in each sample (so that no sample outweighs
the others), is folded by phase; its phase energies ``e_i`` say what the layers' strides do to the gradient: ``3x3 s2``
gives 4:2:2:1 with random weights, ``1x1 s2`` leaves three pixels of four without any (see docs/theory.md).

* unevenness: ``max e / min e``, infinite where a phase gets nothing;
* effective fraction: ``(sum_i e_i)^2 / (n sum_i e_i^2)`` over the ``n`` phases: 1 if all share alike, ``1/n`` if one
  takes all;
* dead positions: exactly zero in all samples and channels, over the whole map;
* effect and p-value: of :mod:`evenly.measure.phases`, on ``log(g^2 / mean(g^2) + 0.001)``. Squared gradients are
  products of many random factors, so their logarithm, not they, has light tails: a few large values would decide the
  energies' own test. A pattern that multiplies becomes one that adds; the constant bounds what exact zeros (max
  pooling) weigh.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evenly.errors import InputShapeError, ParameterError, UsageError
from evenly.measure._running import (
    ChannelsLast,
    copied,
    draw,
    gradients,
    leaves,
    prepared,
    scalar_of,
    select_layers,
    tensors_in,
    unsuited,
)
from evenly.measure.activations import layer_dict
from evenly.measure.phases import DRAWS, PhaseEffect, PhaseState, check_periods, fits, fold, samples_needed
from evenly.measure.result import PERIODS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from evenly.measure._running import Sampler

__all__ = ["GradientMeasurement", "GradientPeriod", "LayerGradient", "measure_gradient", "measure_saliency"]

Array = NDArray[np.float64]

_FLOOR = 1e-3  # of the mean energy
_NOTHING = 1e-9  # of the mean energy: rounding of a dead phase's mean
_TILES = 8  # tiles per axis that a single map is cut into, where it is large enough


@dataclass(frozen=True)
class GradientPeriod:
    """The squared gradient at one period.

    Attributes:
        energies: Mean of ``g^2`` at each phase, of mean about 1, shape ``(period, ...)``; phases count from position 0.
        unevenness: Largest over smallest; infinite where a phase gets nothing.
        effective_fraction: ``(sum e)^2 / (n sum e^2)``.
        effect: The pattern that is new at the period, in the logarithm.
    """

    energies: Array
    unevenness: float
    effective_fraction: float
    effect: PhaseEffect

    def to_dict(self) -> dict[str, Any]:
        """As in JSON: an infinite unevenness becomes ``None``."""
        return {
            "energies": self.energies.tolist(),
            "unevenness": None if math.isinf(self.unevenness) else self.unevenness,
            "effective_fraction": self.effective_fraction,
            "effect": self.effect.to_dict(),
        }


@dataclass(frozen=True)
class LayerGradient:
    """The gradient of one input or one layer's output, or saliency maps.

    Attributes:
        name: ``input``, the module's name, or ``saliency``.
        call: Which of the module's calls in one forward pass, from 0.
        output: Which of its tensors, for instance ``[0]``; ``""`` where it has one.
        shape: Without the batch: channels, then positions.
        samples: Samples measured.
        nonfinite: Samples left out since they held NaN or infinities.
        dead: Positions that are exactly zero in all samples.
        dead_fraction: Of all positions.
        periods: By period; ``None`` where the maps are too small.
        reason: Why it was not measured; ``None`` where it was.
    """

    name: str
    call: int
    output: str
    shape: tuple[int, ...]
    samples: int
    nonfinite: int
    dead: int
    dead_fraction: float
    periods: Mapping[int, GradientPeriod | None]
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As in JSON."""
        return layer_dict(self)


@dataclass(frozen=True)
class GradientMeasurement:
    """What was measured in a model's gradients.

    Attributes:
        model: Its class.
        samples: Samples that were run.
        layers: Inputs or layers, as they were asked for.
    """

    model: str
    samples: int
    layers: tuple[LayerGradient, ...]

    def to_dict(self) -> dict[str, Any]:
        """As in JSON."""
        return {"model": self.model, "samples": self.samples, "layers": [layer.to_dict() for layer in self.layers]}


def measure_gradient(
    module: nn.Module,
    sampler: Sampler,
    *,
    target: int | Callable[[Any], Tensor] | None = None,
    of: str | Sequence[str] = "input",
    periods: Sequence[int] | None = None,
    samples: int = 64,
    batch_size: int = 16,
    seed: int = 0,
    device: Any = None,
    training: bool = False,
    margin: int | None = None,
    draws: int = DRAWS,
) -> GradientMeasurement:
    """Measure the squared gradient by phase.

    The model is left as it was, parameters' gradients included.

    Args:
        module: The model.
        sampler: As for :func:`evenly.measure.activations.measure_model`.
        target: What is derived: ``None`` for the outputs times independent normal numbers (every output counts
            alike); an integer for that class or channel of the output; or a function of the output, such as a loss.
        of: ``"input"``, or names or globs of modules whose outputs it is derived by.
        periods: In positions; by default 2, 3, 4, 5, 6, 8 and 16.
        samples: Samples to run, at most.
        batch_size: Samples at a time, where the sampler is a function or a tensor.
        seed: Of the generators, and of the test's shifts.
        device: Where to run; by default where the model is.
        training: Whether to run in training mode.
        margin: Positions left out at every border for the phases; by default an eighth of the size.
        draws: Random shifts of each test.

    Raises:
        UsageError: If no layer has such a name, the sampler gives no samples, or the target has no gradient.
        ParameterError: If an option is out of range.
    """
    import torch

    wanted = PERIODS if periods is None else check_periods(periods)
    states: dict[tuple[str, int, str], _GradientState] = {}
    reached: dict[tuple[str, int, str], tuple[Tensor, bool]] = {}
    calls: dict[str, int] = {}
    channels_last = ChannelsLast()
    noise = torch.Generator().manual_seed(seed + 1)
    total = 0

    def keep(name: str, layer: nn.Module, inputs: Any, output: Any) -> Any:
        """Remember a layer's outputs, and pass copies on, since later layers may work in place."""
        call = calls[name] = calls.get(name, -1) + 1
        for where, tensor in tensors_in(output):
            reached[(name, call, where)] = tensor, channels_last(layer, inputs, tensor)
        return copied(output)

    with prepared(module, training, seed), torch.enable_grad():
        hooks = []
        if of != "input":
            chosen = select_layers(module, of)
            hooks = [
                layer.register_forward_hook(lambda m, args, out, name=name: keep(name, m, args, out))
                for name, layer in chosen.items()
            ]
        try:
            for count, args, kwargs in draw(module, sampler, samples, batch_size, seed, device):
                calls.clear()
                reached.clear()
                args, kwargs = leaves(args), leaves(kwargs)
                if of == "input":
                    given = [*tensors_in(args if len(args) > 1 else args[0] if args else kwargs)]
                    reached.update({("input", 0, where): (t, False) for where, t in given})
                scalar = scalar_of(module(*copied(args), **copied(kwargs)), target, noise)
                found = gradients(scalar, [t for t, _ in reached.values()])
                for (key, (tensor, last)), gradient in zip(reached.items(), found, strict=True):
                    if key not in states:
                        states[key] = _GradientState(wanted, margin, seed)
                    states[key].add(tensor, gradient, last, count)
                total += count
        finally:
            for hook in hooks:
                hook.remove()
    if not total:
        raise UsageError("sampler gave no samples; expected at least one batch: give a function, a tensor or batches")
    layers = tuple(state.result(*key, draws=draws) for key, state in states.items())
    return GradientMeasurement(type(module).__name__, total, layers)


def measure_saliency(
    maps: NDArray[Any],
    periods: Sequence[int] | None = None,
    *,
    margin: int | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> LayerGradient:
    """Measure saliency maps, signed or not, as if they were gradients.

    Fewer maps than the test needs are cut into up to 8 x 8 tiles whose sides are whole periods, so that all share the
    phases; the tiles then are the samples. Neighbouring tiles have little in common but what is periodic; a periodic
    *texture* of the explained picture is coherent over the tiles of one map too: only several pictures tell it from
    the network.

    Args:
        maps: ``(H, W)``, ``(N, H, W)`` or ``(N, C, H, W)``, all on the same grid; squares are averaged over channels.
        periods: In pixels; by default 2, 3, 4, 5, 6, 8 and 16.
        margin: Pixels left out at every border; by default an eighth of the size.
        seed: Of the test's shifts.
        draws: Random shifts of each test.

    Raises:
        InputShapeError: If the array has another shape.
        ParameterError: If it holds no finite map.
    """
    values = np.asarray(maps)
    if values.ndim not in (2, 3, 4) or not values.size or values.dtype.kind not in "fiub":
        raise InputShapeError(
            f"maps of shape {values.shape} and type {values.dtype} are not understood; expected real numbers as "
            "(H, W), (N, H, W) or (N, C, H, W)"
        )
    values = values[None, None] if values.ndim == 2 else values[:, None] if values.ndim == 3 else values
    state = _GradientState(PERIODS if periods is None else check_periods(periods), margin, seed)
    state.count(values.astype(np.float64), few=True)
    if not state.samples:
        raise ParameterError(f"maps hold no finite map among {len(values)}; expected finite values")
    return state.result("saliency", 0, "", draws)


class _GradientState:
    """Sums of one gradient; maps are folded and forgotten."""

    def __init__(self, periods: Sequence[int], margin: int | None, seed: int) -> None:
        self.periods = tuple(periods)
        self.margin = margin
        self.shape: tuple[int, ...] = ()
        self.samples = self.nonfinite = self.energetic = 0
        self.reason: str | None = None
        self.alive: NDArray[np.bool_] | None = None
        self.energies: dict[int, Any] = dict.fromkeys(self.periods, 0.0)
        self.logs = {p: PhaseState(p, margin=margin, seed=seed) for p in self.periods}
        self.tiles = {p: PhaseState(p, margin=0, seed=seed) for p in self.periods}

    def add(self, tensor: Tensor, gradient: Tensor | None, channels_last: bool, count: int) -> None:
        maps = tensor if gradient is None else gradient
        if channels_last and maps.ndim > 2:
            maps = maps.movedim(-1, 1)
        self.shape = self.shape or tuple(maps.shape[1:])
        reason = unsuited(maps, count)
        if reason is None and gradient is None:
            reason = "no gradient reaches it"
        if reason is None and tuple(maps.shape[1:]) != self.shape:
            reason = f"its shape varies from batch to batch ({self.shape}, then {tuple(maps.shape[1:])})"
        if reason is not None:
            self.reason = reason
            return
        self.count(maps.detach().cpu().double().numpy())

    def count(self, maps: Array, few: bool = False) -> None:
        """Count maps ``(N, C, *spatial)``; cut them into tiles too if they are few."""
        self.shape = maps.shape[1:]
        axes = tuple(range(2, maps.ndim))
        finite = np.isfinite(maps).all((1, *axes))
        self.nonfinite += int((~finite).sum())
        maps = maps[finite]
        self.samples += len(maps)
        alive = (maps != 0).any((0, 1))
        self.alive = alive if self.alive is None else self.alive | alive
        # scaled first, so that tiny gradients do not underflow
        largest = np.abs(maps).max((1, *axes), keepdims=True, initial=0)
        scaled = np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0)
        energy = (scaled**2).mean(1, keepdims=True)
        energy = energy[largest.reshape(-1) > 0]
        self.energetic += len(energy)
        if not len(energy):
            return
        energy /= energy.mean(axes, keepdims=True)
        logs = np.log(energy + _FLOOR)
        for p in self.periods:
            if not self.logs[p].add(logs):
                continue
            self.energies[p] = self.energies[p] + (1 + fold(energy, p, self.margin)[0]).sum((0, 1))
            if few and len(maps) < samples_needed(p):
                self.tiles[p].add(_tiles(logs, p, self.margin))

    def result(self, name: str, call: int, output: str, draws: int) -> LayerGradient:
        reason = self.reason
        dead = 0 if self.alive is None else int((~self.alive).sum())
        if reason is None and not self.samples:
            reason = f"all {self.nonfinite} samples hold NaN or infinities"
        if reason is None and not self.energetic:
            reason = "the gradient is zero everywhere"
        periods: dict[int, GradientPeriod | None] = {}
        if reason is None:
            periods = {p: self._period(p, draws) for p in self.periods}
            if not any(periods.values()):
                reason = f"{' x '.join(map(str, self.shape[1:]))} positions are too few for every period"
        size = 1 if self.alive is None else self.alive.size
        return LayerGradient(
            name, call, output, self.shape, self.samples, self.nonfinite, dead, dead / size, periods, reason
        )

    def _period(self, period: int, draws: int) -> GradientPeriod | None:
        effect = self.logs[period].result(draws)
        if effect is None:
            return None
        if self.tiles[period].samples:
            effect = self.tiles[period].result(draws)
            assert effect is not None
        energies = np.asarray(self.energies[period]) / self.energetic
        energies = np.where(energies < _NOTHING, 0.0, energies)
        least, total = float(energies.min()), float(energies.sum())
        return GradientPeriod(
            energies,
            float(energies.max()) / least if least else math.inf,
            total**2 / (energies.size * float((energies**2).sum())),
            effect,
        )


def _tiles(maps: Array, period: int, margin: int | None) -> Array:
    """Maps cut into tiles whose sides are whole periods, ``(tiles, C, ...)``; the margin is left out."""
    cut = maps
    for axis in range(2, maps.ndim):
        size = cut.shape[axis]
        left_out = size // 8 if margin is None else margin
        start = -(-left_out // period) * period
        inside = size - left_out - start
        side = period * max(4, inside // (period * _TILES))
        if not fits((side,), period, 0) or inside < side:
            return maps
        count = inside // side
        kept = np.take(cut, np.arange(start, start + count * side), axis)
        split = kept.reshape(*kept.shape[:axis], count, side, *kept.shape[axis + 1 :])
        moved = np.moveaxis(split, axis, 1)
        cut = moved.reshape(-1, *moved.shape[2:])
    return cut
