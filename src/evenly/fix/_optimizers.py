"""An optimizer that goes on with another network: the copy, some of whose layers were replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

__all__ = ["Parameters", "moved", "parameters"]

Parameters = Mapping[str, tuple[nn.Parameter, ...]]
"""Of a layer, by what they are for: ``weight``, ``bias``, or another name."""


def parameters(layer: nn.Module) -> Parameters:
    """The parameters of a layer by role: what a weight is computed from has the role of the weight."""
    found: dict[str, list[nn.Parameter]] = {}
    for name, parameter in layer.named_parameters():
        role = next((r for r in ("weight", "bias") if r in name), name)
        found.setdefault(role, []).append(parameter)
    return {role: tuple(each) for role, each in found.items()}


def moved(
    optimizer: Optimizer,
    kept: Mapping[int, nn.Parameter],
    replaced: Sequence[tuple[Parameters, Parameters]],
    new: nn.Module,
) -> None:
    """Let an optimizer drive the new network: its groups are changed in place.

    A parameter of a replaced layer gives its place in its group to the parameters of the same role in the layer that
    took over; its state is dropped. State of all others goes on with their copies. Parameters that are not of this
    network stay.

    Args:
        optimizer: Of the old network.
        kept: By ``id``, the copy of each parameter of the network as it was.
        replaced: Parameters of the layers that were replaced, in the copy, and of those that took their places.
        new: The new network.
    """
    heirs: dict[int, tuple[nn.Parameter, ...]] = {}
    for before, after in replaced:
        for role, each in before.items():
            for parameter in each:
                heirs[id(parameter)] = after.get(role, ())
    alive = {id(p) for p in new.parameters()}
    names = {id(p): name for name, p in new.named_parameters()}
    state: dict[Tensor, Any] = {}
    taken: set[int] = set()
    changed = False
    for group in optimizer.param_groups:
        found: list[tuple[Any, str]] = []
        labels = group.get("param_names") or [""] * len(group["params"])
        for parameter, label in zip(group["params"], labels, strict=True):
            twin = kept.get(id(parameter), parameter)
            stays = twin is parameter or id(twin) in alive
            changed |= not stays
            if stays and parameter in optimizer.state:
                state[twin] = optimizer.state[parameter]
            for ours in (twin,) if stays else heirs.get(id(twin), ()):
                if id(ours) not in taken:
                    taken.add(id(ours))
                    found.append((ours, names.get(id(ours), label)))
        group["params"][:] = [parameter for parameter, _ in found]
        if "param_names" in group:
            group["param_names"][:] = [name for _, name in found]
    optimizer.state.clear()
    optimizer.state.update(state)
    if changed and hasattr(optimizer, "_numel_cache"):  # LBFGS keeps one history for all of them together
        optimizer.state.clear()
        optimizer._numel_cache = None
