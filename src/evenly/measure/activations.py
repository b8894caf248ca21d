"""Periodic patterns in the activations of a running model.

Every layer's output is folded by phase as it appears and thrown away; see :mod:`evenly.measure.phases` for the effect
and its test. Two traces are measured:

* *mean*: the activations themselves, channel by channel: a pattern that is added;
* *energy*: ``log(e / mean(e) + 0.001)`` with ``e`` the squared deviation from each sample's channel means, averaged
  over channels: a pattern in the strength. A zero-mean signal (noise through a linear layer) shows only here; a strong
  added pattern shows in both.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from evenly.errors import ParameterError, UsageError
from evenly.measure._running import ChannelsLast, draw, prepared, select_layers, tensors_in, unsuited
from evenly.measure.phases import DRAWS, PhaseEffect, PhaseState, check_periods
from evenly.measure.result import PERIODS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from torch import Tensor, nn

    from evenly.measure._running import Sampler

__all__ = [
    "LayerMeasurement",
    "LayerPeriod",
    "ModelMeasurement",
    "TrainingTrace",
    "layer_dict",
    "measure_model",
]

_FLOOR = 1e-3  # of the mean energy: tames exact zeros


def layer_dict(layer: DataclassInstance) -> dict[str, Any]:
    """The fields of what was measured in a layer as in JSON: its ``shape`` as a list, its ``periods`` last, by name."""
    found = {f.name: getattr(layer, f.name) for f in fields(layer)}
    periods = found.pop("periods")
    named = {str(p): None if r is None else r.to_dict() for p, r in periods.items()}
    return found | {"shape": list(found["shape"]), "periods": named}


@dataclass(frozen=True)
class LayerPeriod:
    """One layer at one period.

    Attributes:
        mean: The pattern in the activations.
        energy: The pattern in the logarithm of their energy.
    """

    mean: PhaseEffect
    energy: PhaseEffect

    def to_dict(self) -> dict[str, Any]:
        """As in JSON."""
        return {"mean": self.mean.to_dict(), "energy": self.energy.to_dict()}


@dataclass(frozen=True)
class LayerMeasurement:
    """One output of one layer.

    Attributes:
        name: The module's name, ``""`` for the model itself.
        kind: Its class.
        call: Which of its calls in one forward pass, from 0.
        output: Which of its outputs, for instance ``[0]`` or ``['sample']``; ``""`` where it has one.
        shape: The last output's shape without the batch: channels, then positions.
        samples: Samples measured.
        nonfinite: Samples left out since they held NaN or infinities.
        periods: By period; ``None`` where the layer is too small.
        reason: Why it was not measured; ``None`` where it was.
    """

    name: str
    kind: str
    call: int
    output: str
    shape: tuple[int, ...]
    samples: int
    nonfinite: int
    periods: Mapping[int, LayerPeriod | None]
    reason: str | None = None

    @property
    def label(self) -> str:
        """Name, output and call, for people."""
        return f"{self.name or '(model)'}{self.output}" + (f" #{self.call}" if self.call else "")

    def to_dict(self) -> dict[str, Any]:
        """As in JSON."""
        return layer_dict(self)


@dataclass(frozen=True)
class ModelMeasurement:
    """What was measured in a model.

    Attributes:
        model: Its class.
        samples: Samples that were run.
        layers: In the order of their first calls.
    """

    model: str
    samples: int
    layers: tuple[LayerMeasurement, ...]

    def layer(self, name: str, call: int = 0) -> LayerMeasurement:
        """The first output of a layer.

        Raises:
            UsageError: If it was not measured.
        """
        for found in self.layers:
            if (found.name, found.call) == (name, call):
                return found
        known = ", ".join(sorted({layer.name for layer in self.layers}))
        raise UsageError(f"layer (={name!r}), call {call}, was not seen; expected one of: {known}")

    def to_dict(self) -> dict[str, Any]:
        """As in JSON."""
        return {"model": self.model, "samples": self.samples, "layers": [layer.to_dict() for layer in self.layers]}

    def __str__(self) -> str:
        lines = [f"{self.model}: {self.samples} samples; between-phase over within-phase energy in dB (p)"]
        for layer in self.layers:
            found = [f"{p}: {_words(r)}" for p, r in layer.periods.items() if r is not None]
            size = " x ".join(map(str, layer.shape))
            lines.append(f"  {layer.label} ({layer.kind}, {size}): " + (layer.reason or "; ".join(found)))
        return "\n".join(lines)


def measure_model(
    module: nn.Module,
    sampler: Sampler,
    *,
    periods: Sequence[int] | None = None,
    samples: int = 64,
    batch_size: int = 16,
    seed: int = 0,
    layers: str | Sequence[str] | None = None,
    device: Any = None,
    training: bool = False,
    margin: int | None = None,
    draws: int = DRAWS,
) -> ModelMeasurement:
    """Measure the activations of every layer.

    The model is run without gradients, and left as it was: modes, buffers, the state of torch's random numbers. Inputs
    are moved to its device and floating ones to its type. Linear, embedding and normalisation layers over the last axis
    have their channels there, and so have pointwise layers after them.

    Args:
        module: The model.
        sampler: A function ``(n, generator) -> inputs``, a tensor of samples, or batches (a list, a ``DataLoader``).
            Inputs are a tensor, a tuple (positional; entries beyond the parameters that ``forward`` requires, such as
            labels, are left out) or a dict (by keyword).
        periods: In positions of each layer; by default 2, 3, 4, 5, 6, 8 and 16.
        samples: Samples to run, at most.
        batch_size: Samples at a time, where the sampler is a function or a tensor.
        seed: Of the generator, and of the test's shifts.
        layers: Names of modules or globs (``"up*"``); by default all without children.
        device: Where to run; by default where the model is. The model is not moved.
        training: Whether to run in training mode.
        margin: Positions left out at every border; by default an eighth of each layer's size.
        draws: Random shifts of each test.

    Raises:
        UsageError: If no layer has such a name, or the sampler gives no samples.
        ParameterError: If an option is out of range.
    """
    import torch

    wanted = PERIODS if periods is None else check_periods(periods)
    states: dict[tuple[str, int, str], _LayerState] = {}
    calls: dict[str, int] = {}
    channels_last = ChannelsLast()
    count = 0

    def record(name: str, layer: nn.Module, inputs: Any, output: Any) -> None:
        call = calls[name] = calls.get(name, -1) + 1
        for where, tensor in tensors_in(output):
            last = channels_last(layer, inputs, tensor)
            key = (name, call, where)
            if key not in states:
                states[key] = _LayerState(type(layer).__name__, wanted, margin, seed)
            states[key].add(tensor, last, count)

    with prepared(module, training, seed), torch.no_grad():
        chosen = select_layers(module, layers)
        hooks = [
            layer.register_forward_hook(lambda m, args, out, name=name: record(name, m, args, out))
            for name, layer in chosen.items()
        ]
        total = 0
        try:
            for count, args, kwargs in draw(module, sampler, samples, batch_size, seed, device):
                calls.clear()
                module(*args, **kwargs)
                total += count
        finally:
            for hook in hooks:
                hook.remove()
    if not total:
        raise UsageError("sampler gave no samples; expected at least one batch: give a function, a tensor or batches")
    return ModelMeasurement(
        type(module).__name__,
        total,
        tuple(state.result(*key, draws=draws) for key, state in states.items()),
    )


@dataclass
class TrainingTrace:
    """How patterns develop while a model is trained.

    Example:
        ::

            trace = TrainingTrace(generator, sampler, layers="up*", samples=16)
            for step in range(steps):
                if step % 100 == 0:
                    trace.record(step)
                ...
            trace.course("up1", 2)  # [(0, 0.21), (100, 0.13), ...]

    Attributes:
        module: The model; only its latest state is read.
        sampler: As for :func:`measure_model`; a function gives the same inputs every time.
        options: Further options of :func:`measure_model`.
        history: Steps with what was measured.
    """

    module: nn.Module
    sampler: Sampler
    options: dict[str, Any]
    history: list[tuple[int, ModelMeasurement]] = field(default_factory=list)

    def __init__(self, module: nn.Module, sampler: Sampler, **options: Any) -> None:
        unknown = set(options) - set(inspect.signature(measure_model).parameters)
        if unknown:
            raise ParameterError(f"options (={sorted(unknown)!r}) are not known; expected options of measure_model")
        self.module = module
        self.sampler = sampler
        self.options = options
        self.history = []

    def record(self, step: int) -> ModelMeasurement:
        """Measure the model as it is now."""
        found = measure_model(self.module, self.sampler, **self.options)
        self.history.append((step, found))
        return found

    def course(
        self, layer: str, period: int, trace: Literal["mean", "energy"] = "mean", call: int = 0
    ) -> list[tuple[int, float | None]]:
        """The effect's ratio by step, ``None`` where it was not measured."""
        found = []
        for step, measured in self.history:
            result = measured.layer(layer, call).periods.get(period)
            found.append((step, None if result is None else getattr(result, trace).ratio))
        return found

    def to_dict(self) -> dict[str, Any]:
        """As in JSON."""
        return {"steps": [{"step": step, **measured.to_dict()} for step, measured in self.history]}


class _LayerState:
    """Sums of one output; maps are folded and forgotten."""

    def __init__(self, kind: str, periods: Sequence[int], margin: int | None, seed: int) -> None:
        self.kind = kind
        self.shape: tuple[int, ...] = ()
        self.samples = self.nonfinite = 0
        self.reason: str | None = None
        self.mean = {p: PhaseState(p, margin=margin, seed=seed) for p in periods}
        self.energy = {p: PhaseState(p, margin=margin, seed=seed) for p in periods}

    def add(self, tensor: Tensor, channels_last: bool, count: int) -> None:
        maps = tensor.detach()
        if channels_last and maps.ndim > 2:
            maps = maps.movedim(-1, 1)
        shape = tuple(maps.shape[1:])
        reason = unsuited(maps, count)
        if reason is None and self.samples and shape[0] != self.shape[0]:
            reason = f"its channels vary from batch to batch ({self.shape[0]}, then {shape[0]})"
        self.shape = shape
        if reason is not None:
            self.reason = reason
            return
        import torch

        rounding = torch.finfo(maps.dtype).eps
        maps = maps if maps.dtype == torch.float64 else maps.float()
        finite = maps.flatten(1).isfinite().all(1)
        good = int(finite.sum())
        if good < len(maps):
            self.nonfinite += len(maps) - good
            maps = maps[finite]
        self.samples += good
        if not good:
            return
        energy = _log_energy(maps, rounding)
        for state in self.mean.values():
            state.add(maps, rounding)
        for state in self.energy.values():
            state.add(energy, rounding)

    def result(self, name: str, call: int, output: str, draws: int) -> LayerMeasurement:
        reason = self.reason
        if reason is None and not self.samples:
            reason = f"all {self.nonfinite} samples hold NaN or infinities"
        periods: dict[int, LayerPeriod | None] = {}
        if reason is None:
            for p, state in self.mean.items():
                mean, energy = state.result(draws), self.energy[p].result(draws)
                periods[p] = None if mean is None or energy is None else LayerPeriod(mean, energy)
            if not any(periods.values()):
                reason = f"{' x '.join(map(str, self.shape[1:]))} positions are too few for every period"
        return LayerMeasurement(
            name, self.kind, call, output, self.shape, self.samples, self.nonfinite, periods, reason
        )


def _log_energy(maps: Tensor, rounding: float) -> Tensor:
    """``log(e / mean(e) + 0.001)`` of the squared deviation from the channels' means, ``(N, 1, *spatial)``."""
    axes = tuple(range(2, maps.ndim))
    energy = (maps - maps.mean(axes, keepdim=True)).square().mean(1, keepdim=True)
    mean = energy.mean(axes, keepdim=True)
    # a map that is constant up to rounding has no energy
    silent = mean <= max(4 * rounding, 1e-5) ** 2 * maps.square().mean((1, *axes), keepdim=True)
    return (energy / mean.where(~silent, mean.new_ones(())) * ~silent + _FLOOR).log()


def _words(result: LayerPeriod) -> str:
    def one(effect: PhaseEffect) -> str:
        strength = "none" if effect.ratio == 0 else "no noise" if effect.db is None else f"{effect.db:.1f} dB"
        return f"{strength} ({'not tested' if effect.p is None else f'{effect.p:.3g}'})"

    return f"mean {one(result.mean)}, energy {one(result.energy)}"
