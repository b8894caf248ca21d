"""A network to run and edit, from whatever a caller in Python has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evenly.errors import UsageError
from evenly.load import Declared, load_network, module_network

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evenly.fix.network import Network

__all__ = ["opened"]


def opened(
    model: Any,
    example_inputs: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None,
    input_shapes: Mapping[str, Sequence[int]],
    weights: str | os.PathLike[str] | None,
    seed: int,
    needed: bool,
    trust: bool | None = None,
) -> Network:
    """A file, a ``ModelProto`` or a module; arguments as those of :func:`evenly.attribute`."""
    named = isinstance(model, str | os.PathLike)
    proto = type(model).__module__.partition(".")[0] == "onnx"
    if (named or proto) and (example_inputs or kwargs):
        raise UsageError("example inputs are for an nn.Module; for a file or module:attribute give input_shapes")
    if not named and weights is not None:
        raise UsageError("weights is for module:attribute; load them into the module")
    if named:
        declared = [Declared(tuple(shape), name) for name, shape in input_shapes.items()]
        path = None if weights is None else Path(weights)
        return load_network(os.fspath(model), inputs=declared, weights=path, seed=seed, trust=trust)
    if proto:
        from evenly.fix.network import onnx_network

        return onnx_network(model, list(input_shapes.items()))
    if input_shapes:
        raise UsageError("input_shapes is for a file or module:attribute; give a module its tensors")
    return module_network(model, example_inputs, kwargs, needed=needed)
