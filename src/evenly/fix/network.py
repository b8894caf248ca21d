"""A model together with what it takes, so that commands can run it on the user's data or on random signals."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evenly.errors import InputShapeError, UsageError
from evenly.fix._attribution_inputs import SIGNALS, random_inputs
from evenly.fix.data import Data, InputSpec

__all__ = ["Network", "onnx_network", "torch_network"]

SIZES = (64, 128, 256, 224, 32, 512, 1024)
"""Sizes that are tried where an ONNX file leaves them open and nobody says."""
BATCH = 8
"""Signals per batch where an ONNX file leaves it open."""
_MOST_ELEMENTS = 2**22


@dataclass(frozen=True, eq=False)
class Network:
    """A model that can be run.

    Attributes:
        model: An ``nn.Module``, or an :class:`evenly.fix.onnx_backend.OnnxBackend`.
        name: For people.
        inputs: The inputs that take arrays, in order.
        example: All arguments by name, in order: arrays or tensors of the inputs, other values as they are; empty where
            sizes are open.
        keywords: Whether arguments have to be given by name.
        notes: What to know of how it was opened.
    """

    model: Any
    name: str
    inputs: tuple[InputSpec, ...]
    example: Mapping[str, Any]
    keywords: bool = False
    notes: tuple[str, ...] = ()

    @property
    def differentiable(self) -> bool:
        """Whether gradients can be had."""
        return hasattr(self.model, "forward")

    def batches(self, data: Data) -> list[Any]:
        """Loaded batches as the model takes them."""
        names = [spec.name for spec in self.inputs]
        filled = ({**self.example, **dict(zip(names, batch, strict=True))} for batch in data.batches)
        return [batch if self.keywords else tuple(batch.values()) for batch in filled]

    def random(self, seed: int, constants: bool, signals: int = SIGNALS) -> tuple[list[Any], str]:
        """Random signals, at least so many, see :func:`evenly.fix.attribution.attribute`; what they are in words.

        Raises:
            InputShapeError: If sizes are open and none of the usual ones fits.
            UsageError: If no input is floating.
        """
        example = self.example or _guessed(self.model, self.name, self.inputs)
        made, words = random_inputs(list(example.values()), seed, constants, signals)
        return [dict(zip(example, batch, strict=True)) if self.keywords else batch for batch in made], words


def torch_network(
    module: Any,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    notes: tuple[str, ...] = (),
    exact: bool = False,
) -> Network:
    """A module with an example of its arguments.

    Args:
        module: An ``nn.Module``.
        args: Example inputs; their sizes are those that pictures are cropped to.
        kwargs: Keyword inputs; with any, all are given by name.
        name: For people; by default the module's class.
        notes: What to know of how it was opened.
        exact: Whether it takes these sizes only, as exported programs do.

    Raises:
        UsageError: If arguments have to be given by name and ``forward`` has no names for them.
    """
    from torch import Tensor

    keywords = bool(kwargs)
    found = inspect.signature(module.forward).parameters.values()
    named = [p.name for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if keywords and len(named) < len(args):
        raise UsageError(f"{type(module).__name__}.forward has no names for its {len(args)} inputs; give it some")
    names = [*named, *(f"input_{k}" for k in range(len(named), len(args)))][: len(args)]
    example = {**dict(zip(names, args, strict=True)), **(kwargs or {})}
    inputs = tuple(
        InputSpec(key, tuple(value.shape), str(value.dtype).removeprefix("torch."), exact)
        for key, value in example.items()
        if isinstance(value, Tensor)
    )
    return Network(module, name or type(module).__name__, inputs, example, keywords, notes)


def onnx_network(
    source: str | os.PathLike[str] | Any, shapes: Sequence[tuple[str | None, Sequence[int]]] = ()
) -> Network:
    """An ONNX model, with sizes for what it leaves open.

    Args:
        source: Path, or a ``ModelProto``.
        shapes: Tensor shapes by the inputs' names; under ``None`` those of the others, in order.

    Raises:
        FormatError: If it is no ONNX model.
        InputShapeError: If a shape does not fit.
    """
    from evenly.fix._onnx_session import declared_inputs
    from evenly.fix.onnx_backend import OnnxBackend
    from evenly.graph.onnx.files import numpy_dtype

    backend = OnnxBackend(source)
    declared = declared_inputs(backend.model)
    name = Path(source).name if isinstance(source, str | os.PathLike) else type(backend.model).__name__
    given = _assigned(name, [d.name for d in declared], shapes)
    specs = [
        InputSpec(
            entry.name,
            _bound(entry.name, entry.dims, given.get(entry.name)),
            numpy_dtype(entry.code).name,
        )
        for entry in declared
    ]
    return Network(backend, name, tuple(specs), _zeros(specs) or {})


def _assigned(
    model: str, names: Sequence[str], shapes: Sequence[tuple[str | None, Sequence[int]]]
) -> dict[str, Sequence[int]]:
    """Shapes by input."""
    given = {name: shape for name, shape in shapes if name is not None}
    unnamed = [shape for name, shape in shapes if name is None]
    free = [name for name in names if name not in given]
    if not set(given) <= set(names) or len(given) + len(unnamed) != len(shapes) or len(unnamed) > len(free):
        wanted = ", ".join("a shape" if name is None else name for name, _ in shapes)
        raise InputShapeError(f"--input names {wanted}; the inputs of {model} are {', '.join(names)}, each once")
    return {**given, **dict(zip(free, unnamed, strict=False))}


def _bound(name: str, dims: Sequence[Any] | None, wanted: Sequence[int] | None) -> tuple[int | None, ...]:
    """The shape that an input must have. How many signals a batch has, if that is open, is for the data to say."""
    own = tuple(d if isinstance(d, int) else None for d in dims or ())
    if wanted is None:
        return own
    if dims is None:
        return (None, *wanted[1:])
    if len(own) != len(wanted) or not all(n is None or n == m for n, m in zip(own, wanted, strict=True)):
        shown = ["?" if n is None else n for n in own]
        raise InputShapeError(f"--input {name!r} has the shape {list(wanted)}; the file takes {shown}")
    return (own[0], *wanted[1:]) if own else ()


def _zeros(specs: Sequence[InputSpec], size: int | None = None) -> dict[str, Any] | None:
    """An example, with this size where one is open; ``None`` if one is open and there is no size."""
    found = {}
    for spec in specs:
        filled = [n if n is not None else BATCH if k == 0 and size else size for k, n in enumerate(spec.shape)]
        if None in filled:
            return None
        shape = [int(n) for n in filled if n is not None]
        if np.prod(shape, dtype=float) > _MOST_ELEMENTS and size is not None:
            return None
        dtype = "float32" if spec.dtype == "bfloat16" else spec.dtype
        found[spec.name] = np.zeros(shape, dtype)
    return found


def _guessed(backend: Any, name: str, specs: Sequence[InputSpec]) -> dict[str, Any]:
    """An example with the first usual size on which the model runs."""
    first: UsageError | None = None
    for size in SIZES:
        example = _zeros(specs, size)
        if example is None:
            continue
        try:
            backend.run(tuple(example.values()))
        except UsageError as error:
            first = first or error
            continue
        return example
    shapes = "; ".join(f"{s.name} {['?' if n is None else n for n in s.shape]}" for s in specs)
    raise InputShapeError(
        f"{name} leaves sizes open ({shapes}) and runs on none of the usual ones ({first}); give --input NAME=N,C,H,W"
    )
