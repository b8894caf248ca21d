"""Which modules of a network a finding is about, and what stands in the way of replacing them.

A network may be seen at work: it is then exported on an example, as a check does, so that calls are known that a module
tree does not show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.utils import _pytree as pytree

from evenly.errors import UsageError
from evenly.fix._replacing_down import CONVOLUTIONS, POOLS
from evenly.fix._replacing_up import TRANSPOSED
from evenly.fix._torch_layers import _is_quantised, _no_numbers, shared_parameters
from evenly.fix._torch_shuffles import Shuffle, _behind, neighbours
from evenly.fix.changes import Method
from evenly.graph import ir
from evenly.graph.torch import read_module

__all__ = ["Network", "Seen", "seen"]

SHUFFLES = (nn.PixelShuffle,)


@dataclass(frozen=True)
class Seen:
    """A network at work.

    Attributes:
        graph: As a check reads it.
        calls: How often every module is called, by its name.
        sized: Modules that are called with ``output_size``.
        shuffles: By the name of a pixel shuffle, the convolution that it alone reads.
    """

    graph: ir.Graph
    calls: Mapping[str, int]
    sized: frozenset[str]
    shuffles: Mapping[str, tuple[str, Shuffle]]


def seen(module: nn.Module, example: Any) -> Seen:
    """Export a network on an example, whose values do not matter, and count the calls of its modules.

    Args:
        module: The network, which stays as it is.
        example: A tensor or array, a sequence of arguments, or a mapping of arguments by name.

    Raises:
        ModelError: If it cannot be read.
    """
    calls: Counter[str] = Counter()
    sized: set[str] = set()
    handles = []

    def watch(name: str, layer: nn.Module) -> None:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls[name] += 1
            if isinstance(layer, TRANSPOSED) and (len(args) > 1 or kwargs.get("output_size") is not None):
                sized.add(name)

        handles.append(layer.register_forward_pre_hook(hook, with_kwargs=True))

    named: Mapping[str, Any] = example if isinstance(example, Mapping) else {}
    args: Any = () if named else tuple(example) if isinstance(example, list | tuple) else (example,)
    args, kwargs = pytree.tree_map_only(np.ndarray, torch.from_numpy, (args, dict(named)))
    try:
        for name, layer in module.named_modules():
            if not isinstance(layer, torch.jit.ScriptModule):
                watch(name, layer)
        graph = read_module(module, args, kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return Seen(graph, dict(calls), frozenset(sized), _fed(graph))


def _fed(graph: ir.Graph) -> dict[str, tuple[str, Shuffle]]:
    readers: dict[int, list[int]] = {}
    for index, node in enumerate(graph.nodes):
        for source in node.inputs:
            readers.setdefault(source, []).append(index)
    found = {}
    for index, node in enumerate(graph.nodes):
        if isinstance(node.op, ir.Conv) and node.op.weight is not None and set(node.op.stride) == {1}:
            shuffle = _behind(graph, index, node.op, readers)
            if shuffle is not None:
                while not isinstance(graph.nodes[index].op, ir.PixelShuffle):
                    (index,) = readers[index]
                conv = node.op.weight.name.partition(".parametrizations.")[0].removesuffix("weight").removesuffix(".")
                found[graph.nodes[index].name] = (conv, shuffle)
    return found


@dataclass
class Network:
    """The modules of a network, by name, and who uses them.

    Args:
        module: The network.
        seen: It at work, if it was seen.
    """

    module: nn.Module
    seen: Seen | None = None
    modules: dict[str, nn.Module] = field(init=False)
    places: dict[nn.Module, list[str]] = field(init=False)
    shared: Mapping[str, str] = field(init=False)
    fed: dict[str, tuple[str, Shuffle, bool]] = field(init=False)

    def __post_init__(self) -> None:
        self.modules = dict(self.module.named_modules(remove_duplicate=False))
        self.places = {}
        for name, layer in self.modules.items():
            self.places.setdefault(layer, []).append(name)
        self.shared = shared_parameters(self.module)
        self.fed = self._fed()

    def _fed(self) -> dict[str, tuple[str, Shuffle, bool]]:
        """By a pixel shuffle's name: its convolution, what it does, and whether one layer may do the work of both."""
        convs = neighbours(self.module)
        found = {}
        for name, layer in self.modules.items():
            if isinstance(layer, nn.Sequential):
                for (first, conv), (second, shuffle) in pairwise(layer._modules.items()):
                    if conv is None or shuffle is None or not isinstance(shuffle, SHUFFLES):
                        continue
                    before = self.places[conv][0]
                    if before in convs:
                        alone = len(self.places[conv]) == len(self.places[shuffle]) == 1
                        alone &= type(layer).forward is nn.Sequential.forward
                        # whoever looks between them goes on doing so
                        alone &= not (conv._forward_hooks or shuffle._forward_hooks or shuffle._forward_pre_hooks)
                        path = f"{name}." if name else ""
                        found[path + second] = (path + first, convs[before], alone)
        for named, (feeding, what) in (self.seen.shuffles if self.seen else {}).items():
            found.setdefault(named, (feeding, what, False))
        return found

    # ---- from findings to modules ------------------------------------------------------------------------------------

    def target(self, layer: str, op: str) -> str:
        """The module that does the operation which a check calls by this name.

        Raises:
            UsageError: If none does, with the reason.
        """
        fed = self.fed.get(layer)
        if fed is not None:
            return fed[0]
        name, _, label = layer.partition("#")[0].partition(":")
        module = self.modules.get(name)
        if module is not None and not label and (replaceable(module) or isinstance(module, SHUFFLES)):
            return name
        if module is None and replaceable(self.module):  # the network is the layer
            return ""
        raise UsageError(
            f"no layer of PyTorch's does it: the forward of {type(module or self.module).__name__} calls a function "
            f"({op}); call a layer there, which can be replaced"
        )

    def shuffle_of(self, conv: str) -> str | None:
        """The pixel shuffle behind a convolution."""
        return next((name for name, (feeding, _, _) in self.fed.items() if feeding == conv), None)

    def device(self, name: str) -> torch.device | None:
        """Where a module without parameters works: where the last parameter before it lies, or the first one does."""
        order = list(self.modules)
        place = order.index(name)
        for other in [*reversed(order[:place]), *order[place:]]:
            for parameter in self.modules[other]._parameters.values():
                if parameter is not None:
                    return parameter.device
        return None

    # ---- obstacles ---------------------------------------------------------------------------------------------------

    def obstacle(self, name: str, method: Method) -> str | None:
        """Why a module cannot be replaced by a method, as far as its surroundings say."""
        module = self.modules[name]
        found = _unfit(module, method)
        if found is None and isinstance(module, _ConvNd):
            found = _no_numbers(module)
        if found is None and method == "subpixel" and isinstance(module, CONVOLUTIONS) and not self.shuffle_of(name):
            found = "no pixel shuffle is known to read it alone"
        tied = self.shared.get(name)
        if found is None and tied is not None and method in ("resize", "subpixel", "fold"):
            found = f"it shares parameters with {tied!r}, which would no longer be the same; untie them first"
        return found or self._calls(name)

    def _calls(self, name: str) -> str | None:
        if self.seen is None:
            return None
        places = self.places[self.modules[name]]
        if not any(self.seen.calls.get(place) for place in places):
            return "the network never calls it; a function uses its weight, or nothing does: replace it by hand"
        if self.seen.sized & set(places):
            return "it is called with output_size, which no other layer takes; set output_padding instead"
        return None


def _unfit(module: nn.Module, method: Method) -> str | None:
    """Whether a module is of a kind that the method is not for."""
    kind = type(module).__name__
    if _is_quantised(module):
        return f"its weights are quantised ({type(module).__module__}); replace it before the network is quantised"
    if isinstance(module, SHUFFLES):
        return "what it reads comes not from a convolution alone; resize and convolve in its place by hand"
    fits = {
        "resize": TRANSPOSED,
        "subpixel": (*TRANSPOSED, *CONVOLUTIONS),
        "antialias": (*CONVOLUTIONS, *POOLS),
        "pad": CONVOLUTIONS,
    }
    if method in fits and not isinstance(module, fits[method]):
        return f"{method} is not for {kind}"
    return None


def replaceable(module: nn.Module | None) -> bool:
    """Whether it is a layer of a kind that some method replaces."""
    return isinstance(module, (_ConvNd, *POOLS)) or (module is not None and _is_quantised(module))
