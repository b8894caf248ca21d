"""A small interpreter of the graph: what its nodes say, run on numbers.

It knows nothing of the readers. Values are ``(channels, *sizes)``; borders of interpolations replicate the edge sample,
as :class:`evenly.theory.resize.AxisResize` says, so that comparisons there leave out a margin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from evenly.graph import ir
from evenly.theory.activations import ACTIVATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_PAD = {"zeros": "constant", "constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def _weight(w: ir.Weight | float | None, default: float = 0.0) -> Any:
    if w is None:
        return default
    return w if isinstance(w, float | int) else w.values()


def _tensor(x: Any) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float64))


def _columns(v: Any, x: Any) -> Any:
    """Per-channel numbers against ``(channels, *sizes)``."""
    v = np.asarray(v, dtype=np.float64)
    return v.reshape(-1, *(1,) * (x.ndim - 1)) if v.ndim else v


def _padded(x: Any, padding: ir.Padding, mode: str, value: float = 0.0) -> Any:
    crop = tuple(slice(max(-lo, 0), n - max(-hi, 0)) for (lo, hi), n in zip(padding, x.shape[1:], strict=True))
    x = x[(slice(None), *crop)]
    widths = [(0, 0), *((max(lo, 0), max(hi, 0)) for lo, hi in padding)]
    extra = {"constant_values": value} if _PAD[mode] == "constant" else {}
    return np.pad(x, widths, mode=_PAD[mode], **extra)


def _conv(op: ir.Conv, x: Any) -> Any:
    x = _tensor(_padded(x, op.padding, op.pad_mode))[None]
    y = _CONV[x.ndim - 2](x, _tensor(_weight(op.weight)), None, op.stride, 0, op.dilation, op.groups)[0].numpy()
    return y + _columns(_weight(op.bias), y)


def _conv_transpose(op: ir.ConvTranspose, x: Any, sizes: tuple[int, ...]) -> Any:
    y = _TRANSPOSED[x.ndim - 1](
        _tensor(x)[None], _tensor(_weight(op.weight)), None, op.stride, 0, 0, op.groups, op.dilation
    )[0].numpy()
    widths = [(0, max(lo + n - m, 0)) for (lo, _), n, m in zip(op.padding, sizes, y.shape[1:], strict=True)]
    y = np.pad(y, [(0, 0), *widths])
    y = y[(slice(None), *(slice(lo, lo + n) for (lo, _), n in zip(op.padding, sizes, strict=True)))]
    return y + _columns(_weight(op.bias), y)


def _resize(op: ir.Resize, x: Any, sizes: tuple[int, ...]) -> Any:
    for axis, (a, size) in enumerate(zip(op.axes, sizes, strict=True), 1):
        n = x.shape[axis]
        out = []
        for m in range(size):
            q, r = divmod(m, a.up)
            places = [(min(max(a.down * q + offset, 0), n - 1), w) for offset, w in a.taps[r]]
            out.append(sum(x.take(i, axis=axis) * w for i, w in places))
        x = np.stack(out, axis=axis)
    return x


def _shuffle(factor: tuple[int, ...], x: Any) -> Any:
    n = len(factor)
    y = x.reshape(-1, *factor, *x.shape[1:])
    order = [0, *(i for d in range(n) for i in (1 + n + d, 1 + d))]
    return y.transpose(order).reshape(y.shape[0], *(s * r for s, r in zip(x.shape[1:], factor, strict=True)))


def _unshuffle(factor: tuple[int, ...], x: Any) -> Any:
    n = len(factor)
    y = x.reshape(x.shape[0], *(v for s, r in zip(x.shape[1:], factor, strict=True) for v in (s // r, r)))
    order = [0, *(2 + 2 * d for d in range(n)), *(1 + 2 * d for d in range(n))]
    return y.transpose(order).reshape(-1, *(s // r for s, r in zip(x.shape[1:], factor, strict=True)))


def _pool(op: ir.Pool, x: Any, sizes: tuple[int, ...]) -> Any:
    n = len(op.kernel)

    def windows(values: Any, fill: float) -> Any:
        for axis in range(n):
            span = op.dilation[axis] * (op.kernel[axis] - 1) + 1
            need = (sizes[axis] - 1) * op.stride[axis] + span
            lo = op.padding[axis][0]
            widths = [(0, 0)] * values.ndim
            widths[1 + axis] = (lo, max(need - lo - values.shape[1 + axis], 0))
            values = np.pad(values, widths, constant_values=fill)
            index = np.arange(sizes[axis])[:, None] * op.stride[axis] + np.arange(op.kernel[axis]) * op.dilation[axis]
            values = np.moveaxis(np.take(values, index, axis=1 + axis), 2 + axis, -1)
        return values

    last = tuple(range(-n, 0))
    if op.kind == "max":
        return windows(x, -np.inf).max(last)
    total = windows(x, 0.0).sum(last)
    if op.count_include_pad:
        return total / np.prod(op.kernel)
    return total / windows(np.ones_like(x), 0.0).sum(last)


def _normalize(op: ir.Normalize, x: Any) -> Any:
    spatial = tuple(range(1, x.ndim))
    if op.kind == "softmax":
        e = np.exp(x - x.max(0))
        return e / e.sum(0)
    if op.kind == "group":
        g = x.reshape(op.groups, -1)
        y = ((g - g.mean(1, keepdims=True)) / np.sqrt(g.var(1, keepdims=True) + op.eps)).reshape(x.shape)
    elif op.kind in ("rms", "l2"):
        mean = (np.square(x).mean if op.kind == "rms" else np.square(x).sum)(0, keepdims=True)
        y = x / np.sqrt(mean + op.eps)
    else:
        axes = {"layer": (0,), "instance": spatial}[op.kind]
        y = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + op.eps)
    return y * _columns(_weight(op.weight, 1.0), y) + _columns(_weight(op.bias), y)


def _attention(op: ir.Attention, q: Any, k: Any, v: Any) -> Any:
    sizes = q.shape[1:]
    q, k, v = (t.reshape(op.heads, t.shape[0] // op.heads, -1) for t in (q, k, v))
    scores = op.scale * np.einsum("hci,hcj->hij", q, k)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("hij,hcj->hci", p / p.sum(-1, keepdims=True), v).reshape(-1, *sizes)


_JOIN: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum, "min": np.minimum,
    "pow": np.power,
}  # fmt: skip
_REDUCE: dict[str, Callable[..., Any]] = {"mean": np.mean, "sum": np.sum, "max": np.max, "min": np.min}


def interpret(graph: ir.Graph, inputs: Mapping[str, Any]) -> list[Any]:
    """Run a graph on one sample; inputs by name, as ``(channels, *sizes)``.

    Raises:
        KeyError: For an operation that this interpreter does not know.
    """
    values: list[Any] = []
    for node in graph.nodes:
        xs = [values[i] for i in node.inputs]
        values.append(_node(node, xs, inputs))
        assert values[-1].shape == (node.channels, *node.sizes), (node.name, node.op, values[-1].shape)
    return [values[i] for i in graph.outputs]


def _node(node: ir.Node, xs: list[Any], inputs: Mapping[str, Any]) -> Any:
    op = node.op
    match op:
        case ir.Input():
            return np.asarray(inputs[node.name], dtype=np.float64)
        case ir.Source():
            return np.broadcast_to(_weight(op.value), (node.channels, *node.sizes))
        case ir.Conv():
            return _conv(op, xs[0])
        case ir.ConvTranspose():
            return _conv_transpose(op, xs[0], node.sizes)
        case ir.Linear():
            y = np.tensordot(_weight(op.weight), xs[0], 1)
            return y + _columns(_weight(op.bias), y)
        case ir.Resize():
            return _resize(op, xs[0], node.sizes)
        case ir.PixelShuffle():
            return _shuffle(op.factor, xs[0])
        case ir.PixelUnshuffle():
            return _unshuffle(op.factor, xs[0])
        case ir.ChannelPermute():
            x = xs[0].reshape(*op.sizes, *xs[0].shape[1:])
            rest = range(len(op.sizes), x.ndim)
            return x.transpose(*op.perm, *rest).reshape(node.channels, *node.sizes)
        case ir.ChannelSlice():
            return xs[0][op.start : op.stop : op.step]
        case ir.Pool():
            return _pool(op, xs[0], node.sizes)
        case ir.Pad():
            return _padded(xs[0], op.padding, op.mode, op.value)
        case ir.Slice():
            index = [np.arange(n) * step + start for n, start, step in zip(node.sizes, op.start, op.step, strict=True)]
            return xs[0][(slice(None), *np.ix_(*index))]
        case ir.Concat():
            return np.concatenate(xs, 0)
        case ir.Join():
            return _JOIN[op.kind](*xs)
        case ir.Affine():
            return xs[0] * _columns(_weight(op.scale, 1.0), xs[0]) + _columns(_weight(op.shift), xs[0])
        case ir.Pointwise():
            if op.function == "prelu":
                return np.where(xs[0] > 0, xs[0], _columns(_weight(op.weight), xs[0]) * xs[0])
            return np.asarray(ACTIVATIONS[op.function](xs[0], *op.parameters), dtype=np.float64)
        case ir.Normalize():
            return _normalize(op, xs[0])
        case ir.Attention():
            return _attention(op, *xs)
        case ir.Reduce():
            axes = (*((0,) if op.channels else ()), *(a + 1 for a in op.axes))
            y = _REDUCE[op.kind](xs[0], axis=axes, keepdims=True)
            return y.reshape(node.channels, *node.sizes)
        case ir.Broadcast():
            shape = [1 if i in op.axes else n for i, n in enumerate(node.sizes)]
            return np.broadcast_to(xs[0].reshape(-1, *shape), (node.channels, *node.sizes))
        case ir.Output():
            return xs[0]
    raise KeyError(f"{node.name}: {op}")
