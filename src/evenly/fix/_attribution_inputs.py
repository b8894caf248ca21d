"""What a model is run on to find guilty layers, where nobody gives inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from evenly.errors import UsageError

__all__ = ["random_inputs"]

SIGNALS = 16
"""At least so many are made, if nobody says."""
_MOST_COLOURS = 4


def random_inputs(
    example: Sequence[Any], seed: int, constants: bool, signals: int = SIGNALS
) -> tuple[list[tuple[Any, ...]], str]:
    """Batches of the example's shapes.

    Floating inputs are standard normal, others stay as in the example. With `constants`, if the only input looks like
    an image or signal ``(N, C, *sizes)`` with up to 4 channels, every second batch is of constants, one random colour
    per signal (standard normal): constants have no lines of their own. At least `signals` are made.

    Returns:
        The batches as numpy arrays, and what they are in words.

    Raises:
        UsageError: If no input is floating.
    """
    values = [_array(value) for value in example]
    floating = [k for k, value in enumerate(values) if isinstance(value, np.ndarray) and value.dtype.kind == "f"]
    if not floating:
        raise UsageError("no example input is an array of floats; pass inputs=... with batches to run the model on")
    rng = np.random.default_rng(seed)
    first = values[floating[0]]
    plain = constants and len(values) == 1 and 3 <= first.ndim <= 5 and first.shape[1] <= _MOST_COLOURS
    count = -(-signals // max(1, first.shape[0] if first.ndim else 1))
    count += count % 2 if plain else 0
    batches = []
    for number in range(max(count, 2 if plain else 1)):
        drawn = list(values)
        for k in floating:
            shape = values[k].shape
            colours = plain and number % 2 == 1
            noise = rng.standard_normal((*shape[:2], *(1,) * (len(shape) - 2)) if colours else shape)
            drawn[k] = np.ascontiguousarray(np.broadcast_to(noise, shape), values[k].dtype)
        batches.append(tuple(drawn))
    kinds = "half standard normal noise, half constants of random colour" if plain else "standard normal noise"
    return batches, f"random, seed {seed}: {kinds}"


def _array(value: Any) -> Any:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        return (value if str(value.dtype) in _SHARED or not value.is_floating_point() else value.float()).numpy()
    return value


_SHARED = ("torch.float16", "torch.float32", "torch.float64")
