"""PyTorch's reductions, arithmetic and pointwise functions.

Entries of the table of :mod:`evenly.graph._aten`; importing this module registers them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf, log, prod
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import torch

from evenly.graph._aten import TABLE, Call, Opaque, Result, op, times
from evenly.graph._folding import Const, NotConstantError
from evenly.graph.builder import Value

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TABLE", "truncated"]


# --------------------------------------------------------------------------------------------------------- reductions

_REDUCTIONS = {
    "mean": "mean", "sum": "sum", "amax": "max", "amin": "min", "max": "max", "min": "min", "prod": "prod",
    "var": "var", "std": "std", "logsumexp": "logsumexp", "argmax": "argmax", "argmin": "argmin", "nanmean": "mean",
    "median": "median",
}  # fmt: skip


def _reduced(c: Call, x: Value, dims: Sequence[int], kind: str, keep: bool, *, correction: float = 0.0) -> Value:
    """A reduction; over channels alone, whose number is part of the architecture, in terms of means.

    ``sum x = n mean x``, ``var x = n / (n - correction) mean (x - mean x)^2`` and ``norm x = sqrt(n mean x^2)``.
    """
    n = prod(x.shape[d] for d in dims)
    if x.is_constant or x.scores is not None or any(x.dims[d].axes for d in dims) or n <= correction:
        return c.b.reduce(x, dims, kind, keep, name=c.label(kind))

    def mean(y: Value, keepdim: bool = keep) -> Value:
        return c.b.reduce(y, dims, "mean", keepdim, name=c.label("mean"))

    def square(y: Value) -> Value:
        return c.b.pointwise(y, "square", name=c.label("square"))

    if kind == "sum":
        return times(c, mean(x), n)
    if kind == "norm":
        return c.b.pointwise(times(c, mean(square(x)), n), "sqrt", name=c.label("norm"))
    if kind in ("var", "std"):
        centred = c.b.elementwise("sub", x, mean(x, True), name=c.label("sub"))
        y = times(c, mean(square(centred)), n / (n - correction))
        return y if kind == "var" else c.b.pointwise(y, "sqrt", name=c.label("std"))
    return c.b.reduce(x, dims, kind, keep, name=c.label(kind))


@op("mean", "sum", "amax", "amin", "prod", "var", "std", "logsumexp", "argmax", "argmin", "nanmean")
def _reduce(c: Call) -> Result:
    x = c.x()
    dims, kind = c.dims("dim", rank=len(x.shape)), _REDUCTIONS[c.name]
    return _reduced(c, x, dims, kind, bool(c.raw("keepdim")), correction=_correction(c))


def _correction(c: Call) -> float:
    """What is taken off the number of samples in a variance: 1 unless said otherwise."""
    if c.args.get("unbiased") is False:
        return 0.0
    return 1.0 if c.args.get("correction") is None else c.number("correction")


@op("max", "min", "median")
def _extreme(c: Call) -> Result:
    if "other" in c.args:
        return _arithmetic(c)
    y = cast("Value", _reduce(c))
    if not isinstance(c.meta, list | tuple):
        return y
    if c.name == "median":
        return [y, Opaque("aten.median", "the positions of medians come from the data", (y,))]
    x = c.x()
    places = _reduced(c, x, c.dims("dim", rank=len(x.shape)), f"arg{c.name}", bool(c.raw("keepdim")))
    return [y, places]


@op("cdist")
def _distances(c: Call) -> Result:
    """Distances to the rows of a table, as vector quantisation takes them: ``|x - t|^2 = |x|^2 - 2 x t' + |t|^2``."""
    x, table = c.x("x1"), c.raw("x2")
    if not isinstance(table, Const) or prod(table.shape[:-2]) != 1 or c.number("p", 2.0) != 2.0:
        raise NotConstantError("it compares every position with every other")
    rows = c.b.reshape(c.constant(table), table.shape[-2:]).weight
    assert rows is not None
    load = rows.load
    norms = None if load is None else (lambda: (np.asarray(load(), np.float64) ** 2).sum(1))
    matrix = None if load is None else (lambda: -2 * np.asarray(load(), np.float64))
    product = c.b.linear(
        x, replace(rows, load=matrix), replace(rows, shape=rows.shape[:1], load=norms), name=c.label("cdist")
    )  # fmt: skip
    own = _reduced(c, c.b.pointwise(x, "square", name=c.label("square")), (len(x.shape) - 1,), "sum", True)
    squares = c.b.pointwise(_join(c, "add", product, own), "relu", name=c.label("relu"))
    return c.b.pointwise(squares, "sqrt", name=c.label("sqrt"))


@op("mse_loss", "l1_loss")
def _loss(c: Call) -> Result:
    difference = _join(c, "sub", c.x(), c.x("target"))
    function = "square" if c.name == "mse_loss" else "abs"
    kind = ("none", "mean", "sum")[int(c.raw("reduction", default=1))]
    y = c.b.pointwise(difference, function, name=c.label(function))
    return y if kind == "none" else _reduced(c, y, tuple(range(len(y.shape))), kind, False)


@op("var_mean", "std_mean")
def _moments(c: Call) -> Result:
    x = c.x()
    dims, keep = c.dims("dim", rank=len(x.shape)), bool(c.raw("keepdim"))
    kinds = (c.name.removesuffix("_mean"), "mean")
    return [_reduced(c, x, dims, kind, keep, correction=_correction(c)) for kind in kinds]


@op("norm", "linalg_vector_norm", "linalg_norm")
def _norm(c: Call) -> Result:
    x = c.x()
    order = c.raw("p", "ord", default=2)
    kind = {1.0: "l1", 2.0: "norm", inf: "max"}.get(float(order)) if isinstance(order, int | float) else None
    if kind is None:
        raise NotConstantError(f"it is a norm of another kind ({order})")
    dims = c.dims("dim", rank=len(x.shape))
    if c.name == "linalg_norm" and len(dims) == 2 and c.raw("ord") is not None:
        raise NotConstantError("it is a norm of matrices")
    x = c.b.pointwise(x, "abs", name=c.label("abs")) if kind == "max" else x
    return _reduced(c, x, dims, kind, bool(c.raw("keepdim")))


# --------------------------------------------------------------------------------------------------------- arithmetic

JoinKind = Literal["add", "sub", "mul", "div", "max", "min", "pow"]
_JOINS: dict[str, JoinKind] = {
    "add": "add", "sub": "sub", "subtract": "sub", "mul": "mul", "multiply": "mul", "div": "div", "divide": "div",
    "true_divide": "div", "maximum": "max", "minimum": "min", "max": "max", "min": "min", "fmax": "max", "fmin": "min",
}  # fmt: skip


def _join(c: Call, kind: JoinKind, a: Value, b: Value) -> Value:
    return c.b.elementwise(kind, a, b, name=c.label(kind))


@op("add", "sub", "subtract", "mul", "multiply", "div", "divide", "true_divide", "maximum", "minimum", "fmax", "fmin")
def _arithmetic(c: Call) -> Result:
    other = times(c, c.operand("other"), c.number("alpha", 1.0)) if c.raw("alpha", default=1) != 1 else None
    y = _join(c, _JOINS[c.name], c.operand("self"), c.operand("other") if other is None else other)
    rounding = c.raw("rounding_mode")
    if rounding == "trunc":
        return truncated(c, y)
    return c.b.pointwise(y, "floor", name=c.label("floor")) if rounding == "floor" else y


def truncated(c: Call, x: Value) -> Value:
    """What stands before the point: ``sign(x) floor(|x|)``."""
    size = c.b.pointwise(c.b.pointwise(x, "abs", name=c.label("abs")), "floor", name=c.label("floor"))
    return _join(c, "mul", c.b.pointwise(x, "sign", name=c.label("sign")), size)


@op("trunc", "fix")
def _trunc(c: Call) -> Result:
    return truncated(c, c.x())


@op("floor_divide")
def _floor_divide(c: Call) -> Result:
    return c.b.pointwise(_join(c, "div", c.operand("self"), c.operand("other")), "floor", name=c.label("floor"))


@op("rsub")
def _rsub(c: Call) -> Result:
    return _join(c, "sub", c.operand("other"), times(c, c.operand("self"), c.number("alpha", 1.0)))


@op("neg", "negative")
def _neg(c: Call) -> Result:
    return _join(c, "mul", c.x(), c.b.scalar(-1.0))


@op("addcmul", "addcdiv")
def _addc(c: Call) -> Result:
    y = _join(c, "mul" if c.name == "addcmul" else "div", c.operand("tensor1"), c.operand("tensor2"))
    return _join(c, "add", c.operand("self"), times(c, y, c.number("value", 1.0)))


@op("lerp")
def _lerp(c: Call) -> Result:
    start = c.operand("self")
    return _join(c, "add", start, _join(c, "mul", _join(c, "sub", c.operand("end"), start), c.operand("weight")))


_POWERS = {2.0: "square", 0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}


@op("pow")
def _pow(c: Call) -> Result:
    exponent = c.raw("exponent")
    number = exponent.number() if isinstance(exponent, Const) else exponent
    if isinstance(number, Value) or number is None:
        return _join(c, "pow", c.operand("self"), c.operand("exponent"))
    if float(number) == 1.0:
        return c.x()
    named = _POWERS.get(float(number))
    return c.b.pointwise(c.x(), named or "pow", () if named else (float(number),), name=c.label(named or "pow"))


@op("where")
def _where(c: Call) -> Result:
    condition = c.raw("condition")
    if c.raw("self") is None:
        raise NotConstantError("its number of outputs depends on the data")
    if not isinstance(condition, Const):
        raise NotConstantError("it chooses between values position by position")
    return _chosen(c, condition.tensor(), "self", "other")


@op("masked_fill")
def _masked_fill(c: Call) -> Result:
    mask = c.raw("mask")
    if not isinstance(mask, Const):
        raise NotConstantError("it chooses between values position by position")
    x = c.x()
    if x.scores is not None:
        bias = torch.where(mask.tensor().bool(), torch.tensor(-inf), torch.tensor(0.0))
        return _join(c, "add", x, c.b.constant(f"{c.label('masked_fill')}:mask", bias.numpy(), fixed=True))
    return _chosen(c, mask.tensor(), "value", "self")


def _chosen(c: Call, condition: Tensor, first: str, second: str) -> Value:
    """A choice that is known: one of the two, or both, weighted by masks of zeros and ones."""
    mask = condition.bool()
    if mask.all() or not mask.any():
        y = c.x(first if mask.all() else second)
        return y if y.shape == c.shape else c.b.expand(y, c.shape)
    pieces = []
    for name, keep in ((first, mask), (second, ~mask)):
        number = c.raw(name).number() if isinstance(c.raw(name), Const) else c.raw(name)
        if isinstance(number, bool | int | float) and not np.isfinite(number):
            raise NotConstantError("it puts infinite values at fixed positions")
        array = keep.double().numpy()
        if isinstance(number, bool | int | float):
            pieces.append(c.b.constant(f"{c.label('where')}:mask", array * float(number), fixed=True))
        else:
            factor = c.b.constant(f"{c.label('where')}:mask", array, fixed=True)
            pieces.append(_join(c, "mul", c.x(name), factor))
    return _join(c, "add", *(pieces if not pieces[0].is_constant else pieces[::-1]))


# ------------------------------------------------------------------------------------------------- pointwise functions

_SIMPLE = {
    "relu": "relu", "relu6": "relu6", "silu": "silu", "mish": "mish", "selu": "selu", "sigmoid": "sigmoid",
    "tanh": "tanh", "hardswish": "hardswish", "hardsigmoid": "hardsigmoid", "abs": "abs", "absolute": "abs",
    "square": "square", "sqrt": "sqrt", "rsqrt": "rsqrt", "exp": "exp", "log": "log", "log1p": "log1p", "sin": "sin",
    "cos": "cos", "tan": "tan", "sign": "sign", "sgn": "sign", "reciprocal": "reciprocal", "erf": "erf",
    "log_sigmoid": "log_sigmoid", "floor": "floor", "ceil": "ceil",
}  # fmt: skip


@op(*_SIMPLE)
def _pointwise(c: Call) -> Result:
    function = _SIMPLE[c.name]
    return c.b.pointwise(c.x(), function, name=c.label(function))


@op("round")
def _round(c: Call) -> Result:
    if c.raw("decimals", default=0):
        raise NotConstantError("it rounds to decimals")
    return c.b.pointwise(c.x(), "round", name=c.label("round"))


# Function, the arguments that are its parameters with PyTorch's defaults, and whether the defaults are left out.
_PARAMETRIC: dict[str, tuple[str, tuple[tuple[str, float], ...], bool]] = {
    "leaky_relu": ("leaky_relu", (("negative_slope", 0.01),), False),
    "elu": ("elu", (("alpha", 1.0), ("scale", 1.0), ("input_scale", 1.0)), True),
    "celu": ("celu", (("alpha", 1.0),), True),
    "softplus": ("softplus", (("beta", 1.0), ("threshold", 20.0)), True),
    "softshrink": ("softshrink", (("lambd", 0.5),), False),
    "hardshrink": ("hardshrink", (("lambd", 0.5),), False),
}


@op(*_PARAMETRIC)
def _parametric(c: Call) -> Result:
    function, arguments, drop = _PARAMETRIC[c.name]
    parameters = [c.number(name, default) for name, default in arguments]
    while drop and parameters and parameters[-1] == arguments[len(parameters) - 1][1]:
        parameters.pop()
    return c.b.pointwise(c.x(), function, tuple(parameters), name=c.label(function))


@op("gelu")
def _gelu(c: Call) -> Result:
    return c.b.pointwise(c.x(), "gelu", (1.0,) if c.raw("approximate") == "tanh" else (), name=c.label("gelu"))


@op("clamp", "clip", "hardtanh", "clamp_min", "clamp_max")
def _clamp(c: Call) -> Result:
    x = c.x()
    bounds = []
    for names, default in ((("min", "min_val"), -inf), (("max", "max_val"), inf)):
        given = c.raw(*names, default=(-1.0 if default < 0 else 1.0) if c.name == "hardtanh" else None)
        number = given.number() if isinstance(given, Const) else given
        if isinstance(given, Value) or (isinstance(given, Const) and number is None):
            x = _join(c, "max" if default < 0 else "min", x, c.x(*names))
            number = None
        bounds.append(default if number is None else float(number))
    low, high = bounds
    if (low, high) == (-inf, inf):
        return x
    function, parameters = {(0.0, inf): ("relu", ()), (0.0, 6.0): ("relu6", ())}.get(
        (low, high), ("clamp", (low, high))
    )
    return c.b.pointwise(x, function, parameters, name=c.label(function))


@op("threshold")
def _threshold(c: Call) -> Result:
    bound, value = c.number("threshold"), c.number("value")
    if value:
        raise NotConstantError(f"it replaces small values by {value:g}")
    return c.b.pointwise(c.x(), "thresholded_relu", (bound,), name=c.label("threshold"))


@op("prelu", "_prelu_kernel")
def _prelu(c: Call) -> Result:
    slope = c.weight("weight")
    assert slope is not None
    flat = slope if len(slope.shape) == 1 else c.b.reshape(c.x("weight"), (prod(slope.shape),)).weight
    return c.b.pointwise(c.x(), "prelu", (), flat, name=c.label("prelu"))


@op("rrelu", "rrelu_with_noise")
def _rrelu(c: Call) -> Result:
    """Outside training the slope is the middle of its range; in training it is random around it."""
    slope = (c.number("lower", 0.125) + c.number("upper", 1 / 3)) / 2
    return c.b.pointwise(c.x(), "leaky_relu", (slope,), name=c.label("leaky_relu"))


@op("glu")
def _glu(c: Call) -> Result:
    x, dim = c.x(), int(c.raw("dim", default=-1))
    half = x.shape[dim] // 2
    left, right = c.b.split(x, dim, (half, half))
    return _join(c, "mul", left, c.b.pointwise(right, "sigmoid", name=c.label("sigmoid")))


# Functions that are others of a multiple: ``outer * f(inner * x) + shift``.
_RELATED: dict[str, tuple[float, str, float, float]] = {
    "exp2": (1.0, "exp", log(2), 0.0),
    "expm1": (1.0, "exp", 1.0, -1.0),
    "log2": (1 / log(2), "log", 1.0, 0.0),
    "log10": (1 / log(10), "log", 1.0, 0.0),
}


@op(*_RELATED)
def _related(c: Call) -> Result:
    outer, function, inner, shift = _RELATED[c.name]
    y = times(c, c.b.pointwise(times(c, c.x(), inner), function, name=c.label(function)), outer)
    return _join(c, "add", y, c.b.scalar(shift)) if shift else y
