"""Between the two forms of an up-sampling layer: resize-convolution and transposed convolution.

**Folding.** Interpolation by a whole factor ``s`` with the FIR ``h`` and the convolution ``w`` after it are one
transposed convolution of stride ``s`` (docs/theory.md, section 3; Odena, Dumoulin & Olah 2016 describe the relation).
Per axis its kernel is ``f = F w``, ``F`` the fold's matrix (`evenly.nn._fold`), and the layer is cropped by
``c = d (k - 1) + origin - padding before`` samples at the start and ``len(f) - s - c - growth`` at the end.
``nn.ConvTranspose`` can crop the end less than the start, by fewer than ``s`` samples (its output padding); every other
pair of crops, negative ones included, becomes such a one when zero taps are added to the kernel, so that there is no
crop which can not be expressed.

**Borders.** The transposed convolution continues its *input* with zeros. Interpolation repeats the edge samples, which
matters in the first ``len(h) - origin - s`` and the last ``origin`` samples of the interpolated signal: none for
nearest neighbour. So a side is exact if those samples are cropped, or there are none at either end (a kernel longer
than ``s`` goes on into the padding) and the padding holds zeros.

**Unfolding.** The resize-convolution nearest to a transposed convolution's kernel ``f`` solves ``min |F w - f|^2`` on
the union of both supports: ``w = F^+ f``, separable over the axes and the same small matrix for every pair of channels.
In 1-D with nearest neighbour it is exact iff ``f`` meets the DC condition: ``f(z)`` is then divisible by ``1 + z + ...
+ z^(s-1)`` (Sugawara, Shiota & Kiya, arXiv 1806.02658, state the condition); a dilation prime to ``s`` changes nothing,
with a common factor of the two phases stay empty, so that only kernels with gains of 0 meet it. In n-D the condition is
weaker than divisibility along each axis: balanced kernels exist that no resize-convolution has.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast, overload

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from evenly.errors import ParameterError
from evenly.nn._arguments import choice, integers, refuse
from evenly.nn._fold import Axis, fold_weight
from evenly.nn.init import match_
from evenly.nn.resampling import Kernel, interpolation_kernel, parse_mode
from evenly.nn.resize import ResizeConv1d, ResizeConv2d, ResizeConv3d, _ResizeConv
from evenly.theory.equivalence import Fit, fit, unfolded_weight, used_taps

__all__ = ["Unfolded", "fold", "foldable", "from_conv_transpose", "unfold"]

Array = NDArray[np.float64]
M = TypeVar("M", bound=nn.Module)

_CONVOLUTIONS: dict[type[nn.Module], int] = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
_TRANSPOSED: dict[int, type[_ConvTransposeNd]] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_RESIZE: dict[int, type[_ResizeConv]] = {1: ResizeConv1d, 2: ResizeConv2d, 3: ResizeConv3d}
# What the samples hold that a padding layer adds
_PADS: dict[type[nn.Module], str] = {
    nn.ConstantPad1d: "constant", nn.ConstantPad2d: "constant", nn.ConstantPad3d: "constant",
    nn.ReflectionPad1d: "reflect", nn.ReflectionPad2d: "reflect", nn.ReflectionPad3d: "reflect",
    nn.ReplicationPad1d: "replicate", nn.ReplicationPad2d: "replicate", nn.ReplicationPad3d: "replicate",
    nn.CircularPad1d: "circular", nn.CircularPad2d: "circular", nn.CircularPad3d: "circular",
}  # fmt: skip
_BORDERS = ("exact", "interior")


# ---- what is folded --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Recipe:
    """A foldable layer: its convolution's tensors, its geometry, and why its border would differ, if it would."""

    convolution: Any
    axes: tuple[Axis, ...]
    border: str | None


@dataclass(frozen=True)
class _Candidate:
    """Layers of a network that up-sample together: from an interpolation to the convolution after it."""

    name: str
    parent: nn.Module | None
    keys: tuple[str, ...]
    members: tuple[nn.Module, ...]
    refused: str | None = None


def _own_class(module: nn.Module, known: Sequence[type[nn.Module]]) -> type[nn.Module] | None:
    """The class of ``known`` whose very computation the module does; a parametrization keeps it, an override not."""
    for cls in known:
        if isinstance(module, cls):
            methods = [n for n in ("forward", "_conv_forward") if hasattr(cls, n)]
            return cls if all(getattr(type(module), n) is getattr(cls, n) for n in methods) else None
    return None


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _check_usable(module: nn.Module) -> None:
    """Refuse layers that do more than their class, or do not know their shape yet."""
    name = type(module).__name__
    if any(is_lazy(p) for p in module.parameters(recurse=False)):
        raise ParameterError(f"{name} has no weight yet; run one batch through the network first")
    if _has_hooks(module):
        raise ParameterError(
            f"{name} has forward hooks (weight_norm of torch.nn.utils?), which would be lost; remove them"
        )


def _axis_kernels(mode: str, scale: Sequence[int], dims: int) -> tuple[Kernel, ...]:
    name, taps = parse_mode(mode, dims)
    return tuple(interpolation_kernel(name, s, taps) if s > 1 else Kernel(1, (1.0,), 0) for s in scale)


def _whole(scale: Sequence[float]) -> tuple[int, ...]:
    if any(v != int(v) or v < 1 for v in scale):
        raise ParameterError(f"scale_factor (={tuple(scale)}) must be whole for a fold; choose whole factors")
    return tuple(int(v) for v in scale)


def _affected(kernel: Kernel) -> tuple[int, int]:
    """How many interpolated samples at both ends depend on how the input goes on beyond them."""
    return max(0, len(kernel.taps) - kernel.origin - kernel.scale), max(0, kernel.origin)


def _border(axes: Sequence[Axis], modes: Sequence[tuple[set[str], set[str]]], interpolation: str) -> str | None:
    """Why a fold would differ at the border; None where it does not."""
    for number, (axis, sides) in enumerate(zip(axes, modes, strict=True)):
        both = _affected(axis.kernel)
        for end, affected, pad, held in zip(("start", "end"), both, axis.pad, sides, strict=True):
            # zeros as padding: a kernel longer than s goes on beyond the signal, too
            if pad <= -affected or (not any(both) and held <= {"zeros"}):
                continue
            where = f"at the {end} of spatial axis {number}"
            if any(both):
                return (
                    f"mode '{interpolation}' repeats the edge samples {where}, where a transposed convolution goes on "
                    "with zeros"
                )
            return f"padding_mode '{min(held - {'zeros'})}' {where} is not the zeros of a transposed convolution"
    return None


def _conv_padding(convolution: Any) -> tuple[tuple[int, int], ...]:
    if convolution.padding == "valid":
        return ((0, 0),) * len(convolution.kernel_size)
    if convolution.padding == "same":
        totals = [d * (k - 1) for k, d in zip(convolution.kernel_size, convolution.dilation, strict=True)]
        return tuple((t // 2, t - t // 2) for t in totals)
    return tuple((p, p) for p in convolution.padding)


def _steps(pads: Sequence[nn.Module], convolution: Any) -> Iterator[tuple[str, tuple[tuple[int, int], ...]]]:
    """What each padding adds: what it holds, and (before, after) per axis."""
    dims = len(convolution.kernel_size)
    for pad in pads:
        cls = _own_class(pad, tuple(_PADS))
        if cls is None:
            raise ParameterError(f"{type(pad).__name__} stands before the convolution with a forward of its own")
        _check_usable(pad)
        amounts = cast(Any, pad).padding
        if len(amounts) != 2 * dims:
            raise ParameterError(f"{type(pad).__name__} pads {len(amounts) // 2} axes, the convolution has {dims}")
        held = "zeros" if _PADS[cls] == "constant" and cast(Any, pad).value == 0 else _PADS[cls]
        yield held, tuple((amounts[2 * i], amounts[2 * i + 1]) for i in reversed(range(dims)))
    yield convolution.padding_mode, _conv_padding(convolution)


def _padded(
    pads: Sequence[nn.Module], convolution: Any
) -> tuple[list[tuple[int, int]], list[tuple[set[str], set[str]]]]:
    """All paddings together: samples (before, after) per axis, and what those hold."""
    dims = len(convolution.kernel_size)
    total = [[0, 0] for _ in range(dims)]
    modes: list[tuple[set[str], set[str]]] = [(set(), set()) for _ in range(dims)]
    cropped = [[False, False] for _ in range(dims)]
    for held, amounts in _steps(pads, convolution):
        for axis, pair in enumerate(amounts):
            for side, amount in enumerate(pair):
                if amount > 0 and cropped[axis][side]:
                    raise ParameterError(
                        f"spatial axis {axis} is cropped first and padded then; make one layer of both"
                    )
                cropped[axis][side] |= amount < 0
                total[axis][side] += amount
                if amount > 0:
                    modes[axis][side].add(held)
    return [(low, high) for low, high in total], modes


def _resize_recipe(layer: _ResizeConv) -> _Recipe:
    if _own_class(layer, tuple(_RESIZE.values())) is None:
        raise ParameterError(f"{type(layer).__name__} has a forward of its own; fold the layer that it is made of")
    _check_usable(layer)
    kernels = _axis_kernels(layer.mode, _whole(layer.scale_factor), layer.dims)
    axes = tuple(
        Axis(h, k, d, p) for h, k, d, p in zip(kernels, layer.kernel_size, layer.dilation, layer.padding, strict=True)
    )
    held = {layer.padding_mode}
    return _Recipe(layer, axes, _border(axes, [(held, held)] * layer.dims, layer.mode))


def _pair_recipe(upsample: Any, pads: Sequence[nn.Module], convolution: Any) -> _Recipe:
    if _own_class(upsample, (nn.Upsample,)) is None:
        raise ParameterError(f"{type(upsample).__name__} has a forward of its own")
    cls = _own_class(convolution, tuple(_CONVOLUTIONS))
    if cls is None:
        raise ParameterError(f"{type(convolution).__name__}, which follows it, is not a plain convolution")
    for member in (upsample, convolution):
        _check_usable(member)
    dims = _CONVOLUTIONS[cls]
    if upsample.scale_factor is None:
        raise ParameterError(f"size (={upsample.size}) fixes its output; give scale_factor instead")
    if upsample.align_corners:
        raise ParameterError("align_corners (=True) has no fixed filter; use align_corners=False")
    if any(s != 1 for s in convolution.stride):
        raise ParameterError(
            f"stride (={convolution.stride}) of the convolution after it must be 1; fold needs every output"
        )
    factors = upsample.scale_factor
    scale = _whole(factors if isinstance(factors, tuple) else (factors,) * dims)
    if len(scale) != dims:
        raise ParameterError(f"scale_factor (={factors}) has {len(scale)} axes, the convolution {dims}")
    kernels = _axis_kernels(upsample.mode, scale, dims)
    pad, modes = _padded(pads, convolution)
    geometry = zip(kernels, convolution.kernel_size, convolution.dilation, pad, strict=True)
    axes = tuple(Axis(h, k, d, p) for h, k, d, p in geometry)
    return _Recipe(convolution, axes, _border(axes, modes, upsample.mode))


def _recipe(candidate: _Candidate) -> _Recipe:
    if candidate.refused:
        raise ParameterError(candidate.refused)
    if isinstance(candidate.members[0], _ResizeConv):
        return _resize_recipe(candidate.members[0])
    first, *between, last = candidate.members
    return _pair_recipe(first, [m for m in between if not isinstance(m, nn.Identity)], last)


def _pair(name: str, parent: nn.Module, start: int) -> _Candidate:
    """From an ``nn.Upsample`` in a module to the convolution after it."""
    keys, members = list(parent._modules), cast("list[nn.Module]", list(parent._modules.values()))
    reason = "no convolution follows it in its nn.Sequential; fold needs one"
    if type(parent).forward is not nn.Sequential.forward:
        reason = f"it is part of a {type(parent).__name__}, whose order is not known; put both in an nn.Sequential"
        return _Candidate(name, parent, (keys[start],), (members[start],), reason)
    for stop, child in enumerate(members[start + 1 :], start=start + 1):
        if isinstance(child, (nn.Identity, *_PADS)):
            continue
        if isinstance(child, tuple(_CONVOLUTIONS)):
            return _Candidate(name, parent, tuple(keys[start : stop + 1]), tuple(members[start : stop + 1]))
        reason = f"{type(child).__name__} follows it, not a convolution; only interpolation and convolution fold"
        break
    return _Candidate(name, parent, (keys[start],), (members[start],), reason)


def _candidates(root: nn.Module) -> Iterator[_Candidate]:
    if isinstance(root, _ResizeConv):
        yield _Candidate("", None, (), (root,))
    elif isinstance(root, nn.Upsample):
        yield _Candidate("", None, (), (root,), "no convolution follows it; give both in an nn.Sequential")
    for prefix, parent in root.named_modules():
        for number, (key, child) in enumerate(parent._modules.items()):
            name = f"{prefix}.{key}" if prefix else key
            if isinstance(child, _ResizeConv):
                yield _Candidate(name, parent, (key,), (child,))
            elif isinstance(child, nn.Upsample):
                yield _pair(name, parent, number)


def _is_whole(root: nn.Module, candidate: _Candidate) -> bool:
    """Whether the candidate is all that the module does."""
    if candidate.parent is None:
        return True
    if candidate.parent is not root or len(candidate.keys) == 1 or _has_hooks(root):
        return False
    rest = [m for key, m in root._modules.items() if key not in candidate.keys]
    return all(isinstance(m, nn.Identity) for m in rest)


def _reason(candidate: _Candidate, border: str) -> str | None:
    try:
        found = _recipe(candidate).border
    except ParameterError as error:
        return str(error)
    if found and border == "exact":
        return f"{found}; border='interior' accepts that, mode='nearest' with zeros or cropping avoids it"
    return None


def foldable(module: nn.Module, *, border: str = "exact") -> dict[str, str | None]:
    """Which layers of a network `fold` replaces, and why not the others.

    Args:
        module: A layer or network; nothing is changed.
        border: As in `fold`.

    Returns:
        For every `ResizeConv1d` (2d, 3d) and ``nn.Upsample``, by its name (``""`` for the module itself): None if it
        folds, or the reason why it does not.

    Raises:
        ParameterError: for an unknown ``border``.
    """
    choice("border", border, _BORDERS)
    return {c.name: _reason(c, border) for c in _candidates(module)}


# ---- fold ------------------------------------------------------------------------------------------------------------


def _values(layer: Any, name: str) -> Tensor | None:
    """A parameter's value at inference: spectral normalisation would take a step on every reading in training."""
    was = layer.training
    layer.eval()
    value: Tensor | None = getattr(layer, name)
    layer.train(was)
    return None if value is None else value.detach()


def _trained(layer: Any, name: str) -> bool:
    if parametrize.is_parametrized(layer, name):
        return any(p.requires_grad for p in layer.parametrizations[name].parameters())
    return bool(getattr(layer, name).requires_grad)


def _fill(new: M, old: Any, weight: Tensor) -> M:
    """Give a new layer its weight, and the bias and the flags of the old one."""
    new.weight = nn.Parameter(weight, requires_grad=_trained(old, "weight"))
    bias = _values(old, "bias")
    if bias is not None:
        new.bias = nn.Parameter(bias.clone(), requires_grad=_trained(old, "bias"))
    return new.train(old.training)


def _in_format_of(weight: Tensor, like: Tensor) -> Tensor:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    last = formats.get(like.dim(), torch.contiguous_format)
    contiguous = like.is_contiguous() or not like.is_contiguous(memory_format=last)
    return weight.contiguous(memory_format=torch.contiguous_format if contiguous else last)


def _folded(recipe: _Recipe) -> nn.Module:
    """The transposed convolution of a recipe."""
    old = recipe.convolution
    padding, output_padding, zeros = [], [], []
    for axis in recipe.axes:
        s, start = axis.kernel.scale, axis.crop
        end = axis.taps - s - start - axis.growth
        before = max(0, -start, end - start)  # zero taps make a longer crop of the same signal
        after = max(0, start + before - end - (s - 1))
        padding.append(start + before)
        output_padding.append(start + before - end - after)
        zeros.append((before, after))
    weight = cast(Tensor, _values(old, "weight"))
    kernel = F.pad(fold_weight(weight, recipe.axes, old.groups), [v for pair in reversed(zeros) for v in pair])
    new = _TRANSPOSED[len(recipe.axes)](  # type: ignore[call-arg]
        old.in_channels, old.out_channels, tuple(kernel.shape[2:]), tuple(a.kernel.scale for a in recipe.axes),
        tuple(padding), tuple(output_padding), old.groups, old.bias is not None, device="meta", dtype=kernel.dtype,
    )  # fmt: skip
    return _fill(new, old, _in_format_of(kernel, weight))


def fold(module: nn.Module, *, border: str = "exact") -> nn.Module:
    """Resize-convolutions as plain transposed convolutions: the same function, one operator each.

    For a `ResizeConv1d` (2d, 3d), or an ``nn.Sequential`` of ``nn.Upsample`` (whole ``scale_factor``), optional padding
    layers and ``nn.Conv1d`` (2d, 3d), the folded layer itself, equal at every output. For a network that contains such
    layers, a copy with each of them replaced; `foldable` says which. There the transposed convolution stands in the
    place of the convolution, with ``nn.Identity`` before it, so that names and indices of the others stay. Its kernel
    is ``f = F w`` per axis with ``d (k - 1) + len(h)`` taps (docs/theory.md, section 3), plus zero taps where the crop
    needs them. Use it before an export; to train, keep the layer: the kernel of the folded one is free.

    Args:
        module: A layer or network; it stays as it is, and shares no tensors with the result.
        border: ``"exact"``: fold only what is equal everywhere; ``"interior"``: also what differs near the border, that
            is in the first ``padding before + len(h) - origin - s`` outputs of an axis and the last ``padding after +
            origin`` (half-pixel linear by 2: ``padding + 1``; nearest: ``padding``).

    Returns:
        ``nn.ConvTranspose1d`` (2d, 3d), or the copy of the network.

    Raises:
        ParameterError: if the layer does not fold exactly, or no layer of the network does, with the reasons.
    """
    choice("border", border, _BORDERS)
    found = list(_candidates(module))
    if len(found) == 1 and _is_whole(module, found[0]):
        reason = _reason(found[0], border)
        if reason:
            raise ParameterError(f"{type(module).__name__} can not be folded: {reason}")
        return _folded(_recipe(next(_candidates(copy.deepcopy(module)))))
    reasons = {c.name: _reason(c, border) for c in found}
    if None not in reasons.values():
        listed = "; ".join(f"'{name}': {reason}" for name, reason in reasons.items()) or "there is no such layer"
        raise ParameterError(
            f"module (={type(module).__name__}) has no layer to fold; expected a ResizeConv, or an nn.Upsample and a "
            f"convolution after each other in an nn.Sequential ({listed})"
        )
    twin = copy.deepcopy(module)
    made: dict[tuple[int, ...], nn.Module] = {}
    replacements = []
    for candidate in _candidates(twin):
        if reasons[candidate.name] is None:
            key = tuple(map(id, candidate.members))
            made.setdefault(key, _folded(_recipe(candidate)))  # a layer used twice stays one
            replacements.append((candidate, made[key]))
    for candidate, new in replacements:
        slots = cast(nn.Module, candidate.parent)._modules
        for name, member in zip(candidate.keys[:-1], candidate.members, strict=False):
            slots[name] = nn.Identity().train(member.training)
        slots[candidate.keys[-1]] = new
    return twin


# ---- unfold ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unfolded:
    """A transposed convolution as a resize-convolution.

    Attributes:
        layer: `ResizeConv1d` (2d, 3d) of the same output sizes and positions.
        residual: ``|F w - f| / |f|``, the relative Frobenius norm of what the resize-convolution can not express, in
            float64, over all channels and the union of both supports; 0 for a kernel of zeros.
        exact: Whether that is 0 up to rounding of the weights' dtype, so that both layers are the same function.
    """

    layer: _ResizeConv
    residual: float
    exact: bool


def _check_transposed(layer: Any) -> None:
    wish = "an nn.ConvTranspose1d, 2d or 3d"
    if not isinstance(layer, _ConvTransposeNd):
        refuse("layer", type(layer).__name__, wish, "give the layer itself, or a network to from_conv_transpose")
    if _own_class(layer, tuple(_TRANSPOSED.values())) is None:
        refuse("layer", type(layer).__name__, f"{wish} with its own forward", "replace this class by hand")
    try:
        _check_usable(layer)
    except ParameterError as error:
        raise ParameterError(f"{type(layer).__name__} can not be replaced: {error}") from error
    if layer.weight.is_meta:
        refuse("layer.weight.device", "meta", "a device that holds values", "load the weights first")


def _fits(
    layer: Any, mode: str, kernel_size: int | Sequence[int] | None, support: Sequence[tuple[int, int]]
) -> tuple[Fit, ...]:
    dims = len(layer.kernel_size)
    sizes = (None,) * dims if kernel_size is None else integers("kernel_size", kernel_size, dims)
    kernels = _axis_kernels(mode, layer.stride, dims)
    smallest = parse_mode(mode, dims)[0].startswith("nearest")
    geometry = zip(kernels, layer.kernel_size, layer.padding, layer.dilation, layer.output_padding, strict=True)
    return tuple(fit(*g, used, n, smallest) for g, used, n in zip(geometry, support, sizes, strict=True))


def _built(layer: Any, mode: str, fits: Sequence[Fit], device: Any) -> _ResizeConv:
    return _RESIZE[len(fits)](
        layer.in_channels, layer.out_channels, [f.size for f in fits], layer.stride, mode, [f.pad for f in fits],
        "zeros", [f.dilation for f in fits], layer.groups, layer.bias is not None, device=device,
        dtype=layer.weight.dtype,
    )  # fmt: skip


def _nearest(
    layer: Any, weight: Tensor, mode: str, fits: Sequence[Fit], support: Sequence[tuple[int, int]]
) -> Unfolded:
    """The resize-convolution of this geometry whose fold is nearest to the kernel."""
    fitted, residual = unfolded_weight(_numbers(weight), layer.groups, fits, support)
    kernel = torch.from_numpy(fitted).to(weight.device, weight.dtype)
    new = _fill(_built(layer, mode, fits, "meta"), layer, _in_format_of(kernel, weight))
    return Unfolded(new, residual, residual <= max(4 * torch.finfo(weight.dtype).eps, 1e-12))


def _numbers(weight: Tensor) -> Array:
    return np.asarray(weight.double().cpu().numpy())


def unfold(layer: _ConvTransposeNd, kernel_size: int | Sequence[int] | None = None) -> Unfolded:
    """The nearest-neighbour resize-convolution nearest to a transposed convolution.

    Least squares over the kernel, ``w = F^+ f`` (see the module's text), for all channels at once. Output sizes are
    equal for every input size and outputs lie at the same places; with ``exact`` both layers are the same function. In
    1-D that is so iff the kernel meets the DC condition, in n-D it is rarer. Dilation: the taps' whole span is fitted
    without one (an axis of stride 1 keeps it); where it has a factor in common with the stride, phases stay empty and
    only kernels with DC gains of 0 are exact.

    Args:
        layer: ``nn.ConvTranspose1d`` (2d, 3d), a balanced one included; it stays as it is.
        kernel_size: Of the resize-convolution; by default the smallest that covers the kernel without its outer taps
            that are exactly 0, ``max(1, d (k - 1) + 2 - s)`` per axis. With another one, the centres agree to half a
            sample.

    Returns:
        The layer with bias, dtype, device and training flag of the given one, and what it leaves.

    Raises:
        ParameterError: for another module, one with hooks or without weights, or a ``kernel_size`` below 1.
    """
    _check_transposed(layer)
    twin = copy.deepcopy(layer)
    weight = cast(Tensor, _values(twin, "weight"))
    support = used_taps(_numbers(weight))
    return _nearest(twin, weight, "nearest", _fits(twin, "nearest", kernel_size, support), support)


# ---- replace ---------------------------------------------------------------------------------------------------------


def _fitted(layer: Any, mode: str, kernel_size: int | Sequence[int] | None) -> _ResizeConv:
    support = [(0, k) for k in layer.kernel_size]
    weight = cast(Tensor, _values(layer, "weight"))
    return _nearest(layer, weight, mode, _fits(layer, mode, kernel_size, support), support).layer


def _new(layer: Any, mode: str, kernel_size: int | Sequence[int] | None) -> _ResizeConv:
    fits = _fits(layer, mode, kernel_size, [(0, k) for k in layer.kernel_size])
    new = _built(layer, mode, fits, layer.weight.device)
    match_(new, layer)
    drawn = cast(Tensor, _values(new, "weight"))
    return _fill(new, layer, _in_format_of(drawn, layer.weight))


_WEIGHTS: dict[str, Callable[[Any, str, int | Sequence[int] | None], _ResizeConv]] = {"fit": _fitted, "new": _new}


@overload
def from_conv_transpose(
    module: nn.ConvTranspose1d, mode: str = ..., weights: str = ..., *,
    kernel_size: int | Sequence[int] | None = ..., inplace: bool = ...,
) -> ResizeConv1d: ...  # fmt: skip
@overload
def from_conv_transpose(
    module: nn.ConvTranspose2d, mode: str = ..., weights: str = ..., *,
    kernel_size: int | Sequence[int] | None = ..., inplace: bool = ...,
) -> ResizeConv2d: ...  # fmt: skip
@overload
def from_conv_transpose(
    module: nn.ConvTranspose3d, mode: str = ..., weights: str = ..., *,
    kernel_size: int | Sequence[int] | None = ..., inplace: bool = ...,
) -> ResizeConv3d: ...  # fmt: skip
@overload
def from_conv_transpose(
    module: M, mode: str = ..., weights: str = ..., *,
    kernel_size: int | Sequence[int] | None = ..., inplace: bool = ...,
) -> M: ...  # fmt: skip


def from_conv_transpose(
    module: nn.Module,
    mode: str = "nearest",
    weights: str = "fit",
    *,
    kernel_size: int | Sequence[int] | None = None,
    inplace: bool = False,
) -> nn.Module:
    """A resize-convolution in the place of a transposed convolution, or of every one in a network.

    For any kernel size, stride, padding, dilation, output padding and groups: output sizes are equal for every input
    size, and the centres of both kernels lie together, to half a sample where whole ones do not allow more (for
    ``k4 s2 p1`` a ``k3`` with padding 1). Bias, dtype, device, the training flag and what is trained are kept. The new
    layer's ``forward`` takes no ``output_size``.

    Args:
        module: ``nn.ConvTranspose1d`` (2d, 3d), or a network that contains some. There, those of stride 1 stay: they
            make no pattern of their own.
        mode: Interpolation of the new layers, as in `ResizeConv2d`. With all but nearest the border differs more.
        weights: ``"fit"``: by least squares against the fold of that interpolation (`unfold`; the way to go on from
            trained weights, which need fine-tuning where it is not exact); ``"new"``: drawn anew, at the scale of the
            layer's present weights (`evenly.nn.init.match_`).
        kernel_size: Of the new layers; by default ``max(1, d (k - 1) + 2 - s)`` per axis (``k4 s2`` gives 3), one more
            where only that lets the centres of an interpolation with an even number of taps agree.
        inplace: Replace in the network itself, not in a copy. A layer is never changed.

    Returns:
        The new layer; the network's copy, or the network with ``inplace``.

    Raises:
        ParameterError: for an argument out of range, a module without transposed convolutions, or one that can not be
            replaced (its name is given; nothing has been changed).
    """
    choice("weights", weights, tuple(_WEIGHTS))
    make = _WEIGHTS[weights]
    if isinstance(module, _ConvTransposeNd):
        if inplace:
            refuse("inplace", inplace, "False for a layer itself", "put the returned layer in its place")
        _check_transposed(module)
        return make(copy.deepcopy(module), mode, kernel_size)
    target = module if inplace else copy.deepcopy(module)
    made: dict[int, nn.Module] = {}
    slots: list[tuple[nn.Module, str, nn.Module]] = []
    for prefix, parent in target.named_modules():
        for key, child in parent._modules.items():
            if not isinstance(child, _ConvTransposeNd) or all(s == 1 for s in child.stride):
                continue
            name = f"{prefix}.{key}" if prefix else key
            try:
                _check_transposed(child)
                if id(child) not in made:  # a layer used twice stays one
                    made[id(child)] = make(child, mode, kernel_size)
            except ParameterError as error:
                raise ParameterError(f"{name} ({type(child).__name__}): {error}") from error
            slots.append((parent, key, made[id(child)]))
    if not slots:
        raise ParameterError(
            f"module (={type(module).__name__}) has no transposed convolution of a stride above 1; expected a layer or "
            "a network with one: give such a module"
        )
    for parent, key, new in slots:
        parent._modules[key] = new
    return target
