"""What to do about every finding of a network: which method, how sure, or what a person should do."""

from __future__ import annotations

from typing import Any

from torch import nn

from evenly.check.result import Finding, Report
from evenly.errors import EvenlyError, UsageError
from evenly.fix._replacing import described
from evenly.fix._sites import Network, findings, seen
from evenly.fix._swapping import made
from evenly.fix.changes import SAFETY, Method, Step

__all__ = ["plan"]

_BY_HAND = {
    "unpool": "it puts values where the largest were, with zeros between them; put an interpolation and a convolution "
    "in its place",
    "fold": "it adds up blocks that another layer made; put an interpolation and a convolution in their place",
    "pixel_shuffle": "it puts patches side by side that another layer made; add convolutions across the seams, or grow "
    "the lattice in steps with resize-convolutions",
    "slice": "a slice drops the samples; average or filter before it",
    "unfold": "it cuts blocks that another layer reads; let the stride divide their size",
    "interpolate": "it skips samples; use an interpolation that averages (antialias=True), or filter before it",
}
_DOWN = "it shrinks what it reads; use an interpolation that averages, or filter before it"
_UNKNOWN = "what it does is not known; check the parts before and after it by themselves"


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
    allowed = network.methods(finding.code, op)
    if not allowed:
        return _by_hand(finding, _BY_HAND.get(op, _DOWN if finding.code.startswith("EV2") else _UNKNOWN))
    try:
        target = network.target(finding.layer)
    except UsageError as error:
        return _by_hand(finding, str(error))
    reasons = []
    for method in allowed:
        if (target, method) not in tried:
            tried[target, method] = _tried(network, target, method, finding)
        found = tried[target, method]
        if isinstance(found, Step):
            return Step(
                finding.code, finding.severity, finding.layer, target, method, found.safety, finding.message, found.what
            )
        reasons.append(found)
    return _by_hand(finding, reasons[0])


def _by_hand(finding: Finding, reason: str) -> Step:
    what = f"cannot be done by machine: {reason}"
    if finding.severity == "info":
        what = f"nothing needs to be done; if it did, it could not be done by machine: {reason}"
    return Step(finding.code, finding.severity, finding.layer, None, None, None, finding.message, what)


def _tried(network: Network, target: str, method: Method, finding: Finding) -> Step | str:
    """The step, or why the method does not go."""
    layer = network.modules[target]
    obstacle = network.obstacle(target, method)
    if obstacle:
        return obstacle
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
    return Step(finding.code, finding.severity, finding.layer, target, method, safety, finding.message, what)
