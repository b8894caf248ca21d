"""Running somebody's model without leaving a trace: modes, inputs, layers, tensors and where their channels are."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from itertools import islice
from typing import TYPE_CHECKING, Any

from evenly.errors import ParameterError, UsageError

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    Sampler = Callable[[int, Generator], Any] | Iterable[Any]

__all__ = [
    "ChannelsLast",
    "copied",
    "draw",
    "gradients",
    "leaves",
    "prepared",
    "scalar_of",
    "select_layers",
    "tensors_in",
    "unsuited",
]


@contextmanager
def prepared(module: nn.Module, training: bool, seed: int) -> Iterator[None]:
    """A model in the mode asked for, and afterwards as it was, with buffers and random numbers."""
    import torch

    modes = {m: m.training for m in module.modules()}
    buffers = [(b, b.detach().clone()) for b in module.buffers()] if training else []
    try:
        # CUDA generators are only forked once CUDA is in use, so nothing is initialised in vain
        with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if _cuda_used() else []):
            torch.manual_seed(seed)
            module.train(training)
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def _cuda_used() -> bool:
    import torch

    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def draw(
    module: nn.Module, sampler: Sampler, samples: int, batch_size: int, seed: int, device: Any
) -> Iterator[tuple[int, tuple[Any, ...], dict[str, Any]]]:
    """Batches as ``(samples, args, kwargs)`` on the model's device and in its type."""
    import torch

    for name, value in (("samples", samples), ("batch_size", batch_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ParameterError(f"{name} (={value!r}) must be an integer of at least 1")
    some = next(module.parameters(), None)
    place = device if device is not None else some.device if some is not None else torch.device("cpu")
    floats = next((p.dtype for p in module.parameters() if p.is_floating_point()), None)

    def moved(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(place, floats if value.is_floating_point() else None)
        if isinstance(value, tuple | list):
            return tuple(moved(v) for v in value)
        return {k: moved(v) for k, v in value.items()} if isinstance(value, Mapping) else value

    left = samples
    for batch in _batches(sampler, samples, batch_size, seed):
        sizes = [len(t) for _, t in tensors_in(batch) if t.ndim]
        if not sizes:
            raise UsageError(
                f"sampler gave {type(batch).__name__}; expected a tensor, or a tuple or dict of tensors, batch first"
            )
        size, batch = min(sizes[0], left), moved(batch)
        if size < sizes[0]:
            batch = _first(batch, size, sizes[0])
        if isinstance(batch, dict):
            yield size, (), batch
        else:
            yield size, batch[: _positions(module)] if isinstance(batch, tuple) else (batch,), {}
        left -= size
        if left <= 0:
            return


def _batches(sampler: Sampler, samples: int, batch_size: int, seed: int) -> Iterator[Any]:
    import torch

    if isinstance(sampler, torch.Tensor):
        yield from torch.split(sampler[:samples], batch_size)
    elif callable(sampler):
        generator = torch.Generator().manual_seed(seed)
        for start in range(0, samples, batch_size):
            yield sampler(min(batch_size, samples - start), generator)
    elif isinstance(sampler, Iterable) and not isinstance(sampler, str | Mapping):
        yield from islice(sampler, samples)
    else:
        raise UsageError(
            f"sampler (={type(sampler).__name__}) is not understood; expected a function (n, generator) -> inputs, "
            "a tensor of samples, or batches"
        )


def _first(value: Any, size: int, whole: int) -> Any:
    """The first samples of everything that has the batch's length."""
    if isinstance(value, tuple):
        return tuple(_first(v, size, whole) for v in value)
    if isinstance(value, dict):
        return {k: _first(v, size, whole) for k, v in value.items()}
    return value[:size] if getattr(value, "ndim", 0) and len(value) == whole else value


def _positions(module: nn.Module) -> int | None:
    """How many positional inputs ``forward`` requires; ``None``: any number."""
    parameters = inspect.signature(module.forward).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return max(sum(p.default is p.empty for p in plain), 1)


def select_layers(module: nn.Module, names: str | Sequence[str] | None) -> dict[str, nn.Module]:
    """Modules by name: those without children, or those that match names or globs.

    Raises:
        UsageError: If a name matches nothing.
    """
    known = dict(module.named_modules())
    if names is None:
        return {n: m for n, m in known.items() if not any(m.children())}
    globs = (names,) if isinstance(names, str) else tuple(names)
    for glob in globs:
        if not any(fnmatchcase(n, glob) for n in known):
            raise UsageError(f"layers (={glob!r}) matches no module; expected names or globs as {list(known)[-1]!r}")
    return {n: m for n, m in known.items() if any(fnmatchcase(n, glob) for glob in globs)}


def tensors_in(value: Any, where: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested tuples, lists and mappings, with their places."""
    import torch

    if isinstance(value, torch.Tensor):
        yield where, value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from tensors_in(entry, f"{where}[{key!r}]")
    elif isinstance(value, tuple | list):
        for place, entry in enumerate(value):
            yield from tensors_in(entry, f"{where}[{place}]")


class ChannelsLast:
    """Which tensors have their channels last: outputs of such layers, and of pointwise layers after them."""

    def __init__(self) -> None:
        self._seen: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()

    def __call__(self, layer: nn.Module, inputs: Any, output: Tensor) -> bool:
        """Whether this output has."""
        from torch import nn

        shape = getattr(layer, "normalized_shape", None)
        known = isinstance(layer, nn.Linear | nn.Embedding) or (shape is not None and len(shape) == 1)
        before = inputs[0] if inputs else None
        follows = id(before) in self._seen and before is self._seen[id(before)] and before.shape == output.shape
        if known or follows:
            self._seen[id(output)] = output
        return known or follows


def unsuited(maps: Tensor, count: int) -> str | None:
    """Why an output cannot be measured."""
    if not maps.is_floating_point():
        return f"its values are {str(maps.dtype).removeprefix('torch.')}; expected floating point"
    if maps.ndim < 3:
        return "no spatial axes"
    if maps.ndim > 5:
        return f"{maps.ndim - 2} spatial axes; expected 1 to 3"
    if len(maps) != count:
        return f"its first axis ({len(maps)}) is not the batch ({count})"
    return None


def leaves(value: Any) -> Any:
    """Floating tensors as leaves that gradients are wanted of."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_() if value.is_floating_point() else value
    return _mapped(value, leaves)


def copied(value: Any) -> Any:
    """Copies of floating tensors that pass gradients on."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.clone() if value.is_floating_point() else value
    return _mapped(value, copied)


def _mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """Applied to the entries of tuples, lists and mappings, which keep their kind where that can be built."""
    if isinstance(value, tuple):
        entries = [function(v) for v in value]
        return type(value)(*entries) if hasattr(value, "_fields") else tuple(entries)
    if isinstance(value, list):
        return [function(v) for v in value]
    if isinstance(value, Mapping):
        made = {k: function(v) for k, v in value.items()}
        return made if type(value) is dict else type(value)(**made)
    return value


def scalar_of(output: Any, target: int | Callable[[Any], Tensor] | None, noise: Generator) -> Tensor:
    """What is derived."""
    import torch

    if callable(target):
        made = target(output)
    else:
        outputs = [t for _, t in tensors_in(output) if t.is_floating_point()]
        if not outputs:
            raise UsageError("the model gives no floating tensor; give target, a function of its output")
        if target is None:
            made = torch.stack(
                [(t.float() * torch.randn(t.shape, generator=noise).to(t.device)).sum() for t in outputs]
            ).sum()
        else:
            if outputs[0].ndim < 2 or not -outputs[0].shape[1] <= target < outputs[0].shape[1]:
                raise UsageError(
                    f"target (={target}) is no class or channel of the output of shape {tuple(outputs[0].shape)}"
                )
            made = outputs[0][:, target]
    if not isinstance(made, torch.Tensor) or not made.requires_grad:
        raise UsageError(
            f"target gave {type(made).__name__} without a gradient; expected a tensor derived from the output"
        )
    return made.sum()


def gradients(scalar: Tensor, tensors: Sequence[Tensor]) -> list[Tensor | None]:
    """Derivatives, ``None`` where nothing is derived."""
    import torch

    able = [t for t in tensors if t.requires_grad]
    if not able:
        return [None] * len(tensors)
    made = dict(zip(map(id, able), torch.autograd.grad(scalar, able, allow_unused=True), strict=True))
    return [made.get(id(t)) for t in tensors]
