"""Entry by entry: arithmetic, scalar functions, look-ups.

Arithmetic of two fields is a join, with a constant an affine map or a pointwise function; a constant that varies over
positions is a source of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import log, prod
from typing import Any, Literal

import numpy as np

from evenly.graph import ir
from evenly.graph.building.arrange import Arranging
from evenly.graph.building.state import RefusedError
from evenly.graph.building.values import Array, Shape, Value, combined, mapped, reshaped
from evenly.graph.ir import Weight
from evenly.graph.layout import BATCH, CHANNEL, KEY, SPREAD, Digit, Dim

__all__ = ["Elementwise"]


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "pow": np.power,
}
_NEUTRAL: dict[str, float] = {"add": 0.0, "sub": 0.0, "mul": 1.0, "div": 1.0, "pow": 1.0}
_POWERS = {2.0: "square", 0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}


class Elementwise(Arranging):
    """Operations that look at one position."""

    def elementwise(
        self, kind: Literal["add", "sub", "mul", "div", "max", "min", "pow"], a: Value, b: Value, *, name: str
    ) -> Value:
        """Arithmetic of two values, with broadcasting."""
        shape = tuple(int(n) for n in np.broadcast_shapes(a.shape, b.shape))
        if b.number is not None and b.number == _NEUTRAL.get(kind, float("nan")) and a.shape == shape:
            return a
        if a.number is not None and kind in ("add", "mul") and a.number == _NEUTRAL[kind] and b.shape == shape:
            return b
        if a.is_constant and b.is_constant:
            return self._folded_pair(kind, a, b, shape)
        name = self._unique(name)
        return self._try(kind, name, [a, b], shape, lambda: self._elementwise(kind, a, b, name))

    def _folded_pair(self, kind: str, a: Value, b: Value, shape: Shape) -> Value:
        """Arithmetic of two constants."""
        assert a.weight is not None
        assert b.weight is not None
        source = a.weight if prod(a.shape) >= prod(b.shape) else b.weight

        def computed(left: Array, right: Array) -> Array:
            with np.errstate(all="ignore"):
                return np.asarray(_ARITHMETIC[kind](left, right))

        number = None
        if a.number is not None and b.number is not None and prod(shape) == 1:
            number = float(computed(np.asarray(a.array()), np.asarray(b.array())).reshape(()))
        return Value(shape, weight=combined(source.name, (a, b), shape, computed), number=number)

    def _elementwise(self, kind: str, a: Value, b: Value, name: str) -> Value:
        """Arithmetic of scores, of a field with a constant, or of two fields."""
        shape = tuple(int(n) for n in np.broadcast_shapes(a.shape, b.shape))
        if a.scores is not None or b.scores is not None:
            scored = self._scored(kind, a, b, shape)
            if scored is not None:
                return scored
            a, b = self._forced(a), self._forced(b)
        if b.is_constant:
            return self._with_constant(kind, self._expanded_for(a, b, shape), b, False, name)
        if a.is_constant:
            return self._with_constant(kind, self._expanded_for(b, a, shape), a, True, name)
        x, y = self._expanded(a, shape), self._expanded(b, shape)
        (x, y), layout = self._aligned([x, y])
        sizes = self._sizes(x) or self._sizes(y)
        channels = max(self._channels(x), self._channels(y))
        node = self._emit(name, ir.Join(kind), (x.node, y.node), channels, sizes)  # type: ignore[arg-type]
        return Value(shape, node, layout)

    def _scored(self, kind: str, a: Value, b: Value, shape: Shape) -> Value | None:
        """Scaling and masking of attention scores."""
        scored, other = (a, b) if a.scores is not None else (b, a)
        s = scored.scores
        assert s is not None
        if scored.shape != shape or s.softmax:
            if s.softmax and kind == "mul" and other.is_constant and scored.shape == shape:
                return replace(scored, scores=replace(s, biased=True))
            return None
        if other.number is not None:
            if kind == "mul" or (kind == "div" and scored is a):
                factor = other.number if kind == "mul" else 1 / other.number
                return replace(scored, scores=replace(s, scale=s.scale * factor))
            return replace(scored, scores=replace(s, biased=True)) if kind in ("add", "sub", "max", "min") else None
        if kind in ("add", "sub", "mul"):
            return replace(scored, scores=replace(s, biased=True))
        return None

    def _expanded_for(self, x: Value, constant: Value, shape: Shape) -> Value:
        """A field at the shape of the result; where only the constant varies, channels or axes are made."""
        v = self._forced(self._expanded(x, shape))
        lead = len(shape) - len(constant.shape)
        for d in range(len(shape)):
            varies = d >= lead and constant.shape[d - lead] > 1
            if varies and v.dims[d].of(SPREAD):
                if self._channel_digits(v, [d]) or any(e.axis for e in v.dims[d].digits) or d == 0:
                    v = self._with_axes(v, [d]) if not v.dims[d].of(CHANNEL) else self._multiplied(v, d)
                else:
                    v = self._multiplied(v, d)
        return v

    def _with_constant(self, kind: str, v: Value, constant: Value, reverse: bool, name: str) -> Value:
        """Arithmetic of a field with a constant: an affine map, a pointwise function, or a position embedding."""
        assert constant.weight is not None
        lead = len(v.shape) - len(constant.shape)
        varying = [lead + i for i, n in enumerate(constant.shape) if n > 1]
        digits = [e for d in varying for e in v.dims[d].digits]
        if not varying:
            return self._with_number(kind, v, constant, reverse, name)
        if any(e.axis for e in digits) and constant.weight.fixed:
            # A constant may have been written out over positions where it does not vary.
            along = [d - lead for d in varying if v.dims[d].axes]
            thin = self._uniform_over(constant, along) if prod(constant.shape) <= 1 << 20 else None
            if thin is not None:
                return self._with_constant(kind, v, thin, reverse, name)
        v = self._apart(v, varying)
        digits = [e for d in varying for e in v.dims[d].digits]
        positions = any(e.axis for e in digits)
        if any(e.kind == SPREAD for e in digits):
            raise RefusedError("a constant varies where its input is repeated")
        weight = self._arranged(v, constant, varying)
        if positions:
            sizes = weight.shape[1:]
            op = ir.Source("position", weight if weight.known else replace(weight, load=None))
            label = constant.weight.name or f"{name}:position"
            source = self._emit(self._unique(label), op, (), weight.shape[0], sizes)
            pair = (source, v.node) if reverse else (v.node, source)
            channels = max(self._channels(v), weight.shape[0])
            node = self._emit(name, ir.Join(kind), pair, channels, self._sizes(v))  # type: ignore[arg-type]
            self._keep_origin(node, v.node)
            return replace(v, node=node)
        return self._affine(kind, v, reshaped(weight, (self._channels(v),)), reverse, name)

    def _arranged(self, v: Value, constant: Value, varying: Sequence[int]) -> Weight:
        """A constant as ``(C, *sizes)`` of a field, with size 1 where it does not vary."""
        assert constant.weight is not None
        node = self.nodes[v.node]
        lead = len(v.shape) - len(constant.shape)
        pieces: list[Digit] = []
        shape: list[int] = []
        cuts: list[Any] = []
        for d in range(lead, len(v.shape)):
            dim, n = v.dims[d], constant.shape[d - lead]
            cuts.append(slice(dim.before, dim.size - dim.after) if n > 1 else slice(None))
            if d in varying:
                pieces.extend(dim.digits)
                shape.extend(e.size for e in dim.digits)
        channel = sorted((i for i, e in enumerate(pieces) if e.kind == CHANNEL), key=lambda i: -pieces[i].stride)
        whole = prod(pieces[i].size for i in channel)
        missing = [e for d, dim in enumerate(v.dims) if d not in varying for e in dim.of(CHANNEL)] if channel else []
        axes = [
            sorted((i for i, e in enumerate(pieces) if e.kind == a), key=lambda i: -pieces[i].stride)
            for a in range(len(node.sizes))
        ]
        batch = [i for i, e in enumerate(pieces) if e.kind in (BATCH, KEY)]
        if missing:  # varies over part of the channels: repeat over the others
            return self._spread_over(v, constant, pieces, shape, cuts, channel, axes, batch, missing)
        order = [*batch, *channel, *(i for own in axes for i in own)]
        result = (whole if channel else 1, *(node.sizes[a] if own else 1 for a, own in enumerate(axes)))
        for a, own in enumerate(axes):
            if own and prod(pieces[i].size for i in own) != node.sizes[a]:
                raise RefusedError("a constant varies over blocks of positions")
        weight = constant.weight
        if batch:
            return Weight(weight.name, result, weight.fixed, None)
        old = constant.shape

        def change(a: Array) -> Array:
            a = a.reshape(old)[tuple(cuts)]
            return a.reshape(shape).transpose(order).reshape(result)

        return mapped(weight, result, change)

    def _spread_over(
        self,
        v: Value,
        constant: Value,
        pieces: Sequence[Digit],
        shape: Sequence[int],
        cuts: Sequence[Any],
        channel: Sequence[int],
        axes: Sequence[Sequence[int]],
        batch: Sequence[int],
        missing: Sequence[Digit],
    ) -> Weight:
        """A constant that varies over part of the channels, repeated over the others."""
        assert constant.weight is not None
        if any(axes) or batch:
            raise RefusedError("a constant varies over part of the channels and over positions")
        total = self._channels(v)
        old = constant.shape
        index = np.arange(total)
        flat = np.zeros(total, int)
        for i in channel:  # position in the constant, transposed to the order of its digits
            flat = flat * pieces[i].size + (index // pieces[i].stride) % pieces[i].size
        order = list(channel)

        def change(a: Array) -> Array:
            values = a.reshape(old)[tuple(cuts)].reshape(shape).transpose(order).reshape(-1)
            return np.asarray(values[flat])

        return mapped(constant.weight, (total,), change)

    def _with_number(self, kind: str, v: Value, constant: Value, reverse: bool, name: str) -> Value:
        """Arithmetic of a field with one number."""
        number = constant.number
        if number is None:
            assert constant.weight is not None
            channels = self._channels(v)
            weight = mapped(constant.weight, (channels,), lambda a: np.repeat(a.reshape(-1), channels))
            return self._affine(kind, v, weight, reverse, name)
        if kind == "pow":
            if reverse:
                if number <= 0:
                    raise RefusedError(f"powers of {number}")
                inner = (
                    self._same(v, f"{name}:scale", ir.Affine(log(number), None)) if abs(log(number) - 1) > 1e-12 else v
                )
                return self._same(inner, name, ir.Pointwise("exp"))
            function = _POWERS.get(number)
            op = ir.Pointwise(function) if function else ir.Pointwise("pow", (number,))
            return self._same(v, name, op)
        if kind in ("max", "min"):
            if kind == "max" and number == 0:
                return self._same(v, name, ir.Pointwise("relu"))
            bounds = (number, float("inf")) if kind == "max" else (float("-inf"), number)
            return self._same(v, name, ir.Pointwise("clamp", bounds))
        if kind == "div" and reverse:
            inverse = self._same(v, name if number == 1 else f"{name}:reciprocal", ir.Pointwise("reciprocal"))
            return inverse if number == 1 else self._same(inverse, name, ir.Affine(number, None))
        table: dict[tuple[str, bool], tuple[float | None, float | None]] = {
            ("add", False): (None, number),
            ("add", True): (None, number),
            ("sub", False): (None, -number),
            ("sub", True): (-1.0, number or None),
            ("mul", False): (number, None),
            ("mul", True): (number, None),
            ("div", False): (1 / number if number else float("inf"), None),
        }
        scale, shift = table[kind, reverse]
        return self._same(v, name, ir.Affine(scale, shift))

    def _affine(self, kind: str, v: Value, weight: Weight, reverse: bool, name: str) -> Value:
        """Arithmetic with one number per channel."""
        if kind in ("pow", "max", "min"):
            source = self._emit(f"{name}:constant", ir.Source("constant", weight), (), self._channels(v), ())
            pair = (source, v.node) if reverse else (v.node, source)
            node = self._emit(name, ir.Join(kind), pair, self._channels(v), self._sizes(v))  # type: ignore[arg-type]
            return replace(v, node=node)
        if kind == "div" and reverse:
            v = self._same(v, f"{name}:reciprocal", ir.Pointwise("reciprocal"))
            return self._same(v, name, ir.Affine(weight, None))
        table: dict[tuple[str, bool], tuple[Weight | float | None, Weight | None]] = {
            ("add", False): (None, weight),
            ("add", True): (None, weight),
            ("sub", False): (None, mapped(weight, weight.shape, np.negative)),
            ("sub", True): (-1.0, weight),
            ("mul", False): (weight, None),
            ("mul", True): (weight, None),
            ("div", False): (mapped(weight, weight.shape, lambda a: 1 / a), None),
        }
        scale, shift = table[kind, reverse]
        return self._same(v, name, ir.Affine(scale, shift))

    def pointwise(
        self, x: Value, function: str, parameters: Sequence[float] = (), weight: Weight | None = None, *, name: str
    ) -> Value:
        """A scalar function of every entry; ``weight`` is its parameter per channel (dimension 1)."""
        if x.is_constant:
            return self._folded_function(x, function, tuple(parameters))
        name = self._unique(name)

        def act() -> Value:
            if weight is not None and prod(weight.shape) > 1:
                v = self._channels_second(x)
                return self._same(v, name, ir.Pointwise(function, tuple(parameters), self._visible(weight)))
            return self._same(
                self._forced(x),
                name,
                ir.Pointwise(function, tuple(float(p) for p in parameters), self._visible(weight)),
            )

        return self._try(function, name, [x], x.shape, act)

    def _folded_function(self, x: Value, function: str, parameters: tuple[float, ...]) -> Value:
        """A scalar function of a constant."""
        from evenly.theory.activations import ACTIVATIONS

        entry = ACTIVATIONS.get(function)
        if entry is None:
            return self._unknown(function, [x], x.shape, "a function without an entry of a constant", function)
        value = self._folded(x, x.shape, lambda a: np.asarray(entry(a.astype(np.float64), *parameters)))
        return replace(value, number=None if x.number is None else float(entry(np.float64(x.number), *parameters)))

    def embedding(self, ids: Value, weight: Weight, *, name: str) -> Value:
        """A row of ``weight`` for every index; the last dimension of the result is the channels."""
        name = self._unique(name)
        shape = (*ids.shape, weight.shape[1])
        seen = self._visible(weight)
        assert seen is not None
        if ids.is_constant:
            places = ids

            def rows(table: Array) -> Array:
                index = places.array()
                assert index is not None
                return np.asarray(table[index.astype(int)])

            known = ids.weight is not None and ids.weight.known and seen.known
            return Value(shape, weight=mapped(seen if known else replace(seen, load=None), shape, rows))

        def act() -> Value:
            v = self._forced(ids)
            for d in range(1, len(ids.shape)):
                if v.dims[d].of(CHANNEL):
                    self._relayout(v, CHANNEL, "lattice")
                    raise RefusedError("it looks up channels")
            if self._channels(v) != 1:
                raise RefusedError("it looks up several numbers per position")
            # A table look-up position by position: a map from one channel to many whose values are not linear.
            op = ir.Linear(1, weight.shape[1], Weight(weight.name, (weight.shape[1], 1), False, None))
            node = self._emit(name, op, (v.node,), weight.shape[1], self._sizes(v))
            return Value(shape, node, (*v.dims, Dim.through(CHANNEL, weight.shape[1])))

        return self._try("embedding", name, [ids], shape, act)
