"""What is asked for, and what comes of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from evenly.errors import ModelError, UsageError

if TYPE_CHECKING:
    from evenly.graph.ir import Graph
    from evenly.load._declared import Declared

__all__ = ["Loaded", "Request", "expect_attribute", "expect_file"]


@dataclass(frozen=True)
class Loaded:
    """A graph and whether its weights are the actual ones.

    Attributes:
        graph: The network.
        weights: ``"actual"``, ``"ignored"`` (``--no-weights``) or ``"none"`` (freshly made).
    """

    graph: Graph
    weights: Literal["actual", "ignored", "none"]


@dataclass(frozen=True)
class Request:
    """Everything that a loader may need."""

    target: str
    inputs: tuple[Declared, ...]
    weights: Path | None
    use_weights: bool
    trust: bool
    training: bool


def expect_attribute(target: str) -> None:
    """What is no file has to be ``package.module:attribute``."""
    if not re.fullmatch(r"[^\W\d][\w.]*:[^\W\d][\w.]*", target):
        raise UsageError(
            f"TARGET (={target!r}) is not understood; expected a .onnx file, a .pt2 file or package.module:attribute"
        )


def expect_file(request: Request) -> None:
    """There has to be a file, and it brings its own weights."""
    path = Path(request.target)
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "not there"
        raise ModelError(f"{request.target}: {kind}; expected a file, check the path")
    if request.weights is not None:
        raise UsageError(
            f"--weights (={str(request.weights)!r}) is for module:attribute; {request.target} brings its own weights"
        )
