"""Arrays from ``.npy`` and ``.npz`` files: checked by their headers before anything is allocated, never unpickled."""

from __future__ import annotations

import io
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from evenly.errors import EvenlyError, TooLargeError, UnreadableError, UsageError

__all__ = ["MOST_BYTES", "Wanted", "read_arrays"]

Array = NDArray[Any]

MOST_BYTES = 2**30
"""Bytes of signals that are read at most."""
_SCALED = (np.dtype(np.uint8), np.dtype(np.uint16))
_LONGEST_HEADER = 10_000


@dataclass(frozen=True)
class Wanted:
    """An input: its name, its shape (``None``: any size), its type, and whether that is a floating one."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    floating: bool

    def __str__(self) -> str:
        names = {3: "NCL", 4: "NCHW", 5: "NCDHW"}.get(len(self.shape), "N" + "?" * (len(self.shape) - 1))
        shown = ", ".join(name if n is None else str(n) for n, name in zip(self.shape, names, strict=True))
        return f"({shown}) for the input {self.name!r}"


def read_arrays(
    path: Path, wanted: Sequence[Wanted], limit: int, values: tuple[float, float]
) -> tuple[dict[str, Array], str]:
    """The inputs' arrays from a file, up to `limit` signals.

    Returns:
        Arrays by the inputs' names, in the inputs' types, and what they are in words.

    Raises:
        UsageError: If the file is not there or its arrays do not fit.
        UnreadableError: If it is damaged, or holds Python objects.
        TooLargeError: If its arrays have more than a gigabyte.
    """
    with _one_error(path), _opened(path) as file:
        zipped = path.suffix.lower() == ".npz"
        found = _zipped(file, path, wanted) if zipped else {_single(path, wanted).name: _array(file, path, None, limit)}
    for w in wanted:
        _check_shape(path, w, found[w.name])
    counts = {w.name: len(found[w.name]) for w in wanted if w.shape}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise UsageError(f"{path}: its arrays hold different numbers of signals ({listed}); expected one number")
    read = {w.name: _fitting(path, w, found[w.name][:limit] if w.shape else found[w.name], values) for w in wanted}
    count = min(limit, *counts.values()) if counts else 1
    return read, f"{count} signals from {path.name}"


@contextmanager
def _one_error(path: Path) -> Iterator[None]:
    """Whatever a damaged file makes readers raise becomes one line."""
    try:
        yield
    except EvenlyError:
        raise
    except FileNotFoundError as error:
        raise UsageError(f"{path}: not there; check the path") from error
    except MemoryError as error:
        raise TooLargeError(f"{path}: does not fit in memory; give fewer signals") from error
    except (OSError, ValueError, EOFError, SyntaxError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UnreadableError(
            f"{path}: cannot be read as a file of arrays ({reason}); save it again with numpy.save or numpy.savez"
        ) from error
    except RuntimeError as error:  # zipfile: encrypted
        raise UnreadableError(f"{path}: {error}; save it again with numpy.savez") from error


def _opened(path: Path) -> BinaryIO:
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would block, a device never end
        raise UnreadableError(f"{path}: no regular file; expected a .npy or .npz file")
    return path.open("rb")


def _single(path: Path, wanted: Sequence[Wanted]) -> Wanted:
    if len(wanted) > 1:
        raise UsageError(
            f"{path}: one array, but the model has the inputs {', '.join(w.name for w in wanted)}; give a .npz file "
            "with an array for each, by name"
        )
    return wanted[0]


def _zipped(file: BinaryIO, path: Path, wanted: Sequence[Wanted]) -> Mapping[str, Array]:
    with zipfile.ZipFile(file) as archive:
        entries = {i.filename.removesuffix(".npy"): i for i in archive.infolist() if i.filename.endswith(".npy")}
        names = [w.name for w in wanted]
        if len(wanted) == 1 and len(entries) == 1:
            entries = {names[0]: next(iter(entries.values()))}
        if set(entries) != set(names):
            raise UsageError(
                f"{path}: holds the arrays {_some(entries)}; expected the inputs of the model by name: {_some(names)}"
            )
        total = sum(info.file_size for info in entries.values())
        if total > MOST_BYTES:
            raise TooLargeError(f"{path}: {total} bytes of arrays; at most {MOST_BYTES} are read: give fewer signals")
        found = {}
        for name, info in entries.items():
            with archive.open(info) as entry:
                found[name] = _array(io.BytesIO(entry.read()), path, name, None)
        return found


def _some(names: Sequence[str] | Mapping[str, Any]) -> str:
    listed = list(names)
    return ", ".join(listed[:8]) + (", ..." if len(listed) > 8 else "") if listed else "none"


def _array(file: BinaryIO, path: Path, name: str | None, limit: int | None) -> Array:
    """An array, of the first `limit` signals where its layout in the file allows to stop there."""
    label = f"{path}" if name is None else f"{path}: {name}"
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(file, max_header_size=_LONGEST_HEADER)
    if dtype.hasobject:
        raise UnreadableError(f"{label}: holds Python objects, and reading these can execute code; save plain numbers")
    if dtype.kind not in "buif":
        raise UnreadableError(f"{label}: an array of type {dtype}; expected integers or floats")
    start = file.tell()
    there, needed = file.seek(0, 2) - start, prod(shape) * dtype.itemsize
    file.seek(start)
    if there < needed or any(n < 0 for n in shape):
        raise UnreadableError(
            f"{label}: an array of shape {shape} has {needed} bytes, {there} are there; copy it again"
        )
    if limit is not None and shape and not fortran and shape[0] > limit:
        shape = (limit, *shape[1:])
        needed = prod(shape) * dtype.itemsize
    if needed > MOST_BYTES:
        raise TooLargeError(f"{label}: {needed} bytes of signals; at most {MOST_BYTES} are read: give fewer signals")
    flat = np.frombuffer(file.read(needed), dtype)
    array = flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
    return np.asarray(array, dtype.newbyteorder("="))


def _check_shape(path: Path, wanted: Wanted, array: Array) -> None:
    fits = array.ndim == len(wanted.shape)
    fits &= all(n is None or k == 0 or n == m for k, (n, m) in enumerate(zip(wanted.shape, array.shape, strict=False)))
    if not fits or not array.size:
        last = wanted.shape[1] if len(wanted.shape) > 2 else None
        turned = array.ndim == len(wanted.shape) and last is not None and array.shape[-1] == last
        hint = "; the channels come second: numpy.moveaxis(array, -1, 1)" if turned else ""
        raise UsageError(f"{path}: an array of shape {array.shape}; expected {wanted}{hint}")


def _fitting(path: Path, wanted: Wanted, array: Array, values: tuple[float, float]) -> Array:
    """The array in the input's type, if it is of its kind."""
    if not wanted.floating:
        if array.dtype.kind not in {"b": "b", "i": "iu", "u": "iu"}.get(wanted.dtype.kind, wanted.dtype.kind):
            raise UsageError(f"{path}: an array of {array.dtype}; the input {wanted.name!r} takes {wanted.dtype}")
        return array.astype(wanted.dtype)
    if array.dtype in _SCALED:
        low, high = values
        return (low + (high - low) * (array / np.iinfo(array.dtype).max)).astype(wanted.dtype)
    if array.dtype.kind != "f":
        raise UsageError(
            f"{path}: an array of {array.dtype} for the floating input {wanted.name!r}; expected floats, or uint8 or "
            "uint16 as pictures have"
        )
    with np.errstate(over="ignore"):
        cast = array.astype(wanted.dtype)
    if not np.isfinite(cast).all():
        raise UsageError(f"{path}: values that are NaN or infinite in {wanted.dtype}; replace them first")
    return cast
