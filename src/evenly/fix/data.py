"""What a model is run on: the user's pictures, recordings or arrays, as batches of its inputs.

Pictures and recordings are cropped to their centre and never resized: that would change the lines that are looked for.
Nothing that could execute code is read (no pickles), nothing is read that the header does not account for, and whatever
is left out is listed with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenly.errors import TooLargeError, UsageError
from evenly.fix._data_arrays import MOST_BYTES, Wanted, read_arrays
from evenly.fix._data_files import read_files
from evenly.measure.result import Failure

__all__ = ["Data", "InputSpec", "load_batches", "load_reference"]

Array = NDArray[Any]


@dataclass(frozen=True)
class InputSpec:
    """One input of a model.

    Attributes:
        name: Its name.
        shape: ``(N, C, *sizes)``; ``None`` where the model takes any size.
        dtype: As numpy and PyTorch call it; ``bfloat16`` is loaded as ``float32``.
        exact: Whether these sizes are the model's own. Otherwise they are those of an example: pictures are cropped to
            them, and arrays may have others.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"
    exact: bool = True

    @property
    def floating(self) -> bool:
        """Whether it takes numbers that are not whole."""
        return "float" in self.dtype

    def bound(self) -> tuple[int | None, ...]:
        """The shape that an array must have; the number of channels always counts."""
        return self.shape if self.exact else tuple(n if k == 1 else None for k, n in enumerate(self.shape))


@dataclass(frozen=True, eq=False)
class Data:
    """Batches of signals.

    Attributes:
        batches: Each has one array per input, in the order of the inputs, ``(N, C, *sizes)``, in the input's type.
        words: What they are, for people.
        signals: How many, all batches together.
        left_out: Files that are not among them, and why.
    """

    batches: tuple[tuple[Array, ...], ...]
    words: str
    signals: int
    left_out: tuple[Failure, ...] = ()

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The first input of every batch."""
        return tuple(batch[0] for batch in self.batches)


def load_batches(
    source: str | os.PathLike[str],
    inputs: Sequence[InputSpec],
    *,
    batch: int = 8,
    limit: int = 64,
    values: tuple[float, float] = (0.0, 1.0),
) -> Data:
    """Batches for a model from what the user names.

    Args:
        source: A file ``.npy`` with one array ``(N, C, *sizes)``; ``.npz`` with an array per input, by the inputs'
            names; or, for a model with one input of one or two axes, recordings or pictures in any form that
            :func:`evenly.measure.sources.find_sources` takes: a folder, a pattern, a shard, a file.
        inputs: The model's inputs.
        batch: Signals per batch, where the model does not say; the last one may have fewer.
        limit: Most signals; of more, the first ones in the order of their names count.
        values: What black and white become, for pictures and for arrays of ``uint8`` and ``uint16``. Floats in
            arrays stay as they are, recordings have the full scale 1.

    Returns:
        The batches, all of one size.

    Raises:
        UsageError: If the source is not there, does not fit the inputs, or nothing in it can be used.
        UnreadableError: If an array is damaged or no array of numbers.
        TooLargeError: If arrays have more than a gigabyte.
        MissingDependencyError: If the extra that reads pictures or recordings is not installed.
    """
    if batch < 1 or limit < 1:
        raise UsageError(f"batch (={batch}) and limit (={limit}) must be 1 or more")
    if not inputs:
        raise UsageError("the model has no inputs; there is nothing to load")
    if not values[0] < values[1]:
        raise UsageError(f"the range (={values[0]:g},{values[1]:g}) must be black and white, black below, e.g. 0,1")
    path = Path(source)
    if path.suffix.lower() in (".npy", ".npz") and not path.is_dir():
        wanted = [Wanted(i.name, i.bound(), _numpy_type(i), i.floating) for i in inputs]
        arrays, words = read_arrays(path, wanted, limit, values)
        return _batched(arrays, inputs, batch, words, ())
    shape = _only(inputs).shape
    found = read_files(os.fspath(source), shape[1], shape[2:], limit, values)
    signals = np.stack(found.signals).astype(_numpy_type(inputs[0]), copy=False)
    return _batched({inputs[0].name: signals}, inputs, batch, found.words, found.left_out)


def load_reference(
    source: str | os.PathLike[str],
    sizes: Sequence[int | None],
    channels: int,
    *,
    batch: int = 8,
    limit: int = 64,
    values: tuple[float, float] = (0.0, 1.0),
) -> Data:
    """Real signals to compare a model's output with: their lines are what its output should have.

    Args:
        source: As in :func:`load_batches`.
        sizes: Of the output; ``None`` where any will do.
        channels: Of the output.
        batch: Signals per batch.
        limit: Most signals.
        values: What black and white become.

    Returns:
        Batches of one array each, ``(N, channels, *sizes)``, float32; see :attr:`Data.arrays`.

    Raises:
        EvenlyError: As :func:`load_batches`.
    """
    spec = InputSpec("reference", (None, channels, *sizes))
    return load_batches(source, [spec], batch=batch, limit=limit, values=values)


def _numpy_type(spec: InputSpec) -> np.dtype[Any]:
    return np.dtype("float32" if spec.dtype == "bfloat16" else spec.dtype)


def _only(inputs: Sequence[InputSpec]) -> InputSpec:
    """The input that files are for."""
    if len(inputs) > 1:
        raise UsageError(
            f"the model has {len(inputs)} inputs ({', '.join(i.name for i in inputs)}); expected a .npz file with an "
            "array for each, by name"
        )
    spec = inputs[0]
    if not spec.floating or len(spec.shape) not in (3, 4):
        shape = "x".join("?" if n is None else str(n) for n in spec.shape)
        raise UsageError(
            f"pictures and recordings are for a floating input (N, C, H, W) or (N, C, samples); {spec.name} is "
            f"{spec.dtype} {shape}: give a .npy or .npz file"
        )
    return spec


def _batched(
    arrays: Mapping[str, Array], inputs: Sequence[InputSpec], batch: int, words: str, left_out: tuple[Failure, ...]
) -> Data:
    """Cut into batches of the size that the model takes."""
    fixed = {i.shape[0] for i in inputs if i.exact and i.shape and i.shape[0] is not None}
    if len(fixed) > 1:
        raise UsageError(f"the inputs take batches of different sizes ({sorted(map(str, fixed))}): export them as one")
    size = fixed.pop() if fixed else None
    count = max((len(arrays[i.name]) for i in inputs if i.shape), default=1)
    used = count if size is None else count // size * size
    if not used:
        raise UsageError(f"{words}: {count}, but the model takes batches of {size}; give that many")
    if sum(array.nbytes for array in arrays.values()) > MOST_BYTES:
        raise TooLargeError(f"{words}: more than {MOST_BYTES >> 20} MiB of signals; give fewer or smaller ones")
    step = batch if size is None else size
    batches = tuple(
        tuple(arrays[i.name][start : min(start + step, used)] if i.shape else arrays[i.name] for i in inputs)
        for start in range(0, used, step)
    )
    if used < count:
        words += f", the last {count - used} left out: batches have {size}"
    return Data(batches, words, used, left_out)
