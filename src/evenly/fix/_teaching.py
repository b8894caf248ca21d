"""What a network that is fine-tuned should give: its original's outputs, or the user's targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from evenly.errors import UsageError
from evenly.fix._line_removal import without_lines
from evenly.fix.torch_backend import TorchBackend
from evenly.graph.torch import named_results

__all__ = ["Teacher", "as_arguments"]

_KEPT_BYTES = 2**30
"""Of targets that are kept; others are computed anew for every step."""
_TINY = 1e-30


def as_arguments(batch: Any, module: nn.Module) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A batch as the module takes it, on its device and in its floating-point type."""
    return TorchBackend(module)._arguments(batch)


class Teacher:
    """Targets of every batch.

    Args:
        original: The network as it was, in inference mode.
        batches: Its inputs.
        targets: Of the user's, or ``None``.
        periods: Of lines that are taken off the original's outputs.
    """

    def __init__(
        self, original: nn.Module, batches: Sequence[Any], targets: Sequence[Any] | None, periods: Sequence[int]
    ) -> None:
        self.batches = batches
        self._original, self._given, self._periods = original, targets, tuple(periods)
        self._kept: dict[int, Mapping[str, Tensor]] = {}
        self._bytes = 0
        self._scales: dict[str, float] | None = None

    def error(self, result: Any, batch: int) -> Tensor:
        """Mean squared error over the targets' variance, mean over outputs."""
        wanted = self._wanted(batch)
        found = {name: values for name, values in named_results(result, Tensor) if name in wanted}
        parts = []
        for name, target in wanted.items():
            if name not in found or found[name].shape != target.shape:
                shapes = {key: tuple(value.shape) for key, value in found.items()}
                raise UsageError(f"targets of {name} have the shape {tuple(target.shape)}; the outputs are {shapes}")
            parts.append((found[name] - target).square().mean() / self._scale()[name])
        if not parts:
            raise UsageError("the network has no output of real numbers to be fine-tuned for")
        return torch.stack(parts).mean()

    def _scale(self) -> Mapping[str, float]:
        if self._scales is None:
            self._scales = {
                name: max(float(t.double().var(correction=0)), _TINY) for name, t in self._wanted(0).items()
            }
        return self._scales

    def _wanted(self, batch: int) -> Mapping[str, Tensor]:
        if batch in self._kept:
            return self._kept[batch]
        made = self._made(batch)
        size = sum(t.nbytes for t in made.values())
        if self._bytes + size <= _KEPT_BYTES:
            self._kept[batch] = made
            self._bytes += size
        return made

    @torch.no_grad()
    def _made(self, batch: int) -> Mapping[str, Tensor]:
        args, kwargs = as_arguments(self.batches[batch], self._original)
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            result = self._original(*args, **kwargs)
        outputs = {name: t.detach().clone() for name, t in named_results(result, Tensor) if t.is_floating_point()}
        if self._given is None:
            return {name: without_lines(t, self._periods) for name, t in outputs.items()}
        given = self._given[batch]
        if not isinstance(given, Mapping):
            if len(outputs) != 1:
                raise UsageError(f"the network has the outputs {', '.join(outputs)}; give targets by their names")
            given = {next(iter(outputs)): given}
        unknown = sorted(set(given) - set(outputs))
        if unknown:
            raise UsageError(f"there are targets for {', '.join(unknown)}; the outputs are {', '.join(outputs)}")
        return {name: torch.as_tensor(value).to(outputs[name]) for name, value in given.items()}
