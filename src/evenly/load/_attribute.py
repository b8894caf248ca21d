"""``package.module:attribute``: the network that is named, made, with its weights, and an example of its inputs."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evenly.errors import InputShapeError, ModelError, UsageError
from evenly.load._declared import INPUT_FORM
from evenly.load._failing import line, needing
from evenly.load._weights import filled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from evenly.load._declared import Declared
    from evenly.load._request import Request

__all__ = ["examples_of", "made_network"]


def made_network(request: Request) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The network that is named, with its weights, and an example of its inputs."""
    module_name, _, attribute = request.target.partition(":")
    made, declared_by = _resolve(module_name, attribute)
    with needing("torch", request.target):
        from torch import nn
    examples = getattr(made, "example_inputs", None)
    network = _build(request.target, made, nn.Module)
    if request.inputs:
        args, kwargs = _arguments(request.target, network, request.inputs)
    else:
        examples = getattr(network, "example_inputs", None) if examples is None else examples
        args, kwargs = examples_of(request.target, declared_by, examples), {}
    if request.weights is not None and request.use_weights:
        network = filled(network, request.weights, args)
    return network, args, kwargs


def _resolve(module_name: str, attribute: str) -> tuple[Any, str]:
    """Import the module, with the working directory on the path as for ``python -m``, and look the attribute up."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        if absent is not None and (module_name == absent or module_name.startswith(f"{absent}.")):
            raise UsageError(
                f"module {module_name!r} is not there; expected one importable from {here} or installed in this Python"
            ) from error
        raise ModelError(f"importing {module_name!r} failed: {line(error)}; correct the module, then try again") from (
            error
        )
    for step in attribute.split("."):
        try:
            found = getattr(found, step)
        except AttributeError as error:
            names = sorted(n for n in vars(found) if not n.startswith("_")) if hasattr(found, "__dict__") else []
            some = ", ".join(names[:8]) or "nothing"
            raise UsageError(f"{module_name!r} has no {attribute!r}; it has {some}{', ...' * (len(names) > 8)}") from (
                error
            )
    return found, attribute


def _build(target: str, made: Any, module_class: type) -> Any:
    """An instance as it is; a class or a function called without arguments."""
    if isinstance(made, module_class):
        return made
    if not callable(made):
        raise UsageError(
            f"{target} is {type(made).__name__}; expected an nn.Module, a class or a function that makes one"
        )
    try:
        network = made()
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{target}() failed: {line(error)}; expected a class or function without required arguments that makes "
            "an nn.Module"
        ) from error
    if not isinstance(network, module_class):
        raise UsageError(f"{target}() returned {type(network).__name__}; expected an nn.Module")
    return network


def _arguments(target: str, network: nn.Module, inputs: Sequence[Declared]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Tensors for the declared inputs, matched to the parameters of ``forward``."""
    args = tuple(_tensor(d) for d in inputs if d.name is None)
    kwargs: dict[str, Any] = {}
    for declared in inputs:
        if declared.name is not None:
            if declared.name in kwargs:
                raise InputShapeError(f"--input {declared.name!r} is given twice; expected each input once")
            kwargs[declared.name] = _tensor(declared)
    signature = inspect.signature(network.forward)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise InputShapeError(
            f"--input does not fit {target}: {error}; its forward takes {signature}, declare one --input per tensor"
        ) from error
    return bound.args, dict(bound.kwargs)


def _tensor(declared: Declared) -> Tensor:
    """An example of the declared shape, all zeros: nothing reads its values, and untouched zeros take no memory."""
    import torch

    return torch.zeros(declared.shape, dtype=getattr(torch, declared.dtype or "float32"))


def examples_of(target: str, attribute: str, examples: Any) -> tuple[Any, ...]:
    """The ``example_inputs`` of a network, made if they are a function, as arguments."""
    import torch

    if callable(examples) and not isinstance(examples, torch.Tensor):
        try:
            examples = examples()
        except Exception as error:
            raise ModelError(f"{target}: example_inputs() failed: {line(error)}; give --input instead") from error
    if isinstance(examples, torch.Tensor):
        return (examples,)
    if isinstance(examples, tuple | list) and examples:
        return tuple(examples)
    if examples is None:
        raise InputShapeError(
            f"{target} needs example inputs; give --input {INPUT_FORM} (in Python: tensors after the model), or "
            f"{attribute}.example_inputs"
        )
    raise InputShapeError(
        f"{target}: example_inputs is {type(examples).__name__}; expected a tensor or a tuple of tensors"
    )
