"""Predictions from simulation alone: random networks, run and measured.

The second, naive implementation against which the closed forms of ``evenly`` are tested. It imports nothing of evenly
and knows neither overlap counts nor phases: it draws weights, runs PyTorch, and averages squares.

Forward, the input is a constant of random colour; backward, the input is noise and the output gradients are
independent normals. Weights are i.i.d. zero-mean normal, biases zero, and the output of every weight layer is scaled
to mean square 1. Filters kept as buffers stay what they are. Batch normalisation (eval mode) is the identity;
instance and group normalisation, which would remove a constant, only rescale the whole tensor to mean square 1.

Two ways to get rid of borders:

* ``borders="torus"``: every padding becomes circular and every overhang of a transposed convolution wraps around, so
  that there is no border: all of the output is interior. Needs sizes that divide well (``k4 s2 p1``, not ``k3 s2 p1``).
* ``borders="canvas"``: the network as it is, on a canvas large enough that the centre is not reached by the border.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from numpy.typing import NDArray

Borders = Literal["torus", "canvas"]


class NoInteriorError(AssertionError):
    """The middle of the canvas has no period that divides the bound: a border reaches it, or the bound is wrong."""


@dataclass(frozen=True)
class Forward:
    """What constant inputs gave at one output.

    Attributes:
        period: Smallest period per axis, in samples of the output.
        moments: Mean square per phase, shape ``period``; phase 0 is that of the output's first sample.
        moments_error: Standard error of every moment over the draws.
        unevenness: max/min of the mean square over the phases; the extreme phases are chosen in one half of the draws
            and compared in the other, so that noise does not pass for unevenness.
        unevenness_error: Standard error of its natural logarithm.
        ac_fraction: Share of the power that is not in the mean over the phases.
        ac_error: Its standard error (jackknife over the draws).
    """

    period: tuple[int, ...]
    moments: NDArray[np.float64]
    moments_error: NDArray[np.float64]
    unevenness: float
    unevenness_error: float
    ac_fraction: float
    ac_error: float


@dataclass(frozen=True)
class Backward:
    """Squared gradients at one input, by phase; fields as in :class:`Forward`."""

    moments: NDArray[np.float64]
    moments_error: NDArray[np.float64]
    unevenness: float
    unevenness_error: float
    dead_fraction: float


# ---------------------------------------------------------------- random networks


def randomised(
    module: nn.Module, generator: torch.Generator, *, zero: Sequence[str] = (), keep: Sequence[str] = ()
) -> nn.Module:
    """A copy in float64 and eval mode whose parameters of two or more dimensions are i.i.d. normal, biases zero.

    Args:
        module: The network.
        generator: Source of the weights.
        zero: Parameters and buffers (by the end of their name) set to zero: position embeddings.
        keep: Parameters (by the end of their name) left as they are: tied initialisations under test.
    """
    module = copy.deepcopy(module).double().eval()
    for part in module.modules():
        _plain_weights(part)
    norms = {id(p) for m in module.modules() if "norm" in type(m).__name__.lower() for p in m.parameters(recurse=False)}
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if name.endswith(tuple(zero)) and zero:
                value.zero_()
        for name, parameter in module.named_parameters():
            if id(parameter) in norms or (keep and name.endswith(tuple(keep))) or (zero and name.endswith(tuple(zero))):
                continue
            if parameter.dim() >= 2 and parameter.numel() > max(parameter.shape):
                fan_in = parameter.numel() / parameter.shape[0]
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
                parameter.div_(math.sqrt(fan_in))
            elif name.rpartition(".")[2] == "bias":
                parameter.zero_()
        for parameter in module.parameters():
            parameter.requires_grad_(True)
    return module


def _plain_weights(part: nn.Module) -> None:
    """Replace weight and spectral normalisation by a plain parameter, which is then drawn like any other."""
    if parametrize.is_parametrized(part):
        # Not remove_parametrizations: it changes the class, which copies of the module share.
        values = {name: getattr(part, name).detach().clone() for name in part.parametrizations}  # type: ignore[union-attr]
        part.__class__ = type(part).__mro__[1]
        del part.parametrizations
        for name, value in values.items():
            part.register_parameter(name, nn.Parameter(value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the older weight_norm, still used by libraries
        for hook in list(part._forward_pre_hooks.values()):
            kind = type(hook).__name__
            if kind == "WeightNorm":
                torch.nn.utils.remove_weight_norm(part, hook.name)  # type: ignore[attr-defined]
            elif kind == "SpectralNorm":
                torch.nn.utils.remove_spectral_norm(part, hook.name)  # type: ignore[attr-defined]


class _Unit(TorchFunctionMode):
    """Scales every weight layer's output to mean square 1 and, on the torus, closes every border.

    A weight is what depends on a parameter, that is what requires a gradient: a FIR filter kept as a buffer does not,
    a modulated or normalised weight does. So activations must not carry gradients in the forward simulation: they are
    cut off after every weight layer.
    """

    def __init__(self, *, torus: bool, cut: bool, norms: Literal["unit", "identity"] = "unit") -> None:
        super().__init__()
        self.torus = torus
        self.cut = cut
        self.norms = norms
        self.table: dict[Any, Callable[..., Any]] = {
            F.linear: self._linear,
            F.conv1d: self._conv(F.conv1d, 1),
            F.conv2d: self._conv(F.conv2d, 2),
            F.conv3d: self._conv(F.conv3d, 3),
            F.conv_transpose1d: self._transposed(F.conv_transpose1d, 1),
            F.conv_transpose2d: self._transposed(F.conv_transpose2d, 2),
            F.conv_transpose3d: self._transposed(F.conv_transpose3d, 3),
            F.instance_norm: self._norm,
            F.group_norm: self._norm,
        }
        if torus:
            self.table |= {
                F.pad: self._pad,
                F.interpolate: self._interpolate,
                F.max_pool1d: self._pool(F.max_pool1d, 1),
                F.max_pool2d: self._pool(F.max_pool2d, 2),
                F.max_pool3d: self._pool(F.max_pool3d, 3),
                F.avg_pool1d: self._pool(F.avg_pool1d, 1),
                F.avg_pool2d: self._pool(F.avg_pool2d, 2),
                F.avg_pool3d: self._pool(F.avg_pool3d, 3),
                F.max_pool2d_with_indices: self._pool(self._first(F.max_pool2d_with_indices), 2),
            }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.table.get(func, func)(*args, **(kwargs or {}))

    def _scale(self, y: Tensor, weight: Tensor) -> Tensor:
        if weight.requires_grad:
            rms = y.detach().square().mean().sqrt()
            y = y / rms if rms > 0 else y
        return y.detach() if self.cut else y

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return self._scale(F.linear(x, weight, bias), weight)

    def _norm(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.norms == "identity":
            return x
        return x / x.detach().square().mean().sqrt().clamp_min(1e-12)

    def _conv(self, func: Any, dims: int) -> Callable[..., Tensor]:
        def run(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):  # type: ignore[no-untyped-def]
            if self.torus and padding != "valid":
                if padding == "same":
                    total = [d * (k - 1) for d, k in zip(_axes(dilation, dims), weight.shape[2:], strict=True)]
                    x = _wrap(x, [(t // 2, t - t // 2) for t in total])
                else:
                    x = _wrap(x, [(p, p) for p in _axes(padding, dims)])
                padding = 0
            return self._scale(func(x, weight, bias, stride, padding, dilation, groups), weight)

        return run

    def _transposed(self, func: Any, dims: int) -> Callable[..., Tensor]:
        def run(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):  # type: ignore[no-untyped-def]
            if self.torus:
                sizes, s, p = x.shape[2:], _axes(stride, dims), _axes(padding, dims)
                a, d, k = _axes(output_padding, dims), _axes(dilation, dims), weight.shape[2:]
                out = [s[i] * (sizes[i] - 1) + d[i] * (k[i] - 1) + 1 - 2 * p[i] + a[i] for i in range(dims)]
                if all(out[i] == s[i] * sizes[i] for i in range(dims)):
                    y = func(x, weight, None, stride, 0, 0, groups, dilation)
                    for i in range(dims):
                        y = _overlap(y, 2 + i, out[i], p[i])
                    if bias is not None:
                        y = y + bias.reshape(-1, *[1] * dims)
                    return self._scale(y, weight)
            return self._scale(func(x, weight, bias, stride, padding, output_padding, groups, dilation), weight)

        return run

    def _pad(self, x: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
        pairs = [(pad[i], pad[i + 1]) for i in range(0, len(pad), 2)][::-1]
        if len(pairs) > x.dim() - 2 or any(v < 0 for pair in pairs for v in pair):
            return F.pad(x, pad, mode, value)
        return _wrap(x, [(0, 0)] * (x.dim() - 2 - len(pairs)) + pairs)

    def _interpolate(
        self, x: Tensor, size=None, scale_factor=None, mode="nearest", align_corners=None, **kwargs
    ) -> Tensor:  # type: ignore[no-untyped-def]
        dims = x.dim() - 2
        if mode == "nearest" or align_corners:
            return F.interpolate(x, size, scale_factor, mode, align_corners, **kwargs)
        target = (
            _axes(size, dims)
            if size is not None
            else [n * f for n, f in zip(x.shape[2:], _axes(scale_factor, dims), strict=True)]
        )
        ratios = [t / n for t, n in zip(target, x.shape[2:], strict=True)]
        if not all(r == int(r) for r in ratios):
            return F.interpolate(x, size, scale_factor, mode, align_corners, **kwargs)
        border = 4  # more than the half-width of the widest kernel, bicubic's 2
        y = _wrap(x, [(border, border)] * dims)
        y = F.interpolate(y, scale_factor=[float(r) for r in ratios], mode=mode, align_corners=align_corners)
        for axis, (r, t) in enumerate(zip(ratios, target, strict=True)):
            y = y.narrow(2 + axis, border * int(r), int(t))
        return y

    @staticmethod
    def _first(func: Any) -> Callable[..., Any]:
        """Of equal values the first wins: what depends on how a machine rounds its sums is rounded off before."""

        def run(x, *args, **kwargs):  # type: ignore[no-untyped-def]
            rounded = (x.detach() * 2**24).round() / 2**24
            return func(x + (rounded - x.detach()), *args, **kwargs)  # the gradient is the identity's

        return run

    def _pool(self, func: Any, dims: int) -> Callable[..., Any]:
        def run(x, kernel_size, stride=None, padding=0, *args, **kwargs):  # type: ignore[no-untyped-def]
            pads = _axes(padding, dims)
            if any(pads):
                x, padding = _wrap(x, [(p, p) for p in pads]), 0
            return func(x, kernel_size, stride, padding, *args, **kwargs)

        return run


def _axes(value: Any, dims: int) -> list[Any]:
    values = list(value) if isinstance(value, Iterable) else [value]
    return values if len(values) == dims else values * dims


def _wrap(x: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Circular padding by any amount, also more than the size."""
    for axis, (before, after) in enumerate(pairs):
        if before or after:
            n = x.shape[2 + axis]
            x = x.index_select(2 + axis, torch.arange(-before, n + after) % n)
    return x


def _overlap(y: Tensor, axis: int, size: int, padding: int) -> Tensor:
    """Add up what lies ``size`` apart, after cutting ``padding`` in front."""
    positions = (torch.arange(y.shape[axis]) - padding) % size
    shape = list(y.shape)
    shape[axis] = size
    return y.new_zeros(shape).index_add(axis, positions, y)


# ---------------------------------------------------------------- inputs, outputs, statistics


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for v in value.values() for t in _tensors(v)]
    if isinstance(value, (tuple, list)):
        return [t for v in value for t in _tensors(v)]
    return []


def _colour(x: Tensor, draws: int, channel_axis: int, generator: torch.Generator) -> Tensor:
    """``draws`` samples of a field of ``x``'s shape, constant along all but the channel axis, mean square 1."""
    repeats = (draws, *[1] * (x.dim() - 1))
    if not x.is_floating_point():
        return x.repeat(repeats)
    shape = [1] * x.dim()
    shape[0], shape[channel_axis] = draws, x.shape[channel_axis]
    colour = torch.randn(shape, generator=generator, dtype=torch.float64)
    return colour.expand(draws, *x.shape[1:]).contiguous()


def _by_phase(y: NDArray[np.float64], period: Sequence[int]) -> NDArray[np.float64]:
    """Mean over all positions of the same phase; the last axes of ``y`` are cut to whole periods."""
    lattice = len(period)
    lead = y.shape[: y.ndim - lattice]
    cuts = tuple(slice(0, n - n % p) for n, p in zip(y.shape[y.ndim - lattice :], period, strict=True))
    y = y[(..., *cuts)]
    shape = [v for n, p in zip(y.shape[len(lead) :], period, strict=True) for v in (n // p, p)]
    return y.reshape(*lead, *shape).mean(axis=tuple(len(lead) + 2 * i for i in range(lattice)))


def _unevenness(draws: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Cross-fitted max/min and the standard error of its logarithm.

    The two phases are chosen in all draws but one half and compared in that half, so that a maximum over noise is not
    taken for a maximum over phases. Extremes of nearly equal phases come out slightly too small, never too large.
    """
    stack = np.stack([d / d.mean() for d in draws]).reshape(len(draws), -1)  # (draws, phases)
    if stack.mean(0).min() <= 1e-20:
        return math.inf, 0.0
    if stack.shape[1] == 1:
        return 1.0, 0.0
    halves = (stack[0::2], stack[1::2]) if len(stack) > 1 else (stack, stack)
    logs: list[float] = []
    errors: list[float] = []
    for choose, judge in (halves, halves[::-1]):
        mean = choose.mean(0)
        high, low = int(mean.argmax()), int(mean.argmin())
        judged = judge.mean(0)
        logs.append(math.log(judged[high] / judged[low]))
        ratios = [math.log(row[high] / row[low]) for row in judge]
        errors.append(float(np.std(ratios, ddof=1) / math.sqrt(len(ratios))) if len(ratios) > 1 else math.nan)
    return math.exp(sum(logs) / 2), float(np.nanmean(errors)) if len(stack) > 3 else abs(logs[0] - logs[1])


def widened(module: nn.Module, head: str, factor: int) -> nn.Module:
    """A copy whose last weight layer ``head`` has ``factor`` times the output channels: more samples for one run."""
    module = copy.deepcopy(module)
    layer = module.get_submodule(head)
    _plain_weights(layer)
    weight = layer.weight
    axis = 1 if isinstance(layer, nn.modules.conv._ConvTransposeNd) else 0
    with torch.no_grad():
        layer.weight = nn.Parameter(weight.detach().repeat([factor if i == axis else 1 for i in range(weight.dim())]))
        if layer.bias is not None:
            layer.bias = nn.Parameter(layer.bias.detach().repeat(factor))
    for name in ("out_channels", "out_features"):
        if hasattr(layer, name):
            setattr(layer, name, getattr(layer, name) * factor)
    return module


# ---------------------------------------------------------------- the two simulations


def simulate_forward(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    seeds: Iterable[int],
    *,
    borders: Borders = "torus",
    bound: int | Sequence[int] | None = None,
    colours: int = 4,
    start_at: tuple[str, tuple[int, ...]] | None = None,
    head: str | None = None,
    head_factor: int = 16,
    channel_axis: int = 1,
    output: int = 0,
    norms: Literal["unit", "identity"] = "unit",
    zero: Sequence[str] = (),
    keep: Sequence[str] = (),
    tolerance: float = 1e-6,
) -> Forward:
    """Run random networks on constants of random colour and describe the interior of an output.

    Args:
        module: The network; a copy is used.
        inputs: Example inputs (batch 1) on the canvas; their floating values are replaced.
        seeds: One random network each.
        borders: See the module's docstring.
        bound: Per output axis, a multiple of every period that is looked for; the output's size on the torus.
        colours: Number of constants per network.
        start_at: ``(module name, sizes)``: replace this module's output by a constant field of that size, for networks
            whose lattice is born inside (a 1x1 latent, a learned constant, a reshape after a linear layer).
        head: Name of the last weight layer, whose output channels are multiplied by ``head_factor``.
        head_factor: See ``head``.
        channel_axis: Of the inputs.
        output: Index of the output.
        norms: What instance and group normalisation do: rescale the tensor, or nothing.
        zero: See :func:`randomised`.
        keep: See :func:`randomised`.
        tolerance: Differences below this share of the output's rms are none.

    Raises:
        NoInteriorError: If the interior has no period that divides the bound.
    """
    if head is not None:
        module = widened(module, head, head_factor)
    fields: list[NDArray[np.float64]] = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        network = randomised(module, generator, zero=zero, keep=keep)
        if start_at is not None:
            _inject(network, *start_at, colours, generator)
        given = tuple(_colour(x, colours, channel_axis if x.dim() > 2 else 1, generator) for x in inputs)
        with _Unit(torus=borders == "torus", cut=True, norms=norms):
            outputs = _tensors(network(*given))
        field = outputs[output].detach().numpy()
        sizes = field.shape[2:]
        limit = tuple(sizes) if bound is None else tuple(_axes(bound, len(sizes)))
        fields.append(_middle(field, limit).copy() if borders == "canvas" else field)
    periods = [
        math.lcm(*(_period(f, 2 + axis, limit[axis], borders, tolerance) for f in fields)) for axis in range(len(sizes))
    ]
    powers = [_by_phase(np.square(f).mean(axis=(0, 1)), periods) for f in fields]
    means = np.array([np.square(_by_phase(f, periods).mean(axis=tuple(range(2, f.ndim)))).mean() for f in fields])
    totals = np.array([p.mean() for p in powers])
    ratio, error = _unevenness(powers)
    count = len(fields)
    spread = math.nan  # one network says nothing of its own error
    if count > 1:
        jackknife = [1 - (means.sum() - m) / (totals.sum() - t) for m, t in zip(means, totals, strict=True)]
        spread = math.sqrt((count - 1) * float(np.var(jackknife)))
    ac = max(0.0, float(1 - means.sum() / totals.sum()))
    return Forward(tuple(periods), np.mean(powers, axis=0), _standard_error(powers), ratio, error, ac, spread)


def _standard_error(draws: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    if len(draws) < 2:
        return np.full_like(draws[0], math.nan)
    return np.asarray(np.std(draws, axis=0, ddof=1) / math.sqrt(len(draws)))


def _inject(network: nn.Module, name: str, sizes: tuple[int, ...], draws: int, generator: torch.Generator) -> None:
    def constant(_: nn.Module, __: Any, result: Any) -> Tensor:
        channels = _tensors(result)[0].shape[1]
        colour = torch.randn((draws, channels, *[1] * len(sizes)), generator=generator, dtype=torch.float64)
        return colour.expand(draws, channels, *sizes).contiguous()

    network.get_submodule(name).register_forward_hook(constant)


def _middle(y: NDArray[np.float64], limit: Sequence[int]) -> NDArray[np.float64]:
    """The middle ``3 * limit`` samples of every axis, beginning at a multiple of the limit, which keeps the phases."""
    cuts = []
    for n, b in zip(y.shape[2:], limit, strict=True):
        if n < 3 * b:
            raise NoInteriorError(f"an axis of {n} samples holds less than three periods of {b}: use a larger canvas")
        start = (n - 3 * b) // 2 // b * b
        cuts.append(slice(start, start + 3 * b))
    return y[(..., *cuts)]


def _period(y: NDArray[np.float64], axis: int, limit: int, borders: Borders, tolerance: float) -> int:
    scale = math.sqrt(float(np.square(y).mean())) or 1.0
    for candidate in (p for p in range(1, limit + 1) if limit % p == 0):
        if borders == "torus":
            difference = y - np.roll(y, candidate, axis)
        else:
            n = y.shape[axis]
            difference = np.take(y, range(candidate, n), axis) - np.take(y, range(n - candidate), axis)
        if np.abs(difference).max() <= tolerance * scale:
            return candidate
    raise NoInteriorError(f"axis {axis - 2}: no period divides {limit}; the border reaches the middle of the canvas")


def simulate_backward(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    seeds: Iterable[int],
    *,
    period: int | Sequence[int],
    borders: Borders = "torus",
    which: int = 0,
    draws: int = 1,
    channel_axis: int = 1,
    norms: Literal["unit", "identity"] = "unit",
    zero: Sequence[str] = (),
    keep: Sequence[str] = (),
    margin: float = 0.25,
) -> Backward:
    """Squared gradients of independent normal output gradients with respect to a noise input, by phase.

    Args:
        module: The network; a copy is used.
        inputs: Example inputs (batch 1) on the canvas; their floating values are replaced by noise.
        seeds: One random network each.
        period: Phases to tell apart, in samples of the input.
        borders: See the module's docstring.
        which: Index of the input.
        draws: Noise inputs per network.
        channel_axis: Of the inputs.
        norms: As in :func:`simulate_forward`.
        zero: See :func:`randomised`.
        keep: See :func:`randomised`.
        margin: Share of the canvas cut at every side (canvas only).
    """
    moments: list[NDArray[np.float64]] = []
    dead: list[float] = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        network = randomised(module, generator, zero=zero, keep=keep).float()
        given = []
        for x in inputs:
            x = x.repeat((draws, *[1] * (x.dim() - 1)))
            given.append(torch.randn(x.shape, generator=generator) if x.is_floating_point() else x)
        target = given[which].requires_grad_(True)
        with _Unit(torus=borders == "torus", cut=False, norms=norms):
            outputs = [y for y in _tensors(network(*given)) if y.requires_grad]
        seeds_out = [torch.randn(y.shape, generator=generator, dtype=y.dtype) for y in outputs]
        (gradient,) = torch.autograd.grad(outputs, target, seeds_out)
        square = gradient.detach().double().numpy() ** 2
        square = np.moveaxis(square, channel_axis, 1).mean(axis=(0, 1))
        phases = _axes(period, square.ndim)
        if borders == "canvas":
            cuts = []
            for n, p in zip(square.shape, phases, strict=True):
                start = math.ceil(n * margin / p) * p  # a multiple of the period, which keeps the phases
                cuts.append(slice(start, n - start))
            square = square[tuple(cuts)]
        moments.append(_by_phase(square, phases))
        dead.append(float((moments[-1] == 0).mean()))
    ratio, error = _unevenness(moments)
    relative = [m / m.mean() for m in moments]
    return Backward(np.mean(relative, axis=0), _standard_error(relative), ratio, error, float(np.mean(dead)))


def simulate_gradient_period(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    seeds: Iterable[int],
    *,
    borders: Borders = "torus",
    bound: int | Sequence[int] | None = None,
    which: int = 0,
    end: str | None = None,
    channel_axis: int = 1,
    norms: Literal["unit", "identity"] = "unit",
    zero: Sequence[str] = (),
    keep: Sequence[str] = (),
    tolerance: float = 1e-6,
) -> tuple[int, ...]:
    """Smallest period of the gradient at an input, for generic weights and constant gradients at the outputs.

    The network is made linear: activations are the identity, since the pattern of their derivatives belongs to the data
    and not to the layers, and max pooling is an average over the same windows, which is what its gradient is over data.

    Args:
        module: The network; a copy is used.
        inputs: Example inputs (batch 1) on the canvas; their floating values are replaced.
        seeds: One random network each.
        borders: See the module's docstring.
        bound: A multiple of every period that is looked for; the input's size on the torus.
        which: Index of the input.
        end: Module whose output takes the constant gradient, if not the network's outputs: what comes before a dense
            layer over all positions.
        channel_axis: Of the inputs; every other axis but the first belongs to the lattice.
        norms: As in :func:`simulate_forward`.
        zero: See :func:`randomised`.
        keep: See :func:`randomised`.
        tolerance: Differences below this share of the gradient's rms are none.

    Raises:
        NoInteriorError: If the interior has no period that divides the bound.
    """
    periods: list[list[int]] = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        network = randomised(module, generator, zero=zero, keep=keep)
        given = [_colour(x, 1, channel_axis if x.dim() > 2 else 1, generator) for x in inputs]
        target = given[which].requires_grad_(True)
        caught: list[Any] = []
        if end is not None:
            network.get_submodule(end).register_forward_hook(lambda _, __, result, to=caught: to.append(result))
        with _Linear(), _Unit(torus=borders == "torus", cut=False, norms=norms):
            returned = network(*given)
        outputs = [y for y in _tensors(caught if end is not None else returned) if y.requires_grad]
        seeds_out = [_colour(y.detach(), 1, 1, generator) for y in outputs]
        (gradient,) = torch.autograd.grad(outputs, target, seeds_out)
        field = np.moveaxis(gradient.numpy(), channel_axis if gradient.dim() > 2 else 1, 1)
        limit = tuple(field.shape[2:]) if bound is None else tuple(_axes(bound, field.ndim - 2))
        field = _middle(field, limit) if borders == "canvas" else field
        periods.append([_period(field, 2 + a, limit[a], borders, tolerance) for a in range(field.ndim - 2)])
    return tuple(math.lcm(*axis) for axis in zip(*periods, strict=True))


_IDENTITIES = frozenset(
    getattr(space, name)
    for space in (F, torch, Tensor)
    for name in (
        *("relu", "relu6", "leaky_relu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "prelu"),
        *("hardswish", "hardtanh", "hardsigmoid", "tanh", "sigmoid", "relu_", "tanh_", "sigmoid_", "sin", "logsigmoid"),
    )
    if hasattr(space, name)
)


class _Linear(TorchFunctionMode):
    """The identity in the place of activations, averages in the place of maxima."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _IDENTITIES:
            return args[0]
        pool = _POOLS.get(func)
        if pool is None:
            return func(*args, **kwargs)
        average, indexed = pool
        x, kernel, *rest = args
        stride = rest[0] if rest else kwargs.get("stride")
        padding = rest[1] if len(rest) > 1 else kwargs.get("padding", 0)
        mean = average(x, kernel, stride, padding, kwargs.get("ceil_mode", False))
        return (mean, func(*args, **kwargs)[1]) if indexed or kwargs.get("return_indices") else mean


_POOLS: dict[Any, tuple[Callable[..., Tensor], bool]] = {
    F.max_pool1d: (F.avg_pool1d, False),
    F.max_pool2d: (F.avg_pool2d, False),
    F.max_pool3d: (F.avg_pool3d, False),
    F.max_pool1d_with_indices: (F.avg_pool1d, True),
    F.max_pool2d_with_indices: (F.avg_pool2d, True),
    F.max_pool3d_with_indices: (F.avg_pool3d, True),
}
