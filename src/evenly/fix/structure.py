"""Repairs of a network's structure: layers that make checkerboards give their places to layers that cannot.

Four ways, and one for borders; each keeps the sizes of every output for every size of the input:

* ``resize``: a transposed convolution becomes the resize-convolution nearest to it (:func:`evenly.nn.unfold`);
* ``subpixel``: a transposed convolution, or a convolution and the pixel shuffle behind it, becomes the sub-pixel
  convolution of equal phase gains nearest to it;
* ``antialias``: a strided convolution or a pool is filtered before it drops samples; the weights stay;
* ``fold``: interpolation and convolution become one transposed convolution, the same function;
* ``pad``: a convolution that pads with zeros repeats the edge instead; the weights stay.

All but ``fold`` change the function: fine-tune, with the optimizer that was given along.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer

from evenly.check.engine import analyse
from evenly.check.result import Report
from evenly.errors import UsageError
from evenly.fix._optimizers import moved
from evenly.fix._sites import Network, seen
from evenly.fix._swapping import Copy
from evenly.fix._torch_edits import copied
from evenly.fix.changes import LayerChange, Method, Step, cures, findings, told, wanted_methods
from evenly.fix.planning import plan

__all__ = ["plan", "replaced"]

_Task = LayerChange | tuple[str, Method]
"""A refusal, or a module and how it is to be replaced."""


def replaced(
    module: nn.Module,
    methods: Method | Sequence[Method] | Mapping[str, Method] | Sequence[Step],
    *,
    layers: Literal["auto"] | Report | Sequence[str] = "auto",
    example: Any = None,
    optimizer: Optimizer | None = None,
) -> tuple[nn.Module, tuple[LayerChange, ...]]:
    """A copy of a network with some of its layers replaced.

    Sizes of outputs are equal for every size of the input that the network takes; a convolution that pads by reflection
    or circularly needs, with its filter, an input longer than that. A new layer stands under the name of the old one,
    and under all its names where it had several; with a crop or a pool it is an ``nn.Sequential``. Parameters that
    mean the same stay (all of ``antialias`` and ``pad``, the bias of ``resize`` and ``fold``); computed ones
    (``weight_norm``, ``spectral_norm``, pruning) stay so with the former and become plain with the latter, which the
    change notes.

    Args:
        module: The network, which is not changed.
        methods: What may be done: a layer is replaced by the first that is for it. Or what is to be done, and
            ``layers`` is left out: methods by the names of modules, or the steps of a plan (those above ``info``).
        layers: ``"auto"``: those that a check of the example has findings about, above ``info``; a report, likewise; or
            names of modules. With ``fold``, which cures no finding, ``"auto"`` is everything that folds.
        example: Inputs as the network takes them: a tensor, a sequence of arguments, or a mapping of arguments by name;
            only their shapes and types matter. ``"auto"`` needs it. With it, layers whose weights a function uses and
            layers that are called with ``output_size`` are known and refused, and convolutions are found whose pixel
            shuffle is not their neighbour in an ``nn.Sequential``.
        optimizer: Of the network: from now on it drives the copy. Its groups are changed in place: new parameters stand
            in the groups of the old ones, whose state is dropped; state of all others is kept.

    Returns:
        The copy, and for every layer what was done, or why nothing was; no layer in question is left out. What a check
        finds and no method here is for (un-pooling, patches, unknown operators) is in :func:`plan`.

    Raises:
        UsageError: If a method or a module does not exist, ``"auto"`` has no example, or the network cannot be copied.
        ModelError: If the network cannot be read with the example.
    """
    network = Network(module, None if example is None else seen(module, example))
    steps = told(methods)
    wanted = wanted_methods(methods if steps is None else [method for _, method in steps])
    if steps is not None:
        tasks: list[_Task] = [(_known(network, name), method) for name, method in steps]
        folds: Sequence[str] | None = [name for name, method in steps if method == "fold"]
    elif isinstance(layers, str | Report):
        tasks, folds = list(_found(network, layers, wanted)), None
    else:
        tasks = [task for name in layers for task in _named(network, _known(network, name), wanted)]
        folds = list(layers)
    twin = Copy(network, copied(module))
    changes = twin.fold(folds, steps is not None or set(wanted) == {"fold"}) if "fold" in wanted else []
    for task in sorted(dict.fromkeys(tasks), key=_last):
        if isinstance(task, LayerChange):
            changes.append(task)
        elif task[1] != "fold":
            changes.append(twin.change(*task))
    if optimizer is not None:
        moved(optimizer, twin.kept, twin.replaced, twin.module)
    return twin.module, tuple(changes)


def _last(task: _Task) -> int:
    """Borders come first, so that a filter repeats the edge as well."""
    return int(isinstance(task, LayerChange) or task[1] != "pad")


def _known(network: Network, name: str) -> str:
    """The module of a name; of a pixel shuffle's, the convolution before it."""
    if name not in network.modules and name not in network.fed:
        listed = ", ".join(repr(n) for n in list(network.modules)[:20])
        raise UsageError(f"{type(network.module).__name__} has no module {name!r}; its modules are {listed}")
    return network.fed[name][0] if name in network.fed else name


def _named(network: Network, name: str, wanted: Sequence[Method]) -> Iterator[_Task]:
    """What is done with a module that was named: the first method that is for it."""
    others = [method for method in wanted if method != "fold"]
    fitting = [method for method in others if network.obstacle(name, method) is None]
    if fitting or others:
        yield name, (fitting or others)[0]


def _found(network: Network, layers: str | Report, wanted: Sequence[Method]) -> Iterator[_Task]:
    """What is done about the findings of a check."""
    if isinstance(layers, str):
        if layers != "auto":
            raise UsageError(
                f"layers (={layers!r}) must be 'auto', a report or names; give [{layers!r}] for one module"
            )
        if set(wanted) == {"fold"}:
            return
        if network.seen is None:
            raise UsageError("layers='auto' checks the network, which needs example inputs; give example or a report")
        layers = analyse(network.seen.graph)
    for finding, op in findings(layers):
        if finding.severity == "info":
            continue
        allowed = cures(finding.code, op)
        method = next((m for m in wanted if m in allowed), None)
        if method is None:
            continue
        try:
            yield network.target(finding.layer, op), method
        except UsageError as error:
            yield LayerChange(finding.layer, method, op, None, note=str(error))
