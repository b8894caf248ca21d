"""Initialisation: equal phases (ICNR), and the activation scale of the layer that is replaced.

**The output's second moment.** Let a layer read an input with zero mean (or weights with zero mean), independent
channels, second moment 1 and correlation ``rho`` between positions. Flatten the taps of one pair of channels to a
vector ``w``. In the interior, averaged over the phases of the output, the output's second moment is

    ``gain = sum over input channels of w^T M w``,   ``M[t, t'] = mean over outputs n of E[z_t(n) z_t'(n)]``,

``z_t(n)`` being what tap ``t`` multiplies at output ``n``: an input, a phase's input or nothing, or an interpolated
value. So one matrix ``M`` per geometry says everything, for given weights (`output_gain`) and in expectation over
drawn ones, where ``w w^T`` becomes its covariance (`unit_gain`):

- convolution: ``M = rho(d (t - t'))``;
- transposed and sub-pixel convolution: ``M = rho((u - u') / s) / S`` for taps of the same phase ``u = u' mod s``, else
  0; ``S = prod(s)``;
- resize and convolution: ``M = mean over phases of U_r rho U_r^T``, ``U_r`` the interpolation at the taps' places. The
  cross terms are why equal neighbours (nearest) or smoothing (linear) change the scale.

**What PyTorch does.** ``nn.ConvTransposeNd`` draws from ``uniform(+-1/sqrt(fan))`` with the "fan in" of its transposed
weight, ``C_out / g * k^n``: the variance of the weights is ``g / (3 C_out k^n)`` and the gain ``C_in / (3 C_out S)``,
whatever the kernel's size. Our layers start with that gain (`variance_matched_`), so that they replace a transposed
convolution without a change of scale. A convolution has gain ``1/3``; a network initialised by hand, for instance
``normal(0, 0.02)`` (DCGAN), needs `match_` after its initialisation, or `matched_std` in it.

**Balanced layers depend on the input.** Independent weights give a gain that no correlation changes (``M`` has the same
diagonal for all but interpolation that smooths). Balanced kernels put less into images and ``S`` times less into
constants: at equal gain for white inputs, a constant's is smaller than the plain layer's, ``k4 s2`` in 2-D by 4/13.
Smoothing does the reverse: bilinear interpolation by 2 has gain 0.39 for white inputs where it has 1 for constants.
Features after a ReLU lie between (``1/pi`` of their power is a mean): what that leaves after several layers is in
docs/layers.md. Give ``correlation`` (for example from `autocorrelation` of the features) where inputs are far from
white.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import product
from math import ceil, prod, sqrt
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from evenly.errors import ParameterError
from evenly.nn._arguments import integers, refuse
from evenly.nn.balanced import subpixel_directions, transposed_directions
from evenly.nn.resampling import parse_mode, resize
from evenly.nn.subpixel import _SubpixelConv
from evenly.theory.balance import transposed_places

__all__ = [
    "autocorrelation",
    "icnr_",
    "icnr_transposed_",
    "match_",
    "matched_std",
    "output_gain",
    "unit_gain",
    "variance_matched_",
]

Array = NDArray[np.float64]
Correlation = float | Tensor
Initializer = Callable[[Tensor], Any]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


# ---- equal phases ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def icnr_(
    weight: Tensor, scale_factor: int | Sequence[int], initializer: Initializer = nn.init.kaiming_normal_
) -> Tensor:
    """Fill a sub-pixel convolution's weight with equal phases: it starts as a nearest-neighbour resize.

    Aitken et al., arXiv 1707.02937: the initializer fills the weight of a convolution without the factor, and every
    phase gets a copy.

    Args:
        weight: ``(C_out * prod(s), C_in / groups, *kernel)``, changed in place.
        scale_factor: Factor ``s`` of the pixel shuffle.
        initializer: Fills a tensor ``(C_out, C_in / groups, *kernel)`` in place.

    Returns:
        ``weight``.

    Raises:
        ParameterError: If the output channels are not divisible by ``prod(s)``.
    """
    phases = prod(integers("scale_factor", scale_factor, weight.dim() - 2))
    if weight.shape[0] % phases:
        refuse("weight.shape[0]", weight.shape[0], f"divisible by prod(scale_factor) (={phases})", "check the factor")
    part = torch.empty_like(weight[: weight.shape[0] // phases], memory_format=torch.contiguous_format)
    initializer(part)
    return weight.copy_(part.repeat_interleave(phases, dim=0))


@torch.no_grad()
def icnr_transposed_(
    weight: Tensor, stride: int | Sequence[int], initializer: Initializer = nn.init.kaiming_normal_, groups: int = 1
) -> Tensor:
    """Fill a transposed convolution's weight with equal phases, the counterpart of `icnr_`.

    Each tap of a convolution of size ``k / s`` is repeated ``s`` times per axis; the layer starts as that convolution
    at low resolution and a nearest-neighbour resize. Any dilation without a factor in common with ``s`` will do.

    Args:
        weight: ``(C_in, C_out / groups, *kernel)``, changed in place.
        stride: Stride ``s``; a divisor of the kernel size on every axis.
        initializer: Fills a convolution's weight ``(C_out, C_in / groups, *(kernel / s))`` in place.
        groups: Groups of the layer.

    Returns:
        ``weight``.

    Raises:
        ParameterError: If the stride does not divide the kernel size, or ``groups`` the channels.
    """
    strides = integers("stride", stride, weight.dim() - 2)
    inputs, outputs, *kernel = weight.shape
    if any(k % s for k, s in zip(kernel, strides, strict=True)):
        refuse(
            "kernel_size", tuple(kernel), f"divisible by stride (={strides}) for equal phases",
            "change it, or use evenly.nn.utils.balance(layer), which needs equal sums only",
        )  # fmt: skip
    if inputs % groups:
        refuse("groups", groups, f"a divisor of weight.shape[0] (={inputs})", "give the layer's groups")
    small = [k // s for k, s in zip(kernel, strides, strict=True)]
    part = weight.new_empty(groups * outputs, inputs // groups, *small)
    initializer(part)
    for axis, s in enumerate(strides, start=2):
        part = part.repeat_interleave(s, dim=axis)
    by_group = part.view(groups, outputs, inputs // groups, *kernel).transpose(1, 2)
    return weight.copy_(by_group.reshape(weight.shape))


# ---- second moments --------------------------------------------------------------------------------------------------


def _correlated(offsets: NDArray[Any], correlation: Correlation) -> Array:
    """``rho`` at offsets ``(..., axes)`` of whole input samples."""
    if isinstance(correlation, Tensor):
        table = correlation.detach().double().cpu().numpy()
        if table.ndim != offsets.shape[-1]:
            refuse(
                "correlation", tuple(table.shape), f"a table with {offsets.shape[-1]} axes of lags",
                "measure it on features of the same number of axes with autocorrelation()",
            )  # fmt: skip
        last = np.array(table.shape) - 1  # beyond the table, its last lag: features with a mean keep a floor
        index = np.minimum(np.abs(offsets).astype(np.int64), last)
        found: Array = table[tuple(np.moveaxis(index, -1, 0))]
        return found
    if not -1 <= correlation <= 1:
        refuse("correlation", correlation, "between -1 and 1", "give 0.0 for white and 1.0 for constant inputs")
    powers: Array = np.float64(correlation) ** np.abs(offsets).sum(-1)
    return powers


def _at_places(places: Sequence[Sequence[int]], stride: Sequence[int], correlation: Correlation) -> Array:
    """``M`` of taps that write to the places ``u`` on the output's lattice, ``(taps, taps)``."""
    grid = np.stack([g.ravel() for g in np.meshgrid(*places, indexing="ij")], -1)  # (taps, axes)
    apart = grid[:, None] - grid[None]
    same = (apart % np.array(stride) == 0).all(-1)
    whole = np.where(same[..., None], apart // np.array(stride), 0)
    return np.where(same, _correlated(whole, correlation), 0.0) / prod(stride)


def _conv_moments(layer: Any, correlation: Correlation) -> Array:
    # every phase of a sub-pixel convolution is a convolution of its own
    return _at_places(transposed_places(layer.kernel_size, layer.dilation), (1,) * len(layer.kernel_size), correlation)


def _transposed_moments(layer: Any, correlation: Correlation) -> Array:
    return _at_places(transposed_places(layer.kernel_size, layer.dilation), layer.stride, correlation)


def _interpolation(mode: str, scale: float, kernel: int, dilation: int, dims: int) -> Array:
    """What the taps read along one axis: ``(outputs of one period, taps, inputs)``."""
    ratio = Fraction(scale).limit_denominator(64)
    _, fir = parse_mode(mode, dims)
    margin = 3 + ceil(len(fir) / float(ratio)) + ceil(dilation * (kernel - 1) / float(ratio))
    inputs = 2 * margin + ratio.denominator
    # one axis of the layer's mode; the others have size 1 and are not resized
    basis = torch.eye(inputs, dtype=torch.float64).view(1, inputs, inputs, *(1,) * (dims - 1))
    factors = [ratio.numerator if ratio.denominator == 1 else scale, *(1,) * (dims - 1)]
    rows = resize(basis, factors, mode).reshape(inputs, -1).T.numpy()  # (outputs, inputs)
    first = round(margin * float(ratio)) - dilation * (kernel - 1) // 2
    taps = dilation * np.arange(kernel)
    return np.stack([rows[first + n + taps] for n in range(ratio.numerator)])


def _resize_moments(layer: Any, correlation: Correlation) -> Array:
    kernel, dilation = layer.kernel_size, layer.dilation
    dims = len(kernel)
    axes = [
        _interpolation(layer.mode, s, k, d, dims) for s, k, d in zip(layer.scale_factor, kernel, dilation, strict=True)
    ]
    if not isinstance(correlation, Tensor):  # separable: the mean over the phases too
        result = np.ones((1, 1))
        for rows in axes:
            lag = np.abs(np.subtract.outer(np.arange(rows.shape[-1]), np.arange(rows.shape[-1])))
            rho = _correlated(lag[..., None], correlation)
            result = np.kron(result, np.einsum("rti,ij,ruj->tu", rows, rho, rows) / len(rows))
        return result
    grid = np.stack([g.ravel() for g in np.meshgrid(*[np.arange(r.shape[-1]) for r in axes], indexing="ij")], -1)
    rho = _correlated(grid[:, None] - grid[None], correlation)
    total, count = np.zeros((1, 1)), 0
    for phase in product(*[range(len(r)) for r in axes]):
        rows = np.ones((1, 1))
        for axis, r in enumerate(phase):
            rows = np.kron(rows, axes[axis][r])
        total, count = total + rows @ rho @ rows.T, count + 1
    return total / count


def _kind(layer: nn.Module) -> str:
    """Which of the geometries a layer has; the keys of ``_MOMENTS``."""
    if isinstance(layer, _TRANSPOSED):
        return "transposed"
    if isinstance(layer, _SubpixelConv):
        return "subpixel"
    # the resize-convolution initialises itself by this module, so it is known by its attributes and not imported
    if all(hasattr(layer, name) for name in ("weight", "kernel_size", "dilation", "scale_factor", "mode", "groups")):
        return "resize"
    if isinstance(layer, _CONVOLUTIONS):
        return "convolution"
    raise ParameterError(
        f"layer (={type(layer).__name__}) has no known gain; expected a Conv, ConvTranspose, ResizeConv, SubpixelConv "
        "or BalancedConvTranspose: give one of these layers itself, not a module around it"
    )


_MOMENTS: dict[str, Callable[[Any, Correlation], Array]] = {
    "convolution": _conv_moments,
    "transposed": _transposed_moments,
    "subpixel": _conv_moments,
    "resize": _resize_moments,
}


def _integer(layer: Any, name: str) -> int:
    return int(getattr(layer, name))


def output_gain(layer: nn.Module, correlation: Correlation = 0.0) -> float:
    """Mean output second moment per unit second moment of the input, with the layer's present weights.

    Exact in the interior (borders left out), bias left out, averaged over output channels and phases; input channels
    are taken as uncorrelated, or the weights as independent over them. Verified by simulation in the tests.

    Args:
        layer: A Conv, ConvTranspose, ResizeConv, SubpixelConv or BalancedConvTranspose.
        correlation: Of the input between positions: 0.0 white, 1.0 constant in space, between them
            ``rho^|lag|`` per axis, or a table from `autocorrelation`.

    Returns:
        A ratio of second moments (powers, not amplitudes).

    Raises:
        ParameterError: For another kind of layer, or a correlation outside of [-1, 1].
    """
    kind = _kind(layer)
    flat = cast(Tensor, layer.weight).detach().double().flatten(2).flatten(0, 1)  # (pairs of channels, taps)
    phases = prod(layer.scale_factor) if isinstance(layer, _SubpixelConv) else 1
    gram = (flat.T @ flat).cpu().numpy() / (_integer(layer, "out_channels") * phases)
    return float((gram * _MOMENTS[kind](layer, correlation)).sum())


def unit_gain(layer: nn.Module, correlation: Correlation = 0.0) -> float:
    """Expected `output_gain` per unit variance of the weights drawn (independent, zero mean, before projections).

    Does not look at the weights. Equal phases (ICNR) and the projection of balanced layers are taken into account.

    Args:
        layer: As in `output_gain`.
        correlation: As in `output_gain`.

    Raises:
        ParameterError: As `output_gain`.
    """
    kind = _kind(layer)
    inputs = _integer(layer, "in_channels") // _integer(layer, "groups")
    return float(inputs * (_covariance(layer, kind) * _MOMENTS[kind](layer, correlation)).sum())


def _covariance(layer: Any, kind: str) -> Array:
    """Of the taps of one pair of channels, per unit variance of the weights drawn; mean over a sub-pixel's phases."""
    size, order = prod(layer.kernel_size), int(getattr(layer, "order", 0))
    result: Array = np.eye(size)
    if not order or kind not in ("transposed", "subpixel"):
        return result
    if kind == "transposed":
        q = transposed_directions(layer, order)
        result -= q @ q.T
        return result
    phases = prod(layer.scale_factor)
    q = subpixel_directions(layer, layer.scale_factor, order)  # (phases * taps, rank)
    if layer.icnr:
        drawn = np.tile(np.eye(size), (phases, 1))  # every phase the same
        kept = (drawn - q @ (q.T @ drawn)).reshape(phases, size, size)
        return np.asarray(np.einsum("rtj,ruj->tu", kept, kept) / phases)
    each = q.reshape(phases, size, -1)
    result -= np.einsum("rtj,ruj->tu", each, each) / phases
    return result


def matched_std(new: nn.Module, old: nn.Module, std: float, correlation: Correlation = 0.0) -> float:
    """Standard deviation of new weights that gives the scale which ``std`` gives the old layer.

    For initialisations by hand: DCGAN's ``normal_(0, 0.02)`` of a ``k4 s2`` transposed convolution becomes
    ``normal_(0, 0.0133)`` for the resize-convolution of ``k3 s2``.

    Args:
        new: The layer that replaces ``old``.
        old: The layer that is replaced.
        std: Standard deviation of the old layer's weights.
        correlation: As in `output_gain`.

    Raises:
        ParameterError: As `output_gain`.
    """
    return std * sqrt(unit_gain(old, correlation) / unit_gain(new, correlation))


def _write(layer: nn.Module, name: str, value: Tensor) -> None:
    """Set a parameter, through its parametrization where it has one."""
    target: Tensor = getattr(layer, name)
    with torch.no_grad():
        if parametrize.is_parametrized(layer, name):
            setattr(layer, name, value.to(target.dtype))
        else:
            target.copy_(value)


def match_(new: nn.Module, old: nn.Module, correlation: Correlation = 0.0) -> nn.Module:
    """Scale the weights of ``new`` so that its outputs have the second moment of those of ``old``; take over its bias.

    Uses the present weights of both, however they were drawn or trained.

    Args:
        new: The layer that replaces ``old``; changed in place.
        old: The layer that is replaced.
        correlation: As in `output_gain`.

    Returns:
        ``new``.

    Raises:
        ParameterError: As `output_gain`; if the numbers of output channels differ; if the weights of ``new`` are 0.
    """
    if new.out_channels != old.out_channels:
        refuse(
            "out_channels", new.out_channels, f"{old.out_channels}, as in the layer that is replaced",
            "build the new layer with the old one's channels",
        )  # fmt: skip
    gain = output_gain(new, correlation)
    if not gain > 0:
        refuse("output_gain(new)", gain, "above 0", "initialise the new layer's weights before matching them")
    factor = sqrt(output_gain(old, correlation) / gain)
    _write(new, "weight", cast(Tensor, new.weight).detach() * factor)
    if new.bias is not None and old.bias is not None:
        channels = cast(Tensor, old.bias).detach()
        if isinstance(old, _SubpixelConv):
            channels = channels.view(-1, prod(old.scale_factor)).mean(1)
        phases = prod(new.scale_factor) if isinstance(new, _SubpixelConv) else 1
        _write(new, "bias", channels.repeat_interleave(phases))
    return new


def variance_matched_(layer: nn.Module, correlation: Correlation = 0.0) -> nn.Module:
    """Draw weights and bias so that the output has the scale of PyTorch's default ``nn.ConvTranspose`` at this place.

    Expected gain ``C_in / (3 C_out S)`` (see the module's text). Weights are uniform, with equal phases for a sub-pixel
    convolution that asks for ICNR; for a plain transposed convolution this *is* PyTorch's default. The bias counts,
    since these gains shrink the signal layer by layer: it has PyTorch's distribution for a transposed convolution of
    kernel ``d (k - 1) + s`` (``k3 s2`` replaces ``k4 s2``; a transposed layer's own ``k``), the same for all phases.

    Args:
        layer: A ConvTranspose, ResizeConv, SubpixelConv or BalancedConvTranspose; changed in place.
        correlation: As in `output_gain`.

    Returns:
        ``layer``.

    Raises:
        ParameterError: For a layer that does not up-sample.
    """
    kind = _kind(layer)
    if kind == "convolution":
        refuse("layer", type(layer).__name__, "an up-sampling layer", "use match_(layer, like) for a convolution")
    geometry: Any = layer
    kernel, dilation = geometry.kernel_size, geometry.dilation
    factor = geometry.stride if kind == "transposed" else geometry.scale_factor
    # the transposed convolution that this layer most often replaces: k3 s2 takes the place of k4 s2
    spans = (
        k if kind == "transposed" else d * (k - 1) + ceil(s) for k, s, d in zip(kernel, factor, dilation, strict=True)
    )
    taps = prod(spans)
    inputs, outputs, groups = (_integer(layer, n) for n in ("in_channels", "out_channels", "groups"))
    target = inputs / (3 * outputs * prod(factor))
    bound = sqrt(3 * target / unit_gain(layer, correlation))  # variance bound^2 / 3
    weight = cast(Tensor, layer.weight)
    drawn = torch.empty_like(weight.detach(), memory_format=torch.contiguous_format)
    if isinstance(layer, _SubpixelConv) and layer.icnr:
        icnr_(drawn, layer.scale_factor, lambda part: part.uniform_(-bound, bound))
    else:
        drawn.uniform_(-bound, bound)
    _write(layer, "weight", drawn)
    if layer.bias is not None:
        edge = sqrt(groups / (outputs * taps))
        bias = torch.empty(outputs, dtype=weight.dtype, device=weight.device).uniform_(-edge, edge)
        phases = prod(layer.scale_factor) if isinstance(layer, _SubpixelConv) else 1
        _write(layer, "bias", bias.repeat_interleave(phases))
    return layer


def autocorrelation(x: Tensor, lags: int = 4) -> Tensor:
    """Second moments of features between positions, relative to their power: a table for ``correlation``.

    Not centred: features after a ReLU have a mean, which acts as a part that is constant in space.

    Args:
        x: ``(N, C, *size)``.
        lags: Lags 0 to ``lags - 1`` are measured on every axis (fewer on a smaller axis).

    Returns:
        ``(lags, ..., lags)`` in float64 on the CPU, 1 at lag 0; a lag stands for both of its signs.

    Raises:
        ParameterError: If ``x`` is empty or zero.
    """
    integers("lags", lags, 1)
    signal = x.detach().double()
    power = float((signal**2).mean()) if signal.numel() else 0.0
    if not power > 0:
        refuse("x", tuple(x.shape), "features that are not all zero", "measure on a batch of real activations")
    dims = x.dim() - 2
    counts = [min(lags, n) for n in x.shape[2:]]
    table = torch.zeros(counts, dtype=torch.float64)
    for lag in product(*[range(n) for n in counts]):
        values = []
        for signs in product((1, -1), repeat=dims - 1):
            left = right = signal
            for axis, (v, sign) in enumerate(zip(lag, (1, *signs), strict=True), start=2):
                ahead, behind = (v, 0) if sign > 0 else (0, v)
                size = x.shape[axis] - v
                left, right = left.narrow(axis, ahead, size), right.narrow(axis, behind, size)
            values.append(float((left * right).mean()))
        table[lag] = sum(values) / len(values) / power
    return table
