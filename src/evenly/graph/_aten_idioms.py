"""Operations that PyTorch programs spell out in several operators: normalisations and pointwise functions.

Recognised on the exported graph before it is translated. A group of operators stands for one operation if nothing
outside the group reads what is inside. Pointwise functions are recognised by their values, not by their spelling.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch.fx import Node

from evenly.errors import EvenlyError
from evenly.graph._export import changes, name_of
from evenly.theory.activations import ACTIVATIONS

if TYPE_CHECKING:
    from torch.fx import GraphModule

__all__ = ["Idiom", "recognise"]


@dataclass(frozen=True, eq=False)
class Idiom:
    """Operators that are one operation.

    Attributes:
        tail: The last of them.
        inner: The others.
        source: What they read.
        kind: ``"layer"``, ``"rms"``, ``"l2"``, or ``"pointwise"``.
        dims: Of a normalisation.
        eps: Of a normalisation.
        function: Name of a pointwise function.
        parameters: Of the function.
    """

    tail: Node
    inner: tuple[Node, ...]
    source: Node
    kind: Literal["layer", "rms", "l2", "pointwise"]
    dims: tuple[int, ...] = ()
    eps: float = 0.0
    function: str = ""
    parameters: tuple[float, ...] = ()


def recognise(module: GraphModule) -> dict[Node, Idiom]:
    """The idioms of a graph by their last operator; a later one never reads the inside of an earlier one."""
    if any(n.op == "call_function" and changes(n) and name_of(n) not in _ELEMENTWISE for n in module.graph.nodes):
        return {}
    place = {node: i for i, node in enumerate(module.graph.nodes)}
    found: dict[Node, Idiom] = {}
    taken: set[Node] = set()
    for node in reversed(module.graph.nodes):
        if node.op != "call_function" or node in taken or changes(node):
            continue
        idiom = _normalisation(node, place) or _function(node, place)
        if idiom is not None and not taken & {idiom.tail, *idiom.inner}:
            found[node] = idiom
            taken.update((idiom.tail, *idiom.inner))
    return found


def _closed(tail: Node, inner: set[Node]) -> bool:
    """Whether nothing outside reads the inside, and nothing inside is written to."""
    group = {tail, *inner}
    return all(set(n.users) <= group and not changes(n) for n in inner)


# ------------------------------------------------------------------------------------------------------ normalisations

_VIEWS = ("expand_as", "expand", "broadcast_to", "to", "type_as", "_to_copy")


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _is(node: Any, *names: str) -> bool:
    return getattr(node, "op", None) == "call_function" and name_of(node) in names


def _bare(node: Any, inner: set[Node]) -> Any:
    """What a tensor is before it was broadcast."""
    while _is(node, *_VIEWS):
        inner.add(node)
        node = node.args[0]
    return node


def _arg(node: Node, place: int, name: str, default: Any = None) -> Any:
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def _over(node: Node) -> tuple[int, ...] | None:
    """Dimensions of a reduction that keeps them."""
    keep = _arg(node, 2, "keepdim", False) if name_of(node) != "linalg_vector_norm" else _arg(node, 3, "keepdim", False)
    if name_of(node) in ("var", "norm"):
        overload = str(getattr(node.target, "_overloadname", ""))
        keep = node.kwargs.get("keepdim", _arg(node, 3, "keepdim", False) if overload != "correction" else False)
    dims = _arg(node, 2, "dim") if name_of(node) in ("linalg_vector_norm", "norm") else _arg(node, 1, "dim")
    if not keep or dims is None:
        return None
    listed = dims if isinstance(dims, list | tuple) else [dims]
    rank = len(node.meta["val"].shape)
    return tuple(sorted(int(d) % rank for d in listed))


def _mean(node: Any, inner: set[Node]) -> tuple[Any, tuple[int, ...]] | None:
    """``mean(y)`` over dimensions that stay: ``y`` and the dimensions."""
    node = _bare(node, inner)
    if not _is(node, "mean"):
        return None
    dims = _over(node)
    if dims is None:
        return None
    inner.add(node)
    return node.args[0], dims


def _square_of(node: Any, inner: set[Node]) -> Any:
    if _is(node, "pow") and _number(node.args[1]) == 2.0:
        inner.add(node)
        return node.args[0]
    if _is(node, "square") or (_is(node, "mul") and node.args[0] is node.args[1]):
        inner.add(node)
        return node.args[0]
    return None


def _centred(node: Any, inner: set[Node]) -> tuple[Any, tuple[int, ...]] | None:
    """``x - mean(x)``: ``x`` and the dimensions."""
    if not _is(node, "sub") or node.kwargs.get("alpha", 1) != 1:
        return None
    found = _mean(node.args[1], inner)
    if found is None or found[0] is not node.args[0]:
        return None
    inner.add(node)
    return found


def _root(node: Any, inner: set[Node]) -> tuple[Any, int] | None:
    """A root: what is under it, and whether it is inverted."""
    node = _bare(node, inner)
    exponents = {0.5: 1, -0.5: -1}
    power = exponents.get(_number(node.args[1]) or 0.0) if _is(node, "pow") else None
    sign = 1 if _is(node, "sqrt") else -1 if _is(node, "rsqrt") else power
    if sign is None:
        if _is(node, "reciprocal"):
            inner.add(node)
            under = _root(node.args[0], inner)
            return None if under is None else (under[0], -under[1])
        return None
    inner.add(node)
    return node.args[0], sign


def _shifted(node: Any, inner: set[Node]) -> tuple[Any, float]:
    """``y + eps``, ``max(y, eps)``: ``y`` and ``eps``."""
    node = _bare(node, inner)
    if _is(node, "add", "clamp_min", "clamp"):
        eps = _number(_arg(node, 1, "min" if "clamp" in name_of(node) else "other"))
        if eps is not None and _arg(node, 2, "max") is None:
            inner.add(node)
            return node.args[0], eps
    return node, 0.0


def _normalisation(tail: Node, place: dict[Node, int]) -> Idiom | None:
    if not _is(tail, "mul", "div") or len(tail.args) < 2:
        return None
    pairs = [(tail.args[0], tail.args[1])] + ([(tail.args[1], tail.args[0])] if _is(tail, "mul") else [])
    for x, divisor in pairs:
        for pattern in (_l2, _by_root):
            inner: set[Any] = set()
            found = pattern(x, divisor, 1 if _is(tail, "div") else -1, inner)
            if found is None:
                continue
            kind, source, dims, eps = found
            inner.discard(source)
            if place.get(source) is not None and _closed(tail, inner):
                ordered = tuple(sorted(inner, key=place.__getitem__))
                return Idiom(tail, ordered, source, kind, dims, eps)
    return None


Found = tuple[Literal["layer", "rms", "l2"], Any, tuple[int, ...], float]


def _l2(x: Any, divisor: Any, sign: int, inner: set[Node]) -> Found | None:
    """``x / max(norm(x), eps)``."""
    norm, _ = _shifted(divisor, inner)
    if sign != 1 or not _is(norm, "linalg_vector_norm", "norm") or norm.args[0] is not x:
        return None
    dims = _over(norm)
    if dims is None or _number(_arg(norm, 1, "ord", 2)) != 2.0:
        return None
    inner.add(norm)
    return "l2", x, dims, 0.0


def _by_root(x: Any, divisor: Any, sign: int, inner: set[Node]) -> Found | None:
    """``x / sqrt(mean(x^2) + eps)``, and the same of ``x - mean(x)``."""
    rooted = _root(divisor, inner)
    if rooted is None or rooted[1] != sign:
        return None
    power, eps = _shifted(rooted[0], inner)
    centre = _centred(x, inner)
    if _is(power, "var"):
        dims, unbiased = _over(power), _arg(power, 2, "unbiased", True)
        if "correction" in power.kwargs:
            unbiased = power.kwargs["correction"] != 0
        if centre is None or dims != centre[1] or unbiased or power.args[0] not in (x, centre[0]):
            return None
        inner.add(power)
        return "layer", centre[0], centre[1], eps
    mean = _mean(power, inner)
    if mean is None:
        return None
    squared = _square_of(_bare(mean[0], inner), inner)
    if squared is None:
        return None
    if squared is x and centre is None:
        return "rms", x, mean[1], eps
    if centre is not None and mean[1] == centre[1]:
        if squared is x:
            return "layer", centre[0], centre[1], eps
        again = _centred(squared, inner)
        if again is not None and again == centre:
            return "layer", centre[0], centre[1], eps
    return None


# -------------------------------------------------------------------------------------------------- pointwise functions

_ELEMENTWISE = frozenset({
    "abs", "add", "clamp", "clamp_min", "clamp_max", "cos", "div", "elu", "erf", "exp", "expm1", "ge", "gelu", "gt",
    "hardsigmoid", "hardswish", "hardtanh", "le", "leaky_relu", "log", "log1p", "log_sigmoid", "lt", "max", "maximum",
    "min", "minimum", "mul", "neg", "pow", "reciprocal", "relu", "relu6", "rsub", "sigmoid", "silu", "sin", "softplus",
    "sqrt", "square", "sub", "tanh", "where", "zeros_like", "ones_like",
})  # fmt: skip
_MOST = 16  # operators in one function
_GRID = np.linspace(-6.0, 6.0, 241)
_SPELLED: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("silu", ()), ("gelu", ()), ("gelu", (1.0,)), ("mish", ()), ("hardswish", ()), ("hardsigmoid", ()),
    ("softsign", ()), ("tanhshrink", ()), ("relu", ()), ("relu6", ()), ("elu", ()), ("selu", ()), ("softplus", ()),
    ("log_sigmoid", ()), ("sigmoid", ()), ("tanh", ()), ("abs", ()), ("square", ()),
)  # fmt: skip
_NAMED = tuple((name, p, np.asarray(ACTIVATIONS[name](_GRID, *p), np.float64)) for name, p in _SPELLED)


def _function(tail: Node, place: dict[Node, int]) -> Idiom | None:
    """A function of one tensor, grown backwards from its last operator until only one tensor is read."""
    if name_of(tail) not in _ELEMENTWISE or not isinstance(tail.meta.get("val"), torch.Tensor):
        return None
    group, joined = {tail}, len(set(tail.all_input_nodes)) > 1
    while len(group) <= _MOST:
        outside = {n for member in group for n in member.all_input_nodes} - group
        if len(outside) == 1 and joined and len(group) > 1:
            (source,) = outside
            match = _named(tail, group, source, place)
            if match is not None:
                inner = tuple(sorted(group - {tail}, key=place.__getitem__))
                return Idiom(tail, inner, source, "pointwise", function=match[0], parameters=match[1])
        ready = [n for n in outside if _is(n, *_ELEMENTWISE) and set(n.users) <= group and not changes(n)]
        if not ready:
            return None
        node = max(ready, key=place.__getitem__)
        joined = joined or len(set(node.all_input_nodes)) > 1
        group.add(node)
    return None


def _named(tail: Node, group: set[Node], source: Node, place: dict[Node, int]) -> tuple[str, tuple[float, ...]] | None:
    """The name of the function that a group of operators computes, from its values on a grid."""
    meta = source.meta.get("val")
    if not isinstance(meta, torch.Tensor) or not meta.dtype.is_floating_point or prod(meta.shape) == 1:
        return None
    if meta.shape != tail.meta["val"].shape:
        return None
    values: dict[Any, Any] = {source: torch.from_numpy(_GRID)}
    try:
        for node in sorted(group, key=place.__getitem__):
            args = [values[a] if isinstance(a, Node) else a for a in node.args]
            values[node] = node.target(*args, **_plain(node.kwargs))  # type: ignore[operator]
    except (RuntimeError, TypeError, ValueError, KeyError, IndexError, EvenlyError):
        return None
    result = values[tail]
    if not isinstance(result, torch.Tensor) or result.shape != (len(_GRID),):
        return None
    array = result.double().numpy()
    for name, parameters, expected in _NAMED:
        if np.allclose(array, expected, rtol=1e-6, atol=1e-6):
            return name, parameters
    slope = float(-array[_GRID == -1.0][0])
    if 0 <= slope < 1 and np.allclose(array, np.where(_GRID < 0, slope * _GRID, _GRID), rtol=1e-6, atol=1e-6):
        return "leaky_relu", (round(slope, 12),)
    return None


def _plain(kwargs: Any) -> dict[str, Any]:
    """Keyword arguments without device and layout."""
    return {k: v for k, v in kwargs.items() if k in ("alpha", "approximate", "rounding_mode", "value", "min", "max")}
