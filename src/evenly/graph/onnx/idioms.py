"""Idioms: chains of nodes that stand for one operator of the framework the file came from.

Scalar functions are recognised by their values, not by the shape of the chain: a group of pointwise nodes with one
input is evaluated on a grid and compared with the known activations, so that every way to spell GELU is GELU.
Normalisations and attention are recognised by structure. A chain is replaced only if nothing outside it reads its inner
values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenly.graph.onnx.constants import EVALUATORS, Const
from evenly.graph.onnx.nodes import Item
from evenly.theory.activations import ACTIVATIONS

__all__ = ["DOMAIN", "recognise"]

DOMAIN = "evenly"
"""Domain of the items that stand for an idiom."""

Array = NDArray[Any]
GRID = np.concatenate([np.linspace(-6.0, 6.0, 49), [-25.0, 25.0]])
TOLERANCE = 2e-5
LONGEST = 12


# Activations that frameworks spell out, as (name, parameters) of the theory's table.
SPELLED_OUT: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("silu", ()),
    ("gelu", ()),
    ("gelu", (1.0,)),
    ("mish", ()),
    ("hardswish", ()),
    ("hardsigmoid", ()),
    ("softplus", ()),
    ("softsign", ()),
    ("log_sigmoid", ()),
    ("tanhshrink", ()),
    ("relu6", ()),
    ("sigmoid", ()),
    ("tanh", ()),
    ("rsqrt", ()),
    ("elu", ()),
    ("selu", ()),
)
FUNCTIONS = tuple(
    (name, parameters, np.asarray(ACTIVATIONS[name](GRID, *parameters))) for name, parameters in SPELLED_OUT
)
_EXTRA: dict[str, Callable[..., Array]] = {
    "HardSigmoid": lambda item, x: np.clip(item.number("alpha", 0.2) * x + item.number("beta", 0.5), 0, 1),
    "LeakyRelu": lambda item, x: np.where(x < 0, item.number("alpha", 0.01) * x, x),
    "Softsign": lambda item, x: x / (1 + np.abs(x)),
}
_POINTWISE = {
    name: EVALUATORS[name]
    for name in (
        "Neg", "Abs", "Sqrt", "Exp", "Log", "Reciprocal", "Tanh", "Sigmoid", "Relu", "Softplus", "Erf", "Clip",
        "Identity", "Cast", "Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Where", "Less",
        "LessOrEqual", "Greater", "GreaterOrEqual",
    )
} | _EXTRA  # fmt: skip
_TAILS = {"Mul", "Div", "Add", "Sub", "Min", "Max", "Clip", "Reciprocal", "Log", "Where"}


class _Nodes:
    """The nodes of a graph, by what they make and who reads it."""

    def __init__(self, items: Sequence[Item], consts: Mapping[str, Const], outputs: Sequence[str]) -> None:
        self.items, self.consts = items, consts
        self.producer = {name: item for item in items for name in item.outputs if name}
        self.order = {id(item): i for i, item in enumerate(items)}
        self.readers: dict[str, list[Item]] = {}
        for item in items:
            for name in item.inputs:
                self.readers.setdefault(name, []).append(item)
        self.uses = Counter(name for item in items for name in item.inputs if name)
        self.uses.update(outputs)
        self.outputs = set(outputs)
        self.sizes: set[str] = set()
        """Values that depend on shapes only, and are constants once the shapes are known."""
        for item in items:
            known = item.op in ("Shape", "Size") or all(n in consts or n in self.sizes for n in item.inputs if n)
            if known and not item.domain and item.inputs:
                self.sizes.update(item.outputs)

    def made_by(self, name: str, *ops: str) -> Item | None:
        """The standard node of one of these types that makes a value."""
        item = self.producer.get(name)
        return item if item is not None and not item.domain and item.op in ops else None

    def scalar(self, name: str) -> float | None:
        const = self.consts.get(name)
        return None if const is None else const.scalar()

    def number(self, name: str) -> bool:
        """Whether a value is, or is likely to become, one number that the file alone decides."""
        return name in self.sizes or self.scalar(name) is not None

    def decided(self, name: str) -> bool:
        """Whether the file and the shapes alone decide a value."""
        return name in self.consts or name in self.sizes

    def other(self, item: Item, name: str) -> str:
        """The other input of a binary node."""
        return item.inputs[1] if item.inputs[0] == name else item.inputs[0]

    def closed(self, group: Sequence[Item]) -> bool:
        """Whether only the last node of a group is read from outside it."""
        inside = {id(item) for item in group}
        for item in group[:-1]:
            for name in item.outputs:
                if name in self.outputs or any(id(reader) not in inside for reader in self.readers.get(name, ())):
                    return False
        return True

    def group(self, parts: Sequence[Item | None]) -> list[Item]:
        """Distinct nodes in the order of the file."""
        distinct = {id(p): p for p in parts if p is not None}
        return sorted(distinct.values(), key=lambda p: self.order[id(p)])


Idiom = Callable[[_Nodes, Item], Item | None]


def _fused(op: str, group: Sequence[Item], inputs: Sequence[str], **attributes: Any) -> Item:
    tail = group[-1]
    return Item(op, DOMAIN, tail.name, tuple(inputs), tail.outputs, attributes, tail.proto, tuple(group), tail.index)


def _function(nodes: _Nodes, tail: Item) -> Item | None:
    """A scalar activation function of one value, spelled out."""
    if tail.op not in _TAILS:
        return None
    group = [tail]
    frontier = {name for name in tail.inputs if name and name not in nodes.consts}
    best: Item | None = None
    while True:
        if len(frontier) == 1 and len(group) > 1:
            source = next(iter(frontier))
            ordered = nodes.group(group)
            if nodes.closed(ordered):
                best = _named_function(nodes, ordered, source) or best
        candidates = [nodes.producer[n] for n in frontier if n in nodes.producer]
        if not candidates or len(group) == LONGEST:
            return best
        latest = max(candidates, key=lambda item: nodes.order[id(item)])
        if latest.domain or latest.op not in _POINTWISE:
            return best
        if not all(reader in group for reader in nodes.readers[latest.outputs[0]]):
            return best
        group.append(latest)
        frontier.discard(latest.outputs[0])
        frontier |= {name for name in latest.inputs if name and name not in nodes.consts}


def _named_function(nodes: _Nodes, group: Sequence[Item], source: str) -> Item | None:
    values: dict[str, Array] = {source: GRID}
    for item in group:
        arguments: list[Array | None] = []
        for name in item.inputs:
            if name and name not in values:
                number = nodes.scalar(name)
                if number is None:
                    return None
                values[name] = np.float64(number)  # type: ignore[assignment]
            arguments.append(values[name] if name else None)
        with np.errstate(all="ignore"):
            values[item.outputs[0]] = np.asarray(_POINTWISE[item.op](item, *arguments), dtype=np.float64)
    result = values[group[-1].outputs[0]]
    for name, parameters, expected in FUNCTIONS:
        if _close(result, expected):
            return _fused("Function", group, [source], function=name, parameters=parameters)
    slope = float(-result[GRID == -1.0][0]) if result.shape == GRID.shape else np.nan
    if 0 <= slope < 1 and _close(result, np.where(GRID < 0, slope * GRID, GRID)):
        return _fused(
            "Function",
            group,
            [source],
            function="leaky_relu" if slope else "relu",
            parameters=(slope,) if slope else (),
        )
    return None


def _close(a: Array, b: Array) -> bool:
    if a.shape != b.shape or np.isfinite(a).mean() < 0.4:
        return False
    return bool(np.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))


def _axes(nodes: _Nodes, item: Item) -> tuple[int, ...] | None:
    if item.ints("axes") is not None:
        return item.ints("axes")
    const = nodes.consts.get(item.input(1))
    if const is None or not const.small:
        return None
    return tuple(int(a) for a in const.array().reshape(-1))


def _normalisation(nodes: _Nodes, tail: Item) -> Item | None:
    """Division by a root mean square, with the mean removed (layer or instance) or kept (RMS)."""
    if tail.op == "Div":
        numerator, root = tail.inputs[:2]
        parts: list[Item | None] = [tail]
    elif tail.op == "Mul":
        for numerator, inverse in (tail.inputs[:2], tail.inputs[1::-1]):
            made = nodes.made_by(inverse, "Reciprocal", "Div", "Pow")
            if made is None:
                continue
            if made.op == "Pow" and nodes.scalar(made.inputs[1]) == -0.5:
                return _centred(nodes, [tail, made], numerator, made.inputs[0])
            if made.op == "Reciprocal":
                return _rooted(nodes, [tail, made], numerator, made.inputs[0])
            if made.op == "Div" and nodes.scalar(made.inputs[0]) == 1:
                return _rooted(nodes, [tail, made], numerator, made.inputs[1])
        return None
    else:
        return None
    return _rooted(nodes, parts, numerator, root)


def _rooted(nodes: _Nodes, parts: list[Item | None], numerator: str, root: str) -> Item | None:
    made = nodes.made_by(root, "Sqrt", "Pow")
    if made is None or (made.op == "Pow" and nodes.scalar(made.inputs[1]) != 0.5):
        return None
    return _centred(nodes, [*parts, made], numerator, made.inputs[0])


def _centred(nodes: _Nodes, parts: list[Item | None], numerator: str, variance: str) -> Item | None:
    eps = 0.0
    added = nodes.made_by(variance, "Add")
    if added is not None:
        number = next((nodes.scalar(n) for n in added.inputs if nodes.scalar(n) is not None), None)
        if number is None:
            return None
        variance = next(n for n in added.inputs if nodes.scalar(n) is None)
        eps = number
        parts.append(added)
    mean = nodes.made_by(variance, "ReduceMean")
    square = mean and nodes.made_by(mean.inputs[0], "Pow", "Mul")
    if mean is None or square is None or not mean.integer("keepdims", 1):
        return None
    if square.op == "Pow" and nodes.scalar(square.inputs[1]) != 2:
        return None
    if square.op == "Mul" and square.inputs[0] != square.inputs[1]:
        return None
    parts += [mean, square]
    axes = _axes(nodes, mean)
    if axes is None:
        return None
    if square.inputs[0] == numerator and (centred := nodes.made_by(numerator, "Sub")) is None:
        group = nodes.group(parts)
        return _with_affine(nodes, group, "rms", numerator, axes, eps)
    # Exporters may write the centred value twice, once for the variance and once for the numerator.
    for name in {numerator, square.inputs[0]}:
        centred = nodes.made_by(name, "Sub")
        average = centred and nodes.made_by(centred.inputs[1], "ReduceMean")
        if centred is None or average is None or average.inputs[0] != centred.inputs[0]:
            return None
        if _axes(nodes, average) != axes or not average.integer("keepdims", 1):
            return None
        parts += [centred, average]
    sources = {p.inputs[0] for p in parts if p is not None and p.op == "Sub"}
    if len(sources) != 1:
        return None
    return _with_affine(nodes, nodes.group(parts), "layer", sources.pop(), axes, eps)


def _with_affine(
    nodes: _Nodes, group: list[Item], kind: str, source: str, axes: tuple[int, ...], eps: float
) -> Item | None:
    if not nodes.closed(group):
        return None
    weight = bias = ""
    for op in ("Mul", "Add"):
        readers = nodes.readers.get(group[-1].outputs[0], [])
        if len(readers) != 1 or readers[0].domain or readers[0].op != op or group[-1].outputs[0] in nodes.outputs:
            continue
        name = nodes.other(readers[0], group[-1].outputs[0])
        const = nodes.consts.get(name)
        if const is None or max(const.shape, default=1) == 1 or max(const.shape) != prod(const.shape):
            continue
        group.append(readers[0])
        weight, bias = (name, bias) if op == "Mul" else (weight, name)
    return _fused("Normalize", group, [source, weight, bias], kind=kind, axes=axes, eps=eps)


def _group_norm(nodes: _Nodes, tail: Item) -> Item | None:
    """Reshape to groups, instance normalisation without parameters, reshape back, parameters per channel."""
    if tail.op != "InstanceNormalization" or len(tail.inputs) != 3:
        return None
    before = nodes.made_by(tail.inputs[0], "Reshape")
    readers = nodes.readers.get(tail.outputs[0], [])
    scale, shift = (nodes.consts.get(n) for n in tail.inputs[1:3])
    if before is None or len(readers) != 1 or readers[0].op != "Reshape" or scale is None or shift is None:
        return None
    if scale.uniform() != 1.0 or shift.uniform() != 0.0:
        return None
    group = [before, tail, readers[0]]
    if not nodes.closed(group):
        return None
    fused = _with_affine(nodes, group, "group", before.inputs[0], (), tail.number("epsilon", 1e-5))
    if fused is None:
        return None
    inputs = (*fused.inputs, before.inputs[1], readers[0].inputs[1])
    return replace(fused, op="GroupNorm", inputs=inputs, attributes={**fused.attributes, "groups": prod(scale.shape)})


def _l2(nodes: _Nodes, tail: Item) -> Item | None:
    """``x / max(norm(x), eps)``."""
    if tail.op != "Div":
        return None
    parts: list[Item | None] = [tail]
    name = tail.inputs[1]
    while (step := nodes.made_by(name, "Expand", "Clip", "Max", "Add", "Identity")) is not None:
        parts.append(step)
        name = step.inputs[0]
        if len(parts) > 5:
            return None
    norm = nodes.made_by(name, "ReduceL2")
    if norm is None or norm.inputs[0] != tail.inputs[0] or not norm.integer("keepdims", 1):
        return None
    axes = _axes(nodes, norm)
    group = nodes.group([*parts, norm])
    if axes is None or not nodes.closed(group):
        return None
    return _fused("Normalize", group, [tail.inputs[0], "", ""], kind="l2", axes=axes, eps=0.0)


def _scaled(nodes: _Nodes, name: str, parts: list[Item | None]) -> tuple[str, list[tuple[str, bool]]]:
    """Strip multiplications by numbers: what is left, and each number with whether it divides."""
    factors: list[tuple[str, bool]] = []
    while (step := nodes.made_by(name, "Mul", "Div")) is not None:
        numbers = [nodes.number(n) for n in step.inputs[:2]]
        if step.op == "Mul" and numbers[0] and not numbers[1]:
            factors.append((step.inputs[0], False))
            name = step.inputs[1]
        elif numbers[1] and not numbers[0]:
            factors.append((step.inputs[1], step.op == "Div"))
            name = step.inputs[0]
        else:
            break
        parts.append(step)
    return name, factors


def _attention(nodes: _Nodes, tail: Item) -> Item | None:
    """``softmax(scale * q k^T + bias) v``."""
    if tail.op != "MatMul":
        return None
    parts: list[Item | None] = [tail]
    name = tail.inputs[0]
    while (step := nodes.made_by(name, "Dropout", "Identity", "Cast", "Where")) is not None:
        # PyTorch replaces the NaN of fully masked rows by 0: Where(IsNaN(p), 0, p).
        if step.op == "Where":
            test = nodes.made_by(step.inputs[0], "IsNaN")
            if test is None or test.inputs[0] != step.inputs[2]:
                return None
            parts.append(test)
        parts.append(step)
        name = step.inputs[2] if step.op == "Where" else step.inputs[0]
    softmax = nodes.made_by(name, "Softmax")
    if softmax is None or softmax.integer("axis", -1) not in (-1, 3, 2):
        return None
    parts.append(softmax)
    name, biased = softmax.inputs[0], False
    factors: list[tuple[str, bool]] = []
    while True:
        name, more = _scaled(nodes, name, parts)
        factors += more
        added = nodes.made_by(name, "Add", "Where")
        if added is None:
            break
        options = added.inputs[:2] if added.op == "Add" else added.inputs[1:3]
        inner = [
            n
            for n in options
            if nodes.made_by(n, "MatMul", "Mul", "Div", "Add", "Where", "Reshape") and n not in nodes.consts
        ]
        scores = [n for n in inner if nodes.made_by(_scaled(nodes, n, [])[0], "MatMul")]
        if len(scores) != 1:
            return None
        biased = True
        parts.append(added)
        name = scores[0]
    product = nodes.made_by(name, "MatMul")
    if product is None:
        return None
    parts.append(product)
    query, left = _scaled(nodes, product.inputs[0], parts)
    keys, right = _scaled(nodes, product.inputs[1], parts)
    swapped = nodes.made_by(keys, "Transpose")
    perm = None if swapped is None else swapped.ints("perm")
    if swapped is not None and perm is not None and perm == (*range(len(perm) - 2), len(perm) - 1, len(perm) - 2):
        # Others may read the transposed keys: then their node stays, and only this reader goes past it.
        if nodes.uses[keys] == 1:
            parts.append(swapped)
        keys, transposed = swapped.inputs[0], False
    else:
        transposed = True
    if any(n in nodes.consts for n in (query, keys, tail.inputs[1])):
        return None
    group = nodes.group(parts)
    if not nodes.closed(group):
        return None
    factors += left + right
    return _fused(
        "Attention",
        group,
        [query, keys, tail.inputs[1], *(n for n, _ in factors)],
        inverse=tuple(inverse for _, inverse in factors),
        biased=biased,
        transposed=transposed,
    )


def _linear(nodes: _Nodes, tail: Item) -> Item | None:
    """``x W + b`` with constant ``W`` and ``b``."""
    if tail.op != "Add":
        return None
    for name in tail.inputs[:2]:
        product = nodes.made_by(name, "MatMul")
        bias = nodes.consts.get(nodes.other(tail, name))
        if product is None or bias is None or product.inputs[0] in nodes.consts:
            continue
        weight = nodes.consts.get(product.inputs[1])
        if (
            weight is None
            or len(weight.shape) != 2
            or bias.shape != weight.shape[1:]
            or not nodes.closed([product, tail])
        ):
            continue
        return _fused("Linear", [product, tail], [product.inputs[0], product.inputs[1], nodes.other(tail, name)])
    return None


def _read(nodes: _Nodes, name: str) -> tuple[list[Item], tuple[int, ...] | None] | None:
    """A read by index that the file alone decides, and the transpose behind it."""
    turned = nodes.made_by(name, "Transpose")
    made = nodes.made_by(turned.inputs[0] if turned is not None else name, "GatherND", "Gather")
    if made is None or made.inputs[0] in nodes.consts or not nodes.decided(made.inputs[1]):
        return None
    return [made, *([turned] if turned is not None else [])], None if turned is None else turned.ints("perm", ())


def _interpolation(nodes: _Nodes, tail: Item) -> Item | None:
    """``a + (b - a) w`` of two reads of one value by index: linear interpolation of one axis."""
    if tail.op != "Add":
        return None
    for low in tail.inputs[:2]:
        share = nodes.made_by(nodes.other(tail, low), "Mul")
        first = _read(nodes, low)
        if share is None or first is None:
            continue
        for difference, weight in (share.inputs[:2], share.inputs[1::-1]):
            step = nodes.made_by(difference, "Sub")
            second = None if step is None or step.inputs[1] != low else _read(nodes, step.inputs[0])
            if second is None or not nodes.decided(weight):
                continue
            (a, *_), (b, *_) = first[0], second[0]
            group = nodes.group([*first[0], *second[0], step, share, tail])
            alike = first[1] == second[1] and (a.op, a.inputs[0], a.attributes) == (b.op, b.inputs[0], b.attributes)
            if alike and not a.integer("batch_dims") and nodes.closed(group):
                inputs = [a.inputs[0], a.inputs[1], b.inputs[1], weight]
                return _fused(
                    "Interpolation", group, inputs, axis=a.integer("axis"), perm=first[1], tuples=a.op == "GatherND"
                )
    return None


IDIOMS: tuple[Idiom, ...] = (_attention, _interpolation, _group_norm, _normalisation, _l2, _linear, _function)
"""In order of precedence."""


def recognise(items: Sequence[Item], consts: Mapping[str, Const], outputs: Sequence[str]) -> list[Item]:
    """Replace every idiom by one item.

    Args:
        items: The nodes in order.
        consts: The values that are known to be constant.
        outputs: Names of the graph's outputs.

    Returns:
        The nodes with idioms in the place of their last node.
    """
    nodes = _Nodes(items, consts, outputs)
    taken: set[int] = set()
    heads: dict[int, Item] = {}
    for idiom in IDIOMS:
        # From the end: the longest chain that ends here wins over its own parts.
        for item in reversed(items):
            if id(item) in taken or item.domain or item.outputs[0] in consts or item.outputs[0] in nodes.sizes:
                continue
            found = idiom(nodes, item)
            if found is None or any(id(part) in taken for part in found.parts):
                continue
            taken.update(id(part) for part in found.parts)
            heads[id(found.parts[-1])] = found
    return [heads.get(id(item), item) for item in items if id(item) not in taken or id(item) in heads]
