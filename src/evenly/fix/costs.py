"""What a repaired model costs beside the original: size, multiply-adds, time."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from evenly.fix.backend import Backend
from evenly.fix.candidates import multiply_adds, recorded
from evenly.fix.result import Cost

__all__ = ["cost"]

_RUNS = 5


def cost(before: Backend, after: Backend, batch: Any) -> Cost:
    """Measure both, interleaved, on one batch."""
    sizes = [_size(backend) for backend in (before, after)]
    seconds: tuple[list[float], list[float]] = ([], [])
    for backend in (before, after):
        backend.run(batch)  # warm
    for _ in range(_RUNS):
        for taken, backend in zip(seconds, (before, after), strict=True):
            begin = time.perf_counter()
            backend.run(batch)
            taken.append(time.perf_counter() - begin)
    work = [_work(backend, batch) for backend in (before, after)]
    return Cost(
        (sizes[0][0], sizes[1][0]),
        (sizes[0][1], sizes[1][1]),
        (median(seconds[0]), median(seconds[1])),
        None if work[0] is None or work[1] is None else (work[0], work[1]),
    )


def _size(backend: Backend) -> tuple[int, int]:
    """Numbers of parameters, and their bytes."""
    model = backend.model
    if hasattr(model, "parameters"):
        found = list(model.parameters())
        return sum(p.numel() for p in found), sum(p.numel() * p.element_size() for p in found)
    from onnx import helper

    total = size = 0
    for tensor in model.graph.initializer:
        count = 1
        for n in tensor.dims:
            count *= n
        total += count
        size += count * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return total, size


def _work(backend: Backend, batch: Any) -> int | None:
    """Multiply-adds of the layers; ``None`` if some cannot be counted."""
    run = recorded(backend, batch)
    layers = backend.layers()
    if any(layer.name not in run.results for layer in layers):
        return None
    return sum(multiply_adds(x, run.inputs[x.name].shape, run.results[x.name].shape) for x in layers)
