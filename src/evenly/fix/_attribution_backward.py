"""Attribution backward: what strided layers do to the gradient is made even on its way to the input.

The gradient of a strided layer is written to its input's positions by phase, ``m mod s`` (Odena et al. 2016: it is a
transposed convolution). *Made even* means that the layer's forward pass stays as it is and that the gradient ``g[m]``
which it hands to its input is changed so that all phases get the same mean and the same energy (docs/theory.md,
*Backward*), in one of these ways:

* **balanced kernel**, of convolutions: the transposed convolution that makes the gradient gets the nearest kernel whose
  phases have equal DC gains (:mod:`evenly.theory.balance`), so that a constant gradient stays constant; then phase
  gains.
* **phase gains**, of max pools and other layers without a kernel: ``g[m]`` times ``sqrt(E / E_r)``, ``E_r`` being the
  measured energy of phase ``r = m mod s`` of that signal, channels together, and ``E`` their mean. Patterns that arrive
  from layers behind have periods that are multiples of ``s`` here, and the same share in every phase: they stay.
* **low-pass**, where no kernel of its size can be balanced (it is shorter than the stride), of average pools whose
  windows do not tile, and of signals where a phase gets next to nothing that a gain could raise: ``g`` filtered with
  :func:`evenly.nn.antialias.even_taps` of the layer's kernel. As convolutions commute that is the gradient of the same
  convolution with the filter before its decimation (Zhang, arXiv 1904.11486), whose expected square is even for any
  weights and white output gradients.

All keep each signal's energy at the layer, so that branches keep their shares of the whole. They make the mean and the
energy alike; correlations between neighbours may still differ by phase, which a convolution on the way to the input can
turn into a faint line: what stays, the effect of all together says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from evenly.errors import ParameterError, UsageError
from evenly.fix._attribution_subject import Part, Signals
from evenly.fix._torch_layers import array
from evenly.graph._export import line
from evenly.graph.torch import named_results
from evenly.measure._running import gradients, prepared
from evenly.nn.antialias import even_taps
from evenly.theory.balance import excluded_directions, transposed_places

__all__ = ["Backward"]

Array = NDArray[np.float64]
Floats = NDArray[np.floating]
_Change = Callable[[Floats, Tensor], Floats]
"""From the gradient at a layer's input, and that at its output, to the former made even."""

DEAD = 1e-3
"""Energy of a phase, over the mean of all, below which gains are replaced by a low-pass."""

_KINDS: Mapping[str, tuple[type[nn.Module], ...]] = {
    "convolution": (nn.Conv1d, nn.Conv2d, nn.Conv3d),
    "max pool": (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    "average pool": (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    "power pool": (nn.LPPool1d, nn.LPPool2d, nn.LPPool3d),
    "pixel unshuffle": (nn.PixelUnshuffle,),
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

    def directions(self) -> Array | None:
        """What a balanced kernel may not have; ``None`` where there is none, or no kernel."""
        if self.kind != "convolution":
            return None
        try:
            return excluded_directions(transposed_places(self.kernel, self.dilation), self.stride)
        except ParameterError:
            return None

    @property
    def filtered(self) -> bool:
        """Whether only a filter makes it even."""
        if self.kind == "average pool":
            return any(k % s for k, s in zip(self.kernel, self.stride, strict=True))
        return self.kind == "convolution" and self.directions() is None


@dataclass(eq=False)
class _Seen:
    """Gradients of one run, at the layers that were asked for."""

    arrived: dict[str, Floats] = field(default_factory=dict)
    results: dict[str, Floats] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    raw: dict[str, Tensor] = field(default_factory=dict)


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
        self._even: dict[str, _Change] = {}
        self._first = self._run(0, (), tuple(self._sites))

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
        calls = self._first[1].calls
        energies = self._energies([name for name in self._sites if calls.get(name) == 1])
        order = [*calls, *(name for name in self._sites if name not in calls)]
        return tuple(self._part(name, calls.get(name, 0), energies.get(name)) for name in order)

    def signals(self, batch: int, even: Sequence[str], record: Sequence[str]) -> Signals:
        """Run one batch with these layers made even, record those."""
        whole, seen = self._run(batch, even, record)
        return Signals(whole, seen.arrived, seen.results)

    # ---- which layers ------------------------------------------------------------------------------------------------

    def _energies(self, names: Sequence[str]) -> Mapping[str, Array]:
        """Energy of each phase of each signal's gradient at layers' inputs, ``(signals, *stride)``, of mean about 1."""
        total: dict[str, list[Array]] = {name: [] for name in names}
        for batch in range(self.batches):
            results = self._run(batch, (), names)[1].results
            for name in names:
                if name in results:
                    total[name].append(_phase_energies(results[name], self._sites[name].stride))
        return {name: np.concatenate(found) for name, found in total.items() if found}

    def _part(self, name: str, calls: int, energies: Array | None) -> Part:
        site = self._sites[name]
        if calls != 1:
            why = f"one run calls it {calls} times" if calls else "the run that was seen did not call it"
            return Part(name, site.kind, None, why, True, recorded=False)
        if energies is None or not energies.any():
            return Part(name, site.kind, None, "no gradient reaches it", True, recorded=False)
        self._even[name] = _evening(site)
        dead = _dead(energies)
        if site.filtered or dead.all():
            return Part(name, site.kind, "low-pass")
        how = "phase gains" if site.directions() is None else "balanced kernel, phase gains"
        how += ", low-pass where a phase is dead" if dead.any() else ""
        return Part(name, site.kind, how)

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
            handles.append(site.module.register_forward_hook(_exit(name, seen, keep, change is not None)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _entry(name: str, seen: _Seen, change: _Change | None, keep: bool) -> Any:
    """A hook that reads, and changes, the gradient that this layer alone hands to its input."""

    def on_gradient(gradient: Tensor) -> Tensor | None:
        found = array(gradient)
        made = found if change is None else _of_energy(change(found, seen.raw[name]), found)
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


def _exit(name: str, seen: _Seen, keep: bool, changed: bool) -> Any:
    def on_gradient(gradient: Tensor) -> None:
        if keep:
            seen.arrived[name] = _energy(array(gradient))
        if changed:
            seen.raw[name] = gradient.detach()

    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if (keep or changed) and isinstance(output, Tensor) and output.requires_grad:
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
        kind = next((kind for kind, types in _KINDS.items() if isinstance(module, types)), None)
        site = None if kind is None else _site(module, kind)
        if site is not None:
            found[name or "the module"] = site
    return found


def _site(module: Any, kind: str) -> _Site | None:
    axes = int(type(module).__name__[-2]) if type(module).__name__[-2:] in ("1d", "2d", "3d") else 2

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


def _phase_energies(energy: Floats, stride: Sequence[int]) -> Array:
    found = np.zeros((len(energy), *stride))
    for phase in np.ndindex(*stride):
        places = tuple(slice(r, None, s) for r, s in zip(phase, stride, strict=True))
        part = energy[(slice(None), slice(None), *places)]
        found[(slice(None), *phase)] = part.mean(tuple(range(1, part.ndim))) if part.size else 0.0
    return found


def _dead(energies: Array) -> NDArray[np.bool_]:
    """Signals with a phase that gets next to nothing."""
    each = energies.reshape(len(energies), -1)
    return np.asarray(each.min(1) < DEAD * each.mean(1))


def _evening(site: _Site) -> _Change:
    """The gradient at a layer's input made even, signal by signal; its energy is not kept."""
    taps = [np.asarray(even_taps(s, reach)) for s, reach in zip(site.stride, site.reach, strict=True)]

    directions = site.directions()

    def change(gradient: Floats, arrived: Tensor) -> Floats:
        energies = _phase_energies(_energy(gradient), site.stride)
        dead = _dead(energies) | site.filtered
        made = gradient
        if directions is not None:
            made = _balanced(site.module, directions, gradient, arrived)
            energies = _phase_energies(_energy(made), site.stride)
            dead = dead | _dead(energies)
        made = made * _gains(np.where(_along(dead, energies), 1.0, energies), gradient.shape[2:])
        if dead.any():
            filtered = gradient[dead].astype(np.float64)
            for axis, row in enumerate(taps, start=2):
                filtered = ndimage.convolve1d(filtered, row, axis, mode="constant")
            made[dead] = filtered
        return np.asarray(made)

    return change


def _balanced(module: Any, directions: Array, gradient: Floats, arrived: Tensor) -> Floats:
    """The gradient that a convolution with a balanced kernel hands to its input, for what arrives at its output."""
    weight = module.weight.detach()
    q = torch.tensor(directions).to(weight)
    taps = weight.flatten(2)
    even = (taps - taps @ q @ q.T).reshape(weight.shape)
    with torch.enable_grad():
        place = torch.zeros(gradient.shape, dtype=weight.dtype, device=weight.device, requires_grad=True)
        (made,) = torch.autograd.grad(module._conv_forward(place, even, None), place, arrived)
    return array(made)


def _along(values: NDArray[Any], like: NDArray[Any]) -> NDArray[Any]:
    """One value for each signal, to go with arrays of signals."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def _gains(energies: Array, sizes: Sequence[int]) -> Array:
    """Gain of every position, ``(N, 1, *sizes)``."""
    stride = energies.shape[1:]
    gains = np.sqrt(_along(energies.reshape(len(energies), -1).mean(1), energies) / energies)
    places = np.ix_(*(np.arange(n) % s for n, s in zip(sizes, stride, strict=True)))
    return np.asarray(gains[(slice(None), *places)][:, None])


def _of_energy(made: Floats, like: Floats) -> Floats:
    """The same direction at the energy that each signal had."""
    axes = tuple(range(1, made.ndim))
    before, after = (np.sqrt((values.astype(np.float64) ** 2).sum(axes, keepdims=True)) for values in (like, made))
    return np.asarray(made * np.divide(before, after, out=np.zeros_like(before), where=after > 0))
