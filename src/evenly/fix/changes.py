"""What repairs of the structure say they did, or would do: frozen data for every reporter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evenly.check.result import Severity

__all__ = ["METHODS", "SAFETY", "LayerChange", "Method", "Safety", "Step"]

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
