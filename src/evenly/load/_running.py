"""What is named, or held in Python, as a network to run and edit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evenly.errors import ModelError, UsageError
from evenly.load._attribute import examples_of, made_network
from evenly.load._failing import expect_scipy, needing
from evenly.load._files import FILES, trusted_program
from evenly.load._request import Request, expect_attribute, expect_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evenly.fix.network import Network
    from evenly.load._declared import Declared

__all__ = ["load_network", "module_network"]


def load_network(
    target: str,
    *,
    inputs: Sequence[Declared] = (),
    weights: Path | None = None,
    seed: int | None = None,
    trust: bool | None = None,
) -> Network:
    """What the user names, to be run and edited rather than read.

    Args:
        target: A ``.onnx`` or ``.pt2`` file, or ``package.module:attribute``.
        inputs: Declared inputs; a module without ``example_inputs`` needs them.
        weights: A ``.safetensors`` file for a freshly made module.
        seed: Of weights that are drawn when the module is made; by default they are as it makes them.
        trust: Whether a ``.pt2`` file may be loaded although its loader can execute code; ``None``: none is taken.

    Raises:
        EvenlyError: As :func:`load_target`.
    """
    expect_scipy(target)
    request = Request(target, tuple(inputs), weights, True, bool(trust), False)
    suffix = Path(target).suffix.lower()
    if suffix == ".onnx":
        expect_file(request)
        return _onnx_to_run(request)
    if suffix == ".pt2":
        expect_file(request)
        if trust is None:
            raise UsageError(
                f"{target}: a .pt2 file holds operations, not the layers that could be written back; give "
                "package.module:attribute, or export it to ONNX (torch.onnx.export(program, f='model.onnx'))"
            )
        return _program_to_run(request)
    if suffix in FILES:
        FILES[suffix](request)  # says why not
    expect_attribute(target)
    with needing("torch", target):
        import torch
    from evenly.fix.network import torch_network

    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        if seed is not None:
            torch.manual_seed(seed)
        made = made_network(request)
    note = f"weights as {target} makes them; --weights FILE.safetensors loads others"
    return torch_network(*made, name=target, notes=() if weights is not None else (note,))


def _program_to_run(request: Request) -> Network:
    program = trusted_program(request)
    from evenly.fix._program_layers import with_layers
    from evenly.fix.network import torch_network

    args, kwargs = program.example_inputs or ((), {})
    if not args and not kwargs:
        raise ModelError(f"{request.target}: was saved without example inputs; export and save it again")
    return torch_network(with_layers(program), args, kwargs, name=request.target, exact=True)


def _onnx_to_run(request: Request) -> Network:
    with needing("onnx", request.target):
        from evenly.fix.network import onnx_network

        return onnx_network(request.target, [(d.name, d.shape) for d in request.inputs])


def module_network(
    model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None, *, needed: bool = True
) -> Network:
    """A module that a caller in Python holds, to be run and edited.

    Args:
        model: The module.
        args: Example inputs; by default the module's attribute ``example_inputs``.
        kwargs: Keyword inputs.
        needed: Whether there has to be an example.

    Raises:
        UsageError: If it is no module, or inputs are missing.
        MissingDependencyError: If torch is not installed.
    """
    expect_scipy(type(model).__name__)
    with needing("torch", type(model).__name__):
        from torch import nn
    from evenly.fix.network import torch_network

    name = type(model).__qualname__
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"model is {name}; expected an nn.Module, a ModelProto, the path of a .onnx file or "
            "'package.module:attribute'"
        )
    kept = getattr(model, "example_inputs", None)
    if not args and not kwargs and (needed or kept is not None):
        args = examples_of(name, name, kept)
    return torch_network(model, args, kwargs)
