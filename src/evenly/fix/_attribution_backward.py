"""Attribution backward: what strided layers do to the gradient is made even on its way to the input.

The gradient of a strided layer is written to its input's positions by phase, ``m mod s`` (Odena et al. 2016: it is a
transposed convolution). *Made even* means that the layer's forward pass stays as it is and that the gradient which it
hands to its input goes through a low-pass on every axis, :func:`evenly.nn.antialias.even_taps` of the layer's stride
and kernel. As convolutions commute, that is the gradient of the same convolution, or average, at stride 1 with the
filter before its decimation (Zhang, arXiv 1904.11486): its mean is even, and its expected square and the products of
neighbours under the kernel are for any weights and white output gradients (docs/theory.md, *Even taps*). Behind a max
pool the winners stay where they are, and their gradient is spread. Each signal's energy at the layer is kept, so that
branches keep their shares of the whole.

A low-pass also weakens patterns that arrive from layers behind. They are no work of this layer: on the lattice of its
input it can create periods that divide its stride only, and for these alone it is tested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from math import lcm
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from evenly.errors import UsageError
from evenly.fix._attribution_subject import Part, Signals
from evenly.fix._torch_layers import array
from evenly.graph._export import line
from evenly.graph.torch import named_results
from evenly.measure._running import gradients, prepared
from evenly.nn.antialias import even_taps

__all__ = ["Backward"]

Array = NDArray[np.float64]
Floats = NDArray[np.floating]
_Change = Callable[[Floats], Floats]

_FAMILIES: Mapping[str, tuple[type[nn.Module], ...]] = {
    "convolution": (nn.Conv1d, nn.Conv2d, nn.Conv3d),
    "max pool": (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    "average pool": (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    "power pool": (nn.LPPool1d, nn.LPPool2d, nn.LPPool3d),
}
_KINDS: Mapping[tuple[str, int], type[nn.Module]] = {
    ("pixel unshuffle", 2): nn.PixelUnshuffle,
    **{(kind, axes): cls for kind, classes in _FAMILIES.items() for axes, cls in enumerate(classes, start=1)},
}


@dataclass(frozen=True, eq=False)
class _Site:
    """A strided layer: on every axis its kernel, stride and dilation."""

    module: Any
    kind: str
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """The largest lag between two taps."""
        return tuple(d * (k - 1) for k, d in zip(self.kernel, self.dilation, strict=True))


@dataclass(eq=False)
class _Seen:
    """Gradients of one run, at the layers that were asked for."""

    arrived: dict[str, Floats] = field(default_factory=dict)
    results: dict[str, Floats] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)


class Backward:
    """A module's gradient (:class:`evenly.fix._attribution_subject.Subject`).

    What is derived: of an output ``(N, classes)`` each signal's largest value, as saliency maps do; of one with
    positions its product with standard normal noise, so that the gradient starts white. What is explained is the square
    of the gradient of the first floating input with positions, mean over channels, scaled to mean 1 in each signal.

    Args:
        module: The network.
        batches: What it is run on: arrays, or sequences of arguments, or mappings of arguments by name.
        output: Which output is derived; by default the first.
        seed: Of the noise.

    Raises:
        UsageError: If it is no module, has no such output, or the input gets no gradient.
    """

    def __init__(self, module: Any, batches: Sequence[Any], output: str | None, seed: int) -> None:
        if not isinstance(module, nn.Module):
            raise UsageError(
                f"the gradient of {type(module).__name__} cannot be had; give the torch module for backward=True"
            )
        self._module, self._batches, self._seed = module, batches, seed
        self._sites = _sites(module)
        self._wanted = output
        self._even = {name: _evening(site) for name, site in self._sites.items()}
        self._first = self._run(0, (), tuple(self._sites))[1]

    @property
    def output(self) -> str:
        """Name of the output that is derived."""
        return self._name

    @property
    def batches(self) -> int:
        """How many."""
        return len(self._batches)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Strided layers in the order in which they ran."""
        calls, results = self._first.calls, self._first.results
        order = [*calls, *(name for name in self._sites if name not in calls)]
        return tuple(self._part(name, calls.get(name, 0), name in results) for name in order)

    def signals(self, batch: int, even: Sequence[str], record: Sequence[str]) -> Signals:
        """Run one batch with these layers made even, record those."""
        whole, seen = self._run(batch, even, record)
        return Signals(whole, seen.arrived, seen.results)

    # ---- which layers ------------------------------------------------------------------------------------------------

    def _part(self, name: str, calls: int, reached: bool) -> Part:
        site = self._sites[name]
        if calls != 1:
            why = f"one run calls it {calls} times" if calls else "the run that was seen did not call it"
            return Part(name, site.kind, None, why, True, recorded=False)
        if not reached:
            return Part(name, site.kind, None, "no gradient reaches its first argument", True, recorded=False)
        whole = lcm(*site.stride)
        return Part(name, site.kind, "low-pass", creates=tuple(p for p in range(2, whole + 1) if whole % p == 0))

    # ---- running -----------------------------------------------------------------------------------------------------

    def _run(self, batch: int, even: Sequence[str], record: Sequence[str]) -> tuple[Floats, _Seen]:
        seen = _Seen()
        noise = torch.Generator().manual_seed(self._seed + batch)
        with prepared(self._module, False, self._seed), torch.enable_grad(), self._watching(seen, even, record):
            args, kwargs, leaf = self._arguments(batch)
            try:
                outputs = dict(named_results(self._module(*args, **kwargs), Tensor))
            except Exception as error:  # code of the user runs
                raise UsageError(
                    f"{type(self._module).__name__} does not run on the batch: {line(error)}; give inputs as its "
                    "forward takes them"
                ) from error
            self._name = self._chosen(outputs)
            (found,) = gradients(_derived(outputs[self._name], noise), [leaf])
        if found is None or not bool((found != 0).any()):
            raise UsageError(f"the gradient of output {self._name!r} by the input is zero; nothing can be attributed")
        return _energy(array(found)), seen

    def _arguments(self, batch: int) -> tuple[tuple[Any, ...], dict[str, Any], Tensor]:
        """Arguments of their own, and the one whose gradient is explained."""
        given = self._batches[batch]
        args = () if isinstance(given, Mapping) else tuple(given) if isinstance(given, list | tuple) else (given,)
        kwargs = {str(k): v for k, v in given.items()} if isinstance(given, Mapping) else {}
        first = next(iter(self._module.parameters()), torch.empty(0))
        found: list[Tensor] = []

        def own(value: Any) -> Tensor:
            tensor = torch.tensor(value) if isinstance(value, np.ndarray) else value.detach().clone()
            tensor = tensor.to(first.device, first.dtype if tensor.is_floating_point() else None)
            if tensor.is_floating_point() and 3 <= tensor.dim() <= 5 and not found:
                found.append(tensor.requires_grad_())
            return tensor

        filled = pytree.tree_map_only((Tensor, np.ndarray), own, (args, kwargs))
        if not found:
            raise UsageError("no input has the shape (N, C, *sizes) and floats; the gradient has no positions")
        return (*filled, found[0])

    def _chosen(self, outputs: Mapping[str, Tensor]) -> str:
        able = [name for name, value in outputs.items() if value.is_floating_point() and value.dim() >= 2]
        if self._wanted is not None and self._wanted not in able:
            raise UsageError(f"the module has no floating output {self._wanted!r}; its outputs are {', '.join(able)}")
        if not able:
            raise UsageError("the module gives no floating output of shape (N, ...); nothing can be derived")
        return self._wanted or able[0]

    @contextmanager
    def _watching(self, seen: _Seen, even: Sequence[str], record: Sequence[str]) -> Iterator[None]:
        handles: list[Any] = []
        for name, site in self._sites.items():
            change = self._even[name] if name in even else None
            keep = name in record
            handles.append(site.module.register_forward_pre_hook(_entry(name, seen, change, keep)))
            handles.append(site.module.register_forward_hook(_exit(name, seen, keep)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _entry(name: str, seen: _Seen, change: _Change | None, keep: bool) -> Any:
    """A hook that reads, and changes, the gradient that this layer alone hands to its input."""

    def on_gradient(gradient: Tensor) -> Tensor | None:
        found = array(gradient)
        made = found if change is None else _of_energy(change(found), found)
        if keep:
            seen.results[name] = _energy(made)
        return None if change is None else torch.as_tensor(made).to(gradient)

    def hook(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        seen.calls[name] = seen.calls.get(name, 0) + 1
        if not args or not isinstance(args[0], Tensor) or not args[0].requires_grad:
            return None
        own = args[0].clone()  # other readers of the tensor have gradients of their own
        own.register_hook(on_gradient)  # type: ignore[no-untyped-call]
        return (own, *args[1:])

    return hook


def _exit(name: str, seen: _Seen, keep: bool) -> Any:
    def on_gradient(gradient: Tensor) -> None:
        seen.arrived[name] = _energy(array(gradient))

    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if keep and isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(on_gradient)  # type: ignore[no-untyped-call]

    return hook


def _derived(output: Tensor, noise: torch.Generator) -> Tensor:
    if output.dim() == 2:
        return output.max(1).values.sum()
    return (output * torch.randn(output.shape, generator=noise).to(output)).sum()


# ---- what a layer does to its input's gradient -----------------------------------------------------------------------


def _sites(root: nn.Module) -> dict[str, _Site]:
    found = {}
    for name, module in root.named_modules():
        for (kind, axes), cls in _KINDS.items():
            site = _site(module, kind, axes) if isinstance(module, cls) else None
            if site is not None:
                found[name or "the module"] = site
    return found


def _site(module: Any, kind: str, axes: int) -> _Site | None:
    def each(value: Any) -> tuple[int, ...]:
        return (value,) * axes if isinstance(value, int) else (*value, *(value[-1:] * (axes - len(value))))

    if kind == "pixel unshuffle":
        return _Site(module, kind, (1,) * axes, each(module.downscale_factor), (1,) * axes)
    stride, kernel = each(module.stride or module.kernel_size), each(module.kernel_size)
    dilation = each(getattr(module, "dilation", 1))
    if set(stride) == {1}:
        return None
    return _Site(module, kind, kernel, stride, dilation)


def _energy(gradient: Floats) -> Floats:
    """Squared, mean over channels, of mean 1 in each signal, ``(N, 1, *sizes)``."""
    axes = tuple(range(1, gradient.ndim))
    largest = np.abs(gradient).max(axes, keepdims=True)
    scaled = np.divide(gradient, largest, out=np.zeros_like(gradient, np.float64), where=largest > 0)
    energy = (scaled**2).mean(1, keepdims=True)
    mean = energy.mean(axes, keepdims=True)
    return np.asarray(np.divide(energy, mean, out=np.zeros_like(energy), where=mean > 0))


def _evening(site: _Site) -> _Change:
    """The gradient at a layer's input made even; its energy is not kept."""
    taps = [np.asarray(even_taps(s, reach)) for s, reach in zip(site.stride, site.reach, strict=True)]

    def change(gradient: Floats) -> Floats:
        made = gradient.astype(np.float64)
        for axis, row in enumerate(taps, start=2):
            made = ndimage.convolve1d(made, row, axis, mode="constant")
        return made

    return change


def _of_energy(made: Floats, like: Floats) -> Floats:
    """The same direction at the energy that each signal had."""
    axes = tuple(range(1, made.ndim))
    before, after = (np.sqrt((values.astype(np.float64) ** 2).sum(axes, keepdims=True)) for values in (like, made))
    return np.asarray(made * np.divide(before, after, out=np.zeros_like(before), where=after > 0))
