"""One layer of a copied network at a time: make the new one, put it in its place, say what was done."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from evenly.errors import EvenlyError, UsageError
from evenly.fix._optimizers import Parameters, parameters
from evenly.fix._replacing import Made, described, taken_over
from evenly.fix._replacing_down import antialiased, edge_padded
from evenly.fix._replacing_up import TRANSPOSED, resized, shuffled, subpixeled
from evenly.fix._sites import Network
from evenly.fix._torch_edits import _plain, _replaced
from evenly.fix._torch_layers import _how
from evenly.fix.changes import LayerChange, Method
from evenly.nn.convert import _Candidate, _candidates, _folded, _reason, _recipe

__all__ = ["Copy", "made"]


def made(network: Network, name: str, layer: nn.Module, method: Method) -> Made:
    """The layer that takes another one's place; neither that nor its parameters are changed.

    Args:
        network: As it was.
        name: The layer's.
        layer: It, or what has taken its place already.
        method: How it is replaced.

    Raises:
        EvenlyError: If it cannot be.
    """
    obstacle = network.obstacle(name, method)
    if obstacle:
        raise UsageError(obstacle)
    keeps = method in ("antialias", "pad")
    work = _working(layer, shares=keeps or (method == "resize" and not _computed(layer)))
    if method == "pad":
        return edge_padded(work)
    if not keeps and _computed(layer):
        _plain(work)
    hooks = _taken_hooks(work)
    new = _convert(network, name, work, method)
    if next(layer.parameters(), None) is None:
        new.layer.to(network.device(name))
    vars(new.layer).update(hooks)
    return new


def _convert(network: Network, name: str, work: nn.Module, method: Method) -> Made:
    if method == "resize":
        return resized(work)
    if method == "antialias":
        return antialiased(work)
    if isinstance(work, TRANSPOSED):
        return subpixeled(work)
    _, shuffle, alone = network.fed[network.shuffle_of(name) or ""]
    return shuffled(work, shuffle, alone)


def _computed(layer: nn.Module) -> list[str]:
    """What computes its weight and its bias."""
    if not hasattr(layer, "weight"):
        return []
    return [f"its {name} becomes a plain parameter ({how})" for name in ("weight", "bias") for how in _how(layer, name)]


def _working(layer: nn.Module, shares: bool) -> Any:
    """A copy to work on; with the layer's very parameters, or with copies."""
    memo: dict[int, Any] = {id(p): p for p in layer.parameters()} if shares else {}
    for value in vars(layer).values():  # what a hook has computed; it cannot be copied and is computed again
        if isinstance(value, Tensor) and not value.is_leaf:
            memo[id(value)] = value.detach().clone()
    return copy.deepcopy(layer, memo)


def _taken_hooks(layer: nn.Module) -> dict[str, Any]:
    """Take the hooks of a layer off."""
    kinds = ("_forward_", "_backward_")
    found = {name: hooks for name, hooks in vars(layer).items() if name.startswith(kinds) and hooks}
    for name, hooks in found.items():
        vars(layer)[name] = type(hooks)()
    if vars(layer).get("_is_full_backward_hook") is not None:
        found["_is_full_backward_hook"] = vars(layer)["_is_full_backward_hook"]
    return found


class Copy:
    """A copy of a network whose layers are replaced one by one.

    Args:
        network: The network as it was.
        twin: A copy of its module.
    """

    def __init__(self, network: Network, twin: nn.Module) -> None:
        self.network, self.module = network, twin
        names = dict(twin.named_parameters(remove_duplicate=False))
        old = network.module.named_parameters(remove_duplicate=False)
        self.kept = {id(parameter): names[name] for name, parameter in old}
        self.replaced: list[tuple[Parameters, Parameters]] = []

    def change(self, name: str, method: Method) -> LayerChange:
        """Replace a module, in all its places; or say why not."""
        layer = self.module.get_submodule(name)
        before = described(layer)
        try:
            new = made(self.network, name, layer, method)
        except EvenlyError as error:
            return LayerChange(name, method, before, None, note=str(error))
        notes = [] if method in ("antialias", "pad") else _computed(layer)
        notes += [new.note] if new.note else []
        places = [place for place in self.network.places[self.network.modules[name]] if place != name]
        notes += [f"it stands at {', '.join(places)} as well"] if places else []
        self.replaced.append((parameters(layer), parameters(new.layer)))
        self.module = _replaced(self.module, layer, new.layer)
        if new.shuffles:
            shuffle = self.module.get_submodule(self.network.shuffle_of(name) or "")
            before += f" + {described(shuffle)}"
            self.module = _replaced(self.module, shuffle, nn.Identity().train(shuffle.training))
        return LayerChange(name, method, before, described(new.layer), new.fit_error, "; ".join(notes) or None)

    # ---- fold --------------------------------------------------------------------------------------------------------

    def fold(self, names: Sequence[str] | None, insist: bool) -> list[LayerChange]:
        """Fold all interpolations with the convolutions behind them, or those that are named.

        Args:
            names: Of interpolations, of the convolutions behind them, or of resize-convolutions.
            insist: Whether nothing else is done with what was named, so that others are refused.
        """
        changes = []
        left = dict.fromkeys(names or ())
        for candidate in list(_candidates(self.module)):
            known = {candidate.name, _last(candidate)}
            if names is None or known & set(names):
                changes.append(self._fold(candidate))
                left = {name: None for name in left if name not in known}
        for name in left if insist else ():
            what = described(self.module.get_submodule(name))
            changes.append(LayerChange(name, "fold", what, None, note="it is no interpolation before a convolution"))
        return changes

    def _fold(self, candidate: _Candidate) -> LayerChange:
        before = " + ".join(described(member) for member in candidate.members)
        conv = candidate.members[-1]
        reason = _reason(candidate, "exact") or self._in_use(candidate)
        if reason:
            return LayerChange(candidate.name, "fold", before, None, note=reason)
        new = _folded(_recipe(candidate))
        taken_over(new, conv, ("bias",))
        self.replaced.append((parameters(conv), parameters(new)))
        if candidate.parent is None:
            self.module = new
        else:
            slots = candidate.parent._modules
            for key, member in zip(candidate.keys[:-1], candidate.members, strict=False):
                slots[key] = nn.Identity().train(member.training)
            slots[candidate.keys[-1]] = new
        return LayerChange(candidate.name, "fold", before, described(new), 0.0, "; ".join(_computed(conv)) or None)

    def _in_use(self, candidate: _Candidate) -> str | None:
        """Whether something else uses the layers too."""
        name = _last(candidate)
        if name in self.network.shared:
            return f"it shares parameters with {self.network.shared[name]!r}, which would no longer be the same"
        places = self.network.places[self.network.modules[name]]
        if len(places) > 1:
            return f"its convolution stands in several places ({', '.join(places)}), which fold apart only"
        return None


def _last(candidate: _Candidate) -> str:
    """The name of the convolution."""
    if not candidate.keys:
        return candidate.name
    return ".".join([*candidate.name.split(".")[:-1], candidate.keys[-1]])
