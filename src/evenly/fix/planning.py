"""What to do about every finding of a network: which method, how sure, or what a person should do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from evenly.check.result import Finding, Report
from evenly.errors import EvenlyError, UsageError
from evenly.fix._replacing import described
from evenly.fix._sites import Network, seen
from evenly.fix._swapping import made
from evenly.fix.changes import SAFETY, Method, Step, cures, findings

__all__ = ["plan"]

_REASONS = {
    "unpool": "it puts values where the largest were, with zeros between them",
    "fold": "it adds up blocks that another layer made",
    "pixel_shuffle": "it puts patches side by side that another layer made",
    "unfold": "it cuts blocks that another layer reads",
    "slice": "it is no layer but a slice in a forward",
    "unknown": "what it does is not known",
}


def plan(module: nn.Module, report: Report, example: Any = None) -> tuple[Step, ...]:
    """What to do about every finding of a check.

    Nothing is changed. Every replacement is tried, on one layer at a time, so that what cannot be done is known, and
    how well the weights fit. ``replaced(module, steps)`` carries out all steps above ``info`` that have a method.

    Args:
        module: The network.
        report: Of a check of this network.
        example: As in :func:`evenly.fix.structure.replaced`: with it, more is known of how layers are used.

    Returns:
        One step for each finding, in the order of the report. A layer with several findings gets the same method for
        all that it cures.

    Raises:
        ModelError: If the network cannot be read with the example.
    """
    network = Network(module, None if example is None else seen(module, example))
    tried: dict[tuple[str, Method], Step | str] = {}
    return tuple(_step(network, finding, op, tried) for finding, op in findings(report))


def _step(network: Network, finding: Finding, op: str, tried: dict[tuple[str, Method], Step | str]) -> Step:
    allowed = cures(finding.code, op)
    if not allowed:
        return _by_hand(finding, _REASONS.get(op, f"no layer takes the place of this {op.replace('_', ' ')}"))
    try:
        target = network.target(finding.layer, op)
    except UsageError as error:
        return _by_hand(finding, str(error))
    for method in allowed:
        if (target, method) not in tried:
            tried[target, method] = _tried(network, target, method, finding)
    found = [tried[target, method] for method in allowed]
    steps = [step for step in found if isinstance(step, Step)]
    if not steps:
        return _by_hand(finding, str(found[0]))
    first = steps[0]
    instead = "".join(f"; {step.method} would change it by {step.fit_error:.1%}" for step in steps[1:])
    return replace(
        first, code=finding.code, severity=finding.severity, layer=finding.layer, why=finding.message,
        what=first.what + instead,
    )  # fmt: skip


def _by_hand(finding: Finding, reason: str) -> Step:
    what = f"cannot be done by machine: {reason}. By hand: {finding.fix}"
    if finding.severity == "info":
        what = f"nothing has to be done, and it could not be done by machine: {reason}"
    return Step(finding.code, finding.severity, finding.layer, None, None, None, finding.message, what)


def _tried(network: Network, target: str, method: Method, finding: Finding) -> Step | str:
    """The step, or why the method does not go."""
    layer = network.modules[target]
    try:
        new = made(network, target, layer, method)
    except EvenlyError as error:
        return str(error)
    safety = "safe" if new.fit_error == 0 else SAFETY[method]
    what = f"{described(layer)} becomes {described(new.layer)}"
    if new.fit_error is not None:
        what += f"; the kernel changes by {new.fit_error:.1%} (relative error, Frobenius norm)"
    if new.note:
        what += f"; {new.note}"
    return Step(
        finding.code, finding.severity, finding.layer, target, method, safety, finding.message, what, new.fit_error
    )
