"""PyTorch's operators that arrange, cut, join, copy or fill tensors, and those that cannot be analysed.

Entries of the table of :mod:`evenly.graph._aten`; importing this module registers them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from evenly.graph._aten import TABLE, Call, Result, op
from evenly.graph._aten_math import truncated
from evenly.graph._folding import Const, NotConstantError

if TYPE_CHECKING:
    from evenly.graph.builder import Value
    from evenly.graph.ir import PadMode

__all__ = ["IGNORED", "RANDOM", "TABLE", "TRANSPARENT", "UNREADABLE"]

MOST_PIECES = 4096
"""Most pieces that an irregular selection or repetition may have."""


# --------------------------------------------------------------------------------------------------------- same values

_IDENTITIES = (
    "alias", "alpha_dropout", "clone", "contiguous", "detach", "dropout", "feature_alpha_dropout", "feature_dropout",
    "lift_fresh", "lift_fresh_copy", "native_dropout", "positive", "requires_grad", "resolve_conj", "resolve_neg",
    "to", "type_as", "_to_copy", "_to_cpu", "_conj", "conj", "real",
)  # fmt: skip


@op(*_IDENTITIES)
def _identity(c: Call) -> Result:
    """The same numbers; dropout keeps what is expected."""
    x = c.x()
    meta = c.meta[0] if isinstance(c.meta, list | tuple) else c.meta
    before = c.source
    if isinstance(before, torch.Tensor) and before.dtype.is_floating_point and not meta.dtype.is_floating_point:
        if meta.dtype == torch.bool:
            raise NotConstantError("it is a test of values")
        x = truncated(c, x)
    return [x] if isinstance(c.meta, list | tuple) else x


@op("copy")
def _copy(c: Call) -> Result:
    y = c.x("src")
    return y if y.shape == c.shape else c.b.expand(y, c.shape)


def _constant_of(c: Call, value: float) -> Const:
    shape, dtype = c.shape, c.meta.dtype
    return Const(c.label("full"), shape, dtype, lambda _: torch.full(shape, value, dtype=dtype))


@op("zeros_like", "new_zeros", "zero", "empty_like", "new_empty")
def _zeros(c: Call) -> Result:
    return _constant_of(c, 0.0)


@op("ones_like", "new_ones")
def _ones(c: Call) -> Result:
    return _constant_of(c, 1.0)


@op("full_like", "new_full", "fill")
def _full(c: Call) -> Result:
    filled = c.raw("fill_value", "value")
    if isinstance(filled, Const):
        filled = filled.number()
    if not isinstance(filled, bool | int | float):
        return c.b.expand(c.x("fill_value", "value"), c.shape)
    return _constant_of(c, float(filled))


RANDOM = frozenset({
    "bernoulli", "cauchy", "exponential", "geometric", "log_normal", "multinomial", "normal", "normal_functional",
    "poisson", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like", "randperm", "uniform",
})  # fmt: skip
"""Operators that draw random numbers, whatever their arguments are."""


@op(*RANDOM)
def _noise(c: Call) -> Result:
    """Random numbers; around the data where their mean is the data."""
    noise = c.b.noise(c.shape, name=c.label("noise"))
    if c.name == "normal" and "mean" in c.args:
        spread = c.args.get("std", 1.0)
        mean = c.operand("mean")
        scaled = noise if spread == 1.0 else c.b.elementwise("mul", noise, c.operand("std"), name=c.label("mul"))
        return scaled if mean.is_constant else c.b.elementwise("add", mean, scaled, name=c.label("add"))
    return noise


# --------------------------------------------------------------------------------------------------------- arrangement


@op("view", "reshape", "_unsafe_view", "_reshape_alias", "view_as", "reshape_as", "flatten", "unflatten", "ravel",
    "squeeze", "unsqueeze", "atleast_1d", "atleast_2d", "atleast_3d", "squeeze_copy", "unsqueeze_copy",
    "view_copy")  # fmt: skip
def _reshape(c: Call) -> Result:
    if c.overload == "dtype":
        raise NotConstantError("it reads the bits of numbers as other numbers")
    x = c.x()
    return x if x.shape == c.shape else c.b.reshape(x, c.shape)


def _swapped(rank: int, a: int, b: int) -> list[int]:
    order = list(range(rank))
    order[a % rank], order[b % rank] = order[b % rank], order[a % rank]
    return order


@op("permute", "permute_copy")
def _permute(c: Call) -> Result:
    return c.b.permute(c.x(), [int(d) for d in c.raw("dims")])


@op("transpose", "swapaxes", "swapdims", "t", "numpy_T", "mT", "mH", "adjoint", "matrix_H")
def _transpose(c: Call) -> Result:
    x = c.x()
    rank = len(x.shape)
    if rank < 2:
        return x
    if c.name == "numpy_T":
        return c.b.permute(x, range(rank)[::-1])
    first, second = c.raw("dim0", "axis0", default=-2), c.raw("dim1", "axis1", default=-1)
    return c.b.permute(x, _swapped(rank, int(first), int(second)))


@op("movedim", "moveaxis")
def _movedim(c: Call) -> Result:
    x = c.x()
    rank = len(x.shape)
    source, target = c.ints("source", 1), c.ints("destination", 1)
    rest = [d for d in range(rank) if d not in [s % rank for s in source]]
    places: dict[int, int] = {t % rank: s % rank for s, t in zip(source, target, strict=True)}
    return c.b.permute(x, [places[i] if i in places else rest.pop(0) for i in range(rank)])


@op("expand", "expand_as", "broadcast_to", "expand_copy")
def _expand(c: Call) -> Result:
    return c.b.expand(c.x(), c.shape)


@op("broadcast_tensors")
def _broadcast_tensors(c: Call) -> Result:
    tensors = c.raw("tensors")
    if not all(isinstance(t, Const) or hasattr(t, "dims") for t in tensors):
        raise NotConstantError("it broadcasts values that are not analysed")
    values = [c.constant(t) if isinstance(t, Const) else t for t in tensors]
    return [v if v.shape == c.shape else c.b.expand(v, c.shape) for v in values]


@op("repeat", "tile")
def _repeat(c: Call) -> Result:
    """Copies side by side: of a dimension of size 1 a broadcast, anything else pieces that are joined."""
    x = c.x()
    times = [int(r) for r in c.raw("repeats", "dims")]
    rank = max(len(times), len(x.shape))
    times = [1] * (rank - len(times)) + times
    if len(x.shape) < rank:
        x = c.b.reshape(x, (*(1,) * (rank - len(x.shape)), *x.shape))
    spread = tuple(r if n == 1 else n for r, n in zip(times, x.shape, strict=True))
    if spread != x.shape:
        x = c.b.expand(x, spread)
    for d, (r, n) in enumerate(zip(times, c.shape, strict=True)):
        if x.shape[d] != n:
            if r > MOST_PIECES:
                raise NotConstantError(f"it repeats a dimension {r} times")
            x = c.b.concat([x] * r, d, name=c.label("repeat"))
    return x


@op("repeat_interleave")
def _repeat_interleave(c: Call) -> Result:
    """Every entry several times in a row."""
    times = c.raw("repeats")
    if isinstance(times, Const) and times.size == 1:
        times = times.number()
    if not isinstance(times, int | float):
        raise NotConstantError("it repeats entries a different number of times each")
    x, dim = c.x(), c.raw("dim")
    if dim is None:
        x, dim = c.b.reshape(x, (prod(x.shape),)), 0
    d = int(dim) % len(x.shape)
    opened = c.b.unsqueeze(x, (d + 1,))
    shape = (*x.shape[: d + 1], int(times), *x.shape[d + 1 :])
    return c.b.reshape(c.b.expand(opened, shape), c.shape)


@op("roll")
def _roll(c: Call) -> Result:
    x = c.x()
    shifts, dims = c.ints("shifts", 1), c.raw("dims")
    if not dims:
        raise NotConstantError("it shifts all dimensions as one")
    return c.b.roll(x, shifts, [int(d) for d in dims], name=c.label("roll"))


@op("flip", "fliplr", "flipud")
def _flip(c: Call) -> Result:
    dims = {"fliplr": (1,), "flipud": (0,)}.get(c.name) or [int(d) for d in c.raw("dims")]
    x = c.x()
    for d in dims:
        x = c.b.slice(x, d % len(x.shape), x.shape[d] - 1, -1, -1, name=c.label("flip"))
    return x


# --------------------------------------------------------------------------------------------------- cutting, joining


def _cut(c: Call, x: Value, dim: int, start: int, stop: int, step: int, label: str) -> Value:
    if (start, stop, step) == (0, x.shape[dim], 1):
        return x
    return c.b.slice(x, dim, start, stop, step, name=c.label(label))


@op("slice", "narrow", "slice_copy", "narrow_copy")
def _slice(c: Call) -> Result:
    x = c.x()
    dim = int(c.raw("dim", default=0)) % len(x.shape)
    first, last = c.raw("start"), c.raw("end")
    if c.name.startswith("narrow"):
        first = int(c.number("start"))
        first = first + x.shape[dim] if first < 0 else first
        last = first + int(c.raw("length"))
    start, stop, step = slice(first, last, int(c.raw("step", default=1))).indices(x.shape[dim])
    return _cut(c, x, dim, start, stop, step, "slice")


@op("select", "select_copy")
def _select(c: Call) -> Result:
    x = c.x()
    dim = int(c.raw("dim")) % len(x.shape)
    index = int(c.number("index")) % x.shape[dim]
    return c.b.squeeze(_cut(c, x, dim, index, index + 1, 1, "select"), (dim,))


@op("chunk", "split", "split_with_sizes", "tensor_split", "unsafe_chunk", "unsafe_split", "unsafe_split_with_sizes",
    "hsplit", "vsplit", "dsplit", "split_copy", "split_with_sizes_copy")  # fmt: skip
def _split(c: Call) -> Result:
    x = c.x()
    usual = {"hsplit": 1 if len(x.shape) > 1 else 0, "vsplit": 0, "dsplit": 2}.get(c.name, 0)
    dim = int(c.raw("dim", default=usual)) % len(x.shape)
    return c.b.split(x, dim, [int(m.shape[dim]) for m in c.meta])


@op("unbind", "unbind_copy")
def _unbind(c: Call) -> Result:
    x = c.x()
    dim = int(c.raw("dim", default=0)) % len(x.shape)
    pieces = c.b.split(x, dim, [1] * x.shape[dim])
    return [c.b.squeeze(piece, (dim,)) for piece in pieces]


def _picked(c: Call, x: Value, dim: int, places: Sequence[int]) -> Value:
    """Entries of one dimension: a slice where they stand in a regular order, pieces side by side otherwise."""
    n = x.shape[dim]
    flat = [i % n for i in places]
    step = flat[1] - flat[0] if len(flat) > 1 else 1
    if flat and step > 0 and flat == list(range(flat[0], flat[-1] + 1, step)):
        return _cut(c, x, dim, flat[0], flat[-1] + 1, step, "slice")
    if flat and flat == list(range(n))[::-1]:
        return c.b.slice(x, dim, n - 1, -1, -1, name=c.label("flip"))
    if not 0 < len(flat) <= MOST_PIECES:
        raise NotConstantError(f"it picks {len(flat)} positions in no regular order")
    if c.b.nodes and x.node is not None and max(np.bincount(flat)) > 1 and len(flat) % n == 0:
        times = len(flat) // n
        if flat == [i for i in range(n) for _ in range(times)]:
            opened = c.b.unsqueeze(x, (dim + 1,))
            shape = (*x.shape[: dim + 1], times, *x.shape[dim + 1 :])
            spread = c.b.expand(opened, shape)
            return c.b.reshape(spread, (*x.shape[:dim], len(flat), *x.shape[dim + 1 :]))
    parts = [c.b.slice(x, dim, i, i + 1, 1, name=c.label("select")) for i in flat]
    return c.b.concat(parts, dim, name=c.label("cat"))


@op("index_select")
def _index_select(c: Call) -> Result:
    index = c.raw("index")
    if not isinstance(index, Const):
        raise NotConstantError("it picks positions by the data")
    x = c.x()
    return _picked(c, x, int(c.raw("dim")) % len(x.shape), index.array().reshape(-1).tolist())


@op("index", "_unsafe_index")
def _index(c: Call) -> Result:
    """Indices that are known, one dimension at a time; several broadcast ones stay one by one."""
    x = c.x()
    given = [(d, i) for d, i in enumerate(c.raw("indices")) if i is not None]
    if not all(isinstance(i, Const) for _, i in given):
        raise NotConstantError("it picks positions by the data")
    arrays = [(d, cast("Const", i).array()) for d, i in given]
    if any(a.dtype.kind == "b" and a.ndim != 1 for _, a in arrays):
        raise NotConstantError("it picks positions by a mask of several dimensions")
    arrays = [(d, np.flatnonzero(a) if a.dtype.kind == "b" else a) for d, a in arrays]
    if len(arrays) == 1:
        ((dim, places),) = arrays
        y = _picked(c, x, dim, places.reshape(-1).tolist())
        return y if y.shape == c.shape else c.b.reshape(y, c.shape)
    # An outer product of one index per dimension (``x[..., rows[:, None], columns]``).
    rank = max(a.ndim for _, a in arrays)
    shapes = [(1,) * (rank - a.ndim) + a.shape for _, a in arrays]
    varying = [[i for i, n in enumerate(s) if n > 1] for s in shapes]
    dims = [d for d, _ in arrays]
    adjacent = dims == list(range(dims[0], dims[0] + len(dims)))
    order = [v[0] if v else -1 for v in varying]
    if not adjacent or any(len(v) > 1 for v in varying) or rank != len(dims) or sorted(order) != order:
        raise NotConstantError("it picks positions one by one")
    for d, a in arrays:
        x = _picked(c, x, d, a.reshape(-1).tolist())
    return x if x.shape == c.shape else c.b.reshape(x, c.shape)


@op("cat", "concat", "concatenate")
def _cat(c: Call) -> Result:
    return _joined(c, c.raw("tensors"), int(c.raw("dim", default=0)), "cat")


def _joined(c: Call, tensors: Sequence[Any], dim: int, label: str) -> Value:
    if not all(isinstance(t, Const) or hasattr(t, "dims") for t in tensors):
        raise NotConstantError("it joins values that are not analysed")
    values: list[Value] = [c.constant(t) if isinstance(t, Const) else t for t in tensors]
    values = [v for v in values if v.shape != (0,)]  # PyTorch leaves out empty vectors
    d = dim % len(values[0].shape)
    values = [v for v in values if v.shape[d]] or values[:1]
    return values[0] if len(values) == 1 else c.b.concat(values, d, name=c.label(label))


@op("stack")
def _stack(c: Call) -> Result:
    dim = int(c.raw("dim", default=0)) % len(c.shape)
    tensors = c.raw("tensors")
    if not all(isinstance(t, Const) or hasattr(t, "dims") for t in tensors):
        raise NotConstantError("it joins values that are not analysed")
    values = [c.b.unsqueeze(c.constant(t) if isinstance(t, Const) else t, (dim,)) for t in tensors]
    return _joined(c, values, dim, "stack")


@op("slice_scatter", "select_scatter")
def _scatter(c: Call) -> Result:
    """A part is replaced: what comes before, the new part, what comes after."""
    x, part = c.x(), c.x("src")
    dim = int(c.raw("dim", default=0)) % len(x.shape)
    n = x.shape[dim]
    if c.name == "select_scatter":
        start = int(c.number("index")) % n
        stop, part = start + 1, c.b.unsqueeze(part, (dim,))
    else:
        start, stop, step = slice(c.raw("start"), c.raw("end"), int(c.raw("step", default=1))).indices(n)
        if step != 1:
            raise NotConstantError("it writes to every other position")
    if (start, stop) == (0, n):
        return part
    ends = [(0, start), (stop, n)]
    before, after = ([c.b.slice(x, dim, a, b, 1, name=c.label("slice"))] if b > a else [] for a, b in ends)
    return c.b.concat([*before, part, *after], dim, name=c.label("cat"))


# ------------------------------------------------------------------------------------------------------------- padding

_PAD_MODES: tuple[PadMode, ...] = ("constant", "reflect", "replicate", "circular")


@op("pad", "constant_pad_nd", "_pad_circular", "_pad_enum", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d",
    "replication_pad1d", "replication_pad2d", "replication_pad3d")  # fmt: skip
def _pad(c: Call) -> Result:
    x = c.x()
    given = [int(p) for p in c.raw("pad", "padding")]
    rank = len(x.shape)
    # PyTorch counts from the last dimension backwards.
    pairs = [(given[2 * i], given[2 * i + 1]) for i in range(len(given) // 2)]
    pads = [(0, 0)] * (rank - len(pairs)) + pairs[::-1]
    named = {"pad": c.raw("mode", default="constant"), "_pad_circular": "circular", "_pad_enum": c.raw("mode")}
    usual = "reflect" if c.name.startswith("reflection") else "replicate" if c.name.startswith("rep") else "constant"
    found = named.get(c.name, usual)
    mode = _PAD_MODES[int(found)] if isinstance(found, int) else next(m for m in _PAD_MODES if m == found)
    if not any(p for pair in pads for p in pair):
        return x
    return c.b.pad(x, tuple(pads), mode, c.number("value", 0.0), name=c.label("pad"))


@op("unfold")
def _windows(c: Call) -> Result:
    """Windows of one dimension; without overlap they are a view."""
    x = c.x()
    dim, size, step = int(c.raw("dimension")) % len(x.shape), int(c.raw("size")), int(c.raw("step"))
    if size != step:
        raise NotConstantError("it repeats positions in overlapping windows")
    count = c.shape[dim]
    x = _cut(c, x, dim, 0, count * size, 1, "slice")
    opened = c.b.reshape(x, (*x.shape[:dim], count, size, *x.shape[dim + 1 :]))
    rank = len(opened.shape)
    return c.b.permute(opened, [d for d in range(rank) if d != dim + 1] + [dim + 1])


@op("triu", "tril")
def _triangle(c: Call) -> Result:
    x = c.x()
    cut = torch.triu if c.name == "triu" else torch.tril
    mask = cut(torch.ones(x.shape[-2:]), int(c.raw("diagonal", default=0)))
    factor = c.b.constant(f"{c.label(c.name)}:mask", mask.double().numpy(), fixed=True)
    return c.b.elementwise("mul", x, factor, name=c.label("mul"))


# ----------------------------------------------------------------------------------------------------------- the rest

TRANSPARENT = frozenset(
    {*_IDENTITIES, "getitem", "view", "reshape", "_unsafe_view", "view_as", "reshape_as", "flatten", "unflatten",
     "squeeze", "unsqueeze", "permute", "transpose", "t", "movedim", "swapaxes", "expand", "expand_as"}
)  # fmt: skip
"""Operators that a layer may use besides its own without being named apart from it."""

IGNORED = frozenset({
    "_assert_async", "_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range",
    "sym_constrain_range_for_size", "_print", "_functional_assert_async", "_functional_assert_scalar",
})  # fmt: skip
"""Checks without a result."""

UNREADABLE: dict[str, str] = {
    **dict.fromkeys(("lstm_cell", "gru_cell", "_thnn_fused_lstm_cell", "rnn_tanh_cell", "rnn_relu_cell"),
                    "it carries a state along the sequence"),
    **dict.fromkeys(("stft", "istft", "fft_fft", "fft_ifft", "fft_rfft", "fft_irfft", "fft_fft2", "fft_ifft2",
                     "fft_rfft2", "fft_irfft2", "fft_fftn", "fft_ifftn", "fft_rfftn", "fft_irfftn", "fft_hfft",
                     "fft_ihfft", "_fft_r2c", "_fft_c2r", "_fft_c2c"), "it changes to the frequency domain"),
    **dict.fromkeys(("view_as_complex", "view_as_real", "complex", "polar", "imag", "angle"),
                    "it computes with complex numbers"),
    **dict.fromkeys(("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_not", "logical_xor",
                     "isnan", "isinf", "isfinite", "any", "all", "bitwise_and", "bitwise_or", "bitwise_not",
                     "isclose"), "it is a test of values"),
    **dict.fromkeys(("topk", "sort", "argsort", "kthvalue", "unique", "_unique2", "unique_consecutive", "msort"),
                    "it sorts positions by the data"),
    **dict.fromkeys(("nonzero", "masked_select", "nonzero_static"), "its number of outputs depends on the data"),
    **dict.fromkeys(("gather", "take_along_dim", "take"), "it reads positions one by one"),
    **dict.fromkeys(("scatter", "scatter_add", "scatter_reduce", "index_put", "index_add", "index_copy",
                     "index_fill", "masked_scatter", "diagonal_scatter", "as_strided_scatter"),
                    "it writes to positions one by one"),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp"), "it sums along an axis"),
    **dict.fromkeys(("as_strided", "diagonal", "diag", "diag_embed", "rot90"), "it reads positions one by one"),
    **dict.fromkeys(("fractional_max_pool2d", "fractional_max_pool3d"), "its windows are drawn at random"),
    **dict.fromkeys(("remainder", "fmod"), "it wraps values around"),
    "_weight_norm": "its weight is computed from data",
    "bilinear": "it multiplies two inputs by a table",
    "frac": "it keeps what follows the point",
    "cond": "it chooses between subgraphs by the data",
    "while_loop": "it repeats a subgraph as often as the data decide",
    "scan": "it carries a state along the sequence",
    "item": "it reads a single number from the data",
    "_local_scalar_dense": "it reads a single number from the data",
}  # fmt: skip
"""Why an operator is not analysed."""
