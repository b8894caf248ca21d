"""What a state dict does not say of a repaired network: which layers have another shape than their class gives them.

Two kinds of changes are written down. A layer whose weights were solved anew stays what it is; its kernel, padding and
dilation, weights by phase and an added bias are its :class:`Geometry`. A layer that was replaced is made again by the
method that replaced it (:mod:`evenly.fix.structure`), which looks at geometry only, never at values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

import numpy as np
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from evenly.errors import EvenlyError, UsageError, WeightsError
from evenly.fix._replacing_down import CONVOLUTIONS, POOLS
from evenly.fix._replacing_up import TRANSPOSED
from evenly.fix._torch_edits import check, rewrite
from evenly.fix._torch_layers import OURS, Surroundings, computed_by, described
from evenly.fix.backend import Edit, Layer
from evenly.fix.changes import METHODS, Method
from evenly.fix.phase_conv import _PhaseConv
from evenly.fix.structure import replaced
from evenly.nn.balanced import SubpixelProjection
from evenly.nn.convert import _conv_padding
from evenly.nn.resize import _ResizeConv
from evenly.nn.subpixel import _SubpixelConv

__all__ = ["Changes", "Geometry", "changed", "differences", "parsed"]

FORMAT_VERSION = 1
Shapes = Mapping[str, tuple[int, ...]]
_ALONE = Surroundings(None, None, None, ())


@dataclass(frozen=True)
class Geometry:
    """A layer's, where it is another one than before.

    Attributes:
        kernel, dilation, output_padding: Per axis.
        padding: ``(before, after)`` per axis.
        phases: Of weights by phase, per axis; empty for others.
        bias: Whether it has one.
        plain: Whether what computed its weights is taken off.
    """

    kernel: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    output_padding: tuple[int, ...]
    phases: tuple[int, ...]
    bias: bool
    plain: bool


@dataclass(frozen=True)
class Changes:
    """All changes of a network.

    Attributes:
        methods: How modules were replaced, by their names.
        layers: Geometry by the names of modules, after that.
    """

    methods: Mapping[str, Method]
    layers: Mapping[str, Geometry]

    def __bool__(self) -> bool:
        return bool(self.methods or self.layers)

    def to_json(self, version: str) -> str:
        """As text, in one line; equal for equal changes."""
        layers = {name: asdict(geometry) for name, geometry in self.layers.items()}
        data = {"format_version": FORMAT_VERSION, "evenly": version, "methods": dict(self.methods), "layers": layers}
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False)


# ---- what has changed ------------------------------------------------------------------------------------------------


def differences(original: nn.Module, new: nn.Module, example: Any = None) -> Changes:
    """What turns a network into its repaired one, weights apart.

    Args:
        original: As it was, which is not changed.
        new: Repaired.
        example: As in :func:`evenly.fix.structure.replaced`.

    Raises:
        EvenlyError: If layers were replaced in a way that cannot be repeated.
    """
    methods = dict(_methods(original, new))
    twin = replaced(original, methods, example=example)[0] if methods else original
    before, after = _layers(twin), _layers(new)
    layers = {
        name: found
        for name, old in before.items()
        if name in after and (found := _geometry(after[name], old)) != _geometry(old, old)
    }
    return Changes(methods, layers)


def _layers(root: nn.Module) -> dict[str, Any]:
    return {name: layer for name, layer in root.named_modules() if isinstance(layer, (_ConvNd, *OURS))}


def _geometry(layer: Any, old: nn.Module) -> Geometry:
    axes = len(layer.kernel_size)
    by_phase = isinstance(layer, _PhaseConv)
    return Geometry(
        kernel=tuple(layer.kernel_size),
        dilation=tuple(layer.dilation),
        padding=tuple(layer.padding) if by_phase else _conv_padding(layer),
        output_padding=tuple(getattr(layer, "output_padding", (0,) * axes)),
        phases=tuple(layer.phases) if by_phase else (),
        bias=layer.bias is not None,
        plain=_computed(old) and not _computed(layer),
    )


def _computed(layer: nn.Module) -> bool:
    return any(parametrize.is_parametrized(layer, n) or computed_by(layer, n) is not None for n in ("weight", "bias"))


def _methods(original: nn.Module, new: nn.Module) -> Iterator[tuple[str, Method]]:
    """Modules that are of another kind now, under the first of their names."""
    now = dict(new.named_modules(remove_duplicate=False))
    for name, before in original.named_modules():
        method = _method(before, now.get(name))
        if method is not None:
            yield name, method


def _method(before: Any, after: Any) -> Method | None:
    first = after[0] if isinstance(after, nn.Sequential) and len(after) else after
    if isinstance(before, TRANSPOSED) and not isinstance(after, TRANSPOSED):
        return "resize" if isinstance(first, _ResizeConv) else "subpixel" if isinstance(first, _SubpixelConv) else None
    if isinstance(before, CONVOLUTIONS):
        if isinstance(after, _SubpixelConv) or (_shuffled(after) and not _shuffled(before)):
            return "subpixel"
        if isinstance(after, CONVOLUTIONS):
            return "pad" if after.padding_mode != before.padding_mode else None
        return None if isinstance(after, (_PhaseConv, *TRANSPOSED)) or after is None else "antialias"
    if isinstance(before, POOLS) and type(after) is not type(before):
        return "antialias"
    interpolates = isinstance(before, (nn.Upsample, _ResizeConv))
    return "fold" if interpolates and isinstance(after, (nn.Identity, *TRANSPOSED)) else None


def _shuffled(layer: Any) -> bool:
    """Whether the phases of a pixel shuffle behind it are kept equal."""
    return parametrize.is_parametrized(layer, "weight") and any(
        isinstance(p, SubpixelProjection) for p in layer.parametrizations["weight"]
    )


# ---- making them again -----------------------------------------------------------------------------------------------


def changed(module: nn.Module, changes: Changes, shapes: Shapes, example: Any = None) -> nn.Module:
    """Make changes in a copied network, whose weights are without meaning afterwards.

    Args:
        module: The copy.
        changes: What is to be changed; not trusted.
        shapes: Of the tensors that it will get, by name: nothing larger is made.
        example: As in :func:`evenly.fix.structure.replaced`.

    Returns:
        The network, which is another one where the layer was all of it.

    Raises:
        EvenlyError: If a change does not fit the network.
    """
    if changes.methods:
        names = dict(module.named_modules(remove_duplicate=False))
        for name in changes.methods:
            if name not in names:
                raise WeightsError(f"there is no module {name!r}")
        module, found = replaced(module, dict(changes.methods), example=example)
        for change in found:
            if not change.done:
                hint = "" if example is not None else "; give example inputs, which show more of the network"
                raise WeightsError(f"{change.name or 'the network'} cannot be replaced as it was: {change.note}{hint}")
    for name, geometry in changes.layers.items():
        module = _shaped(module, name, geometry, shapes)
    return module


def _shaped(root: nn.Module, name: str, geometry: Geometry, shapes: Shapes) -> nn.Module:
    """Give a layer its geometry, and weights of that shape."""
    layer = _layers(root).get(name)
    if layer is None or isinstance(layer, _PhaseConv):
        raise WeightsError(f"there is no convolution {name!r}")
    if geometry.plain is not _computed(layer):
        has = "" if _computed(layer) else "not "
        raise WeightsError(f"the weights of {name} are {has}computed from others, which the file did not see so")
    before = _spread(described(name, layer, _ALONE), geometry, name)
    prefix = f"{name}." if name else ""
    ends, given = before.weight.shape[:2], shapes.get(f"{prefix}weight", ())
    by_phase = prod(geometry.phases) > 1
    phases = geometry.phases if by_phase else ()
    outputs = ends[1] * before.groups if before.kind == "transposed" else ends[0]
    kernel = geometry.kernel
    if by_phase:
        kernel = tuple(d * (k - 1) + p for d, k, p in zip(geometry.dilation, kernel, phases, strict=True))
        ends = (ends[0] * prod(phases), ends[1])
    if (*ends, *kernel) != tuple(given):
        raise WeightsError(f"{name} should have the shape {(*ends, *kernel)}; its weight has {tuple(given)}")
    size = (*phases, *before.weight.shape[:2], *geometry.kernel)
    edit = Edit(
        name,
        np.zeros(size, np.float32),
        np.zeros((*phases, outputs), np.float32) if geometry.bias else None,
        geometry.kernel,
        geometry.padding,
        geometry.output_padding,
        geometry.phases,
    )
    check(edit, before)
    _expect_plain(edit, before)
    return rewrite(root, layer, edit, replace(before, kernel=()), None)  # another kernel: it takes the whole geometry


def _spread(layer: Layer, geometry: Geometry, name: str) -> Layer:
    """The layer with the dilation that it has now, which is its own or none, by zeros between its taps."""
    axes = len(layer.kernel)
    lengths = {len(v) for v in (geometry.kernel, geometry.dilation, geometry.padding, geometry.output_padding)}
    if lengths != {axes} or len(geometry.phases) not in (0, axes):
        raise WeightsError(f"{name} has {axes} axes; its geometry has others")
    kernel = []
    for k, d, now in zip(layer.kernel, layer.dilation, geometry.dilation, strict=True):
        if now not in (1, d):
            raise WeightsError(f"{name} has the dilation {layer.dilation}; it cannot become {geometry.dilation}")
        kernel.append(k if now == d else d * (k - 1) + 1)
    return replace(layer, kernel=tuple(kernel), dilation=geometry.dilation)


def _expect_plain(edit: Edit, layer: Layer) -> None:
    """Refuse what PyTorch's own layers would not take: it was made such that they do."""
    low = min((n for pair in edit.padding for n in pair), default=0)
    axes = zip(edit.output_padding, layer.stride, layer.dilation, strict=True)
    if low < 0 or any(not 0 <= a < max(s, d) for a, s, d in axes):
        raise UsageError(f"{edit.name}: padding {edit.padding} and output padding {edit.output_padding} are no layer's")
    if prod(edit.phases) == 1 and any(a != b for a, b in edit.padding):
        raise UsageError(f"{edit.name}: padding {edit.padding} is not equal on both sides")


# ---- reading them ----------------------------------------------------------------------------------------------------


def parsed(text: str) -> Changes:
    """Read what :meth:`Changes.to_json` has written; not trusted.

    Raises:
        WeightsError: If it is nothing of the kind.
    """
    try:
        data = json.loads(text)
        version = data["format_version"]
        if version != FORMAT_VERSION:
            raise WeightsError(f"its changes have the format {str(version)[:20]}; expected {FORMAT_VERSION}")
        methods = {str(name): _known(method) for name, method in data["methods"].items()}
        layers = {str(name): _read(fields) for name, fields in data["layers"].items()}
    except EvenlyError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"its changes cannot be read ({type(error).__name__})") from error
    return Changes(methods, layers)


def _known(method: Any) -> Method:
    if method not in METHODS:
        raise WeightsError(f"its changes name the method {str(method)[:20]!r}; expected one of {', '.join(METHODS)}")
    return next(m for m in METHODS if m == method)


def _read(fields: Mapping[str, Any]) -> Geometry:
    padding = tuple(_numbers(pair) for pair in fields["padding"])
    if any(len(pair) != 2 for pair in padding) or len(fields) != len(Geometry.__dataclass_fields__):
        raise TypeError
    return Geometry(
        kernel=_numbers(fields["kernel"], 1),
        dilation=_numbers(fields["dilation"], 1),
        padding=tuple((a, b) for a, b in padding),
        output_padding=_numbers(fields["output_padding"]),
        phases=_numbers(fields["phases"], 1),
        bias=_flag(fields["bias"]),
        plain=_flag(fields["plain"]),
    )


def _numbers(values: Any, least: int = 0) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(v) is int and least <= v < 2**31 for v in values):
        raise TypeError
    return tuple(values)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value
