"""``evenly.attribute`` as people call it from Python."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evenly.api._opening import opened
from evenly.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from evenly.fix.attributed import Attribution
    from evenly.fix.network import Network

__all__ = ["attribute", "attribute_network"]


def attribute(
    model: Any,
    *example_inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    weights: str | os.PathLike[str] | None = None,
    inputs: Iterable[Any] | str | os.PathLike[str] | None = None,
    values: tuple[float, float] = (0.0, 1.0),
    limit: int = 64,
    periods: Iterable[int] | None = None,
    output: str | None = None,
    backward: bool = False,
    seed: int = 0,
    trust: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Attribution:
    """Name the layers that make the lines in a model's output, or in the gradient of its input.

    The network is run: as it is, with each layer in question made even alone, and with all of them made even. Layers
    rank by how far they make the lines fall; see :mod:`evenly.fix.attribution` for what *even* means.

    Args:
        model: An ``nn.Module``, a ``ModelProto``, the path of a ``.onnx`` or ``.pt2`` file, or
            ``"package.module:attribute"``. It stays as it is.
        *example_inputs: Tensors ``(N, C, *spatial)`` as ``model.forward`` takes them, for a module without an attribute
            ``example_inputs``. Random signals, and crops of pictures, have their shapes.
        kwargs: Keyword inputs of ``model.forward``.
        input_shapes: For a file, a ``ModelProto`` or ``"module:attribute"``, tensor shape per input name, where sizes
            are open.
        weights: A ``.safetensors`` file for ``"module:attribute"``.
        inputs: What to run it on: batches (arrays, sequences of arguments or mappings by name), or the path of a
            folder of pictures or recordings or of a ``.npy`` or ``.npz`` file, see
            :func:`evenly.fix.data.load_batches`; by default random signals.
        values: What black and white of pictures become.
        limit: Most signals that are read from a path.
        periods: Of the lines, in samples of the output (of the input, backward); by default 2, 3, 4, 5, 6, 8 and 16, as
            far as the sizes allow.
        output: Name of the output that is explained (derived, backward), if there are several.
        backward: Explain the lines of the squared gradient by the input instead; torch only.
        seed: Of random inputs, of what is derived, and of the weights that ``"module:attribute"`` draws.
        trust: Whether a ``.pt2`` file may be loaded although its loader can execute code.
        progress: Told after each run how many are done, and of how many.

    Returns:
        The attribution: ``present``, ``lines``, ``ranking()``, ``layers``; print it.

    Raises:
        UsageError: If an argument does not fit the model, or there is nothing to explain.
        EvenlyError: If the model or the inputs cannot be read.
        MissingDependencyError: If torch, onnx or onnxruntime is needed and not installed.
    """
    given = inputs is not None and not isinstance(inputs, str | os.PathLike)
    network = opened(model, example_inputs, kwargs, input_shapes or {}, weights, seed, needed=not given, trust=trust)
    return attribute_network(
        network,
        inputs,
        values=values,
        limit=limit,
        periods=None if periods is None else tuple(periods),
        output=output,
        backward=backward,
        seed=seed,
        progress=progress,
    )


def attribute_network(
    network: Network,
    source: Iterable[Any] | str | os.PathLike[str] | None,
    *,
    values: tuple[float, float],
    limit: int,
    periods: Sequence[int] | None,
    output: str | None,
    backward: bool,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> Attribution:
    """Run an opened network on what the user names; arguments as those of :func:`attribute`."""
    from evenly.fix import attribution
    from evenly.fix.data import load_batches

    if backward and not network.differentiable:
        raise UsageError(f"{network.name}: gradients are had from torch only; give a module, or leave backward out")
    notes = network.notes
    if source is None:
        batches, words = network.random(seed, constants=not backward)
    elif isinstance(source, str | os.PathLike):
        data = load_batches(source, network.inputs, limit=limit, values=values)
        batches, words = network.batches(data), data.words
        notes += tuple(f"left out: {failure.path}: {failure.reason}" for failure in data.left_out)
    else:
        batches, words = list(source), "as given"
    found = attribution.attribute(
        network.model,
        inputs=batches,
        periods=periods,
        output=output,
        backward=backward,
        seed=seed,
        progress=progress,
    )
    return replace(found, model=network.name, inputs=words, notes=notes)
