"""Real architectures, written from their published configurations, with what is known about each by hand.

Kernels, strides, paddings, dilations and output paddings are the published ones; only channels shrink, by a width
factor, since periods and overlap counts do not depend on them. One module per family; every module of this package is
imported, so a file registers its networks by existing.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

Period = int | tuple[int, ...] | None
"""In samples; one per axis where axes differ; ``None``: the signal has no lattice, or the value is not stated."""


@dataclass(frozen=True)
class Case:
    """One architecture and what is known about it.

    Attributes:
        name: Key in :data:`CASES`.
        build: Makes the network; the argument multiplies every number of channels.
        inputs: Example inputs, batch 1.
        source: Paper and section or table, or the published code.
        period: Structural period of every output: the smallest that generic weights give to a constant input, or to a
            constant where the lattice is born.
        gradient_period: Period of the expected squared gradient, per input.
        rules: Codes of findings that must appear.
        forbidden: Codes that must not appear above "info".
        allowed_unknown: Operators that may stay "not analysed", each with its justification.
        prior: Whether the closed form before training exists (no attention or gate on the way).
        start: Module whose output is where the lattice is born, if that is not the input; a simulation puts a
            constant there.
        width: Width factor for tests.
        simulate: Arguments of ``simulate_forward`` (``borders``, ``bound``, ``start_size``, ``zero``, ...) beyond the
            defaults; ``inputs`` replaces the example inputs; ``None``: not simulated, with the reason in ``notes``.
        simulate_backward: The same for ``simulate_backward``.
        gates: Whether sigmoid gates or attention make the predicted unevenness inapplicable, only the period is held.
        onnx: Whether ``torch.onnx.export`` can write it; if not, ``notes`` says why.
        fast: Whether it is simulated in the reduced run as well.
        notes: Anything a reader of the figures must know.
    """

    name: str
    build: Callable[[float], nn.Module]
    inputs: Callable[[], tuple[Tensor, ...]]
    source: str
    period: tuple[Period, ...]
    gradient_period: tuple[Period, ...] = ()
    rules: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset()
    allowed_unknown: Mapping[str, str] = field(default_factory=dict)
    prior: bool = True
    start: str | None = None
    width: float = 1 / 8
    simulate: Mapping[str, Any] | None = field(default_factory=dict)
    simulate_backward: Mapping[str, Any] | None = field(default_factory=dict)
    gates: bool = False
    onnx: bool = True
    fast: bool = False
    notes: str = ""


CASES: dict[str, Case] = {}


def architecture(
    name: str,
    *,
    inputs: Callable[[], tuple[Tensor, ...]],
    source: str,
    period: tuple[Period, ...],
    rules: str = "",
    forbidden: str = "",
    **known: Any,
) -> Callable[[Callable[[float], nn.Module]], Callable[[float], nn.Module]]:
    """Register the decorated ``build(width)``; ``rules`` and ``forbidden`` are codes with blanks between them."""

    def register(build: Callable[[float], nn.Module]) -> Callable[[float], nn.Module]:
        if name in CASES:
            raise ValueError(f"architecture {name!r} is registered twice; names are unique")
        CASES[name] = Case(
            name,
            build,
            inputs,
            source,
            period,
            rules=frozenset(rules.split()),
            forbidden=frozenset(forbidden.split()),
            **known,
        )
        return build

    return register


def scaled(channels: int, width: float, multiple: int = 1, least: int = 4) -> int:
    """``channels * width``, at least ``least``, rounded to a multiple of ``multiple`` (groups, heads, shuffle)."""
    wanted = max(least, round(channels * width))
    return max(1, round(wanted / multiple)) * multiple


for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
