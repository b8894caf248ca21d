"""Train a balanced network a little, inside the DC condition: what balancing cost is won back, the certificate stays.

The network learns from its original, whose outputs are what it should give, if wanted less their lines
(:mod:`evenly.fix._line_removal`); or from the user's own targets, where it often gets better than it was. Before every
step of the optimizer (:mod:`evenly.fix._soap`) the gradients of balanced layers are projected onto the condition, and
after it their weights: what :class:`evenly.nn.balanced.BalancedConvTranspose2d` does by a parametrization, but layers
and keys stay what they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evenly.errors import ParameterError, UsageError
from evenly.fix._constraint import Constraint
from evenly.fix._teaching import Teacher, as_arguments
from evenly.fix._torch_edits import copied
from evenly.fix._tuning_state import State, fingerprint

__all__ = ["Tuned", "finetuned"]

_WARM = 0.1
"""Part of the steps over which the learning rate rises."""
_LOOKS = 20
"""Times that the held-out batches are looked at."""
_HELD_OUT = 8
"""One of so many batches is held out."""
_LEAST_BATCHES = 4
"""With fewer, none is."""
_FASTEST = 0.1
"""Largest step of a weight, over the root mean square of its tensor, in any case."""
_SMALLEST = 0.1
"""Root mean square that the steps of biases and scales refer to at least."""


@dataclass(frozen=True, eq=False)
class Tuned:
    """A fine-tuned network.

    Attributes:
        module: A new module, of the same classes, keys, types and device as the one given.
        losses: Mean squared error over the targets' variance (ratio), at every look, the first one before any step; of
            held-out batches, or with fewer than four batches of all of them.
        steps: That were taken.
        stopped: Whether it ended early, since the loss no longer fell; the module is that of the best look.
    """

    module: nn.Module = field(repr=False)
    losses: tuple[float, ...]
    steps: int
    stopped: bool


def finetuned(
    module: nn.Module,
    teacher: nn.Module,
    batches: Sequence[Any],
    steps: int,
    *,
    targets: Sequence[Any] | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    checkpoint: str | Path | None = None,
    learning_rate: float = 0.6,
    patience: int = 8,
    order: int = 1,
    periods: Sequence[int] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Tuned:
    """Fine-tune a balanced module inside the DC condition.

    Everything runs in inference mode (statistics of normalisation layers stay, nothing is dropped) and in float32 at
    least. Parameters that are frozen (``requires_grad`` is False) stay, unless all of them are. On a CPU the result
    depends on the arguments alone; killed and resumed from its checkpoint, it is the same bit for bit.

    Args:
        module: The balanced network; it stays as it is.
        teacher: The network as it was before.
        batches: As the module takes them; each is one step's, in an order drawn anew for every round.
        steps: How many to take.
        targets: What the module should give for each batch, where that is known: an array, or arrays by the names of
            outputs. They are met in the mean square; a network that was trained for another loss (sounds for their
            spectra) is better taught by its original.
        seed: Of the order.
        device: Where to compute; by default where the module is.
        checkpoint: File to keep what a killed run needs to go on; it is read if it is there.
        learning_rate: Largest step of a weight over the root mean square of its tensor, as a multiple of the outputs'
            relative error at the beginning (ratio): what is almost right needs small steps.
        patience: Looks (a twentieth of the steps each) without a lower loss of held-out batches, while that of the
            others goes on falling, after which it ends.
        order: Of the condition.
        periods: Of the lines that the teacher's outputs are freed of, in samples. By default none: what meets the
            condition cannot learn most of them, and the notches would take detail along.
        progress: Told after each step how many are done, and of how many.

    Raises:
        UsageError: If there are no batches, a batch does not fit, targets are not as many or not of the outputs' shape,
            nothing can be trained, or the checkpoint is of another run.
        ParameterError: If a number is out of range.
        UnreadableError: If the checkpoint cannot be read.
    """
    if not batches:
        raise UsageError("no batches to fine-tune on; give some of the model's inputs")
    if targets is not None and len(targets) != len(batches):
        raise UsageError(f"{len(targets)} targets for {len(batches)} batches; give one for each")
    if steps < 1 or not learning_rate > 0 or patience < 2:
        raise ParameterError(
            f"steps (={steps}) must be 1 or more, patience (={patience}) 2 or more, learning_rate (={learning_rate}) "
            "above 0"
        )
    place = torch.device(device) if device is not None else _device(module)
    pupil = _ready(module, place)
    constraint = Constraint(pupil, batches[0], order)
    lesson = Teacher(_ready(teacher, place), batches, targets, periods)
    trained = _trained(pupil)
    constraint.hold()
    mark = fingerprint(trained, len(batches), steps, seed, learning_rate, patience, order, list(periods))
    course = _Course(pupil, trained, constraint, lesson, steps, seed, learning_rate)
    state = State.begin(trained) if checkpoint is None else State.load(Path(checkpoint), trained, mark)
    course.run(state, patience, None if checkpoint is None else (Path(checkpoint), mark), progress)
    state.restore_best(trained)
    return Tuned(_returned(module, pupil), tuple(state.losses), state.step, state.stopped)


def _device(module: nn.Module) -> torch.device:
    return next((t.device for t in (*module.parameters(), *module.buffers())), torch.device("cpu"))


def _ready(module: nn.Module, device: torch.device) -> nn.Module:
    """A copy in inference mode, in float32 at least."""
    twin = copied(module).to(device)
    for part in twin.modules():
        part.__dict__["training"] = False  # some modules merge weights in Module.train
    if any(t.is_floating_point() and t.itemsize < 4 for t in (*twin.parameters(), *twin.buffers())):
        twin = twin.float()
    return twin


def _trained(pupil: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that are trained, by name."""
    able = {name: p for name, p in pupil.named_parameters() if p.is_floating_point()}
    free = {name: p for name, p in able.items() if p.requires_grad} or able
    if not free:
        raise UsageError(f"{type(pupil).__name__} has no parameters to train")
    for name, parameter in able.items():
        parameter.requires_grad_(name in free)
    return free


def _returned(module: nn.Module, pupil: nn.Module) -> nn.Module:
    """A copy of the module with the pupil's weights, in its own types and places."""
    twin = copied(module)
    found = dict(pupil.named_parameters())
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            parameter.copy_(found[name])
    return twin


class _Course:
    """The steps themselves."""

    def __init__(
        self,
        pupil: nn.Module,
        trained: Mapping[str, nn.Parameter],
        constraint: Constraint,
        lesson: Teacher,
        steps: int,
        seed: int,
        rate: float,
    ) -> None:
        self._pupil, self._constraint, self._lesson = pupil, constraint, lesson
        self._trained, self._steps, self._seed = trained, steps, seed
        count = len(lesson.batches)
        held = round(count / _HELD_OUT) or 1
        self._held = list(range(count))[:: max(count // held, 1)][:held] if count >= _LEAST_BATCHES else []
        self._free = [n for n in range(count) if n not in self._held]
        self._every = max(1, steps // _LOOKS)
        self._rate, self._sizes = rate, {name: _size(p) for name, p in trained.items()}

    def run(
        self,
        state: State,
        patience: int,
        kept: tuple[Path, str] | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Go on from a state to the end."""
        if not state.losses:
            state.look(self._trained, self._loss())
        while state.step < self._steps and not state.stopped:
            self._take(state)
            if state.step % self._every == 0 or state.step == self._steps:
                state.look(self._trained, self._loss())
                state.stopped = self._overfits(state, patience) and state.step < self._steps
                if kept is not None:
                    state.save(*kept, self._trained, last=state.stopped or state.step == self._steps)
            if progress is not None:
                progress(state.step, self._steps)

    def _overfits(self, state: State, patience: int) -> bool:
        """Whether the last looks are all above the one before them, and rise, while the loss of the steps falls.

        While the rate is high both stay high, and fall with it later: that is no reason to end.
        """
        if not self._held or len(state.losses) <= patience or len(state.taught) < patience:
            return False
        before, *looks = state.losses[-1 - patience :]
        return before <= min(looks) and _rises(looks) > 0 > _rises(state.taught[-patience:])

    def _take(self, state: State) -> None:
        """One step."""
        with _random(self._pupil, self._seed + state.step):
            loss = self._error(self._batch(state.step))
            found = torch.autograd.grad(loss, list(self._trained.values()), allow_unused=True)
        if not math.isfinite(loss.item()):
            raise UsageError(f"fine-tuning diverged at step {state.step}; give a lower learning rate")
        state.note(loss.item())
        gradients = {name: g for name, g in zip(self._trained, found, strict=True) if g is not None}
        with torch.no_grad():
            self._constraint.project(gradients)
            rate = min(self._rate * math.sqrt(state.losses[0]), _FASTEST) * self._factor(state.step)
            state.take(self._trained, gradients, {name: rate * size for name, size in self._sizes.items()})
            self._constraint.hold()

    def _factor(self, step: int) -> float:
        """Linear rise, then half a cosine to zero (Loshchilov and Hutter, arXiv 1608.03983)."""
        warm = max(1, round(_WARM * self._steps))
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(self._steps - warm, 1)))

    def _batch(self, step: int) -> int:
        lap, place = divmod(step, len(self._free))
        drawn = torch.randperm(len(self._free), generator=torch.Generator().manual_seed(self._seed * 1_000_003 + lap))
        return self._free[int(drawn[place])]

    def _error(self, batch: int) -> Tensor:
        args, kwargs = as_arguments(self._lesson.batches[batch], self._pupil)
        return self._lesson.error(self._pupil(*args, **kwargs), batch)

    def _loss(self) -> float:
        numbers = self._held or self._free
        with torch.no_grad(), _random(self._pupil, self._seed):
            return sum(float(self._error(n)) for n in numbers) / len(numbers)


def _size(parameter: Tensor) -> float:
    rms = float(parameter.detach().double().square().mean().sqrt())
    return rms if parameter.ndim > 1 and rms > 0 else max(rms, _SMALLEST)


def _rises(values: Sequence[float]) -> float:
    """Mean of the later half less that of the earlier one."""
    half = len(values) // 2
    return sum(values[-half:]) / half - sum(values[:half]) / half


@contextmanager
def _random(module: nn.Module, seed: int) -> Iterator[None]:
    """Random numbers that the network draws depend on the step alone; the generators outside go on undisturbed."""
    device = _device(module)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
