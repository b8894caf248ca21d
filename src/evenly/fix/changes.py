"""What repairs of the structure say they did, or would do: frozen data for every reporter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from evenly.check.result import Finding, Report, Severity
from evenly.errors import UsageError

__all__ = [
    "METHODS",
    "SAFETY",
    "LayerChange",
    "Method",
    "Safety",
    "Step",
    "cures",
    "findings",
    "told",
    "wanted_methods",
]

Method = Literal["resize", "subpixel", "antialias", "pad", "fold"]
METHODS: tuple[Method, ...] = ("resize", "subpixel", "antialias", "pad", "fold")
Safety = Literal["safe", "lossy", "structural"]
SAFETY: dict[Method, Safety] = {
    "resize": "structural",
    "subpixel": "structural",
    "antialias": "structural",
    "pad": "lossy",
    "fold": "safe",
}
"""As in docs/rules.md: the same function; another function by an amount that can be measured; needs training."""

_CURES: dict[str, tuple[Method, ...]] = {
    "conv_transpose": ("resize", "subpixel"),
    "pixel_shuffle": ("subpixel",),
    "conv": ("antialias",),
    "max_pool": ("antialias",),
    "average_pool": ("antialias",),
}
_BORDER = "EV301"


def cures(code: str, op: str) -> tuple[Method, ...]:
    """What may cure a finding about an operation."""
    if code == _BORDER:
        return ("pad",)
    if code == "EV107" or (op == "conv_transpose" and code.startswith("EV2")):
        return ()
    return _CURES.get(op, ())


def findings(report: Report) -> Iterator[tuple[Finding, str]]:
    """All findings of a report, each with the operation that it is about."""
    operations = {layer.name: layer.op for layer in report.layers}
    for finding in report.findings:
        yield finding, operations.get(finding.layer, "unknown")


@dataclass(frozen=True)
class LayerChange:
    """A layer that was replaced, or that could not be.

    Attributes:
        name: Of the module; of the operation, as ``evenly check`` names it, where no module does it.
        method: How it was replaced or should have been.
        before: The layer as it was.
        after: What stands there now; ``None`` if nothing was changed, for the reason in ``note``.
        fit_error: ``|new - old| / |old|`` of the whole up-sampling kernel (ratio, Frobenius norm, all channels); 0
            where the function is the same up to rounding; ``None`` where the weights themselves were kept or nothing
            was changed.
        note: What to know, in one line.
    """

    name: str
    method: Method
    before: str
    after: str | None
    fit_error: float | None = None
    note: str | None = None

    @property
    def done(self) -> bool:
        """Whether the layer was replaced."""
        return self.after is not None


@dataclass(frozen=True)
class Step:
    """What to do about one finding.

    Attributes:
        code: Of the rule that was broken.
        severity: Of the finding; ``info`` needs nothing done.
        layer: That the finding is about, as ``evenly check`` names it.
        target: The module that is to be replaced; ``None`` if no machine can do it.
        method: How; ``None`` if no machine can do it.
        safety: Of the method; ``safe`` too where the layer that takes its place is the same function.
        why: The finding's message.
        what: What the method makes of the layer, and what another method would; or why no machine can do it and what a
            person should do.
        fit_error: As in :class:`LayerChange`.
    """

    code: str
    severity: Severity
    layer: str
    target: str | None
    method: Method | None
    safety: Safety | None
    why: str
    what: str
    fit_error: float | None = None


def told(methods: Any) -> list[tuple[str, Method]] | None:
    """What is to be done with which layer, if that was said: by name, or as the steps of a plan."""
    if isinstance(methods, Mapping):
        return list(methods.items())
    if isinstance(methods, str) or not all(isinstance(step, Step) for step in methods):
        return None
    return [(s.target, s.method) for s in methods if s.target is not None and s.method and s.severity != "info"]


def wanted_methods(methods: Any) -> tuple[Method, ...]:
    """The methods that were named.

    Raises:
        UsageError: If one does not exist.
    """
    wanted = (methods,) if isinstance(methods, str) else tuple(methods)
    if any(method not in METHODS for method in wanted):
        raise UsageError(f"methods (={methods!r}) must be of {', '.join(METHODS)}; choose of these")
    return wanted
