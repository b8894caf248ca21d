"""One table from ONNX operators to what they mean: every handler turns a node into calls of the builder.

A handler gets a :class:`Call` and returns the value or values that the node makes. Parameters that a file computes from
the data raise :class:`NotConstantError`, which becomes "not analysed" with that reason. Formulas are those of the
operator specification, https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import floor, prod
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from evenly.errors import FormatError
from evenly.graph import ir
from evenly.graph.builder import Builder, Value
from evenly.graph.ir import Weight
from evenly.graph.onnx import constants, positions
from evenly.graph.onnx.constants import Const, axes_of, normal_axis, reshaped, slices_of, split_sizes
from evenly.theory.resize import AxisResize, axis_resize

if TYPE_CHECKING:
    from evenly.graph.onnx.nodes import Item

__all__ = ["TABLE", "UNREADABLE", "Call", "Handler", "NotConstantError"]

Array = NDArray[Any]
Result = Value | Const | Sequence[Value | Const]
FIR_LIMIT = 1 << 22
MOST_PIECES = 4096
"""Entries that are picked one by one."""


class NotConstantError(Exception):
    """A parameter of an operator is not known when the file is read."""


class Call:
    """A node that is being translated.

    Attributes:
        item: The node.
        args: Its inputs; ``None`` for one that is left out.
        opset: Version of the standard operators.
        b: The builder.
        namer: Gives the name for a label.
        use_weights: Whether values of weights count.
        training: Whether batch statistics and noise are those of training.
    """

    def __init__(
        self,
        item: Item,
        args: Sequence[Value | Const | None],
        opset: int,
        builder: Builder,
        namer: Callable[[str], str],
        training: bool,
    ) -> None:
        self.item, self.args, self.opset, self.b = item, args, opset, builder
        self.namer, self.training = namer, training

    def name(self, label: str) -> str:
        """The name of what this node makes; the label is used where one module does several things."""
        return self.namer(label)

    def raw(self, position: int) -> Value | Const | None:
        """An input as it is."""
        return self.args[position] if position < len(self.args) else None

    def need(self, position: int) -> Value | Const:
        """An input that must be there."""
        found = self.raw(position)
        if found is None:
            raise FormatError(f"{self.item.label}: lacks its input {position}; the file is damaged")
        return found

    def x(self, position: int = 0) -> Value:
        """An input as a value of the builder; constants become sources."""
        found = self.need(position)
        return self.b.constant(found.name, weight(found)) if isinstance(found, Const) else found

    def array(self, position: int, what: str) -> Array | None:
        """An input that has to be constant, read."""
        found = self.raw(position)
        if found is None:
            return None
        if not isinstance(found, Const) or not found.known:
            raise NotConstantError(f"its {what} are computed from data")
        return found.array()

    def numbers(self, position: int, what: str) -> list[float] | None:
        """An input that has to be a constant list of numbers."""
        found = self.array(position, what)
        return None if found is None else [float(v) for v in found.reshape(-1)]

    def parameter(self, position: int) -> Weight | Value | None:
        """An optional parameter of a layer, constant or not."""
        found = self.raw(position)
        return weight(found) if isinstance(found, Const) else found

    def weight(self, position: int) -> Weight | None:
        """An input that has to be constant, as a weight."""
        found = self.raw(position)
        if found is None:
            return None
        if not isinstance(found, Const):
            raise NotConstantError(f"its parameter {position} is computed from data")
        return weight(found)

    def scalar(self, position: int, default: float | None = None) -> float | None:
        """A constant number."""
        found = self.raw(position)
        if found is None:
            return default
        number = found.scalar() if isinstance(found, Const) else None
        if number is None:
            raise NotConstantError(f"its parameter {position} is computed from data")
        return number


Handler = Callable[[Call], Result]
TABLE: dict[tuple[str, str], Handler] = {}


def _op(*names: str, domain: str = "") -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        for name in names:
            TABLE[domain, name] = handler
        return handler

    return register


def weight(const: Const, fixed: bool = False) -> Weight:
    """A constant of the file as a weight that is read when it is asked for."""
    load = (lambda: np.asarray(const.array(), dtype=np.float64)) if const.known else None
    return Weight(const.root or const.name, const.shape, fixed, load)


def reshaped_weight(w: Weight, shape: tuple[int, ...], perm: tuple[int, ...] | None = None) -> Weight:
    """The same values in another shape, transposed first if asked for."""
    load = w.load

    def read() -> NDArray[np.floating]:
        values = cast("Callable[[], NDArray[np.floating]]", load)()
        return (values if perm is None else values.transpose(perm)).reshape(shape)

    return Weight(w.name, shape, w.fixed, None if load is None else read)


def _scaled(w: Weight | None, factor: float) -> Weight | None:
    if w is None or factor == 1.0 or w.load is None:
        return w
    load = w.load
    return replace(w, load=lambda: np.asarray(load()) * factor)


# ------------------------------------------------------------------------------------------------------- convolutions


def _spatial(c: Call, name: str, rank: int, default: int) -> tuple[int, ...]:
    values = c.item.ints(name, (default,) * rank)
    if values is None or len(values) != rank or any(v < (0 if name == "output_padding" else 1) for v in values):
        raise FormatError(
            f"{c.item.label}: attribute {name} is {list(values or ())[:8]}, expected {rank} positive numbers; export "
            "it again"
        )
    return values


def _pads(c: Call, rank: int) -> tuple[tuple[int, int], ...]:
    flat = c.item.ints("pads", (0,) * (2 * rank)) or ()
    if len(flat) != 2 * rank:
        raise FormatError(
            f"{c.item.label}: has {len(flat)} pads for {rank} axes, expected two each; the file is damaged"
        )
    return tuple(zip(flat[:rank], flat[rank:], strict=True))


def _halves(total: int, more_after: bool) -> tuple[int, int]:
    small, large = total // 2, total - total // 2
    return (small, large) if more_after else (large, small)


def _padding(
    c: Call, sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Padding of a convolution or pooling: explicit, or computed from the sizes."""
    auto = c.item.text("auto_pad", "NOTSET")
    if auto in ("NOTSET", ""):
        return _pads(c, len(kernel))
    if auto == "VALID":
        return ((0, 0),) * len(kernel)
    if auto not in ("SAME_UPPER", "SAME_LOWER"):
        raise FormatError(
            f"{c.item.label}: auto_pad is {auto!r}, expected NOTSET, SAME_UPPER, SAME_LOWER or VALID; the file is "
            "damaged"
        )
    result = []
    for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
        result.append(_halves(total, auto == "SAME_UPPER"))
    return tuple(result)


def _kernel(c: Call, x: Value, shape: Sequence[int]) -> tuple[int, ...]:
    if len(shape) != len(x.shape) or len(shape) < 3:
        raise FormatError(
            f"{c.item.label}: weight {list(shape)} does not fit the input {list(x.shape)}; check the input shapes"
        )
    return tuple(shape[2:])


def _is_fir(const: Value | Const | None, groups: int, channels: int) -> bool:
    """Whether a depthwise kernel is the same for all channels: a fixed filter, not a trained one.

    Of one channel it is one if it is an average: positive, symmetric, of sum 1.
    """
    if not isinstance(const, Const) or groups != channels or const.size > FIR_LIMIT or not const.known:
        return False
    values = const.array()
    if groups == 1:
        taps = values.astype(np.float64)
        average = const.size > 1 and len(taps) == 1 and abs(taps.sum() - 1) < 1e-5 and (taps > 0).all()
        return bool(average and np.allclose(taps, np.flip(taps), rtol=1e-5, atol=0))
    return bool(values.shape[0] > 1 and (values == values[:1]).all() and values.any() and values[0].size > 1)


@_op("Conv", "ConvInteger", "QLinearConv")
def _conv(c: Call) -> Result:
    place = 3 if c.item.op == "QLinearConv" else 1
    x, stored = c.x(), c.need(place)
    bias = _dequantised_bias(c) if c.item.op == "QLinearConv" else c.parameter(2) if c.item.op == "Conv" else None
    kernel = _kernel(c, x, stored.shape)
    rank, groups = len(kernel), c.item.integer("group", 1)
    stride, dilation = _spatial(c, "strides", rank, 1), _spatial(c, "dilations", rank, 1)
    if groups < 1 or x.shape[1] != stored.shape[1] * groups or stored.shape[0] % groups:
        raise FormatError(
            f"{c.item.label}: weight {list(stored.shape)} with {groups} groups does not fit {x.shape[1]} channels; "
            "check the input shapes"
        )
    padding = _padding(c, x.shape[2:], kernel, stride, dilation)
    fixed = _is_fir(stored, groups, x.shape[1])
    w = replace(_dequantised_weight(c, place), fixed=fixed) if isinstance(stored, Const) else stored
    return c.b.conv(
        x, w, bias, stride=stride, padding=padding, dilation=dilation, groups=groups,
        name=c.name("conv"),
    )  # fmt: skip


def _constant(c: Call, position: int) -> Const:
    found = c.need(position)
    if not isinstance(found, Const):
        raise NotConstantError("its weight is computed from data")
    return found


def _dequantised_weight(c: Call, position: int) -> Weight:
    stored = _constant(c, position)
    w = weight(stored)
    scales = {"QLinearConv": (4, 5), "ConvInteger": (None, 3), "QLinearMatMul": (4, 5), "MatMulInteger": (None, 3)}.get(
        c.item.op
    )
    if scales is None or not stored.known:
        return w
    scale = None if scales[0] is None else _constant(c, scales[0])
    zero = c.raw(scales[1])
    if zero is not None and not isinstance(zero, Const):
        raise NotConstantError("the zero point of its weight is computed from data")
    axis = 0 if "Conv" in c.item.op else len(stored.shape) - 1

    def read() -> NDArray[np.floating]:
        values = np.asarray(stored.array(), dtype=np.float64)
        for parameter, apply in ((zero, np.subtract), (scale, np.multiply)):
            if parameter is not None:
                array = np.asarray(parameter.array(), dtype=np.float64)
                shape = [-1 if i == axis and array.size > 1 else 1 for i in range(values.ndim)]
                values = apply(values, array.reshape(shape))
        return values

    return replace(w, load=read)


def _dequantised_bias(c: Call) -> Weight | None:
    if c.raw(8) is None:
        return None
    bias, x_scale, w_scale = _constant(c, 8), _constant(c, 1), _constant(c, 4)
    if not (bias.known and x_scale.known and w_scale.known):
        return weight(bias)
    return replace(
        weight(bias),
        load=lambda: np.asarray(bias.array(), np.float64) * x_scale.array().reshape(-1) * w_scale.array().reshape(-1),
    )


@_op("ConvTranspose")
def _conv_transpose(c: Call) -> Result:
    x, stored = c.x(), c.need(1)
    kernel = _kernel(c, x, stored.shape)
    rank, groups = len(kernel), c.item.integer("group", 1)
    if groups < 1 or x.shape[1] != stored.shape[0] or stored.shape[0] % groups:
        raise FormatError(
            f"{c.item.label}: weight {list(stored.shape)} with {groups} groups does not fit {x.shape[1]} channels; "
            "check the input shapes"
        )
    stride, dilation = _spatial(c, "strides", rank, 1), _spatial(c, "dilations", rank, 1)
    extra = _spatial(c, "output_padding", rank, 0)
    auto, wanted = c.item.text("auto_pad", "NOTSET"), c.item.ints("output_shape")
    sizes = x.shape[2:]
    if wanted is not None and len(wanted) == rank + 2:
        wanted = wanted[2:]  # some exporters write batch and channels as well
    same = wanted is None and auto in ("SAME_UPPER", "SAME_LOWER")
    if same:
        wanted = tuple(n * s for n, s in zip(sizes, stride, strict=True))
    if wanted is not None:
        if len(wanted) != rank:
            raise FormatError(
                f"{c.item.label}: output_shape is {list(wanted)}, expected {rank} sizes; the file is damaged"
            )
        # What is to be cut in all: the full size s (n - 1) + a + d (k - 1) + 1 less the one wanted.
        padding = []
        for n, s, a, k, d, m in zip(sizes, stride, extra, kernel, dilation, wanted, strict=True):
            total = s * (n - 1) + a + d * (k - 1) + 1 - m
            # A kernel shorter than the stride has nothing to be cut: a stated size gets zeros behind, while SAME keeps
            # what there is, which is less than n s (as ONNX Runtime does it).
            negative = (0, 0) if same else (0, total)
            padding.append(_halves(total, auto == "SAME_UPPER") if total >= 0 else negative)
    else:
        padding = list(_pads(c, rank)) if auto in ("NOTSET", "") else [(0, 0)] * rank
    fixed = _is_fir(stored, groups, x.shape[1]) and stored.shape[1] == 1
    w = weight(stored, fixed) if isinstance(stored, Const) else stored
    return c.b.conv_transpose(
        x, w, c.parameter(2), stride=stride, padding=tuple(padding), dilation=dilation, output_padding=extra,
        groups=groups, name=c.name("conv_transpose"),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------- matrix products


def _times_matrix(c: Call, x: Value, matrix: Weight, bias: Weight | None) -> Value:
    return c.b.linear(x, matrix, bias, name=c.name("linear"))


@_op("Linear", domain="evenly")
def _linear(c: Call) -> Result:
    x, w = c.x(), weight(_constant(c, 1))
    if x.shape[-1] != w.shape[0]:
        raise FormatError(
            f"{c.item.label}: weight {list(w.shape)} does not fit {x.shape[-1]} channels; check the input shapes"
        )
    return _times_matrix(c, x, reshaped_weight(w, w.shape[::-1], (1, 0)), c.weight(2))


@_op("MatMul", "MatMulInteger", "QLinearMatMul")
def _matmul(c: Call) -> Result:
    second = 3 if c.item.op == "QLinearMatMul" else 1
    a, b = c.need(0), c.need(second)
    constants.matmul_shape(a.shape, b.shape, c.item.label)
    if isinstance(b, Const) and len(b.shape) == 2:
        w = _dequantised_weight(c, second)
        return _times_matrix(c, c.x(), reshaped_weight(w, w.shape[::-1], (1, 0)), None)
    return c.b.matmul(c.x(), c.x(second), name=c.name("matmul"))


@_op("Gemm")
def _gemm(c: Call) -> Result:
    x, w = c.x(), c.need(1)
    if len(x.shape) != 2 or len(w.shape) != 2:
        raise FormatError(
            f"{c.item.label}: multiplies {list(x.shape)} with {list(w.shape)}, expected matrices; check the input "
            "shapes"
        )
    alpha, beta = c.item.number("alpha", 1.0), c.item.number("beta", 1.0)
    if c.item.integer("transA"):
        x = c.b.permute(x, (1, 0))
    inner = w.shape[1 if c.item.integer("transB") else 0]
    if x.shape[1] != inner:
        raise FormatError(
            f"{c.item.label}: multiplies {list(x.shape)} with {list(w.shape)}, the inner sizes differ; check the "
            "input shapes"
        )
    if isinstance(w, Const):
        matrix = weight(w)
        if not c.item.integer("transB"):
            matrix = reshaped_weight(matrix, matrix.shape[::-1], (1, 0))
        shift = c.raw(2)
        absorbed = isinstance(shift, Const) and shift.shape in ((matrix.shape[0],), (1, matrix.shape[0]))
        bias = None
        if absorbed and isinstance(shift, Const):
            bias = _scaled(reshaped_weight(weight(shift), (matrix.shape[0],)), beta)
        scaled = _scaled(matrix, alpha)
        y = _times_matrix(c, x, cast("Weight", scaled), bias)
        if shift is not None and not absorbed:
            y = c.b.elementwise("add", y, _times(c, c.x(2), beta), name=c.name("add"))
        return y
    other = c.b.permute(w, (1, 0)) if c.item.integer("transB") else w
    y = _times(c, c.b.matmul(x, other, name=c.name("matmul")), alpha)
    return y if c.raw(2) is None else c.b.elementwise("add", y, _times(c, c.x(2), beta), name=c.name("add"))


def _times(c: Call, x: Value, factor: float) -> Value:
    return x if factor == 1.0 else c.b.elementwise("mul", x, c.b.scalar(factor), name=c.name("mul"))


@_op("Einsum")
def _einsum(c: Call) -> Result:
    return c.b.einsum(c.item.text("equation"), *(c.x(i) for i in range(len(c.args))), name=c.name("einsum"))


@_op("Attention", domain="evenly")
def _attention_idiom(c: Call) -> Result:
    q, k, v = c.x(0), c.x(1), c.x(2)
    if not len(q.shape) == len(k.shape) == len(v.shape) >= 3:
        raise NotConstantError("its query, key and value have different ranks")
    rank, scale = len(k.shape), 1.0
    for position, inverse in enumerate(c.item.attributes["inverse"], 3):
        factor = c.scalar(position, 1.0)
        scale = scale / float(factor or 1.0) if inverse else scale * float(factor or 1.0)
    usual = float(q.shape[-1]) ** -0.5
    if np.isclose(scale, usual, rtol=1e-6, atol=0):
        scale = usual  # what the framework meant before rounding to float32
    if c.item.attributes["transposed"]:
        k = c.b.permute(k, (*range(rank - 2), rank - 1, rank - 2))
    return c.b.attention(
        q, k, v,
        scale=scale, biased=bool(c.item.attributes["biased"]), name=c.name("attention"),
    )  # fmt: skip


@_op("Attention")
def _attention(c: Call) -> Result:
    """Opset 23. Inputs of rank 3 are ``(batch, length, heads * channels)``."""
    q, k, v = c.x(0), c.x(1), c.x(2)
    if c.raw(4) is not None or c.raw(5) is not None:
        raise NotConstantError("it reads keys and values of earlier calls")
    if c.item.number("softcap", 0.0):
        raise NotConstantError("it caps its scores")
    heads, kv_heads = c.item.integer("q_num_heads"), c.item.integer("kv_num_heads")
    flat = len(q.shape) == 3
    if flat:
        if heads < 1 or kv_heads != heads or q.shape[2] % heads or v.shape[2] % heads:
            raise NotConstantError("its heads share keys and values")
        q, k, v = (
            c.b.permute(c.b.reshape(t, (*t.shape[:2], heads, t.shape[2] // heads)), (0, 2, 1, 3)) for t in (q, k, v)
        )
    elif q.shape[1] != k.shape[1]:
        raise NotConstantError("its heads share keys and values")
    scale = c.item.number("scale", float(q.shape[-1]) ** -0.5)
    biased = c.raw(3) is not None or bool(c.item.integer("is_causal"))
    y = c.b.attention(q, k, v, scale=scale, biased=biased, name=c.name("attention"))
    if flat:
        y = c.b.permute(y, (0, 2, 1, 3))
        y = c.b.reshape(y, (*y.shape[:2], y.shape[2] * y.shape[3]))
    return y


@_op("Softmax", "LogSoftmax", "Hardmax")
def _softmax(c: Call) -> Result:
    x = c.x()
    if c.item.op == "Hardmax":
        raise NotConstantError("it picks positions by the data")
    rank = len(x.shape)
    axis = normal_axis(c.item.integer("axis", 1 if c.opset < 13 else -1), rank, c.item.label)
    if c.opset < 13 and prod(x.shape[axis + 1 :]) != 1:
        # Below opset 13 everything from the axis on is one dimension.
        flat = c.b.softmax(c.b.reshape(x, (*x.shape[:axis], prod(x.shape[axis:]))), axis, name=c.name("softmax"))
        x = c.b.reshape(flat, x.shape)
    else:
        x = c.b.softmax(x, axis, name=c.name("softmax"))
    return c.b.pointwise(x, "log", name=c.name("log")) if c.item.op == "LogSoftmax" else x


# ------------------------------------------------------------------------------------------------------ interpolation

IDENTITY = AxisResize(1, 1, (((0, 1.0),),))
_MODES = {"nearest": "nearest", "linear": "linear", "bilinear": "linear", "trilinear": "linear", "cubic": "cubic"}
_MODE_NAMES = {
    "nearest": ("nearest",) * 4,
    "linear": ("linear", "linear", "bilinear", "trilinear"),
    "cubic": ("cubic", "cubic", "bicubic", "tricubic"),
}


@_op("Resize", "Upsample")
def _resize(c: Call) -> Result:
    x = c.x()
    mode = _MODES.get(c.item.text("mode", "nearest"))
    if mode is None:
        raise FormatError(
            f"{c.item.label}: mode is {c.item.text('mode')!r}, expected nearest, linear or cubic; the file is damaged"
        )
    rank = len(x.shape)
    given = c.item.ints("axes")
    dims = tuple(range(rank)) if given is None else tuple(normal_axis(a, rank, c.item.label) for a in given)
    young = c.item.op == "Resize" and c.opset >= 11
    scales, sizes = _resize_targets(c, young, x.shape, dims)
    # Before opset 11 there was one rule: x = y / scale, rounded down.
    coordinate = c.item.text("coordinate_transformation_mode", "half_pixel") if young else "asymmetric"
    nearest = c.item.text("nearest_mode", "round_prefer_floor") if young else "floor"
    if coordinate == "tf_crop_and_resize":
        roi = c.numbers(1, "crop regions")
        if roi != [0.0] * len(dims) + [1.0] * len(dims):
            raise NotConstantError("it crops while it resizes (tf_crop_and_resize)")
        coordinate = "align_corners"  # with the whole picture as region the two formulas are the same
    axes: dict[int, AxisResize] = {}
    out: dict[int, int] = {}
    for d, scale, size in zip(dims, scales, sizes, strict=True):
        if size < 1:
            raise FormatError(
                f"{c.item.label}: resizes a dimension of size {x.shape[d]} to {size}; check the input shapes"
            )
        if size == x.shape[d] and scale in (None, 1.0):
            continue
        out[d] = size
        axes[d] = axis_resize(
            x.shape[d], size, mode, scale=scale, coordinate=coordinate, nearest=nearest,
            cubic_a=c.item.number("cubic_coeff_a", -0.75), exclude_outside=bool(c.item.integer("exclude_outside")),
            antialias=bool(c.item.integer("antialias")),
        )  # fmt: skip
    return _resampled(c, x, axes, _MODE_NAMES[mode][min(len(axes), 3)], out) if axes else x


def _resampled(c: Call, x: Value, axes: dict[int, AxisResize], mode: str, out: dict[int, int]) -> Value:
    """Some dimensions resampled. The builder resizes the dimensions after the second: others are moved there."""
    rank = len(x.shape)
    perm = [*(d for d in range(rank) if d not in axes), *axes]
    if perm[2:] != list(range(2, rank)):
        x = c.b.permute(x, perm)
    else:
        perm = list(range(rank))
    y = c.b.resize(
        x,
        [axes.get(d, IDENTITY) for d in perm[2:]],
        mode,
        [out.get(d, n) for d, n in zip(perm[2:], x.shape[2:], strict=True)],
        name=c.name("interpolate"),
    )
    return y if perm == list(range(rank)) else c.b.permute(y, [int(i) for i in np.argsort(perm)])


@_op("Interpolation", domain="evenly")
def _interpolation(c: Call) -> Result:
    """Two reads by constant positions and what lies between them."""
    x = c.x()
    reason = "it mixes positions in no regular order"
    low, high, share = (c.array(i, what) for i, what in ((1, "indices"), (2, "indices"), (3, "weights")))
    assert low is not None
    assert high is not None
    assert share is not None
    if c.item.attributes["tuples"]:
        if low.shape[-1:] != (1,) or high.shape[-1:] != (1,):
            raise NotConstantError(reason)
        low, high = low[..., 0], high[..., 0]
    rank = len(x.shape)
    dim = normal_axis(c.item.integer("axis"), rank, c.item.label)
    perm = c.item.ints("perm") or (tuple(range(rank))[::-1] if c.item.attributes["perm"] == () else tuple(range(rank)))
    if low.ndim != 1 or low.shape != high.shape or not low.size or len(perm) != rank:
        raise NotConstantError(reason)
    # The weights stand along the axis that was read, and are the same everywhere else.
    here = rank - 1 - perm.index(dim)
    along = share.shape[::-1]
    if len(along) > rank or any(n != 1 for i, n in enumerate(along) if i != here):
        raise NotConstantError(reason)
    low, high = _places(c, low, x.shape[dim]), _places(c, high, x.shape[dim])
    weights = np.broadcast_to(share.reshape(-1).astype(np.float64), low.shape)
    found = positions.interpolation(x.shape[dim], low, high, weights)
    if found is None:
        raise NotConstantError(reason)
    return c.b.permute(_resampled(c, x, {dim: found[0]}, found[1], {dim: len(low)}), perm)


def _resize_targets(
    c: Call, young: bool, shape: Sequence[int], dims: Sequence[int]
) -> tuple[list[float | None], list[int]]:
    """Scale (``None`` when it is the ratio of the sizes) and size of every resized dimension."""
    position = 2 if young else 1
    sizes = c.numbers(3, "sizes") if young else None
    attribute = c.item.floats("scales")
    scales = list(attribute) if attribute is not None else c.numbers(position, "scales")
    if attribute is None and scales is None and c.item.op == "Upsample" and "height_scale" in c.item.attributes:
        scales = [1.0, 1.0, c.item.number("height_scale", 1.0), c.item.number("width_scale", 1.0)]
    if sizes:
        if len(sizes) != len(dims):
            raise FormatError(f"{c.item.label}: has {len(sizes)} sizes for {len(dims)} dimensions; the file is damaged")
        policy = c.item.text("keep_aspect_ratio_policy", "stretch")
        if policy in ("not_larger", "not_smaller"):
            ratio = (min if policy == "not_larger" else max)(s / shape[d] for s, d in zip(sizes, dims, strict=True))
            # The specification rounds halves up.
            return [ratio] * len(dims), [floor(ratio * shape[d] + 0.5) for d in dims]
        return [None] * len(dims), [int(s) for s in sizes]
    if not scales or len(scales) != len(dims) or not all(np.isfinite(s) and 0 < s < 2**20 for s in scales):
        raise FormatError(
            f"{c.item.label}: scales are {(scales or [])[:8]}, expected {len(dims)} positive numbers; the file is "
            "damaged"
        )
    # float32, as the file stores it: floor(n * s) must agree with what runs.
    return list(scales), [floor(float(np.float32(shape[d]) * np.float32(s))) for d, s in zip(dims, scales, strict=True)]


@_op("DepthToSpace")
def _depth_to_space(c: Call) -> Result:
    x, r = c.x(), _block(c)
    order: Literal["CRD", "DCR"] = "CRD" if c.item.text("mode", "DCR") == "CRD" else "DCR"
    return c.b.pixel_shuffle(x, (r, r), order, name=c.name("pixel_shuffle"))


@_op("SpaceToDepth")
def _space_to_depth(c: Call) -> Result:
    x, r = c.x(), _block(c)
    if len(x.shape) != 4 or x.shape[2] % r or x.shape[3] % r:
        raise FormatError(f"{c.item.label}: blocks of {r} do not fit the input {list(x.shape)}; check the input shapes")
    n, ch, h, w = x.shape
    # The block comes before the channels: y[n, (i, j, c), h, w] is x[n, c, r h + i, r w + j].
    y = c.b.permute(c.b.reshape(x, (n, ch, h // r, r, w // r, r)), (0, 3, 5, 1, 2, 4))
    return c.b.reshape(y, (n, ch * r * r, h // r, w // r))


def _block(c: Call) -> int:
    r = c.item.integer("blocksize")
    if r < 1:
        raise FormatError(f"{c.item.label}: blocksize is {r}, expected at least 1; the file is damaged")
    return r


# ------------------------------------------------------------------------------------------------ pooling, reductions


_POOLS: dict[str, tuple[Literal["max", "average", "lp"], str]] = {
    "MaxPool": ("max", "max_pool"),
    "AveragePool": ("average", "avg_pool"),
    "LpPool": ("lp", "lp_pool"),
}


@_op(*_POOLS)
def _pool(c: Call) -> Result:
    x = c.x()
    rank = len(x.shape) - 2
    if rank < 1:
        raise FormatError(
            f"{c.item.label}: pools a tensor of shape {list(x.shape)}, expected at least 3 dimensions; check the "
            "input shapes"
        )
    if c.item.ints("kernel_shape") is None:
        raise FormatError(f"{c.item.label}: lacks kernel_shape; the file is damaged")
    kernel = _spatial(c, "kernel_shape", rank, 1)
    stride, dilation = _spatial(c, "strides", rank, 1), _spatial(c, "dilations", rank, 1)
    kind, label = _POOLS[c.item.op]
    padding, ceil_mode = _padding(c, x.shape[2:], kernel, stride, dilation), bool(c.item.integer("ceil_mode"))
    # Without padding there is nothing to count; PyTorch's reader then says True.
    nothing = kind != "average" or (not ceil_mode and not any(p for pair in padding for p in pair))
    return c.b.pool(
        x, kind, kernel=kernel, stride=stride, dilation=dilation, padding=padding, ceil_mode=ceil_mode,
        count_include_pad=nothing or bool(c.item.integer("count_include_pad")), name=c.name(label),
    )  # fmt: skip


@_op("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def _global_pool(c: Call) -> Result:
    x = c.x()
    kind = {"GlobalAveragePool": "mean", "GlobalMaxPool": "max", "GlobalLpPool": "norm"}[c.item.op]
    return c.b.reduce(x, tuple(range(2, len(x.shape))), kind, True, name=c.name(kind))


@_op("MaxUnpool")
def _unpool(c: Call) -> Result:
    x = c.x()
    rank = len(x.shape) - 2
    kernel, stride = _spatial(c, "kernel_shape", rank, 1), _spatial(c, "strides", rank, 1)
    wanted = c.numbers(2, "output sizes")
    if wanted is not None:
        sizes = [int(n) for n in wanted[-rank:]]
    else:
        sizes = [
            (n - 1) * s + k - lo - hi
            for n, k, s, (lo, hi) in zip(x.shape[2:], kernel, stride, _pads(c, rank), strict=True)
        ]
    return c.b.unpool(x, kernel=kernel, stride=stride, out_sizes=tuple(sizes), name=c.name("max_unpool"))


_REDUCTIONS = {
    "ReduceMean": "mean",
    "ReduceSum": "sum",
    "ReduceMax": "max",
    "ReduceMin": "min",
    "ReduceProd": "prod",
    "ReduceL1": "l1",
    "ReduceL2": "norm",
    "ReduceLogSum": "logsum",
    "ReduceLogSumExp": "logsumexp",
    "ReduceSumSquare": "sumsq",
}


@_op(*_REDUCTIONS)
def _reduce(c: Call) -> Result:
    x, kind = c.x(), _REDUCTIONS[c.item.op]
    dims = axes_of(c.item, c.array(1, "axes"), len(x.shape))
    if not dims:
        if c.item.integer("noop_with_empty_axes"):
            return x
        dims = tuple(range(len(x.shape)))
    return c.b.reduce(x, dims, kind, bool(c.item.integer("keepdims", 1)), name=c.name(kind))


@_op("ArgMax", "ArgMin")
def _arg(c: Call) -> Result:
    x = c.x()
    axis = normal_axis(c.item.integer("axis"), len(x.shape), c.item.label)
    return c.b.reduce(
        x, (axis,), c.item.op.lower(), bool(c.item.integer("keepdims", 1)), name=c.name(c.item.op.lower())
    )


# --------------------------------------------------------------------------------------------------------- shape only


@_op("Identity", "Dropout", "Cast", "CastLike", "QuantizeLinear", "DequantizeLinear", "StopGradient")
def _identity(c: Call) -> Result:
    # A quantised tensor stands for the real numbers that it encodes, so that the two steps of a pair do nothing here.
    return c.need(0)


@_op("Reshape")
def _reshape(c: Call) -> Result:
    x = c.x()
    target = c.item.ints("shape") if c.raw(1) is None else tuple(int(n) for n in c.numbers(1, "sizes") or ())
    if target is None:
        raise FormatError(f"{c.item.label}: lacks its shape; the file is damaged")
    return c.b.reshape(x, reshaped(x.shape, target, bool(c.item.integer("allowzero")), c.item.label))


@_op("Flatten")
def _flatten(c: Call) -> Result:
    x = c.x()
    return c.b.reshape(x, constants.flattened(c.item, x.shape))


@_op("Squeeze", "Unsqueeze")
def _squeeze(c: Call) -> Result:
    x, axes = c.x(), c.array(1, "axes")
    if c.item.op == "Unsqueeze":
        return c.b.unsqueeze(x, tuple(sorted(constants.unsqueezed(c.item, x.shape, axes)[1])))
    dims = axes_of(c.item, axes, len(x.shape))
    dims = tuple(i for i, n in enumerate(x.shape) if n == 1) if dims is None else dims
    if any(x.shape[d] != 1 for d in dims):
        raise FormatError(
            f"{c.item.label}: squeezes dimensions {list(dims)} of {list(x.shape)}, expected size 1; check the input "
            "shapes"
        )
    return c.b.squeeze(x, dims)


@_op("Transpose")
def _transpose(c: Call) -> Result:
    x = c.x()
    return c.b.permute(x, constants.permutation(c.item, len(x.shape)))


@_op("Expand")
def _expand(c: Call) -> Result:
    x, target = c.x(), tuple(int(n) for n in c.numbers(1, "sizes") or ())
    return c.b.expand(x, np.broadcast_shapes(x.shape, target))


@_op("Tile")
def _tile(c: Call) -> Result:
    """Copies side by side: size 1 is a broadcast, anything else a new axis of copies that is merged."""
    x, repeats = c.x(), [int(r) for r in c.numbers(1, "repeats") or ()]
    if len(repeats) != len(x.shape) or any(r < 1 for r in repeats):
        raise FormatError(
            f"{c.item.label}: repeats {list(x.shape)} by {repeats[:8]}, expected one positive number each; the file "
            "is damaged"
        )
    if all(r == 1 or n == 1 for r, n in zip(repeats, x.shape, strict=True)):
        return c.b.expand(x, tuple(n * r for n, r in zip(x.shape, repeats, strict=True)))
    for d, r in enumerate(repeats):
        if r > 1:
            if r > 4096:
                raise NotConstantError(f"it repeats a dimension {r} times")
            x = c.b.concat([x] * r, d, name=c.name("cat"))
    return x


@_op("Concat")
def _concat(c: Call) -> Result:
    values = [c.x(i) for i in range(len(c.args))]
    if not values:
        raise FormatError(f"{c.item.label}: concatenates nothing; the file is damaged")
    dim = normal_axis(c.item.integer("axis", 1), len(values[0].shape), c.item.label)
    for v in values:
        if len(v.shape) != len(values[0].shape) or any(
            a != b for i, (a, b) in enumerate(zip(v.shape, values[0].shape, strict=True)) if i != dim
        ):
            raise FormatError(
                f"{c.item.label}: concatenates {list(values[0].shape)} and {list(v.shape)} along {dim}; check the "
                "input shapes"
            )
    values = [v for v in values if v.shape[dim]] or values[:1]
    return values[0] if len(values) == 1 else c.b.concat(values, dim, name=c.name("cat"))


@_op("Split")
def _split(c: Call) -> Result:
    x = c.x()
    dim = normal_axis(c.item.integer("axis"), len(x.shape), c.item.label)
    return c.b.split(x, dim, split_sizes(c.item, c.array(1, "sizes"), x.shape[dim]))


@_op("Slice")
def _slice(c: Call) -> Result:
    x = c.x()
    arrays = [None, *(c.array(i, "bounds") for i in range(1, len(c.args)))]
    for dim, s in enumerate(slices_of(c.item, arrays, x.shape)):
        n = x.shape[dim]
        start, stop, step = s.indices(n)
        if (start, stop, step) == (0, n, 1):
            continue
        x = c.b.slice(x, dim, start, stop, step, name=c.name("slice"))
    return x


@_op("Gather")
def _gather(c: Call) -> Result:
    data, index = c.need(0), c.need(1)
    if isinstance(data, Const) and not isinstance(index, Const):
        if len(data.shape) == 2 and c.item.integer("axis") in (0, -2):
            return c.b.embedding(index, weight(data), name=c.name("embedding"))
        raise NotConstantError("it looks values up in a table by the data")
    x = c.x()
    dim = normal_axis(c.item.integer("axis"), len(x.shape), c.item.label)
    places = c.array(1, "indices")
    if places is None or places.dtype.kind not in "iu" or places.size == 0:
        raise NotConstantError("its indices are empty")
    if places.ndim == 0:
        at = int(_places(c, places, x.shape[dim]))
        return c.b.squeeze(c.b.slice(x, dim, at, at + 1, 1, name=c.name("select")), (dim,))
    y = _picked(c, x, {dim: places.reshape(-1)})
    return y if places.ndim == 1 else c.b.reshape(y, x.shape[:dim] + places.shape + x.shape[dim + 1 :])


def _places(c: Call, places: Array, size: int) -> Array:
    """Indices into a dimension, counted from its start."""
    if places.dtype.kind not in "iu" or not places.size:
        raise NotConstantError("its indices are empty")
    outside = places[(places < -size) | (places >= size)]
    if outside.size:
        raise FormatError(
            f"{c.item.label}: reads index {int(outside.reshape(-1)[0])} of a dimension of size {size}; check the input "
            "shapes"
        )
    return places.astype(np.int64) % size


def _picked(c: Call, x: Value, chosen: dict[int, Array]) -> Value:
    """Entries of some dimensions: slices where they are regular, an interpolation where they repeat, else pieces."""
    axes: dict[int, AxisResize] = {}
    mode = ""
    for dim, given in chosen.items():
        places = _places(c, given, x.shape[dim])
        step = int(places[1] - places[0]) if len(places) > 1 else 1
        if step > 0 and (np.diff(places) == step).all():
            x = c.b.slice(x, dim, int(places[0]), int(places[-1]) + 1, step, name=c.name("slice"))
            continue
        found = None
        digits = () if x.is_constant or not x.dims else x.dims[dim].digits
        if digits and all(d.axis for d in digits):
            found = positions.nearest(x.shape[dim], places)
        if found is not None:
            axes[dim], mode = found
        elif len(places) <= MOST_PIECES:
            parts = [c.b.slice(x, dim, int(i), int(i) + 1, 1, name=c.name("select")) for i in places]
            x = c.b.concat(parts, dim, name=c.name("cat"))
        else:
            raise NotConstantError(f"it picks {len(places)} positions in no regular order")
    return _resampled(c, x, axes, mode, {d: len(chosen[d]) for d in axes}) if axes else x


@_op("GatherND")
def _gather_nd(c: Call) -> Result:
    """Reads by tuples of indices that form a grid: one list of positions per leading dimension."""
    if isinstance(c.need(0), Const):
        raise NotConstantError("it looks values up in a table by the data")
    x, index = c.x(), c.array(1, "indices")
    assert index is not None
    count = index.shape[-1] if index.ndim else 0
    if c.item.integer("batch_dims") or not 0 < count <= len(x.shape) or index.ndim != count + 1:
        raise NotConstantError(UNREADABLE["GatherElements"])
    chosen = {}
    for d in range(count):
        own = index[(*(0 if i != d else slice(None) for i in range(count)), d)]
        if (index[..., d] != own.reshape([-1 if i == d else 1 for i in range(count)])).any():
            raise NotConstantError(UNREADABLE["GatherElements"])
        chosen[d] = own
    return _picked(c, x, chosen)


_PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@_op("Pad")
def _pad(c: Call) -> Result:
    x = c.x()
    mode = _PAD_MODES.get(c.item.text("mode", "constant"))
    if mode is None:
        raise FormatError(
            f"{c.item.label}: mode is {c.item.text('mode')!r}, expected {', '.join(_PAD_MODES)}; the file is damaged"
        )
    widths = constants.pad_widths(c.item, len(x.shape), c.array(1, "pads"), c.array(3, "axes"))
    if not any(w for pair in widths for w in pair):
        return x
    value = c.item.number("value", 0.0) if c.raw(2) is None else c.scalar(2)
    return c.b.pad(x, tuple(widths), mode, float(value or 0.0), name=c.name("pad"))  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------------- elementwise

_JOINS = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Min": "min", "Max": "max", "Sum": "add"}


def _operand(c: Call, position: int) -> Value:
    found = c.need(position)
    number = found.scalar() if isinstance(found, Const) and len(found.shape) <= 1 else None
    return c.x(position) if number is None else c.b.scalar(number)


@_op(*_JOINS, "Mean")
def _join(c: Call) -> Result:
    if not c.args:
        raise FormatError(f"{c.item.label}: has no inputs; the file is damaged")
    kind = _JOINS.get(c.item.op, "add")
    _broadcast(c)
    y = c.x() if len(c.args) == 1 else _operand(c, 0)
    for i in range(1, len(c.args)):
        y = c.b.elementwise(kind, y, _operand(c, i), name=c.name(kind))  # type: ignore[arg-type]
    return _times(c, y, 1 / len(c.args)) if c.item.op == "Mean" else y


def _broadcast(c: Call) -> tuple[int, ...]:
    shapes = [a.shape for a in c.args if a is not None]
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError as error:
        raise FormatError(
            f"{c.item.label}: the shapes {' and '.join(str(list(s)) for s in shapes)} do not broadcast; check the "
            "input shapes"
        ) from error


@_op("Pow")
def _pow(c: Call) -> Result:
    _broadcast(c)
    exponent = c.raw(1)
    number = exponent.scalar() if isinstance(exponent, Const) else None
    if number is None:
        return c.b.elementwise("pow", c.x(0), c.x(1), name=c.name("pow"))
    named = {2.0: "square", 0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}.get(number)
    if number == 1.0:
        return c.x()
    return c.b.pointwise(c.x(), named or "pow", () if named else (number,), name=c.name(named or "pow"))


@_op("Where")
def _where(c: Call) -> Result:
    """A choice between two values by a constant: a mask, or one of them altogether."""
    shape = _broadcast(c)
    condition = c.need(0)
    if not isinstance(condition, Const) or not condition.known:
        raise NotConstantError("it chooses between values position by position")
    uniform = condition.uniform()
    if uniform is not None:
        y = c.x(1 if uniform else 2)
        return y if y.shape == shape else c.b.expand(y, shape)
    mask = condition.array().astype(bool)
    pieces = []
    for position, chosen in ((1, mask), (2, ~mask)):
        found = c.need(position)
        number = found.scalar() if isinstance(found, Const) else None
        if number is not None and not np.isfinite(number):
            raise NotConstantError("it puts infinite values somewhere")
        factor = c.b.constant(f"{condition.name}:mask", chosen * (1.0 if number is None else number), fixed=True)
        pieces.append(
            factor if number is not None else c.b.elementwise("mul", c.x(position), factor, name=c.name("mul"))
        )
    first, second = pieces if not pieces[0].is_constant else pieces[::-1]
    return c.b.elementwise("add", first, second, name=c.name("add"))


_SIMPLE: dict[str, str] = {
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Mish": "mish",
    "HardSwish": "hardswish",
    "Abs": "abs",
    "Exp": "exp",
    "Log": "log",
    "Sqrt": "sqrt",
    "Sin": "sin",
    "Cos": "cos",
    "Tan": "tan",
    "Sign": "sign",
    "Reciprocal": "reciprocal",
    "Erf": "erf",
    "Floor": "floor",
    "Ceil": "ceil",
    "Round": "round",
}


@_op(*_SIMPLE)
def _pointwise(c: Call) -> Result:
    function = _SIMPLE[c.item.op]
    return c.b.pointwise(c.x(), function, name=c.name(function))


@_op("Neg")
def _neg(c: Call) -> Result:
    return c.b.elementwise("mul", c.x(), c.b.scalar(-1.0), name=c.name("mul"))


# Function, and the attributes that are its parameters with their defaults in the specification.
_PARAMETRIC: dict[str, tuple[str, tuple[tuple[str, float], ...]]] = {
    "LeakyRelu": ("leaky_relu", (("alpha", 0.01),)),
    "Elu": ("elu", (("alpha", 1.0),)),
    "Celu": ("celu", (("alpha", 1.0),)),
    "HardSigmoid": ("hardsigmoid", (("alpha", 0.2), ("beta", 0.5))),
    "ThresholdedRelu": ("thresholded_relu", (("alpha", 1.0),)),
}
# PyTorch's own parameters, which its reader leaves out.
_USUAL: dict[str, tuple[float, ...]] = {"elu": (1.0,), "celu": (1.0,), "hardsigmoid": (1 / 6, 0.5)}


@_op(*_PARAMETRIC)
def _parametric(c: Call) -> Result:
    function, attributes = _PARAMETRIC[c.item.op]
    parameters = tuple(_decimal(c.item.number(name, default)) for name, default in attributes)
    if np.allclose(parameters, _USUAL.get(function, (np.inf,) * len(parameters)), rtol=1e-6):
        parameters = ()
    return c.b.pointwise(c.x(), function, parameters, name=c.name(function))


def _decimal(number: float) -> float:
    """The short decimal that a float32 attribute was written for: 0.2 for 0.20000000298."""
    return float(str(np.float32(number)))


@_op("Selu")
def _selu(c: Call) -> Result:
    alpha, gamma = c.item.number("alpha", 1.67326319217681884765625), c.item.number("gamma", 1.05070102214813232421875)
    if np.allclose((alpha, gamma), (1.6732632423543772, 1.0507009873554805), rtol=1e-6):
        return c.b.pointwise(c.x(), "selu", name=c.name("selu"))
    return c.b.pointwise(c.x(), "elu", (alpha, gamma), name=c.name("elu"))


@_op("Gelu")
def _gelu(c: Call) -> Result:
    return c.b.pointwise(
        c.x(), "gelu", (1.0,) if c.item.text("approximate", "none") == "tanh" else (), name=c.name("gelu")
    )


@_op("Swish")
def _swish(c: Call) -> Result:
    alpha = c.item.number("alpha", 1.0)
    if alpha == 1.0:
        return c.b.pointwise(c.x(), "silu", name=c.name("silu"))
    x = c.x()
    gate = c.b.pointwise(_times(c, x, alpha), "sigmoid", name=c.name("sigmoid"))
    return c.b.elementwise("mul", x, gate, name=c.name("mul"))


@_op("Shrink")
def _shrink(c: Call) -> Result:
    bound, bias = c.item.number("lambd", 0.5), c.item.number("bias", 0.0)
    if bias not in (0.0, bound):
        raise NotConstantError(f"it shrinks by another amount ({bias}) than its bound ({bound})")
    function = "softshrink" if bias else "hardshrink"
    return c.b.pointwise(c.x(), function, (_decimal(bound),), name=c.name(function))


@_op("PRelu")
def _prelu(c: Call) -> Result:
    x, slope = c.x(), _constant(c, 1)
    number = slope.scalar() if slope.size == 1 and not slope.root else None
    if number is not None:
        return c.b.pointwise(x, "leaky_relu", (number,), name=c.name("leaky_relu"))
    channels = x.shape[1] if len(x.shape) > 1 else x.shape[0]
    if slope.size not in (1, channels):
        raise NotConstantError("its slope differs from position to position")
    return c.b.pointwise(x, "prelu", (), reshaped_weight(weight(slope), (slope.size,)), name=c.name("prelu"))


@_op("Clip")
def _clip(c: Call) -> Result:
    low, high = c.scalar(1), c.scalar(2)
    low = c.item.attributes.get("min") if low is None else low
    high = c.item.attributes.get("max") if high is None else high
    bottom, top = (
        (-np.inf if low is None else _decimal(float(low))),
        (np.inf if high is None else _decimal(float(high))),
    )
    # The widest float32 is how old files say "no bound".
    bottom, top = (-np.inf if bottom < -3e38 else bottom), (np.inf if top > 3e38 else top)
    if (bottom, top) == (-np.inf, np.inf):
        return c.x()
    if (bottom, top) == (0.0, np.inf):
        return c.b.pointwise(c.x(), "relu", name=c.name("relu"))
    if (bottom, top) == (0.0, 6.0):
        return c.b.pointwise(c.x(), "relu6", name=c.name("relu6"))
    return c.b.pointwise(c.x(), "clamp", (bottom, top), name=c.name("clamp"))


@_op("Function", domain="evenly")
def _function(c: Call) -> Result:
    function = c.item.text("function")
    parameters = tuple(float(p) for p in c.item.attributes["parameters"])
    return c.b.pointwise(c.x(), function, tuple(_decimal(p) for p in parameters), name=c.name(function))


# ----------------------------------------------------------------------------------------------------- normalisations


@_op("BatchNormalization")
def _batch_norm(c: Call) -> Result:
    x = c.x()
    training = bool(c.item.integer("training_mode")) or len([o for o in c.item.outputs if o]) > 1
    channels = x.shape[1] if len(x.shape) > 1 else 1
    parameters = [c.weight(i) for i in range(1, 5)]
    for w in parameters:
        if w is None or prod(w.shape) != channels:
            raise FormatError(f"{c.item.label}: its parameters do not fit {channels} channels; check the input shapes")
    scale, shift, mean, var = (_flat(w) for w in parameters)
    return c.b.batch_norm(
        x, scale, shift, mean, var, _decimal(c.item.number("epsilon", 1e-5)), training=training or c.training,
        name=c.name("batch_norm"),
    )  # fmt: skip


def _flat(w: Weight | None) -> Weight | None:
    return w if w is None or len(w.shape) == 1 else reshaped_weight(w, (prod(w.shape),))


@_op("InstanceNormalization")
def _instance_norm(c: Call) -> Result:
    x = c.x()
    dims = tuple(range(2, len(x.shape)))
    scale, shift = _unless(c, 1, 1.0), _unless(c, 2, 0.0)
    return c.b.normalize(
        x, "instance", groups=1, dims=dims, eps=_decimal(c.item.number("epsilon", 1e-5)), weight=scale, bias=shift,
        name=c.name("instance_norm"),
    )  # fmt: skip


def _unless(c: Call, position: int, neutral: float) -> Weight | None:
    """A parameter, unless it is a constant that does nothing (PyTorch writes ones and zeros for ``affine=False``)."""
    found = c.raw(position)
    if isinstance(found, Const) and found.uniform() == neutral and not found.root.startswith("main"):
        owner = found.root or found.name
        if "." not in owner or found.name != found.root:
            return None
    return _flat(c.weight(position))


@_op("GroupNormalization")
def _group_normalization(c: Call) -> Result:
    x, groups = c.x(), c.item.integer("num_groups")
    scale, shift = _flat(c.weight(1)), _flat(c.weight(2))
    if groups < 1 or len(x.shape) < 3 or x.shape[1] % groups:
        raise FormatError(
            f"{c.item.label}: {groups} groups do not fit the input {list(x.shape)}; check the input shapes"
        )
    if scale is not None and shift is not None and scale.shape[0] == groups != x.shape[1]:
        # Opset 18 has one pair of parameters per group.
        scale, shift = (_repeated(w, x.shape[1] // groups) for w in (scale, shift))
    return c.b.normalize(
        x, "group", groups=groups, dims=tuple(range(2, len(x.shape))), eps=_decimal(c.item.number("epsilon", 1e-5)),
        weight=scale, bias=shift, name=c.name("group_norm"),
    )  # fmt: skip


def _repeated(w: Weight, times: int) -> Weight:
    load = w.load
    read = None if load is None else (lambda: np.repeat(np.asarray(load()), times))
    return Weight(w.name, (w.shape[0] * times,), w.fixed, read)


@_op("GroupNorm", domain="evenly")
def _group_norm_idiom(c: Call) -> Result:
    x, groups = c.x(), c.item.integer("groups")
    before, after = c.array(3, "sizes"), c.array(4, "sizes")
    if before is None or after is None:
        raise NotConstantError("its sizes are computed from data")
    middle = reshaped(x.shape, before.reshape(-1).tolist(), False, c.item.label)
    if len(x.shape) < 3 or middle[:2] != (x.shape[0], groups) or x.shape[1] % groups:
        # Not groups of channels after all: what the nodes say, one by one.
        y = c.b.reshape(x, middle)
        y = c.b.normalize(
            y, "instance", groups=1, dims=tuple(range(2, len(middle))), eps=c.item.number("eps", 1e-5),
            weight=None, bias=None,
            name=c.name("instance_norm"),
        )  # fmt: skip
        y = c.b.reshape(y, reshaped(middle, after.reshape(-1).tolist(), False, c.item.label))
        for position, kind in ((1, "mul"), (2, "add")):
            if c.raw(position) is not None:
                y = c.b.elementwise(kind, y, c.x(position), name=c.name(kind))  # type: ignore[arg-type]
        return y
    y = c.b.normalize(
        x, "group", groups=groups, dims=tuple(range(2, len(x.shape))), eps=_decimal(c.item.number("eps", 1e-5)),
        weight=_flat(c.weight(1)), bias=_flat(c.weight(2)), name=c.name("group_norm"),
    )  # fmt: skip
    out = reshaped(middle, after.reshape(-1).tolist(), False, c.item.label)
    return y if out == x.shape else c.b.reshape(y, out)


@_op("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def _layer_norm(c: Call) -> Result:
    x = c.x()
    axis = normal_axis(c.item.integer("axis", -1), len(x.shape), c.item.label)
    kind: Literal["layer", "rms"] = "layer" if c.item.op == "LayerNormalization" else "rms"
    return _normalized(c, x, kind, tuple(range(axis, len(x.shape))), c.item.number("epsilon", 1e-5), 1, 2)


@_op("Normalize", domain="evenly")
def _normalize_idiom(c: Call) -> Result:
    x = c.x()
    dims = tuple(sorted(normal_axis(a, len(x.shape), c.item.label) for a in c.item.attributes["axes"]))
    kinds: dict[str, Literal["layer", "rms", "l2"]] = {"layer": "layer", "rms": "rms", "l2": "l2"}
    return _normalized(c, x, kinds[c.item.text("kind")], dims, c.item.number("eps", 0.0), 1, 2)


def _normalized(
    c: Call, x: Value, kind: Literal["layer", "rms", "l2"], dims: tuple[int, ...], eps: float, scale: int, shift: int
) -> Value:
    weights: list[Weight | None] = []
    loose: list[tuple[str, int]] = []
    for position, join in ((scale, "mul"), (shift, "add")):
        found = c.raw(position)
        size = prod(x.shape[d] for d in dims)
        # A parameter belongs to the normalisation when it runs along exactly its dimensions.
        aligned = (
            isinstance(found, Const)
            and found.size == size
            and all(n == 1 or len(x.shape) - len(found.shape) + i in dims for i, n in enumerate(found.shape))
        )
        weights.append(_flat(weight(found)) if aligned and isinstance(found, Const) else None)
        if found is not None and not aligned:
            loose.append((join, position))
    label = {"layer": "layer_norm", "rms": "rms_norm", "l2": "normalize"}[kind]
    y = c.b.normalize(
        x, kind, groups=1, dims=dims, eps=_decimal(eps), weight=weights[0], bias=weights[1], name=c.name(label)
    )  # fmt: skip
    for join, position in loose:
        y = c.b.elementwise(join, y, c.x(position), name=c.name(join))  # type: ignore[arg-type]
    return y


@_op("LpNormalization")
def _lp_normalization(c: Call) -> Result:
    x = c.x()
    if c.item.integer("p", 2) != 2:
        raise NotConstantError("it divides by the sum of magnitudes")
    return _normalized(c, x, "l2", (normal_axis(c.item.integer("axis", -1), len(x.shape), c.item.label),), 0.0, 9, 9)


@_op("MeanVarianceNormalization")
def _mvn(c: Call) -> Result:
    x = c.x()
    axes = c.item.ints("axes", (0, 2, 3)) or ()
    dims = tuple(sorted(normal_axis(a, len(x.shape), c.item.label) for a in axes))
    if 0 in dims and x.shape[0] != 1:
        raise NotConstantError("its statistics are those of the batch")
    kept = tuple(d for d in dims if d != 0)
    if kept == tuple(range(2, len(x.shape))):
        return c.b.normalize(
            x, "instance", groups=1, dims=kept, eps=1e-9, weight=None, bias=None, name=c.name("instance_norm")
        )  # fmt: skip
    return _normalized(c, x, "layer", kept, 1e-9, 9, 9)


# -------------------------------------------------------------------------------------------------------------- other


@_op("LSTM", "GRU", "RNN")
def _recurrent(c: Call) -> Result:
    """Not analysed, but positions stay positions: ``(T, N, C)``, or ``(N, T, C)`` where the layout is 1.

    Layers that feed each other inside one module are one operator for the user; exporters write one node per layer.
    """
    x, recurrence = c.x(), c.need(2)
    if len(x.shape) != 3 or len(recurrence.shape) != 3:
        raise FormatError(
            f"{c.item.label}: reads {list(x.shape)} with the weights {list(recurrence.shape)}, expected three "
            "dimensions each; the file is damaged"
        )
    directions, _, hidden = recurrence.shape
    order = (0, 2, 1) if c.item.integer("layout") else (1, 2, 0)  # to (N, C, T)
    samples, length, width = x.shape[order[0]], x.shape[order[2]], directions * hidden
    operator, name = f"onnx.{c.item.op}", c.name(c.item.op.lower())
    reason = "it carries a state along the sequence"
    y = c.b.permute(x, order)
    before = c.b.nodes[x.node] if x.node >= 0 else None
    stacked = before is not None and isinstance(before.op, ir.Unknown) and before.op.operator == operator
    if not (stacked and before is not None and before.name == name and before.channels == x.shape[order[1]] == width):
        y = c.b.unknown(operator, [x], (samples, width, length), reason, name=name)
    layout = bool(c.item.integer("layout"))
    y = c.b.reshape(y, (samples, directions, hidden, length))
    results: list[Value | Const] = [c.b.permute(y, (0, 3, 1, 2) if layout else (3, 1, 0, 2))]
    for _ in c.item.outputs[1:]:  # the last states have no positions
        state = c.b.unknown(operator, [x], (samples, width), reason, name=name)
        split = c.b.reshape(state, (samples, directions, hidden))
        results.append(split if layout else c.b.permute(split, (1, 0, 2)))
    return results


@_op("GridSample")
def _grid_sample(c: Call) -> Result:
    x, grid = c.x(0), c.x(1)
    return c.b.warp(
        x, grid, (*x.shape[:2], *grid.shape[1:-1]), c.item.text("mode", "linear"), name=c.name("grid_sample")
    )


@_op("Col2Im")
def _col2im(c: Call) -> Result:
    x = c.x()
    image, block = (tuple(int(n) for n in c.numbers(i, "sizes") or ()) for i in (1, 2))
    rank = len(block)
    return c.b.fold(
        x, out_sizes=image, kernel=block, stride=_spatial(c, "strides", rank, 1), padding=_pads(c, rank),
        dilation=_spatial(c, "dilations", rank, 1), name=c.name("fold"),
    )  # fmt: skip


@_op("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli")
def _noise(c: Call) -> Result:
    shape = c.item.ints("shape") or () if not c.args else c.need(0).shape
    return c.b.noise(shape, name=c.name("noise"))


UNREADABLE: dict[str, str] = {
    **dict.fromkeys(("Loop", "Scan"), "it repeats a subgraph whose number of turns the data may decide"),
    "If": "it chooses between subgraphs by the data",
    "NonMaxSuppression": "it picks boxes by the data",
    "NonZero": "its number of outputs depends on the data",
    "TopK": "it sorts positions by the data",
    "Unique": "it sorts values by the data",
    "Compress": "it picks positions by the data",
    "GatherElements": "it reads positions one by one",
    **dict.fromkeys(("ScatterElements", "ScatterND", "Scatter", "TensorScatter"), "it writes to positions one by one"),
    **dict.fromkeys(("MaxRoiPool", "RoiAlign"), "it reads regions that come from the data"),
    **dict.fromkeys(("DFT", "STFT", "MelWeightMatrix"), "it changes to the frequency domain"),
    **dict.fromkeys(
        ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Not", "Xor"),
        "it is a test of values",
    ),
    "CumSum": "it sums along an axis",
    "LRN": "it divides by the energy of neighbouring channels",
    "DeformConv": "it reads positions that come from the data",
    "OneHot": "it makes indicators from the data",
    "Mod": "it wraps values around",
    "Trilu": "it keeps one triangle of a matrix",
}
"""Why a standard operator is not analysed."""
