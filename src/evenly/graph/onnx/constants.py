"""Constant folding: the arithmetic on shapes and weights that ONNX files spell out as nodes.

Values that depend on nothing but the file are computed with numpy, small ones at once (they are sizes, axes, pads),
large ones only when somebody asks for them (they are weights: weight norm, dequantisation, a transpose). The size of a
result is known before it is computed, and what would exceed :data:`~evenly.graph.onnx.files.FOLD_LIMIT` is not computed
at all: it keeps its shape and has no values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import ceil, erf, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evenly.errors import FormatError
from evenly.graph.onnx.files import FOLD_LIMIT, Tensor, numpy_dtype, tensor

if TYPE_CHECKING:
    from evenly.graph.onnx.nodes import Item

__all__ = ["Const", "axes_of", "fold", "normal_axis", "reshaped", "slices_of", "split_sizes"]

Array = NDArray[Any]
Shape = tuple[int, ...]
EAGER = 1 << 16
"""Elements up to which a constant is computed at once."""


class Const:
    """A value that depends on nothing but the file.

    Attributes:
        name: Name of the value in the file.
        root: Name of the initialiser that it is mainly made of, empty if none.
        shape: Its shape.
        dtype: Its numpy type.
    """

    __slots__ = ("_load", "_value", "dtype", "name", "root", "shape")

    def __init__(
        self,
        name: str,
        shape: Shape,
        dtype: np.dtype[Any],
        load: Callable[[], Array] | None,
        root: str = "",
        value: Array | None = None,
    ) -> None:
        self.name, self.shape, self.dtype, self.root = name, shape, dtype, root
        self._load, self._value = load, value

    @classmethod
    def of(cls, name: str, value: Array, root: str = "") -> Const:
        """A computed constant."""
        value = np.asarray(value)
        return cls(name, value.shape, value.dtype, lambda: value, root, value)

    @classmethod
    def stored(cls, tensor: Tensor) -> Const:
        """A constant of the file."""
        return cls(tensor.name, tensor.shape, numpy_dtype(tensor.code), tensor.read, tensor.name)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return self.size * self.dtype.itemsize

    @property
    def known(self) -> bool:
        """Whether the values can be had."""
        return self._load is not None

    @property
    def small(self) -> bool:
        """Whether the values are cheap to look at."""
        return self.known and self.size <= EAGER

    def array(self) -> Array:
        """The values; kept if they are few.

        Raises:
            FormatError: If they were not computed because of their size.
        """
        if self._value is not None:
            return self._value
        if self._load is None:
            raise FormatError(
                f"the value {self.name!r} of shape {list(self.shape)} is too large to compute from the file, expected "
                "at most "
                f"{FOLD_LIMIT} bytes; simplify the model (fold its constants) first"
            )
        value = self._load()
        if tuple(value.shape) != self.shape:
            raise FormatError(
                f"the constant {self.name!r} has shape {list(value.shape)}, expected {list(self.shape)}; the file is "
                "damaged"
            )
        if self.size <= EAGER:
            self._value = value
        return value

    def scalar(self) -> float | None:
        """The number it holds if it has exactly one element."""
        if self.size != 1 or not self.known or self.dtype.kind not in "fiub":
            return None
        return float(self.array().reshape(-1)[0])

    def uniform(self) -> float | None:
        """The number that all its elements equal, if they do and are few enough to look at."""
        if not self.small or self.size == 0 or self.dtype.kind not in "fiub":
            return None
        flat = self.array().reshape(-1)
        return float(flat[0]) if bool(np.all(flat == flat[0])) else None


# ---------------------------------------------------------------------------------------------- shared by both worlds


def normal_axis(axis: int, rank: int, label: str) -> int:
    """A dimension counted from the front.

    Raises:
        FormatError: If the tensor has no such dimension.
    """
    if not -rank <= axis < rank:
        raise FormatError(
            f"{label}: axis {axis} does not exist, expected one of a tensor with {rank} dimensions; export it again"
        )
    return axis + rank if axis < 0 else axis


def axes_of(item: Item, axes: Array | None, rank: int) -> tuple[int, ...] | None:
    """The axes of a reduction, squeeze, ...: an input in younger opsets, an attribute in older ones."""
    given = item.ints("axes") if axes is None else tuple(int(a) for a in np.asarray(axes).reshape(-1))
    return None if given is None else tuple(normal_axis(a, rank, item.label) for a in given)


def reshaped(shape: Shape, target: Sequence[int], allow_zero: bool, label: str) -> Shape:
    """The shape that ``Reshape`` makes."""
    new = [int(t) for t in target]
    if not allow_zero:
        for i, t in enumerate(new):
            if t == 0:
                if i >= len(shape):
                    raise FormatError(
                        f"{label}: wants to copy dimension {i} of a tensor of shape {list(shape)}; export it again"
                    )
                new[i] = shape[i]
    count = prod(shape)
    if new.count(-1) == 1:
        rest = -prod(new)
        if rest == 0 or count % rest:
            raise FormatError(
                f"{label}: cannot reshape {list(shape)} to {list(target)}, the sizes do not divide; check the input "
                "shapes"
            )
        new[new.index(-1)] = count // rest
    if any(n < 0 for n in new) or prod(new) != count:
        raise FormatError(
            f"{label}: cannot reshape {list(shape)} to {list(target)}, the number of elements differs; check the "
            "input shapes"
        )
    return tuple(new)


def slices_of(item: Item, arrays: Sequence[Array | None], shape: Shape) -> list[slice]:
    """The slice that ``Slice`` takes of every dimension, in numpy's sense (attributes below opset 10)."""
    rank = len(shape)
    if item.ints("starts") is not None:
        starts, ends = item.ints("starts", ()), item.ints("ends", ())
        axes, steps = item.ints("axes"), None
    else:
        listed = [
            None if a is None else tuple(int(v) for v in np.asarray(a).reshape(-1))
            for a in [*arrays[1:], *[None] * 4][:4]
        ]
        starts, ends, axes, steps = listed
    if starts is None or ends is None or len(starts) != len(ends):
        raise FormatError(f"{item.label}: has no starts and ends of equal length; the file is damaged")
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    if not len(axes) == len(steps) == len(starts):
        raise FormatError(
            f"{item.label}: has {len(starts)} starts, {len(axes)} axes and {len(steps)} steps; the file is damaged"
        )
    result = [slice(0, n, 1) for n in shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step == 0:
            raise FormatError(f"{item.label}: has step 0, expected any other; the file is damaged")
        dim = normal_axis(axis, rank, item.label)
        n = shape[dim]
        # ONNX clamps to [0, n] forwards and to [-1, n - 1] backwards (the text of Slice-13).
        low, high = (0, n) if step > 0 else (-1, n - 1)
        first = min(max(start + n if start < 0 else start, 0), n if step > 0 else n - 1)
        last = min(max(end + n if end < 0 else end, low), high)
        result[dim] = slice(first, None if last < 0 else last, step)
    return result


def split_sizes(item: Item, split: Array | None, size: int) -> list[int]:
    """The sizes into which ``Split`` cuts a dimension, in all its forms."""
    sizes = item.ints("split") if split is None else tuple(int(s) for s in np.asarray(split).reshape(-1))
    if sizes is None:
        parts = item.integer("num_outputs", len(item.outputs))
        if not 1 <= parts <= max(len(item.outputs), 1):
            raise FormatError(
                f"{item.label}: splits into {parts} parts, expected {len(item.outputs)}; the file is damaged"
            )
        chunk = ceil(size / parts)
        sizes = (chunk,) * (parts - 1) + (size - chunk * (parts - 1),)
    if sum(sizes) != size or any(s < 0 for s in sizes) or len(sizes) < len(item.outputs):
        raise FormatError(f"{item.label}: splits a size of {size} into {list(sizes)[:8]}; check the input shapes")
    return list(sizes)


# --------------------------------------------------------------------------------------------------------- evaluators


def _integer_division(a: Array, b: Array) -> Array:
    if a.dtype.kind in "iu" and b.dtype.kind in "iu":
        if not np.all(b):
            raise FormatError("a size is divided by zero; the file is damaged")
        return np.asarray(np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b)), dtype=a.dtype)
    return np.asarray(a / b)


def _modulo(item: Item, a: Array, b: Array) -> Array:
    if a.dtype.kind in "iu" and not np.all(b):
        raise FormatError("a size is divided by zero; the file is damaged")
    return np.fmod(a, b) if item.integer("fmod") else np.mod(a, b)


def _cast(item: Item, x: Array) -> Array:
    return x.astype(numpy_dtype(item.integer("to", 1)))


def _clip(item: Item, x: Array, low: Array | None = None, high: Array | None = None) -> Array:
    lower = item.attributes.get("min") if low is None else low
    upper = item.attributes.get("max") if high is None else high
    if lower is not None:
        x = np.maximum(x, lower)
    return x if upper is None else np.minimum(x, upper)


def _dequantize(item: Item, x: Array, scale: Array, zero: Array | None = None) -> Array:
    scale, zero = _per_axis(item, x, scale), None if zero is None else _per_axis(item, x, zero)
    centred = x.astype(np.float32) if zero is None else x.astype(np.float32) - zero.astype(np.float32)
    return (centred * scale).astype(np.float32)


def _per_axis(item: Item, x: Array, parameter: Array) -> Array:
    """A scale or zero point, brought to a shape that broadcasts against the tensor: per tensor, per axis or blocked."""
    if parameter.size == 1 and parameter.ndim <= 1:
        return parameter.reshape(())
    axis = normal_axis(item.integer("axis", 1), x.ndim, item.label)
    if parameter.ndim == 1:
        return parameter.reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    block = item.integer("block_size")
    if block < 1:
        raise FormatError(f"{item.label}: has block_size {block}, expected at least 1; the file is damaged")
    return np.repeat(parameter, block, axis=axis).take(range(x.shape[axis]), axis=axis)


def _quantize(item: Item, x: Array, scale: Array, zero: Array | None = None) -> Array:
    dtype = np.dtype(np.uint8) if zero is None else zero.dtype
    if dtype.kind not in "iu":
        raise FormatError(f"{item.label}: quantises to {dtype}, expected an integer type; export it again")
    limits = np.iinfo(dtype)
    shift = 0 if zero is None else _per_axis(item, x, zero).astype(np.int64)
    return np.clip(np.rint(x / _per_axis(item, x, scale)) + shift, limits.min, limits.max).astype(dtype)


def _reduce(function: Callable[..., Any]) -> Callable[..., Array]:
    def evaluate(item: Item, x: Array, axes: Array | None = None) -> Array:
        dims = _reduced(item, x.ndim, axes)
        return np.asarray(function(x, axis=dims, keepdims=bool(item.integer("keepdims", 1)))) if dims else x

    return evaluate


def _reduced(item: Item, rank: int, axes: Array | None) -> tuple[int, ...]:
    dims = axes_of(item, axes, rank)
    if not dims:
        return () if item.integer("noop_with_empty_axes") else tuple(range(rank))
    return dims


def _squeeze(item: Item, x: Array, axes: Array | None = None) -> Array:
    return x.reshape(_squeezed(item, x.shape, axes))


def _squeezed(item: Item, shape: Shape, axes: Array | None) -> Shape:
    dims = axes_of(item, axes, len(shape))
    dims = tuple(i for i, n in enumerate(shape) if n == 1) if dims is None else dims
    if any(shape[d] != 1 for d in dims):
        raise FormatError(
            f"{item.label}: squeezes dimensions {list(dims)} of shape {list(shape)}, expected size 1; check the input "
            "shapes"
        )
    return tuple(n for i, n in enumerate(shape) if i not in dims)


def unsqueezed(item: Item, shape: Shape, axes: Array | None) -> tuple[Shape, tuple[int, ...]]:
    """The shape after ``Unsqueeze`` and the new dimensions in it."""
    count = len((item.ints("axes") or ()) if axes is None else np.asarray(axes).reshape(-1))
    dims = axes_of(item, axes, len(shape) + count) or ()
    if len(set(dims)) != len(dims):
        raise FormatError(f"{item.label}: inserts the same dimension twice ({list(dims)}); the file is damaged")
    rest = iter(shape)
    return tuple(1 if i in dims else next(rest) for i in range(len(shape) + count)), dims


def _gather(item: Item, x: Array, index: Array) -> Array:
    axis = normal_axis(item.integer("axis"), x.ndim, item.label)
    index = index.astype(np.int64)
    if index.size and (index.max() >= x.shape[axis] or index.min() < -x.shape[axis]):
        raise FormatError(
            f"{item.label}: reads index {int(index.max())} of a dimension of size {x.shape[axis]}; check the input "
            "shapes"
        )
    return np.take(x, index, axis=axis)


def _transpose(item: Item, x: Array) -> Array:
    return x.transpose(permutation(item, x.ndim))


def permutation(item: Item, rank: int) -> tuple[int, ...]:
    """The permutation of ``Transpose``."""
    perm = item.ints("perm", tuple(reversed(range(rank)))) or ()
    if sorted(perm) != list(range(rank)):
        raise FormatError(
            f"{item.label}: permutes by {list(perm)}, expected every dimension of a tensor with {rank} once; the file "
            "is damaged"
        )
    return perm


def _pad(
    item: Item, x: Array, pads: Array | None = None, value: Array | None = None, axes: Array | None = None
) -> Array:
    widths = pad_widths(item, x.ndim, pads, axes)
    mode = {"constant": "constant", "reflect": "reflect", "edge": "edge", "wrap": "wrap"}[item.text("mode", "constant")]
    if any(w < 0 for pair in widths for w in pair):
        x = x[tuple(slice(max(-lo, 0), n - max(-hi, 0)) for (lo, hi), n in zip(widths, x.shape, strict=True))]
        widths = [(max(lo, 0), max(hi, 0)) for lo, hi in widths]
    if mode == "constant":
        fill = item.number("value", 0.0) if value is None else np.asarray(value).reshape(-1)[0]
        return np.pad(x, widths, mode="constant", constant_values=fill)
    return np.pad(x, widths, mode=mode)  # type: ignore[call-overload, no-any-return]


def pad_widths(item: Item, rank: int, pads: Array | None, axes: Array | None) -> list[tuple[int, int]]:
    """``(before, after)`` per dimension of ``Pad``: attribute below opset 11, input after, with axes since 18."""
    flat = item.ints("pads") if pads is None else tuple(int(p) for p in np.asarray(pads).reshape(-1))
    if flat is None:
        flat = item.ints("paddings") or ()
    dims = (
        range(rank) if axes is None else [normal_axis(int(a), rank, item.label) for a in np.asarray(axes).reshape(-1)]
    )
    if len(flat) != 2 * len(dims):
        raise FormatError(
            f"{item.label}: has {len(flat)} pads for {len(dims)} dimensions, expected two each; the file is damaged"
        )
    widths = [(0, 0)] * rank
    for i, d in enumerate(dims):
        widths[d] = (flat[i], flat[i + len(dims)])
    return widths


def _one_hot(item: Item, index: Array, depth: Array, values: Array) -> Array:
    n = int(np.asarray(depth).reshape(-1)[0])
    axis = item.integer("axis", -1)
    hot = np.moveaxis(np.arange(n) == (index % n)[..., None], -1, axis)
    return np.asarray(np.where(hot, values[1], values[0]))


def _scatter_nd(item: Item, x: Array, index: Array, updates: Array) -> Array:
    if item.text("reduction", "none") != "none":
        raise FormatError(
            f"{item.label}: scatters constants with reduction {item.text('reduction')!r}, expected none; fold it first"
        )
    result = x.copy()
    result[tuple(np.moveaxis(index.astype(np.int64), -1, 0))] = updates
    return result


def _scatter(item: Item, x: Array, index: Array, updates: Array) -> Array:
    result = x.copy()
    result[_elements(item, x, index)] = updates
    return result


def _elements(item: Item, x: Array, index: Array) -> tuple[Array, ...]:
    """The places that ``GatherElements`` and ``ScatterElements`` name."""
    axis = normal_axis(item.integer("axis"), x.ndim, item.label)
    grid: list[Array] = list(np.indices(index.shape))
    grid[axis] = index.astype(np.int64)
    return tuple(grid)


def _cumsum(item: Item, x: Array, axis: Array) -> Array:
    dim = normal_axis(int(np.asarray(axis).reshape(-1)[0]), x.ndim, item.label)
    flip = bool(item.integer("reverse"))
    x = np.flip(x, dim) if flip else x
    total = np.cumsum(x, axis=dim, dtype=x.dtype)
    total = total - x if item.integer("exclusive") else total
    return np.flip(total, dim) if flip else total


def _trilu(item: Item, x: Array, k: Array | None = None) -> Array:
    offset = 0 if k is None else int(np.asarray(k).reshape(-1)[0])
    return np.triu(x, offset) if item.integer("upper", 1) else np.tril(x, offset)


def _gemm(item: Item, a: Array, b: Array, c: Array | None = None) -> Array:
    a, b = (a.T if item.integer("transA") else a), (b.T if item.integer("transB") else b)
    y = item.number("alpha", 1.0) * (a @ b)
    return y if c is None else y + item.number("beta", 1.0) * c


def _constant_of_shape(item: Item, shape: Array) -> Array:
    value, dtype = fill_value(item)
    return np.full(tuple(int(n) for n in shape.reshape(-1)), value, dtype)


def fill_value(item: Item) -> tuple[Any, np.dtype[Any]]:
    """What ``ConstantOfShape`` fills with."""
    proto = item.tensor("value")
    if proto is None:
        return 0.0, np.dtype(np.float32)
    stored = tensor(proto, Path(), item.label)
    if prod(stored.shape) != 1:
        raise FormatError(
            f"{item.label}: fills with a tensor of shape {list(stored.shape)}, expected one element; the file is "
            "damaged"
        )
    value = stored.read().reshape(-1)[0]
    return value, numpy_dtype(stored.code)


def _range(item: Item, start: Array, limit: Array, delta: Array) -> Array:
    return np.arange(start.reshape(-1)[0], limit.reshape(-1)[0], delta.reshape(-1)[0], dtype=start.dtype)


def _slice(item: Item, x: Array, *rest: Array | None) -> Array:
    return x[tuple(slices_of(item, [x, *rest], x.shape))]


def _reshape(item: Item, x: Array, shape: Array) -> Array:
    return x.reshape(reshaped(x.shape, shape.reshape(-1).tolist(), bool(item.integer("allowzero")), item.label))


def _flatten(item: Item, x: Array) -> Array:
    return x.reshape(flattened(item, x.shape))


def flattened(item: Item, shape: Shape) -> Shape:
    """The shape after ``Flatten``."""
    axis = item.integer("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    if not 0 <= axis <= len(shape):
        raise FormatError(f"{item.label}: flattens at axis {axis} of {len(shape)} dimensions; the file is damaged")
    return prod(shape[:axis]), prod(shape[axis:])


def _unary(function: Callable[[Array], Any]) -> Callable[..., Array]:
    return lambda item, x, *_: np.asarray(function(x))


def _nary(function: Callable[[Array, Array], Any]) -> Callable[..., Array]:
    def evaluate(item: Item, first: Array, *rest: Array) -> Array:
        for other in rest:
            first = np.asarray(function(first, other))
        return first

    return evaluate


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))


Evaluator = Callable[..., Any]
EVALUATORS: dict[str, Evaluator] = {
    "Identity": _unary(lambda x: x),
    "Dropout": _unary(lambda x: x),
    "Neg": _unary(np.negative),
    "Abs": _unary(np.abs),
    "Sqrt": _unary(np.sqrt),
    "Exp": _unary(np.exp),
    "Log": _unary(np.log),
    "Floor": _unary(np.floor),
    "Ceil": _unary(np.ceil),
    "Round": _unary(np.rint),
    "Sign": _unary(np.sign),
    "Reciprocal": _unary(lambda x: 1 / x),
    "Not": _unary(np.logical_not),
    "Sin": _unary(np.sin),
    "Cos": _unary(np.cos),
    "Tanh": _unary(np.tanh),
    "Sigmoid": _unary(_sigmoid),
    "Relu": _unary(lambda x: np.maximum(x, 0)),
    "Softplus": _unary(lambda x: np.logaddexp(x, 0)),
    "Erf": _unary(lambda x: np.vectorize(erf, otypes=[x.dtype])(x)),
    "IsNaN": _unary(np.isnan),
    "Add": _nary(np.add),
    "Sub": _nary(np.subtract),
    "Mul": _nary(np.multiply),
    "Div": _nary(_integer_division),
    "Pow": _nary(lambda a, b: np.power(a.astype(np.float64), b).astype(a.dtype)),
    "Min": _nary(np.minimum),
    "Max": _nary(np.maximum),
    "Sum": _nary(np.add),
    "Mean": lambda item, *xs: sum(xs[1:], xs[0]) / len(xs),
    "Mod": _modulo,
    "And": _nary(np.logical_and),
    "Or": _nary(np.logical_or),
    "Xor": _nary(np.logical_xor),
    "Equal": _nary(np.equal),
    "Less": _nary(np.less),
    "LessOrEqual": _nary(np.less_equal),
    "Greater": _nary(np.greater),
    "GreaterOrEqual": _nary(np.greater_equal),
    "Where": lambda item, c, a, b: np.where(c, a, b),
    "Clip": _clip,
    "Cast": _cast,
    "CastLike": lambda item, x, like: x.astype(like.dtype),
    "DequantizeLinear": _dequantize,
    "QuantizeLinear": _quantize,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": lambda item, x, axes=None: x.reshape(unsqueezed(item, x.shape, axes)[0]),
    "Transpose": _transpose,
    "Expand": lambda item, x, shape: np.broadcast_to(
        x, np.broadcast_shapes(x.shape, tuple(shape.reshape(-1).tolist()))
    ).copy(),
    "Tile": lambda item, x, repeats: np.tile(x, tuple(repeats.reshape(-1).tolist())),
    "Concat": lambda item, *xs: np.concatenate(xs, axis=normal_axis(item.integer("axis", 1), xs[0].ndim, item.label)),
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": lambda item, x, index: x[_elements(item, x, index)],
    "GatherND": lambda item, x, index: x[tuple(np.moveaxis(index.astype(np.int64), -1, 0))],
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "Pad": _pad,
    "CumSum": _cumsum,
    "Trilu": _trilu,
    "NonZero": lambda item, x: np.array(np.nonzero(x), dtype=np.int64).reshape(max(x.ndim, 1), -1),
    "OneHot": _one_hot,
    "ScatterND": _scatter_nd,
    "ScatterElements": _scatter,
    "MatMul": lambda item, a, b: a @ b,
    "Gemm": _gemm,
    "ReduceSum": _reduce(np.sum),
    "ReduceMean": _reduce(np.mean),
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
    "ReduceProd": _reduce(np.prod),
    "ReduceL1": _reduce(lambda x, **k: np.abs(x).sum(**k)),
    "ReduceL2": _reduce(lambda x, **k: np.sqrt(np.square(x).sum(**k))),
    "ReduceSumSquare": _reduce(lambda x, **k: np.square(x).sum(**k)),
}
"""Operators that constants may pass through: pure functions, no state, no control flow."""

# ------------------------------------------------------------------------------------------------------------- shapes


def _broadcast(item: Item, xs: Sequence[Const | None]) -> Shape:
    return np.broadcast_shapes(*(x.shape for x in xs if x is not None))


def _same(item: Item, xs: Sequence[Const | None]) -> Shape:
    return _at(item, xs, 0).shape


def _at(item: Item, xs: Sequence[Const | None], position: int) -> Const:
    x = xs[position] if position < len(xs) else None
    if x is None:
        raise FormatError(f"{item.label}: lacks its input {position}; the file is damaged")
    return x


def _values(xs: Sequence[Const | None], position: int) -> Array | None:
    x = xs[position] if position < len(xs) else None
    return None if x is None else x.array()


def _list(item: Item, xs: Sequence[Const | None], position: int) -> list[int]:
    return [int(v) for v in _at(item, xs, position).array().reshape(-1)]


def _reduced_shape(item: Item, xs: Sequence[Const | None]) -> Shape:
    shape = _same(item, xs)
    dims = _reduced(item, len(shape), _values(xs, 1))
    if not item.integer("keepdims", 1):
        return tuple(n for i, n in enumerate(shape) if i not in dims)
    return tuple(1 if i in dims else n for i, n in enumerate(shape))


def _concat_shape(item: Item, xs: Sequence[Const | None]) -> Shape:
    shapes = [x.shape for x in xs if x is not None]
    axis = normal_axis(item.integer("axis", 1), len(shapes[0]), item.label)
    return (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])


def _gathered_shape(item: Item, xs: Sequence[Const | None]) -> Shape:
    shape, index = _same(item, xs), _at(item, xs, 1).shape
    axis = normal_axis(item.integer("axis"), len(shape), item.label)
    return shape[:axis] + index + shape[axis + 1 :]


def _tiled_shape(item: Item, xs: Sequence[Const | None]) -> Shape:
    shape, repeats = _same(item, xs), _list(item, xs, 1)
    if len(shape) != len(repeats) or any(r < 0 for r in repeats):
        raise FormatError(
            f"{item.label}: repeats a tensor of shape {list(shape)} by {repeats[:8]}; the file is damaged"
        )
    return tuple(n * r for n, r in zip(shape, repeats, strict=True))


def _filled_shape(item: Item, xs: Sequence[Const | None]) -> Shape:
    shape = _list(item, xs, 0)
    if any(n < 0 for n in shape):
        raise FormatError(
            f"{item.label}: makes a tensor of shape {shape[:8]}, expected sizes of at least 0; check the input shapes"
        )
    return tuple(shape)


def _range_shape(item: Item, xs: Sequence[Const | None]) -> Shape:
    start, limit, delta = (float(_at(item, xs, i).array().reshape(-1)[0]) for i in range(3))
    if delta == 0 or not np.isfinite([start, limit, delta]).all():
        raise FormatError(
            f"{item.label}: counts from {start} to {limit} by {delta}, expected a step that is not 0; the file is "
            "damaged"
        )
    return (max(ceil((limit - start) / delta), 0),)


def _padded_shape(item: Item, xs: Sequence[Const | None]) -> Shape:
    shape = _same(item, xs)
    widths = pad_widths(item, len(shape), _values(xs, 1), _values(xs, 3))
    return tuple(max(n + lo + hi, 0) for n, (lo, hi) in zip(shape, widths, strict=True))


def _one_hot_shape(item: Item, xs: Sequence[Const | None]) -> Shape:
    shape, depth = list(_same(item, xs)), _list(item, xs, 1)[0]
    if depth < 1:
        raise FormatError(f"{item.label}: has depth {depth}, expected at least 1; the file is damaged")
    axis = normal_axis(item.integer("axis", -1), len(shape) + 1, item.label)
    shape.insert(axis, depth)
    return tuple(shape)


def _product_shape(item: Item, xs: Sequence[Const | None]) -> Shape:
    return matmul_shape(_at(item, xs, 0).shape, _at(item, xs, 1).shape, item.label)


def matmul_shape(a: Shape, b: Shape, label: str) -> Shape:
    """The shape of a matrix product with numpy's rules."""
    if not a or not b or a[-1] != b[-2 if len(b) > 1 else 0]:
        raise FormatError(
            f"{label}: multiplies {list(a)} with {list(b)}, the inner sizes differ; check the input shapes"
        )
    left, right = (a if len(a) > 1 else (1, *a)), (b if len(b) > 1 else (*b, 1))
    core = (left[-2],) * (len(a) > 1) + (right[-1],) * (len(b) > 1)
    return np.broadcast_shapes(left[:-2], right[:-2]) + core


def _gemm_shape(item: Item, xs: Sequence[Const | None]) -> Shape:
    a, b = _at(item, xs, 0).shape, _at(item, xs, 1).shape
    if len(a) != 2 or len(b) != 2:
        raise FormatError(f"{item.label}: multiplies {list(a)} with {list(b)}, expected matrices; the file is damaged")
    return a[0 if not item.integer("transA") else 1], b[1 if not item.integer("transB") else 0]


_FIRST: tuple[str, ...] = (
    "Identity",
    "Dropout",
    "Neg",
    "Abs",
    "Sqrt",
    "Exp",
    "Log",
    "Floor",
    "Ceil",
    "Round",
    "Sign",
    "Reciprocal",
    "Not",
)
_FIRST += (
    "Sin",
    "Cos",
    "Tanh",
    "Sigmoid",
    "Relu",
    "Softplus",
    "Erf",
    "IsNaN",
    "Cast",
    "CastLike",
    "Clip",
    "CumSum",
    "Trilu",
)
_FIRST += ("DequantizeLinear", "QuantizeLinear", "ScatterND", "ScatterElements")
_BROADCAST: tuple[str, ...] = (
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pow",
    "Min",
    "Max",
    "Sum",
    "Mean",
    "Mod",
    "And",
    "Or",
    "Xor",
    "Equal",
    "Less",
)
_BROADCAST += ("LessOrEqual", "Greater", "GreaterOrEqual", "Where")

SHAPES: dict[str, Callable[[Item, Sequence[Const | None]], Shape]] = {
    **dict.fromkeys(_FIRST, _same),
    **dict.fromkeys(_BROADCAST, _broadcast),
    **dict.fromkeys((name for name in EVALUATORS if name.startswith("Reduce")), _reduced_shape),
    "Reshape": lambda item, xs: reshaped(
        _same(item, xs), _list(item, xs, 1), bool(item.integer("allowzero")), item.label
    ),
    "Flatten": lambda item, xs: flattened(item, _same(item, xs)),
    "Squeeze": lambda item, xs: _squeezed(item, _same(item, xs), _values(xs, 1)),
    "Unsqueeze": lambda item, xs: unsqueezed(item, _same(item, xs), _values(xs, 1))[0],
    "Transpose": lambda item, xs: tuple(_same(item, xs)[p] for p in permutation(item, len(_same(item, xs)))),
    "Expand": lambda item, xs: np.broadcast_shapes(_same(item, xs), tuple(_list(item, xs, 1))),
    "Tile": _tiled_shape,
    "Concat": _concat_shape,
    "Slice": lambda item, xs: tuple(
        len(range(*s.indices(n)))
        for s, n in zip(
            slices_of(item, [None, *(_values(xs, i) for i in range(1, len(xs)))], _same(item, xs)),
            _same(item, xs),
            strict=True,
        )
    ),
    "Gather": _gathered_shape,
    "GatherElements": lambda item, xs: _at(item, xs, 1).shape,
    "GatherND": lambda item, xs: _at(item, xs, 1).shape[:-1] + _same(item, xs)[_at(item, xs, 1).shape[-1] :],
    "ConstantOfShape": _filled_shape,
    "Range": _range_shape,
    "Pad": _padded_shape,
    "OneHot": _one_hot_shape,
    "MatMul": _product_shape,
    "Gemm": _gemm_shape,
}
"""The shape of the only output, known before anything is computed. ``NonZero`` is not here: its output is hardly larger
than its input."""


def _part(x: Const, where: tuple[slice, ...]) -> Array:
    return x.array()[where]


def _split_lazily(item: Item, inputs: Sequence[Const | None], root: str, known: bool) -> list[Const]:
    x = _at(item, inputs, 0)
    axis = normal_axis(item.integer("axis"), len(x.shape), item.label)
    sizes = split_sizes(item, _values(inputs, 1), x.shape[axis])
    parts, start = [], 0
    for name, size in zip(item.outputs, sizes, strict=False):
        where = (slice(None),) * axis + (slice(start, start + size),)
        shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        parts.append(Const(name, shape, x.dtype, partial(_part, x, where) if known else None, root))
        start += size
    return parts


_BOOLEAN = {"And", "Or", "Xor", "Not", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "IsNaN"}


def _dtype(item: Item, xs: Sequence[Const | None]) -> np.dtype[Any]:
    if item.op in _BOOLEAN:
        return np.dtype(bool)
    if item.op == "Cast":
        return numpy_dtype(item.integer("to", 1))
    if item.op == "DequantizeLinear":
        return np.dtype(np.float32)
    if item.op == "QuantizeLinear":
        return np.dtype(np.uint8) if len(xs) < 3 or xs[2] is None else xs[2].dtype
    if item.op in ("Where", "CastLike"):
        return _at(item, xs, 1).dtype
    if item.op == "ConstantOfShape":
        return fill_value(item)[1]
    if item.op == "OneHot":
        return _at(item, xs, 2).dtype
    return _at(item, xs, 0).dtype


def fold(item: Item, inputs: Sequence[Const | None], stored: int = 0) -> list[Const] | None:
    """Compute a node whose inputs are all constants, or promise to.

    Args:
        item: The node.
        inputs: Its inputs; ``None`` for one that is left out.
        stored: Bytes of all the constants that the file holds.

    Returns:
        One constant per output, or ``None`` if the operator is not one that constants pass through.

    Raises:
        FormatError: If the sizes contradict each other.
    """
    if item.domain or not inputs:
        return None
    root = max((x for x in inputs if x is not None), key=lambda x: (bool(x.root), x.size)).root
    given = sum(x.nbytes for x in inputs if x is not None)

    known = all(x is None or x.known for x in inputs)
    if item.op == "Split":
        return _split_lazily(item, inputs, root, known)
    evaluate = EVALUATORS.get(item.op)
    if evaluate is None:
        return None
    run = evaluate  # narrowed for the closure

    def compute() -> list[Array]:
        arrays = [None if x is None else x.array() for x in inputs]
        with np.errstate(all="ignore"):
            result = run(item, *arrays)
        return [np.asarray(r) for r in result] if isinstance(result, list) else [np.asarray(result)]

    shape_of = SHAPES.get(item.op)
    if shape_of is None:
        if not known or given > FOLD_LIMIT:
            return None
        return [Const.of(name, value, root) for name, value in zip(item.outputs, compute(), strict=False)]
    shape = tuple(int(n) for n in shape_of(item, inputs))
    name = item.outputs[0]
    if known and prod(shape) <= EAGER and all(x is None or x.size <= EAGER for x in inputs):
        return [Const.of(name, compute()[0], root)]
    dtype = _dtype(item, inputs)
    # Eight times what the file holds: dequantised bytes and widened floats stay inside; hostile growth does not.
    fits = prod(shape) * max(dtype.itemsize, 1) <= max(FOLD_LIMIT, 8 * min(given, stored))
    return [Const(name, shape, dtype, (lambda: compute()[0]) if known and fits else None, root)]
