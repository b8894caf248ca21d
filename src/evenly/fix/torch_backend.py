"""A PyTorch module as the methods of repair see it (:class:`evenly.fix.backend.Backend`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from evenly.errors import UsageError
from evenly.fix._torch_edits import check, copied, rewrite
from evenly.fix._torch_layers import Surroundings, array, convolutions, described, shared_parameters
from evenly.fix._torch_shuffles import Shuffle, neighbours, shuffles
from evenly.fix.backend import Edit, Floats, Layer, Run
from evenly.graph._export import _borrowed, line
from evenly.graph.torch import named_results

__all__ = ["TorchBackend"]

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class TorchBackend:
    """Look at a module, run it, edit a copy of it.

    The order of layers, how often they are called and which of them a pixel shuffle follows are read from an example,
    which is the first batch that is run, if none is given; before that layers come in the module's own order, and only
    neighbours in an ``nn.Sequential`` count as followed. The module stays as it is: mode, parameters, hooks.

    Args:
        module: The network.
        example: A batch as :meth:`run` takes it.

    Raises:
        UsageError: If the example does not fit the module.
    """

    def __init__(self, module: nn.Module, example: Any = None) -> None:
        self._module = module
        self._convolutions = convolutions(module)
        self._calls: Mapping[str, int] | None = None
        self._blank: Arguments | None = None  # the example without its values
        self._found: Mapping[str, Shuffle] | None = None
        if example is not None:
            self.run(example)

    @property
    def model(self) -> nn.Module:
        """The module itself."""
        return self._module

    # ---- layers ------------------------------------------------------------------------------------------------------

    def layers(self) -> tuple[Layer, ...]:
        """All convolution-like layers, in the order in which the example ran them; those that it did not run last."""
        shared = shared_parameters(self._module)
        return tuple(self._layer(name, shared) for name in self._order())

    def _order(self) -> list[str]:
        ran = list(self._calls or ())
        return [*ran, *(name for name in self._convolutions if name not in ran)]

    def _layer(self, name: str, shared: Mapping[str, str]) -> Layer:
        module = self._convolutions[name]
        around = Surroundings(
            shuffle=self._shuffle(name),
            shared=shared.get("" if module is self._module else name),
            calls=None if self._calls is None else self._calls.get(name, 0),
            devices=tuple(sorted({str(p.device) for p in self._module.parameters() if not is_lazy(p)})),
        )
        return described(name, module, around)

    def _shuffle(self, name: str) -> Shuffle | None:
        """The pixel shuffle behind a plain convolution."""
        module = self._convolutions[name]
        if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) or set(module.stride) != {1}:
            return None
        if self._found is None and self._blank is not None:
            args, kwargs = pytree.tree_map_only(Tensor, Tensor.contiguous, self._blank)
            self._found = shuffles(self._module, args, kwargs)
        found = neighbours(self._module) if self._found is None else self._found
        return found.get("" if module is self._module else name)

    # ---- running -----------------------------------------------------------------------------------------------------

    def run(self, batch: Any, record: Iterable[str] = ()) -> Run:
        """Run one batch in inference mode, without gradients.

        Random numbers that the module draws from PyTorch's generators are the same in every run. Floating-point inputs
        get the module's floating-point type, all inputs its device.

        Args:
            batch: An array or tensor; a sequence of arguments; or a mapping of arguments by name.
            record: Layers whose inputs and results are wanted.

        Returns:
            Arrays in float32 or float64 (integers as float64; complex outputs as pairs on a last axis). Outputs are
            named as ``evenly check`` names them: ``output``, ``output_0``, ..., or the keys of what is returned.

        Raises:
            UsageError: If the batch does not fit the model, or a layer does not exist or runs more than once or not at
                all.
        """
        trace = _Trace(self._convolutions, frozenset(map(self._known, record)))
        arguments = self._arguments(batch)
        with trace.watching(), _reproducible(), torch.no_grad(), _borrowed(self._module, False):
            try:
                result = self._module(*arguments[0], **arguments[1])
            except Exception as error:  # code of the user runs
                raise UsageError(
                    f"{type(self._module).__name__} does not run on a batch of {_shapes(arguments)}: {line(error)}; "
                    "give inputs as its forward takes them"
                ) from error
            outputs = {name: array(tensor) for name, tensor in named_results(result, Tensor)}
        if self._calls is None:
            self._calls = dict(trace.calls)
            self._blank = pytree.tree_map_only(Tensor, _blank, arguments)
        trace.check()
        results = {}
        for name, value in trace.results.items():
            shuffle = self._shuffle(name)
            results[name] = array(value if shuffle is None else shuffle.apply(value))
        return Run(outputs, trace.inputs, results)

    def _known(self, name: str) -> str:
        if name not in self._convolutions:
            listed = ", ".join(repr(n) for n in list(self._convolutions)[:20]) or "none"
            raise UsageError(f"{type(self._module).__name__} has no layer {name!r}; its layers are {listed}")
        return name

    def _arguments(self, batch: Any) -> Arguments:
        tensors = [t for t in (*self._module.parameters(), *self._module.buffers()) if not is_lazy(t)]
        device = tensors[0].device if tensors else torch.device("cpu")
        dtype = next((t.dtype for t in tensors if t.is_floating_point()), None)

        def tensor(value: Any) -> Tensor:
            found = torch.from_numpy(np.array(value, order="C")) if isinstance(value, np.ndarray) else value.detach()
            cast = dtype if found.is_floating_point() else None
            return found.to(device, cast, copy=True)  # modules may write to their input

        args: Sequence[Any] = ()
        kwargs: Mapping[str, Any] = {}
        if isinstance(batch, Mapping):
            kwargs = {str(key): value for key, value in batch.items()}
        else:
            args = tuple(batch) if isinstance(batch, list | tuple) else (batch,)
        try:
            filled: Arguments = pytree.tree_map_only((Tensor, np.ndarray), tensor, (tuple(args), kwargs))
        except (TypeError, ValueError) as error:
            raise UsageError(f"the batch is no tensor: {line(error)}; give arrays of numbers") from error
        return filled

    # ---- editing -----------------------------------------------------------------------------------------------------

    def edited(self, edits: Sequence[Edit]) -> Self:
        """A backend of a copy of the module with these edits.

        Layers keep their class and their name, other layers their keys in the ``state_dict``. Where padding becomes
        unequal or a crop has no output padding that expresses it, zero taps are added to the kernel. A layer with
        weights by phase becomes a :class:`evenly.fix.phase_conv.PhaseConv2d` (1d, 3d).

        Raises:
            UsageError: If a layer does not exist, is fixed, is edited twice, or an edit does not fit it.
        """
        names = [self._known(edit.name) for edit in edits]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise UsageError(f"{', '.join(sorted(twice))} is edited twice; give one edit for each layer")
        shared = shared_parameters(self._module)
        before = {name: self._layer(name, shared) for name in names}
        for edit in edits:
            check(edit, before[edit.name])
        twin = copied(self._module)
        places = convolutions(twin)
        for edit in edits:
            twin = rewrite(twin, places[edit.name], edit, before[edit.name], self._shuffle(edit.name))
        new = type(self)(twin)
        # names, order and data flow are those of this one
        new._calls, new._blank, new._found = self._calls, self._blank, self._found
        return new


class _Trace:
    """What happens to the convolutions of a module in one run."""

    def __init__(self, layers: Mapping[str, nn.Module], wanted: frozenset[str]) -> None:
        self.layers, self.wanted = layers, wanted
        self.calls: dict[str, int] = {}
        self.inputs: dict[str, Floats] = {}
        self.results: dict[str, Tensor] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks on all layers, while it lasts."""
        handles = []
        try:
            for name, layer in self.layers.items():
                handles.append(layer.register_forward_hook(self._hook(name), with_kwargs=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, name: str) -> Any:
        def hook(layer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Tensor) -> None:
            self.calls[name] = self.calls.get(name, 0) + 1
            if name in self.wanted and self.calls[name] == 1:
                x = args[0] if args else next(iter(kwargs.values()))
                rank = len(layer.kernel_size) + 2
                self.inputs[name] = array(x if x.dim() == rank else x[None])
                self.results[name] = (output if output.dim() == rank else output[None]).detach().clone()

        return hook

    def check(self) -> None:
        """Refuse layers that ran more than once, or not."""
        for name in sorted(self.wanted):
            calls = self.calls.get(name, 0)
            if calls != 1:
                times = f"runs {calls} times" if calls else "does not run"
                raise UsageError(f"{name} {times} on this batch; only a layer that runs once can be recorded")


@contextmanager
def _reproducible() -> Iterator[None]:
    """The same random numbers in every run; the generators go on afterwards as if nothing had been drawn."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)
        yield


def _blank(tensor: Tensor) -> Tensor:
    """Shape, type and device of a tensor, in no memory."""
    return tensor.new_zeros(()).expand(tensor.shape)


def _shapes(arguments: Arguments) -> str:
    found = [str(tuple(leaf.shape)) for leaf in pytree.tree_leaves(arguments) if isinstance(leaf, Tensor)]
    return " and ".join(found) or "no tensors"
