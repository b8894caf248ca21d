"""One table from PyTorch's operators to what they mean: every handler turns a node into calls of the builder.

A handler gets a :class:`Call` and returns the value or values that the operator makes. In-place variants (``relu_``)
have the entry of the operator itself. Parameters that a network computes from the data raise
:class:`~evenly.graph._folding.NotConstantError`, which becomes "not analysed" with that reason. Argument names are
those of the operators' schemas, https://pytorch.org/docs/stable/torch.compiler_ir.html.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal, cast

import numpy as np
import torch

from evenly.graph._folding import Const, NotConstantError
from evenly.graph.builder import Builder, Value
from evenly.graph.ir import Weight
from evenly.theory.resize import AxisResize, axis_resize

__all__ = ["LAYERS", "TABLE", "Call", "Handler", "Opaque", "Result", "op", "times"]

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Opaque:
    """A result that is not analysed but may be handed on: indices, random states, values of unknown shape.

    Attributes:
        operator: Where it comes from.
        reason: Why nothing is known of it, for the user.
        sources: What it was made from.
        windows: Kernel and stride of the pooling whose positions these are.
    """

    operator: str
    reason: str
    sources: tuple[Value, ...] = ()
    windows: tuple[tuple[int, ...], tuple[int, ...]] | None = None


Result = Value | Const | Opaque | Sequence[Value | Const | Opaque] | None


class Call:
    """An operator that is being translated.

    Attributes:
        name: Its name without namespace, overload and in-place mark (``"conv2d"``).
        overload: Its overload (``"padding"``), ``""`` for the default.
        args: Its arguments by name.
        meta: What the export says of its result: a tensor without values, or a sequence of them.
        source: The same for its first argument.
        b: The builder.
        namer: Gives the name for a label.
        constant: Turns a constant into a value of the builder.
        training: Whether the network is read in training mode.
    """

    def __init__(
        self,
        name: str,
        overload: str,
        args: dict[str, Any],
        meta: Any,
        source: Any,
        builder: Builder,
        namer: Callable[[str], str],
        constant: Callable[[Const], Value],
        training: bool,
    ) -> None:
        self.name, self.overload, self.args = name, overload, args
        self.meta, self.source = meta, source
        self.b, self.namer, self.constant, self.training = builder, namer, constant, training

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the (first) result."""
        meta = self.meta[0] if isinstance(self.meta, list | tuple) else self.meta
        return tuple(int(n) for n in meta.shape)

    def label(self, label: str) -> str:
        """The name of what this operator makes; the label is used where one module does several things."""
        return self.namer(label)

    def raw(self, *names: str, default: Any = None) -> Any:
        """The first of these arguments that is there, as it is."""
        return next((self.args[n] for n in names if self.args.get(n) is not None), default)

    def x(self, *names: str) -> Value:
        """A tensor argument (by default the first one) as a value of the builder."""
        found = self.raw(*(names or ("self", "input")))
        if isinstance(found, Const):
            return self.constant(found)
        if isinstance(found, Opaque):
            raise NotConstantError(found.reason)
        if isinstance(found, bool | int | float):
            return self.b.scalar(float(found))
        if not isinstance(found, Value):
            raise NotConstantError(f"its argument {' or '.join(names)} is missing")
        return found

    def maybe(self, name: str) -> Value | None:
        """A tensor argument that may be left out."""
        return None if self.args.get(name) is None else self.x(name)

    def weight(self, name: str) -> Weight | None:
        """A parameter that has to be constant; ``None`` where it is left out."""
        found = self.raw(name)
        if found is None:
            return None
        if isinstance(found, Const):
            return found.weight()
        if isinstance(found, Value) and found.is_constant:
            return found.weight
        raise NotConstantError(f"its {name.replace('_', ' ')} is computed from data")

    def operand(self, name: str) -> Value:
        """A tensor or a number for arithmetic; a constant of one entry is a number."""
        found = self.raw(name)
        others = [v for k, v in self.args.items() if k != name and isinstance(v, Value)]
        if isinstance(found, Const) and any(len(v.shape) >= len(found.shape) for v in others):
            number = found.number()
            if number is not None:
                return self.b.scalar(number)
        return self.x(name)

    def number(self, name: str, default: float | None = None) -> float:
        """A number that must be known."""
        found = self.raw(name, default=default)
        if isinstance(found, Const):
            found = found.number() if not found.trained else None
        if not isinstance(found, bool | int | float):
            raise NotConstantError(f"its {name.replace('_', ' ')} is computed from data")
        return float(found)

    def ints(self, name: str, rank: int, default: int | None = None) -> tuple[int, ...]:
        """A list of integers, one per axis; a single one counts for all."""
        found = self.raw(name)
        if found is None or (isinstance(found, list | tuple) and not found):
            if default is None:
                raise NotConstantError(f"its {name.replace('_', ' ')} is missing")
            return (default,) * rank
        values = tuple(int(v) for v in found) if isinstance(found, list | tuple) else (int(found),)
        return values * rank if len(values) == 1 else values

    def dims(self, *names: str, rank: int) -> tuple[int, ...]:
        """Dimensions, counted from the front; all of them where none are given."""
        found = self.raw(*names)
        if found is None or (isinstance(found, list | tuple) and not found):
            return tuple(range(rank))
        listed = found if isinstance(found, list | tuple) else [found]
        return tuple(int(d) % max(rank, 1) for d in listed)


Handler = Callable[[Call], Result]
TABLE: dict[str, Handler] = {}
"""Operators by name."""

LAYERS = {
    "conv1d", "conv2d", "conv3d", "convolution", "_convolution",
    "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
}  # fmt: skip
"""Operators that make a field of a constant when their weights are trained: a generator that starts from a constant."""


def op(*names: str) -> Callable[[Handler], Handler]:
    """Register a handler."""

    def register(handler: Handler) -> Handler:
        for name in names:
            TABLE[name] = handler
        return handler

    return register


def with_batch(c: Call, x: Value, rank: int, act: Callable[[Value], Value]) -> Value:
    """Act on ``(N, C, *positions)``: unbatched tensors get a batch, several batch dimensions are merged."""
    lead = x.shape[: len(x.shape) - rank - 1]
    if len(lead) == 1:
        return act(x)
    y = act(c.b.reshape(x, (prod(lead), *x.shape[len(lead) :])))
    return c.b.reshape(y, (*lead, *y.shape[1:]))


def times(c: Call, x: Value, factor: float) -> Value:
    """Multiplication by a number."""
    return x if factor == 1.0 else c.b.elementwise("mul", x, c.b.scalar(factor), name=c.label("mul"))


# ------------------------------------------------------------------------------------------------------- convolutions


@op("conv1d", "conv2d", "conv3d", "convolution", "_convolution")
def _conv(c: Call) -> Result:
    if c.raw("transposed"):
        return _conv_transpose(c)
    weight, bias = c.x("weight"), c.maybe("bias")
    rank = len(weight.shape) - 2
    kernel = weight.shape[2:]
    dilation = c.ints("dilation", rank, 1)
    padding = c.raw("padding", default=0)
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        pairs: Pairs = tuple((t // 2, t - t // 2) for t in totals)
    else:
        pairs = tuple((p, p) for p in (c.ints("padding", rank, 0) if padding != "valid" else (0,) * rank))
    return with_batch(
        c, c.x(), rank,
        lambda x: c.b.conv(
            x, weight, bias, stride=c.ints("stride", rank, 1), padding=pairs, dilation=dilation,
            groups=int(c.raw("groups", default=1)), name=c.label("conv"),
        ),
    )  # fmt: skip


@op("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _conv_transpose(c: Call) -> Result:
    weight, bias = c.x("weight"), c.maybe("bias")
    rank = len(weight.shape) - 2
    return with_batch(
        c, c.x(), rank,
        lambda x: c.b.conv_transpose(
            x, weight, bias, stride=c.ints("stride", rank, 1),
            padding=tuple((p, p) for p in c.ints("padding", rank, 0)), dilation=c.ints("dilation", rank, 1),
            output_padding=c.ints("output_padding", rank, 0), groups=int(c.raw("groups", default=1)),
            name=c.label("conv_transpose"),
        ),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------- matrix products


@op("linear")
def _linear(c: Call) -> Result:
    x, weight, bias = c.x(), c.x("weight"), c.maybe("bias")
    if weight.is_constant and len(weight.shape) == 2 and (bias is None or bias.is_constant):
        return c.b.linear(x, cast("Weight", c.weight("weight")), c.weight("bias"), name=c.label("linear"))
    matrix = weight if len(weight.shape) == 1 else c.b.permute(weight, (1, 0))
    y = c.b.matmul(x, matrix, name=c.label("linear"))
    return y if bias is None else c.b.elementwise("add", y, bias, name=c.label("add"))


@op("matmul", "mm", "bmm", "mv", "dot")
def _matmul(c: Call) -> Result:
    return c.b.matmul(c.x(), c.x("other", "mat2", "vec", "tensor"), name=c.label("matmul"))


@op("addmm", "baddbmm", "addmv", "addbmm")
def _addmm(c: Call) -> Result:
    if c.name == "addbmm":
        raise NotConstantError("it sums products over the batch")
    shift, a, b = c.x(), c.x("mat1", "batch1", "mat"), c.x("mat2", "batch2", "vec")
    alpha, beta = c.number("alpha", 1.0), c.number("beta", 1.0)
    plain = alpha == beta == 1.0 and len(b.shape) == 2 and b.is_constant
    if plain and shift.is_constant and shift.shape in ((b.shape[1],), (1, b.shape[1])):
        matrix, vector = c.b.permute(b, (1, 0)).weight, c.b.reshape(shift, (b.shape[1],)).weight
        return c.b.linear(a, cast("Weight", matrix), vector, name=c.label("linear"))
    y = times(c, c.b.matmul(a, b, name=c.label("matmul")), alpha)
    return y if beta == 0.0 else c.b.elementwise("add", y, times(c, shift, beta), name=c.label("add"))


@op("einsum")
def _einsum(c: Call) -> Result:
    values = [c.constant(t) if isinstance(t, Const) else t for t in c.raw("tensors")]
    if not all(isinstance(v, Value) for v in values):
        raise NotConstantError("it sums over values that are not analysed")
    return c.b.einsum(str(c.raw("equation")), *values, name=c.label("einsum"))


@op(
    "scaled_dot_product_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
)
def _attention(c: Call) -> Result:
    q, k, v = c.x("query"), c.x("key"), c.x("value")
    scale = c.number("scale", q.shape[-1] ** -0.5)
    biased = c.raw("attn_mask", "attn_bias") is not None or bool(c.raw("is_causal"))
    if c.raw("enable_gqa") and k.shape[-3] != q.shape[-3]:
        k, v = (_shared_heads(c, t, q.shape[-3]) for t in (k, v))
    return c.b.attention(q, k, v, scale=scale, biased=biased, name=c.label("attention"))


def _shared_heads(c: Call, x: Value, heads: int) -> Value:
    """Grouped-query attention: every head of keys and values serves several heads of queries."""
    *lead, own, length, width = x.shape
    opened = c.b.unsqueeze(x, (len(lead) + 1,))
    spread = c.b.expand(opened, (*lead, own, heads // own, length, width))
    return c.b.reshape(spread, (*lead, heads, length, width))


@op("softmax", "_softmax", "log_softmax", "_log_softmax", "_safe_softmax")
def _softmax(c: Call) -> Result:
    x = c.b.softmax(c.x(), int(c.raw("dim", default=-1)), name=c.label("softmax"))
    return c.b.pointwise(x, "log", name=c.label("log")) if "log_" in c.name else x


@op("lstm", "gru", "rnn_tanh", "rnn_relu")
def _recurrent(c: Call) -> Result:
    """Not analysed, but positions stay positions: ``(T, N, C)`` or ``(N, T, C)``."""
    reason = "it carries a state along the sequence"
    if len(c.shape) != 3 or c.overload != "input":
        raise NotConstantError(reason)
    order = (0, 2, 1) if c.raw("batch_first") else (1, 2, 0)
    shape = [c.shape[d] for d in order]
    y = c.b.unknown(f"aten.{c.name}", [c.x("input")], shape, reason, name=c.label(c.name))
    y = c.b.permute(y, [int(d) for d in np.argsort(order)])
    states = [Opaque(f"aten.{c.name}", reason, (y,)) for _ in c.meta[1:]]
    return [y, *states]


@op("embedding")
def _embedding(c: Call) -> Result:
    table = c.raw("weight")
    if not isinstance(table, Const):
        raise NotConstantError("its table is computed from data")
    return c.b.embedding(c.x("indices"), table.weight(), name=c.label("embedding"))


# ------------------------------------------------------------------------------------------------------ interpolation

# Filter of the theory, and how PyTorch places the samples and rounds.
_FILTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "nearest": ("nearest", {"coordinate": "asymmetric", "nearest": "floor"}),
    "nearest-exact": ("nearest_exact", {}),
    "linear": ("linear", {}),
    "bilinear": ("linear", {}),
    "trilinear": ("linear", {}),
    "bicubic": ("cubic", {}),
    "bilinear_aa": ("linear", {"antialias": True}),
    "bicubic_aa": ("cubic", {"antialias": True, "cubic_a": -0.5}),
}
_UPSAMPLES: dict[str, str] = {
    **{f"upsample_nearest{n}d": "nearest" for n in (1, 2, 3)},
    **{f"_upsample_nearest_exact{n}d": "nearest-exact" for n in (1, 2, 3)},
    "upsample_linear1d": "linear",
    "upsample_bilinear2d": "bilinear",
    "upsample_trilinear3d": "trilinear",
    "upsample_bicubic2d": "bicubic",
    "_upsample_bilinear2d_aa": "bilinear_aa",
    "_upsample_bicubic2d_aa": "bicubic_aa",
}


@op(*_UPSAMPLES)
def _upsample(c: Call) -> Result:
    x, mode = c.x(), _UPSAMPLES[c.name]
    sizes, out = x.shape[2:], c.shape[2:]
    filter_, rules = _FILTERS[mode]
    if c.raw("align_corners"):
        rules = {**rules, "coordinate": "align_corners"}
    axes = [
        axis_resize(n, m, filter_, scale=s, **rules) for n, m, s in zip(sizes, out, _scales(c, len(sizes)), strict=True)
    ]
    return _resized(c, x, axes, mode.removesuffix("_aa"), out, "interpolate")


def _scales(c: Call, rank: int) -> tuple[float | None, ...]:
    listed = c.raw("scale_factors")
    if listed is not None:
        return tuple(float(s) for s in listed)
    names = {1: ("scales",), 2: ("scales_h", "scales_w"), 3: ("scales_d", "scales_h", "scales_w")}[rank]
    return tuple(None if c.raw(n) is None else float(c.raw(n)) for n in names)


def _resized(c: Call, x: Value, axes: Sequence[AxisResize], mode: str, out: Sequence[int], label: str) -> Value:
    if tuple(out) == x.shape[2:] and all(a == AxisResize(1, 1, (((0, 1.0),),)) for a in axes):
        return x
    return c.b.resize(x, axes, mode, tuple(out), name=c.label(label))


@op("pixel_shuffle", "pixel_unshuffle")
def _pixel_shuffle(c: Call) -> Result:
    r = int(c.raw("upscale_factor", "downscale_factor"))
    act = c.b.pixel_shuffle if c.name == "pixel_shuffle" else c.b.pixel_unshuffle
    return with_batch(c, c.x(), 2, lambda x: act(x, (r, r), name=c.label(c.name)))


@op("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(c: Call) -> Result:
    x, g = c.x(), int(c.raw("groups"))
    n, channels, *sizes = x.shape
    opened = c.b.reshape(x, (n, g, channels // g, *sizes))
    order = (0, 2, 1, *range(3, len(opened.shape)))
    return c.b.reshape(c.b.permute(opened, order), x.shape)


# ------------------------------------------------------------------------------------------------------------ pooling


@op("max_pool1d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices", "max_pool2d_with_indices",
    "max_pool3d_with_indices", "avg_pool1d", "avg_pool2d", "avg_pool3d")  # fmt: skip
def _pool(c: Call) -> Result:
    kind: Literal["max", "average"] = "max" if c.name.startswith("max") else "average"
    rank = int(c.name[8])
    kernel = c.ints("kernel_size", rank)
    stride = kernel if not c.raw("stride") else c.ints("stride", rank)
    padding = c.ints("padding", rank, 0)
    across = [d for d, k in zip(range(-rank, 0), kernel, strict=True) if k > 1]
    if kind == "average" and len(across) == 1 and set(stride) == {1} and not any(padding):
        x = c.x()
        if not x.is_constant and not x.dims[across[0]].axes:
            return _channel_average(c, x, across[0] % len(x.shape), max(kernel))
    y = with_batch(
        c, c.x(), rank,
        lambda x: c.b.pool(
            x, kind, kernel=kernel, stride=stride, padding=tuple((p, p) for p in padding),
            dilation=c.ints("dilation", rank, 1), ceil_mode=bool(c.raw("ceil_mode")),
            count_include_pad=bool(c.raw("count_include_pad", default=True)),
            name=c.label("max_pool" if kind == "max" else "avg_pool"),
        ),
    )  # fmt: skip
    divisor = c.raw("divisor_override")
    if divisor is not None:
        y = times(c, y, prod(kernel) / int(divisor))
    if not c.name.endswith("indices"):
        return y
    return [y, Opaque(c.name, "the positions of maxima come from the data", (y,), (kernel, stride))]


def _channel_average(c: Call, x: Value, dim: int, size: int) -> Value:
    """A moving average over channels, as local response normalisation takes it, is a fixed matrix."""
    n = x.shape[dim]
    count = n - size + 1
    band = np.array([[1.0 / size if i <= j < i + size else 0.0 for j in range(n)] for i in range(count)])
    order = [d for d in range(len(x.shape)) if d != dim] + [dim]
    weight = Weight(f"{c.label('avg_pool')}:average", band.shape, True, lambda: band)
    y = c.b.linear(c.b.permute(x, order), weight, None, name=c.label("avg_pool"))
    return c.b.permute(y, [int(d) for d in np.argsort(order)])


@op("max_unpool2d", "max_unpool3d")
def _unpool(c: Call) -> Result:
    places = c.raw("indices")
    if not isinstance(places, Opaque) or places.windows is None:
        raise NotConstantError("the positions that it writes to do not come from a pooling of this network")
    kernel, stride = places.windows
    out = c.shape[-len(kernel) :]
    return with_batch(
        c, c.x(), len(kernel),
        lambda x: c.b.unpool(x, kernel=kernel, stride=stride, out_sizes=out, name=c.label("max_unpool")),
    )  # fmt: skip


@op("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")  # fmt: skip
def _adaptive_pool(c: Call) -> Result:
    average = "avg" in c.name
    rank = int(c.name[-2])
    out = c.shape[-rank:]
    y = with_batch(c, c.x(), rank, lambda x: _adapted(c, x, out, average))
    return y if average else [y, Opaque(c.name, "the positions of maxima come from the data", (y,))]


def _adapted(c: Call, x: Value, out: Sequence[int], average: bool) -> Value:
    """Windows that are the whole, or divide it, or are those of ``interpolate(mode="area")``."""
    sizes = x.shape[2:]
    label = "adaptive_avg_pool" if average else "adaptive_max_pool"
    if all(m == 1 for m in out):
        return c.b.reduce(x, range(2, len(x.shape)), "mean" if average else "max", True, name=c.label(label))
    if all(n % m == 0 for n, m in zip(sizes, out, strict=True)):
        windows = tuple(n // m for n, m in zip(sizes, out, strict=True))
        if all(w == 1 for w in windows):
            return x
        return c.b.pool(
            x, "average" if average else "max", kernel=windows, stride=windows, padding=((0, 0),) * len(out),
            dilation=(1,) * len(out), name=c.label(label),
        )  # fmt: skip
    if not average:
        raise NotConstantError("its windows have several sizes")
    axes = [axis_resize(n, m, "area") for n, m in zip(sizes, out, strict=True)]
    return _resized(c, x, axes, "area", out, label)


@op("im2col")
def _unfold(c: Call) -> Result:
    return c.b.unfold(
        c.x(), kernel=c.ints("kernel_size", 2), stride=c.ints("stride", 2, 1),
        padding=tuple((p, p) for p in c.ints("padding", 2, 0)), dilation=c.ints("dilation", 2, 1),
        name=c.label("unfold"),
    )  # fmt: skip


@op("col2im")
def _fold(c: Call) -> Result:
    return c.b.fold(
        c.x(), out_sizes=c.ints("output_size", 2), kernel=c.ints("kernel_size", 2), stride=c.ints("stride", 2, 1),
        padding=tuple((p, p) for p in c.ints("padding", 2, 0)), dilation=c.ints("dilation", 2, 1),
        name=c.label("fold"),
    )  # fmt: skip


@op("grid_sampler", "grid_sampler_2d", "grid_sampler_3d")
def _grid_sample(c: Call) -> Result:
    mode = ("bilinear", "nearest", "bicubic")[int(c.raw("interpolation_mode", default=0))]
    return c.b.warp(c.x(), c.x("grid"), c.shape, mode, name=c.label("grid_sample"))


@op("affine_grid_generator")
def _affine_grid(c: Call) -> Result:
    """``grid = (base, 1) theta'``: every position of a fixed grid, mapped by a matrix from the data."""
    theta, size = c.x("theta"), [int(n) for n in c.raw("size")]
    axes = len(size) - 2
    identity = torch.eye(axes, axes + 1)[None]
    base = torch.nn.functional.affine_grid(identity, [1, *size[1:]], align_corners=bool(c.raw("align_corners")))
    points = torch.cat([base.reshape(-1, axes), torch.ones(prod(size[2:]), 1)], 1)
    grid = c.b.constant(f"{c.label('affine_grid')}:positions", points.numpy(), fixed=True)
    y = c.b.matmul(grid, c.b.permute(theta, (0, 2, 1)), name=c.label("affine_grid"))
    return c.b.reshape(y, (size[0], *size[2:], axes))


# ----------------------------------------------------------------------------------------------------- normalisations


@op("batch_norm", "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm", "miopen_batch_norm", "_batch_norm_with_update", "_batch_norm_no_update",
    "_batch_norm_impl_index")  # fmt: skip
def _batch_norm(c: Call) -> Result:
    mean, var = _estimated(c.weight("running_mean")), _estimated(c.weight("running_var"))
    training = bool(c.raw("training")) or mean is None or c.name == "_batch_norm_with_update"
    y = c.b.batch_norm(
        c.x(), c.weight("weight"), c.weight("bias"), mean, var,
        c.number("epsilon" if "epsilon" in c.args else "eps", 1e-5), training=training, name=c.label("batch_norm"),
    )  # fmt: skip
    return [y] if isinstance(c.meta, list | tuple) else y


def _estimated(weight: Weight | None) -> Weight | None:
    """Running statistics are buffers, but they come from training and are no part of the architecture."""
    return None if weight is None else replace(weight, fixed=False)


@op("instance_norm")
def _instance_norm(c: Call) -> Result:
    if not c.raw("use_input_stats", default=True):
        return _batch_norm(c)
    return _normalized(c, "instance", dims=range(2, len(c.shape)), label="instance_norm")


def _normalized(
    c: Call,
    kind: Literal["instance", "group", "layer", "rms"],
    *,
    dims: Sequence[int],
    label: str,
    groups: int = 1,
    eps: float | None = None,
) -> Result:
    weight, bias = c.maybe("weight"), c.maybe("bias")
    constant = all(v is None or v.is_constant for v in (weight, bias))
    known = [None if v is None or not constant else v.weight for v in (weight, bias)]
    y = c.b.normalize(
        c.x(), kind, groups=groups, dims=tuple(dims), eps=c.number("eps", eps or 1e-5),
        weight=known[0], bias=known[1], name=c.label(label),
    )  # fmt: skip
    if not constant:
        for kind_, value in (("mul", weight), ("add", bias)):
            if value is not None:
                y = c.b.elementwise(cast("Any", kind_), y, value, name=c.label(kind_))
    return [y] if isinstance(c.meta, list | tuple) else y


@op("group_norm", "native_group_norm")
def _group_norm(c: Call) -> Result:
    groups = int(c.raw("num_groups", "group"))
    return _normalized(c, "group", groups=groups, dims=range(2, len(c.shape)), label="group_norm")


@op("layer_norm", "native_layer_norm", "rms_norm", "_fused_rms_norm")
def _layer_norm(c: Call) -> Result:
    rank, count = len(c.shape), len(c.raw("normalized_shape"))
    if "layer" in c.name:
        return _normalized(c, "layer", dims=range(rank - count, rank), label="layer_norm")
    eps = float(torch.finfo(c.meta.dtype if isinstance(c.meta, torch.Tensor) else torch.float32).eps)
    return _normalized(c, "rms", dims=range(rank - count, rank), label="rms_norm", eps=eps)
