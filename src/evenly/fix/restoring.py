"""Loading a repaired module: the geometry that its file names, on a network of its own class, and its weights."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from evenly.errors import (
    EvenlyError,
    FormatError,
    MissingDependencyError,
    UntrustedError,
    UsageError,
    WeightsError,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["KEY", "equal", "origin", "repaired", "restore", "restored"]

KEY = "evenly"
"""Of the metadata."""
_ORIGINS: WeakKeyDictionary[nn.Module, nn.Module] = WeakKeyDictionary()
"""Networks by what was restored of them."""
LARGEST = 2**22
"""Characters of it that are read; a thousand edited layers need some 200 KiB."""


def restore(module: nn.Module, path: str | os.PathLike[str], *example_inputs: Any) -> nn.Module:
    """Load what a repair of a module saved.

    The file is not trusted: nothing in it is executed, and nothing is made that is larger than what it holds.

    Args:
        module: The network that was repaired, freshly made or trained; it stays as it is.
        path: The ``.safetensors`` file.
        *example_inputs: Tensors as its ``forward`` takes them; needed only where a convolution was replaced whose pixel
            shuffle is no neighbour in an ``nn.Sequential``.

    Returns:
        A copy with the repaired layers and the file's weights, on the module's devices, in its mode.

    Raises:
        WeightsError: If the file and the module do not fit each other.
        FormatError: If it is no readable ``.safetensors`` file.
        UntrustedError: If it is another kind of file, which could execute code.
        UsageError: If the module cannot be copied.
        MissingDependencyError: If torch or safetensors is not installed.
    """
    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        raise UntrustedError(
            f"{path}: no .safetensors file; other formats can execute code. Repairs are saved by "
            "result.save('repaired.safetensors')"
        )
    if not path.is_file():
        raise WeightsError(f"{path}: not there; check the path")
    return restored(module, path, example_inputs or None)


def restored(module: nn.Module, path: Path, example: Any = None) -> nn.Module:
    """As :func:`restore`, whatever the file is called."""
    from evenly.fix._saved_geometry import changed, parsed
    from evenly.fix._torch_edits import copied

    text, tensors = _read(path)
    twin = copied(module)
    try:
        changes = None if text is None else parsed(text)
        if changes:
            shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            twin = changed(twin, changes, shapes, example)
            _ORIGINS[twin] = origin(module)
        _load(twin, tensors)
    except MissingDependencyError:
        raise
    except EvenlyError as error:
        raise WeightsError(
            f"{path} does not fit {type(module).__name__}: {error}; make the network as it was when it was repaired"
        ) from error
    return twin


def origin(module: nn.Module) -> nn.Module:
    """The network that a restored one was made from, else itself: repairs of repairs are saved as changes of that."""
    return _ORIGINS.get(module, module)


def repaired(path: Path) -> bool:
    """Whether a file holds a repair that changed the shape of layers, which :func:`restore` alone can load."""
    from evenly.fix._saved_geometry import parsed

    if path.suffix.lower() != ".safetensors" or not path.is_file():
        return False
    try:
        text = _read(path, values=False)[0]
        return text is not None and bool(parsed(text))
    except (FormatError, MissingDependencyError):
        return False
    except WeightsError:  # damaged changes are for restore to name
        return True


def _read(path: Path, *, values: bool = True) -> tuple[str | None, dict[str, Tensor]]:
    """What the metadata say of evenly, and all tensors; the reader checks the header against the file's size.

    Raises:
        FormatError: If it is no such file.
        WeightsError: If the metadata are longer than any that evenly writes.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise MissingDependencyError(
            f"{path}: needs safetensors; install it with pip install 'evenly[torch]'"
        ) from error
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
            names = list(file.keys()) if values else []
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError) as error:
        words = " ".join(str(error).split())[:200]
        raise FormatError(f"{path}: not a readable .safetensors file: {words}; save it again") from error
    if text is not None and len(text) > LARGEST:
        raise WeightsError(f"{path}: its metadata have {len(text)} characters; expected up to {LARGEST}; save it again")
    return text, tensors


def _load(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load every value, or say what does not fit."""
    import torch

    wanted = module.state_dict()
    parameters = dict(module.named_parameters(remove_duplicate=False))
    pairs = {name: (value, tensors[name]) for name, value in wanted.items() if name in tensors}
    strange = [name for name, value in wanted.items() if not isinstance(value, torch.Tensor)]
    _refuse(
        {
            "missing": [name for name in wanted if name not in tensors],
            "unexpected": [name for name in tensors if name not in wanted],
            "no tensors": strange,
        }
    )
    _refuse(
        {
            "of another shape": [
                f"{n} {tuple(new.shape)} for {tuple(old.shape)}"
                for n, (old, new) in pairs.items()
                if new.shape != old.shape
            ],
            "of another type": [
                f"{n} {new.dtype} for {old.dtype}" for n, (old, new) in pairs.items() if new.dtype != old.dtype
            ],
            "not finite": [n for n in pairs if n in parameters and not tensors[n].isfinite().all()],
        }
    )
    try:
        module.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:  # hooks of the user's decide as well
        raise UsageError(" ".join(str(error).split())[:300]) from error
    now = module.state_dict()
    _refuse(
        {
            "of other values than what they are tied to": [
                name for name, value in tensors.items() if not equal(now[name].cpu(), value)
            ]
        }
    )


def equal(a: Tensor, b: Tensor) -> bool:
    """Whether values of one type are the same, NaN included, which a buffer may hold."""
    same = a == b
    return bool((same | (a.isnan() & b.isnan()) if a.is_floating_point() else same).all())


def _refuse(problems: Mapping[str, Sequence[str]]) -> None:
    found = [
        f"{len(names)} {what} ({', '.join(names[:5])}{', ...' * (len(names) > 5)})"
        for what, names in problems.items()
        if names
    ]
    if found:
        raise UsageError("; ".join(found))
