"""What :func:`evenly.fix.attribution.attribute` finds: lines, layers, effects, budgets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["FORMAT_VERSION", "Attribution", "Budget", "Effect", "LayerAttribution", "Line"]

FORMAT_VERSION = 1  # 1: first published form
PRESENT_DB = 3.0
"""A line is there if its level certainly is above this: twice the power of its surroundings."""


@dataclass(frozen=True)
class Line:
    """The lines of one period in what is explained.

    Attributes:
        period: In samples of the output (of the input's gradient, backward).
        level_db: Power over that of the nearest clean neighbours, mean over signals, in dB.
        low_db, high_db: Its 95 % interval (Student's t over signals).
        signals: How many.
    """

    period: int
    level_db: float
    low_db: float
    high_db: float
    signals: int

    @property
    def present(self) -> bool:
        """Whether the interval lies above 3 dB."""
        return self.low_db > PRESENT_DB


@dataclass(frozen=True)
class Effect:
    """What making layers even does to the lines of one period.

    Attributes:
        fall_db: How far they fall, mean over signals, in dB; a line that has sunk into what surrounded it has fallen as
            far as it can be seen to. Negative: they rise.
        low_db, high_db: 95 % interval (Student's t over signals).
        removed: Share of the lines' power above what surrounded them that is gone: 1 is all of it, negative means that
            there is more; -1 is the least, so that one signal in which a line grows many times decides nothing. Signals
            weigh by the share that stands out, those without a line not at all.
    """

    fall_db: float
    low_db: float
    high_db: float
    removed: float

    @property
    def certain(self) -> bool:
        """Whether the lines fall for certain: the interval lies above 0 dB, and the fall is 0.1 dB or more."""
        return self.low_db > 0 and self.fall_db >= 0.1


@dataclass(frozen=True)
class Budget:
    """Where the power of a layer's lines comes from; powers are means over signals and channels, in squared units.

    ``created + passed + cross + residual = found``: the layer's result is, by linearity, what the layer made even gives
    plus the rest, which its unequal phases create; ``cross`` is twice the product of both. Backward, result and input
    are the squared gradients at the layer's input and output, mean over channels, of mean 1 in each signal.

    Attributes:
        period: In samples of the layer's own result; ``None`` where none corresponds.
        found: Lines in its result.
        background: Nearest clean neighbours of these.
        arrived: Lines of the corresponding period at its input; ``None`` where that is a constant, so that the lines
            are new here, or where it is not comparable.
        created, passed, cross, residual: See above; ``None`` where the layer cannot be made even.
        between: What the step before the layer added: arrived less found in the layer that ran before. In a network
            with branches this holds what other branches bring as well.
        reason: Why something is missing.
    """

    period: int | None = None
    found: float | None = None
    background: float | None = None
    arrived: float | None = None
    created: float | None = None
    passed: float | None = None
    cross: float | None = None
    residual: float | None = None
    between: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class LayerAttribution:
    """One layer.

    Attributes:
        name: As ``evenly check`` names it.
        kind: ``transposed``, ``subpixel``, ``convolution``; backward also the pools and ``pixel unshuffle``.
        even: What making it even meant: ``balanced by output``, ``balanced by weights``, ``low-pass`` (backward);
            ``None`` where there was nothing to be made even.
        effects: By period, of making this layer even alone; without those that it was not tested for, backward
            since it cannot create them.
        budgets: By the output's period.
        untested: Why it was not tested: it makes all positions alike, or it cannot be edited.
        fixed: Whether that was since it cannot be edited, so that it may be guilty all the same.
    """

    name: str
    kind: str
    even: str | None
    effects: Mapping[int, Effect]
    budgets: Mapping[int, Budget]
    untested: str | None = None
    fixed: bool = False


@dataclass(frozen=True)
class Attribution:
    """From lines back to layers.

    Attributes:
        model: Its class, or file.
        direction: ``forward``: lines in the output; ``backward``: in the squared gradient of the input.
        output: Name of the output that is explained, or that is derived.
        inputs: What the model was run on, in words.
        signals: How many.
        lines: By period; those that the sizes allow.
        layers: In the order in which they ran.
        together: By period, the effect of making all tested layers even.
        last_step: By period, power of the lines in the output less that in the last layer's result; ``None`` where that
            is not comparable. Forward only.
        notes: What a reader must know, for instance which files were left out.
    """

    model: str
    direction: Literal["forward", "backward"]
    output: str
    inputs: str
    signals: int
    lines: Mapping[int, Line]
    layers: tuple[LayerAttribution, ...]
    together: Mapping[int, Effect]
    last_step: Mapping[int, float | None]
    notes: tuple[str, ...] = ()

    @property
    def present(self) -> tuple[int, ...]:
        """Periods that have lines, the strongest first."""
        found = [line for line in self.lines.values() if line.present]
        return tuple(line.period for line in sorted(found, key=lambda line: -line.level_db))

    def ranking(self, period: int | None = None) -> tuple[LayerAttribution, ...]:
        """Layers that make a line fall for certain, the one with the largest fall first.

        Args:
            period: Of the line; by default the layers' largest falls over all lines that are present count. A line
                that is not there has no ranking.
        """
        periods = self.present if period is None else tuple(p for p in self.present if p == period)

        def fall(layer: LayerAttribution) -> float:
            falls = [layer.effects[p].fall_db for p in periods if p in layer.effects and layer.effects[p].certain]
            return max(falls, default=0.0)

        return tuple(sorted((layer for layer in self.layers if fall(layer) > 0), key=lambda layer: -fall(layer)))

    def singles(self, period: int) -> float:
        """Sum over layers of the share of a line's power that each removes alone."""
        return sum(layer.effects[period].removed for layer in self.layers if period in layer.effects)

    def interaction(self, period: int) -> float:
        """Share that all layers together remove, beyond the sum of what they remove alone.

        Amplitudes add, powers do not: layers whose lines cancel or reinforce each other have an interaction.
        """
        return self.together[period].removed - self.singles(period) if period in self.together else 0.0

    def to_dict(self) -> dict[str, Any]:
        """As in JSON; numbers that could not be had are ``None``."""
        return {
            "model": self.model,
            "direction": self.direction,
            "output": self.output,
            "inputs": self.inputs,
            "signals": self.signals,
            "lines": {str(p): {**asdict(line), "present": line.present} for p, line in self.lines.items()},
            "ranking": [layer.name for layer in self.ranking()],
            "layers": [
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "even": layer.even,
                    "effects": _by_period(layer.effects),
                    "budgets": _by_period(layer.budgets),
                    "untested": layer.untested,
                    "fixed": layer.fixed,
                }
                for layer in self.layers
            ],
            "together": _by_period(self.together),
            "singles": {str(p): self.singles(p) for p in self.together},
            "interaction": {str(p): self.interaction(p) for p in self.together},
            "last_step": {str(p): step for p, step in self.last_step.items()},
            "notes": list(self.notes),
        }

    def to_json(self, indent: int | None = 2) -> str:
        """As JSON text, with the version of its form; see ``docs/json.md``."""
        from evenly import __version__

        head = {"format_version": FORMAT_VERSION, "tool": {"name": "evenly", "version": __version__}}
        return json.dumps({**head, **self.to_dict()}, indent=indent, allow_nan=False, ensure_ascii=False)

    def __str__(self) -> str:
        """The lines, a table of the layers for each, ranked, and the verdict."""
        from evenly.report.attributed_console import render

        return render(self)

    def _repr_html_(self) -> str:
        """The lines and the layers behind each in a notebook."""
        from evenly.report.attributed_notebook import to_html

        return to_html(self)


def _by_period(values: Mapping[int, Effect] | Mapping[int, Budget]) -> dict[str, Any]:
    return {str(period): asdict(value) for period, value in values.items()}
