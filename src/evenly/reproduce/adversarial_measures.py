"""What attacks do to a classifier: by phase, by random masks, with pictures moved, by epsilon, with few pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evenly.reproduce.attacks import Harm, fgsm, harm, loss_gradient, pgd, phase_masks, random_signs, sparse

if TYPE_CHECKING:
    from torch import Generator

__all__ = ["Strength", "Target", "by_mask", "full_attack", "half_fooled", "perturbation", "rolled", "sparse_energy"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Strength:
    """How strongly is attacked.

    Attributes:
        epsilon: Largest change of a colour where the pixels of one mask may change, in grey levels.
        steps: Of projected gradient descent.
        pixels: Pixels of each picture that the sparse attack changes.
        candidates: Pixels that it tries for each.
    """

    epsilon: float
    steps: int
    pixels: int
    candidates: int


@dataclass(frozen=True, eq=False)
class Target:
    """A network and the pictures it is attacked on.

    Attributes:
        network: In evaluation mode.
        pictures: ``(N, 3, H, W)``, -1 to 1.
        labels: ``(N,)``.
        batch: Pictures that are attacked at once.
    """

    network: nn.Module
    pictures: Tensor
    labels: Tensor
    batch: int = 128

    def first(self, count: int) -> Target:
        """The same with its first pictures only."""
        return replace(self, pictures=self.pictures[:count], labels=self.labels[:count])

    def repeated(self, count: int) -> Target:
        """The same with every picture several times in a row."""
        pictures, labels = (tensor.repeat_interleave(count, 0) for tensor in (self.pictures, self.labels))
        return replace(self, pictures=pictures, labels=labels)

    def attacked(self, attack: Callable[..., Tensor], masks: Tensor | None = None) -> Tensor:
        """All pictures, attacked batch by batch.

        Args:
            attack: Takes pictures and labels, and masks where there are some; gives changed pictures.
            masks: ``(N, 1, H, W)``, bool.
        """
        inputs = (self.pictures, self.labels) if masks is None else (self.pictures, self.labels, masks)
        parts = range(0, len(self.pictures), self.batch)
        return torch.cat([attack(*(tensor[n : n + self.batch] for tensor in inputs)) for n in parts])

    @torch.no_grad()
    def scores(self, pictures: Tensor) -> Tensor:
        """Of pictures, ``(..., classes)``."""
        return torch.cat([self.network(some) for some in pictures.split(self.batch)])  # type: ignore[no-untyped-call]

    def harm(self, changed: Tensor) -> Harm:
        """What a change of all pictures does."""
        return harm(self.scores(self.pictures), self.scores(changed), self.labels)

    def right(self) -> Tensor:
        """Whether each picture is put into the right class, ``(N,)``, bool."""
        return (self.scores(self.pictures).argmax(1) == self.labels).cpu()


def by_mask(
    target: Target, masks: Tensor, strength: Strength, attack: str, generator: Generator | None = None
) -> dict[str, Array]:
    """What an attack does that is restricted to each mask in turn.

    Args:
        target: What is attacked.
        masks: ``(M, H, W)``, bool.
        strength: Of the attack.
        attack: ``"fgsm"``, ``"pgd"``, ``"sparse"`` or ``"noise"`` (random signs, which know no gradient).
        generator: Of the noise, on the CPU; the noise is the same for all masks.

    Returns:
        ``gain``, ``(N, M)``, float32, in nats, and ``fooled``, ``(N, M)``, bool.
    """
    count, shape = len(masks), (len(target.pictures), len(masks))
    changed = _restricted(target, masks.to(target.pictures.device)[:, None], strength, attack, generator)
    before = target.scores(target.pictures).repeat_interleave(count, 0)
    found = harm(before, target.scores(changed), target.labels.repeat_interleave(count))
    return {
        "gain": found.gain.reshape(shape).numpy().astype(np.float32),
        "fooled": found.fooled.reshape(shape).numpy(),
    }


def _restricted(target: Target, masks: Tensor, strength: Strength, attack: str, generator: Generator | None) -> Tensor:
    """Every picture with every mask, ``(N M, 3, H, W)``."""
    network, epsilon = target.network, strength.epsilon
    if attack in ("noise", "fgsm"):  # pixel by pixel, so that the masks may come afterwards
        if attack == "noise":
            assert generator is not None
            whole = random_signs(target.pictures, epsilon, generator)
        else:
            whole = target.attacked(lambda x, y: fgsm(network, x, y, epsilon))
        return torch.where(masks, whole[:, None], target.pictures[:, None]).flatten(0, 1)
    attacks: dict[str, Callable[..., Tensor]] = {
        "pgd": lambda x, y, mask: pgd(network, x, y, epsilon, strength.steps, mask),
        "sparse": lambda x, y, mask: sparse(network, x, y, strength.pixels, strength.candidates, mask),
    }
    every = masks.repeat(len(target.pictures), 1, 1, 1)
    return target.repeated(len(masks)).attacked(attacks[attack], every)


def rolled(target: Target, period: int, strength: Strength) -> Array:
    """The fast gradient sign method by phase, after the pictures were rolled by every offset of the period.

    A pattern of the network stays at its phases; a pattern of the pictures moves with them.

    Args:
        target: What is attacked.
        period: Of both axes, in pixels.
        strength: Of the attack.

    Returns:
        Mean gain in nats, ``(period**2, period**2)``: by offset (down, right) and by phase of the network's grid.
    """
    masks = phase_masks(target.pictures.shape[-1], period)
    found = []
    for offset in range(period * period):
        moved = target.pictures.roll(divmod(offset, period), (-2, -1))
        gains = by_mask(replace(target, pictures=moved), masks, strength, "fgsm")["gain"]
        found.append(gains.mean(0, dtype=np.float64))
    return np.stack(found)


def sparse_energy(target: Target, changed: Tensor) -> Array:
    """Where a change has its energy: share of every pixel, each picture counting alike.

    Args:
        target: With the pictures as they were.
        changed: ``(N, 3, H, W)``.

    Returns:
        ``(H, W)``, float64, of sum 1; zero everywhere where nothing was changed.
    """
    energy = (changed - target.pictures).double().square().sum(1).cpu()
    totals = energy.sum((1, 2), keepdim=True)
    shares = (energy / totals)[totals.flatten() > 0]
    return np.asarray(shares.mean(0).numpy() if len(shares) else np.zeros(energy.shape[1:]))


def full_attack(target: Target, epsilons: Sequence[float], steps: int) -> list[float]:
    """Share of the rightly classified pictures that projected gradient descent on all pixels fools, by epsilon.

    Args:
        target: What is attacked.
        epsilons: In grey levels.
        steps: Of the attack.

    Returns:
        Ratios; all 0 where no picture is classified rightly.
    """
    right = max(1, int(target.right().sum()))
    found = []
    for epsilon in epsilons:
        changed = target.attacked(lambda x, y, e=epsilon: pgd(target.network, x, y, e, steps))
        found.append(int(target.harm(changed).fooled.sum()) / right)
    return found


def half_fooled(epsilons: Sequence[float], shares: Sequence[float]) -> float | None:
    """The epsilon at which half of the pictures are fooled, between the measured ones by their logarithm.

    Args:
        epsilons: Ascending, above 0.
        shares: Fooled, as :func:`full_attack` gives them.

    Returns:
        In the unit of the epsilons; ``None`` where half of the pictures are fooled by the first or not by the last.
    """
    rising = np.maximum.accumulate(np.asarray(shares, np.float64))
    after = int(np.searchsorted(rising, 0.5))
    if after in (0, len(rising)):
        return None
    share = (0.5 - rising[after - 1]) / (rising[after] - rising[after - 1])
    low, high = np.log(epsilons[after - 1]), np.log(epsilons[after])
    return float(np.exp(low + share * (high - low)))


def perturbation(target: Target) -> NDArray[np.uint8]:
    """The smallest change that raises the loss by a little: along the gradient, amplified, as pictures.

    Returns:
        ``(N, H, W, 3)``: mid-grey where nothing changes; the 99th percentile of each picture's changes is black or
        white.
    """
    gradient = loss_gradient(target.network, target.pictures, target.labels)
    change = gradient.cpu().double().numpy().transpose(0, 2, 3, 1)
    white = np.quantile(np.abs(change), 0.99, axis=(1, 2, 3), keepdims=True)
    return np.asarray(np.rint(127.5 + 127.5 * np.clip(change / np.where(white > 0, white, 1), -1, 1)), np.uint8)
