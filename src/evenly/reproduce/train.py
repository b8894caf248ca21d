"""Training that can be killed: Lightning Fabric runs the steps on any device, checkpoints make them resumable.

A training that was killed and resumed gives the same numbers as an unbroken one: a checkpoint holds the networks, the
optimisers, every generator of random numbers, and all that was observed.
"""

from __future__ import annotations

import math
import os
import random
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import torch
from lightning_fabric import Fabric, seed_everything

from evenly.errors import EvenlyError, ParameterError, UsageError

if TYPE_CHECKING:
    from torch import Generator, nn
    from torch.optim import Optimizer

    from evenly.reproduce.experiment import Context

__all__ = ["Course", "fabric", "reproducible", "set_cosine", "train"]

_OWN = "course"
"""Where a checkpoint keeps everything but networks and optimisers."""
_KEPT_LOSSES = 200
"""Points of each curve of losses; each is the mean over its share of the steps."""


def fabric(device: str) -> Fabric:
    """Fabric for ``"cpu"``, ``"mps"``, ``"cuda"`` or ``"cuda:1"``.

    Raises:
        UsageError: If the device does not exist here.
    """
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise UsageError(f"--device (={device}) must be cpu, cuda, cuda:N or mps")
    try:
        return Fabric(accelerator=kind, devices=[int(index)] if index else 1)
    except Exception as error:  # of several kinds, by accelerator
        raise UsageError(f"--device (={device}) cannot be used here: {error}; --device cpu always can") from error


def set_cosine(optimizer: Optimizer, learning_rate: float, number: int, steps: int) -> None:
    """Set the learning rate of step `number`: from `learning_rate` to 0 along half a cosine (Loshchilov, Hutter 2017).

    It depends on the step alone, so a training that was resumed goes on where it was.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * (1 + math.cos(math.pi * number / steps)) / 2


@contextmanager
def reproducible(seed: int, device: str = "cpu") -> Iterator[None]:
    """Everything random starts from `seed`, one thread on the CPU, deterministic algorithms; as before afterwards."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
    threads, before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        if device == "cpu":
            torch.set_num_threads(1)  # sums depend on how many threads share them
        torch.use_deterministic_algorithms(True, warn_only=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have a deterministic implementation.*")
            seed_everything(seed, workers=False, verbose=False)
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(before, warn_only=warned)
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


@dataclass(frozen=True)
class Course:
    """How a training went.

    Attributes:
        steps: Steps taken.
        losses: Curves by name: means over equal shares of the steps.
        observations: What was observed, each with its ``"step"``.
    """

    steps: int
    losses: Mapping[str, list[float]]
    observations: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """As kept in an outcome."""
        return {"steps": self.steps, "losses": dict(self.losses), "observations": self.observations}


def train(
    context: Context,
    name: str,
    state: Mapping[str, nn.Module | Optimizer],
    steps: int,
    step: Callable[[int, Generator], Mapping[str, float]],
    *,
    observe: Callable[[int], Mapping[str, Any]] | None = None,
    observe_at: Collection[int] = (),
) -> Course:
    """Take the steps of a training, from its last checkpoint if there is one.

    Args:
        context: The cell's; its folder takes the checkpoint ``NAME.ckpt``.
        name: Of this training, unique in the cell.
        state: Networks and optimisers that change, as ``context.fabric.setup`` gave them.
        steps: How many steps to take.
        step: Takes the step of the given number (from 0), draws its batches from the generator (on the CPU), and gives
            its losses. Uses ``context.fabric.backward``.
        observe: Called before the step of a number in `observe_at`, and after the last if `steps` is among them; what
            it gives is kept. JSON values only. It must leave networks as they were, and its random numbers must be its
            own (``context.rng``).
        observe_at: Numbers of steps, 0 to `steps`.

    Returns:
        The course.

    Raises:
        EvenlyError: If a loss becomes infinite or NaN.
        ParameterError: If a network or optimiser has the name that checkpoints use themselves.
    """
    keeper = _Keeper(context, name, state)
    generator = torch.Generator().manual_seed(context.seed * 1_000_003 + crc32(name.encode()))
    done, sums, observations = keeper.load(generator)
    wanted = set(observe_at)
    told = 0.0
    while True:
        if observe is not None and done in wanted and all(o["step"] != done for o in observations):
            observations.append({"step": done, **observe(done)})
        if done >= steps:
            break
        share = done * _KEPT_LOSSES // steps if steps > _KEPT_LOSSES else done
        for key, value in step(done, generator).items():
            curve = sums.setdefault(key, [])
            while len(curve) <= share:
                curve.append([0.0, 0.0])
            if not math.isfinite(value):
                raise EvenlyError(f"the training {name} diverged: {key} is {value} at step {done}")
            curve[share][0] += float(value)
            curve[share][1] += 1
        done += 1
        keeper.save_if_due(done, generator, sums, observations)
        if time.monotonic() - told > 0.2 or done == steps:
            told = time.monotonic()
            context.progress(done, steps, name)
    keeper.save(done, generator, sums, observations)
    return Course(done, {key: _means(curve) for key, curve in sums.items()}, observations)


def _means(curve: Sequence[Sequence[float]]) -> list[float]:
    """Means over shares of the steps; a loss that is not computed at every step stays what it was before."""
    found: list[float] = []
    first = next(total / n for total, n in curve if n)
    for total, n in curve:
        found.append(total / n if n else found[-1] if found else first)
    return found


class _Keeper:
    """A training's checkpoint."""

    def __init__(self, context: Context, name: str, state: Mapping[str, nn.Module | Optimizer]) -> None:
        if _OWN in state:
            raise ParameterError(f"no network or optimiser may be called {_OWN!r}: checkpoints use it themselves")
        self._context = context
        self._state = state
        self._path = context.folder / f"{name}.ckpt"
        self._last = time.monotonic()
        self._saved = -1

    def load(self, generator: Generator) -> tuple[int, dict[str, list[list[float]]], list[dict[str, Any]]]:
        if not self._path.is_file():
            return 0, {}, []
        rest = self._context.fabric.load(self._path, dict(self._state), weights_only=True)[_OWN]
        generator.set_state(rest["generator"])
        torch.set_rng_state(rest["cpu"])
        if "cuda" in rest:
            torch.cuda.set_rng_state(rest["cuda"], self._context.fabric.device)
        self._saved = int(rest["step"])
        return self._saved, rest["sums"], rest["observations"]

    def save_if_due(self, step: int, *rest: Any) -> None:
        if time.monotonic() - self._last >= self._context.checkpoint_seconds:
            self.save(step, *rest)

    def save(self, step: int, generator: Generator, sums: Any, observations: Any) -> None:
        if step == self._saved:
            return
        own: dict[str, Any] = {
            "generator": generator.get_state(),
            "cpu": torch.get_rng_state(),
            "step": step,
            "sums": sums,
            "observations": observations,
        }
        if self._context.fabric.device.type == "cuda":
            own["cuda"] = torch.cuda.get_rng_state(self._context.fabric.device)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".tmp")
        self._context.fabric.save(temporary, {**self._state, _OWN: own})
        temporary.replace(self._path)  # a killed run leaves the checkpoint before, whole
        self._saved, self._last = step, time.monotonic()
