"""The weights of a file in a freshly made module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evenly.errors import FormatError, MissingDependencyError, UntrustedError, WeightsError
from evenly.load._failing import line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from torch import nn

__all__ = ["filled"]


def filled(network: nn.Module, path: Path, example: tuple[Any, ...]) -> nn.Module:
    """The network with the weights of a file, and with the layers that a repair gave another shape."""
    from evenly.fix.restoring import repaired, restore

    if repaired(path):
        return restore(network, path, *example)
    _fill(network, path)
    return network


def _fill(network: nn.Module, path: Path) -> None:
    """Load a ``.safetensors`` file into a module, every key and shape exactly."""
    if path.suffix.lower() != ".safetensors":
        raise UntrustedError(
            f"--weights (={str(path)!r}) is no .safetensors file; other formats can execute code. Save it with "
            "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        )
    if not path.is_file():
        raise WeightsError(f"--weights (={str(path)!r}) is not there; check the path")
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingDependencyError(
            f"{path}: needs safetensors; install it with pip install 'evenly[torch]'"
        ) from error
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise FormatError(f"{path}: not a readable .safetensors file: {line(error)}; save it again") from error
    wanted = network.state_dict()
    problems = [
        *_listed("missing", [k for k in wanted if k not in tensors]),
        *_listed("unexpected", [k for k in tensors if k not in wanted]),
        *_listed(
            "of another shape",
            [
                f"{k} {tuple(tensors[k].shape)} for {tuple(wanted[k].shape)}"
                for k in wanted
                if k in tensors and tensors[k].shape != wanted[k].shape
            ],
        ),
        *_listed("not finite", [k for k, t in tensors.items() if t.is_floating_point() and not t.isfinite().all()]),
    ]
    if problems:
        raise WeightsError(f"{path} does not fit {type(network).__name__}: {'; '.join(problems)}; use its own weights")
    network.load_state_dict(tensors, strict=True)


def _listed(what: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    return [f"{len(names)} {what} ({', '.join(names[:5])}{', ...' * (len(names) > 5)})"]
