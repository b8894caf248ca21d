"""``evenly check`` of a model that is being repaired."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evenly.check.engine import analyse
from evenly.check.result import Report
from evenly.errors import EvenlyError
from evenly.fix.backend import Backend

__all__ = ["checked", "shapes"]


def checked(backend: Backend, batch: Any) -> tuple[Report | None, str | None]:
    """What a check finds, with weights.

    Args:
        backend: The model.
        batch: An example of its inputs.

    Returns:
        The report; or nothing, and why.
    """
    try:
        if hasattr(backend.model, "forward"):
            from evenly.fix._sites import seen

            graph = seen(backend.model, batch).graph
        else:
            from evenly.fix.onnx_backend import OnnxBackend
            from evenly.graph.onnx import read_proto

            if not isinstance(backend, OnnxBackend):
                return None, f"evenly check reads torch modules and ONNX models, not {type(backend.model).__name__}"
            graph = read_proto(backend.model, backend.path, input_shapes=shapes(batch))
        return analyse(graph), None
    except EvenlyError as error:
        return None, f"evenly check cannot read the model: {error}"


def shapes(batch: Any) -> dict[str | int, tuple[int, ...]]:
    """Of a batch's inputs, by name or position."""
    if isinstance(batch, Mapping):
        return {str(name): value.shape for name, value in batch.items()}
    return {k: value.shape for k, value in enumerate(batch if isinstance(batch, tuple) else (batch,))}
