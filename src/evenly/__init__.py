"""evenly: find checkerboard artifacts in neural networks before training.

Public names are loaded when they are first used, so ``import evenly`` stays light; it imports neither numpy, torch nor
onnx.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evenly import errors, nn, testing
    from evenly.api import check
    from evenly.check.result import Finding, Report

__version__ = "0.1.0"

__all__ = ["Finding", "Report", "__version__", "check", "errors", "nn", "testing"]

# ``check`` is a package that can be called, see evenly/check/__init__.py.
_MODULES = ("check", "errors", "nn", "testing")
_NAMES = {"Finding": "evenly.check.result", "Report": "evenly.check.result"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"evenly.{name}")
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'evenly' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
