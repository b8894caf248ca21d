"""evenly: find checkerboard artifacts in neural networks before training, and in what they make.

Public names are loaded when they are first used, so ``import evenly`` stays light; it imports neither numpy, torch nor
onnx.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evenly import errors, losses, metrics, nn, testing
    from evenly.api import attribute, check, fix, measure, reproduce
    from evenly.check.result import Finding, Report
    from evenly.fix.attributed import Attribution
    from evenly.fix.result import FixReport, FixResult
    from evenly.measure.activations import measure_model
    from evenly.measure.engine import measure_set
    from evenly.measure.gradients import measure_gradient
    from evenly.measure.result import Measurement
    from evenly.reproduce.stored import Reproduction

__version__ = "0.1.0"

__all__ = [
    "Attribution",
    "Finding",
    "FixReport",
    "FixResult",
    "Measurement",
    "Report",
    "Reproduction",
    "__version__",
    "attribute",
    "check",
    "errors",
    "fix",
    "losses",
    "measure",
    "measure_gradient",
    "measure_model",
    "measure_set",
    "metrics",
    "nn",
    "reproduce",
    "testing",
]

# ``check``, ``fix``, ``measure`` and ``reproduce`` are packages that can be called, see evenly/callable.py.
_MODULES = ("check", "errors", "fix", "losses", "measure", "metrics", "nn", "reproduce", "testing")
_NAMES = {
    "Attribution": "evenly.fix.attributed",
    "Finding": "evenly.check.result",
    "FixReport": "evenly.fix.result",
    "FixResult": "evenly.fix.result",
    "Measurement": "evenly.measure.result",
    "Report": "evenly.check.result",
    "Reproduction": "evenly.reproduce.stored",
    "attribute": "evenly.api",
    "measure_gradient": "evenly.measure.gradients",
    "measure_model": "evenly.measure.activations",
    "measure_set": "evenly.measure.engine",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"evenly.{name}")
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'evenly' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
