"""What is named, or held in Python, as a graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evenly.errors import UsageError
from evenly.load._attribute import examples_of, made_network
from evenly.load._failing import needing
from evenly.load._files import FILES
from evenly.load._request import Loaded, Request, expect_attribute, expect_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn
    from torch.export import ExportedProgram

    from evenly.load._declared import Declared

__all__ = ["load_module", "load_object", "load_target"]


def load_target(
    target: str,
    *,
    inputs: Sequence[Declared] = (),
    weights: Path | None = None,
    use_weights: bool = True,
    trust: bool = False,
    training: bool = False,
) -> Loaded:
    """Read what the user names.

    Args:
        target: A ``.onnx`` or ``.pt2`` file, or ``package.module:attribute``.
        inputs: Declared inputs; a module without ``example_inputs`` needs them.
        weights: A ``.safetensors`` file for a freshly made module.
        use_weights: Whether the values of weights count.
        trust: Whether a ``.pt2`` file may be loaded although its loader can execute code.
        training: Whether to read in training mode.

    Raises:
        UsageError: If the target is nothing of this kind, or an option does not fit it.
        ModelError: If it cannot be read.
        WeightsError: If the weights do not fit.
        MissingDependencyError: If torch or onnx is needed and not installed.
    """
    request = Request(target, tuple(inputs), weights, use_weights, trust, training)
    loader = FILES.get(Path(target).suffix.lower())
    if loader is not None:
        expect_file(request)
        return loader(request)
    expect_attribute(target)
    return _module_attribute(request)


def _module_attribute(request: Request) -> Loaded:
    network, args, kwargs = made_network(request)
    fresh = request.use_weights and request.weights is None
    return load_module(
        network,
        args,
        kwargs,
        weights="none" if fresh else "actual" if request.use_weights else "ignored",
        training=request.training,
        source=request.target,
    )


def load_object(
    model: nn.Module | ExportedProgram,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    use_weights: bool = True,
    training: bool = False,
) -> Loaded:
    """Read what a caller in Python holds; its weights count.

    Args:
        model: An ``nn.Module``, or the result of ``torch.export.export``.
        args: Example inputs of a module.
        kwargs: Keyword inputs of a module.
        use_weights: Whether the values of weights count.
        training: Whether to read in training mode.

    Raises:
        UsageError: If it is neither, or inputs are missing or given needlessly.
        ModelError: If it cannot be read.
        MissingDependencyError: If torch is not installed.
    """
    with needing("torch", type(model).__name__):
        import torch
    weights: Literal["actual", "ignored"] = "actual" if use_weights else "ignored"
    if isinstance(model, torch.nn.Module):
        if not args and not kwargs:
            kept = getattr(model, "example_inputs", None)
            args = examples_of(type(model).__qualname__, type(model).__qualname__, kept)
        return load_module(model, args, kwargs, weights=weights, training=training)
    if isinstance(model, torch.export.ExportedProgram):
        if args or kwargs:
            raise UsageError("example inputs are for an nn.Module; an exported program has its own")
        from evenly.graph.torch import read_program

        return Loaded(read_program(model, use_weights=use_weights, training=training), weights)
    raise UsageError(
        f"model is {type(model).__name__}; expected an nn.Module, an exported program, a path or "
        "'package.module:attribute'"
    )


def load_module(
    network: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    weights: Literal["actual", "ignored", "none"],
    training: bool = False,
    source: str | None = None,
) -> Loaded:
    """Read an ``nn.Module`` through ``torch.export``.

    Args:
        network: The module; it is left as it was.
        args: Example inputs; their values do not matter.
        kwargs: Keyword inputs.
        weights: ``"actual"`` to use the module's values.
        training: Whether to read in training mode.
        source: What to call it in the report; by default its class.

    Raises:
        ModelError: If it cannot be read.
        MissingDependencyError: If torch is not installed.
    """
    with needing("torch", source or type(network).__name__):
        from evenly.graph.torch import read_module
    graph = read_module(
        network,
        args,
        dict(kwargs or {}),
        use_weights=weights == "actual",
        training=training,
        source=source or type(network).__qualname__,
    )
    return Loaded(graph, weights)
