"""Saving repaired models: whole or not at all, and proved before they take their place.

An ONNX model is written as ONNX (:mod:`evenly.fix.onnx_backend`). Of a module the state dict is written as
``.safetensors``: it holds numbers only, so that loading it executes nothing. Where a repair changed the shape of a
layer, its geometry stands in the file's metadata, and :func:`evenly.fix.restoring.restore` makes it again from the
network's own class. Equal models give equal bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evenly import __version__
from evenly.errors import EvenlyError, MissingDependencyError, OutputError, UsageError, VerificationError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from evenly.fix.backend import Run
    from evenly.fix.result import FixResult

__all__ = ["ROUNDING", "check_suffix", "save"]

ROUNDING = 1e-5
"""Difference of two runs of one model, relative to the largest output; layouts in memory differ."""


def save(result: FixResult, path: str | os.PathLike[str]) -> None:
    """Write a repaired model.

    Args:
        result: What :func:`evenly.fix` returned.
        path: ``.onnx`` for an ONNX model; ``.safetensors`` for the weights of a module, which
            :func:`evenly.fix.restore` loads, and any loader if no layer has another shape than before.

    Raises:
        OutputError: If it cannot be written; what was there before stays.
        VerificationError: If what was written, read again, does not give what the model gives; what was there before
            stays.
        UsageError: If the suffix is of another kind of model.
    """
    from evenly.fix.onnx_backend import OnnxBackend

    final = Path(path)
    onnx = isinstance(result.backend, OnnxBackend)
    check_suffix(final, onnx=onnx)
    if isinstance(result.backend, OnnxBackend):
        result.backend.save(final, result.example)
    else:
        _save_module(result, final)


def check_suffix(path: Path, *, onnx: bool) -> None:
    """Refuse a file name that says another format than what is written.

    Raises:
        UsageError: If it does.
    """
    wanted, words = (".onnx", "an ONNX model is") if onnx else (".safetensors", "the weights of a module are")
    if path.suffix.lower() != wanted:
        raise UsageError(f"{path}: {words} written as {wanted}; give a path that ends so")


def _save_module(result: FixResult, path: Path) -> None:
    from evenly.fix._saved_geometry import differences
    from evenly.fix.restoring import KEY

    if result.original is None or result.example is None:
        raise UsageError(f"{path}: the result holds no original and no example; save what evenly.fix returned")
    try:
        changes = differences(result.original, result.model, result.example)
    except EvenlyError as error:
        raise VerificationError(f"{path}: not written: its changes could not be repeated: {error}") from error
    tensors = _stored(result.model, path)
    with staged(path) as temporary:
        _write(tensors, temporary, {KEY: changes.to_json(__version__)})
        _verify(result, tensors, temporary, path)


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A temporary file beside a place, which takes the place in the end, or is gone.

    Raises:
        OutputError: If it cannot be written.
    """
    final = path.resolve()  # a link stays a link
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        try:
            with temporary.open("xb") as file:
                mode = os.fstat(file.fileno()).st_mode & 0o777
            yield temporary
            temporary.chmod(mode)  # safetensors makes files that only their owner reads
            temporary.replace(final)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}; choose another path") from error


def _stored(module: nn.Module, path: Path) -> dict[str, Tensor]:
    """The state dict as a file can hold it: contiguous, on the CPU, every name with values of its own.

    Raises:
        OutputError: If something in it is no plain tensor.
    """
    import torch

    found: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, value in module.state_dict().items():
        plain = isinstance(value, torch.Tensor) and value.layout is torch.strided and not value.is_quantized
        if not plain or value.is_meta:
            kind = "without values" if plain else "no plain tensor"
            raise OutputError(
                f"{path}: cannot be written: {name} ({type(value).__name__}) is {kind}; take it off first"
            )
        tensor = value.detach().resolve_conj().resolve_neg().cpu().contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in storages or storage.nbytes() != tensor.nbytes:  # tied, or a part of another one
            tensor = tensor.clone()
        storages.add(tensor.untyped_storage().data_ptr())
        found[name] = tensor
    return found


def _write(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """One key of metadata only: the order of several is not the same in every run."""
    try:
        from safetensors import SafetensorError
        from safetensors.torch import save_file
    except ImportError as error:
        raise MissingDependencyError(
            f"{path}: needs safetensors; install it with pip install 'evenly[torch]'"
        ) from error
    try:
        save_file(dict(tensors), path, metadata=dict(metadata))
    except (SafetensorError, ValueError, KeyError) as error:
        raise OSError(str(error)) from error


def _verify(result: FixResult, tensors: Mapping[str, Tensor], written: Path, path: Path) -> None:
    """Load what was written into the original network and compare: every value, and the outputs on a batch.

    Raises:
        VerificationError: If something differs.
    """
    from evenly.fix.restoring import equal, restored
    from evenly.fix.torch_backend import TorchBackend

    try:
        module = restored(result.original, written, result.example)
        expected, found = result.backend.run(result.example), TorchBackend(module).run(result.example)
    except EvenlyError as error:
        raise VerificationError(f"{path}: not written: what was written cannot be read again: {error}") from error
    again = module.state_dict()
    other = [f"its {name}" for name, value in tensors.items() if not equal(again[name].cpu(), value)]
    other += [f"its output {n!r}" for n in {**expected.outputs, **found.outputs} if not _same(n, expected, found)]
    if other:
        raise VerificationError(f"{path}: not written: {other[0]} is not that of the repaired model; report this model")


def _same(name: str, expected: Run, found: Run) -> bool:
    if name not in expected.outputs or name not in found.outputs:
        return False
    a, b = expected.outputs[name], found.outputs[name]
    if a.shape != b.shape:
        return False
    largest = float(np.abs(a[np.isfinite(a)]).max(initial=0))
    return bool(np.allclose(a, b, rtol=0, atol=ROUNDING * largest, equal_nan=True))
