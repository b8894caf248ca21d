"""Attacks on classifiers that may change some pixels only: along the gradient's signs, in one step or many, or sparse.

Pictures are ``(N, C, H, W)``, -1 (black) to 1, and stay within; labels are ``(N,)``, int64. Epsilons are in grey levels
of 255, as they are commonly given; one level is :data:`LEVEL`. What every attack raises is the cross-entropy of the
right class. Networks are in evaluation mode, and keep their parameters and gradients.

Sources: Goodfellow, Shlens & Szegedy 2014 (arXiv 1412.6572), section 4; Madry et al. 2017 (arXiv 1706.06083), section
2.1; Papernot et al. 2015 (arXiv 1511.07528) for saliency by pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from evenly.errors import ParameterError

if TYPE_CHECKING:
    from torch import Generator

__all__ = [
    "LEVEL",
    "Harm",
    "fgsm",
    "harm",
    "loss_gradient",
    "pgd",
    "phase_masks",
    "random_masks",
    "random_signs",
    "sparse",
]

LEVEL = 2 / 255
"""One grey level, in pictures from -1 to 1."""
_STEP = 2.5
"""Step of projected gradient descent times their number, over epsilon: any point of the ball can be reached and left
again (Madry et al. 2017, section 5.3)."""


def phase_masks(size: int, period: int) -> Tensor:
    """The pixels of each phase: a partition of a square picture into lattices.

    Args:
        size: Of the picture's sides, in pixels.
        period: Of both axes, in pixels.

    Returns:
        ``(period**2, size, size)``, bool; mask ``a * period + b`` has the pixels with row ``a`` and column ``b`` modulo
        the period. All have equally many.

    Raises:
        ParameterError: If the period is below 1 or does not divide the size: phases would differ in their pixels.
    """
    if period < 1 or size % period:
        raise ParameterError(f"period (={period}) must divide the pictures' size (={size}) for equal counts of pixels")
    phase = torch.arange(size) % period
    number = phase[:, None] * period + phase[None, :]
    return number == torch.arange(period * period)[:, None, None]


def random_masks(size: int, count: int, generator: Generator) -> Tensor:
    """A random partition of a square picture into masks of equally many pixels; the control of `phase_masks`.

    Args:
        size: Of the picture's sides, in pixels.
        count: Of the masks.
        generator: On the CPU.

    Returns:
        ``(count, size, size)``, bool.

    Raises:
        ParameterError: If the pixels cannot be shared out equally.
    """
    if count < 1 or size * size % count:
        raise ParameterError(f"count (={count}) must divide the number of pixels (={size * size})")
    number = torch.randperm(size * size, generator=generator).reshape(size, size) % count
    return number == torch.arange(count)[:, None, None]


def loss_gradient(module: nn.Module, pictures: Tensor, labels: Tensor) -> Tensor:
    """Gradient of the cross-entropy of the right class, picture by picture: that of the sum over the batch.

    Args:
        module: The classifier, in evaluation mode.
        pictures: ``(N, C, H, W)``.
        labels: ``(N,)``.

    Returns:
        ``(N, C, H, W)``.
    """
    leaf = pictures.detach().clone().requires_grad_()
    with torch.enable_grad():
        loss = F.cross_entropy(module(leaf), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, leaf)
    return gradient


def _within(change: Tensor, mask: Tensor | None) -> Tensor:
    return change if mask is None else change * mask.to(change.device, change.dtype)


def fgsm(module: nn.Module, pictures: Tensor, labels: Tensor, epsilon: float, mask: Tensor | None = None) -> Tensor:
    """One step of epsilon along the gradient's signs: ``x + epsilon sign(dL/dx)`` on the mask, clipped to -1 to 1.

    Args:
        module: The classifier, in evaluation mode.
        pictures: ``(N, C, H, W)``, -1 to 1.
        labels: ``(N,)``.
        epsilon: Largest change of a colour, in grey levels.
        mask: ``(H, W)``, or ``(N, 1, H, W)`` for one of each picture, bool: the pixels that may change; all by
            default.

    Returns:
        The changed pictures.
    """
    step = epsilon * LEVEL * loss_gradient(module, pictures, labels).sign()
    return (pictures + _within(step, mask)).clamp(-1, 1)


def pgd(
    module: nn.Module, pictures: Tensor, labels: Tensor, epsilon: float, steps: int, mask: Tensor | None = None
) -> Tensor:
    """Projected gradient descent in the maximum norm: steps along the gradient's signs, from the picture itself.

    Args:
        module: The classifier, in evaluation mode.
        pictures: ``(N, C, H, W)``, -1 to 1.
        labels: ``(N,)``.
        epsilon: Largest change of a colour, in grey levels.
        steps: How many, each of 2.5 epsilon over their number.
        mask: As :func:`fgsm` takes it.

    Returns:
        The changed pictures; no colour is farther than epsilon from the picture's.
    """
    reach = epsilon * LEVEL
    changed = pictures
    for _ in range(steps):
        step = _STEP * reach / steps * loss_gradient(module, changed, labels).sign()
        change = (changed + _within(step, mask) - pictures).clamp(-reach, reach)
        changed = (pictures + change).clamp(-1, 1)
    return changed


def random_signs(pictures: Tensor, epsilon: float, generator: Generator) -> Tensor:
    """Noise of the same size as :func:`fgsm`: every colour goes up or down by epsilon at random.

    Args:
        pictures: ``(N, C, H, W)``, -1 to 1.
        epsilon: Change of a colour, in grey levels.
        generator: On the CPU.
    """
    signs = torch.randint(0, 2, pictures.shape, generator=generator).mul(2).sub(1).to(pictures)
    return (pictures + epsilon * LEVEL * signs).clamp(-1, 1)


def sparse(
    module: nn.Module,
    pictures: Tensor,
    labels: Tensor,
    pixels: int,
    candidates: int,
    mask: Tensor | None = None,
    epsilon: float = 255.0,
) -> Tensor:
    """Change few pixels, one after the other, each as far as it may.

    In every round the gradient says, for every pixel, which way its colours would go and what the loss would gain to
    first order, ``sum over colours |dL/dx| * way to go``. The best `candidates` are tried, and the one with the largest
    loss is kept.

    Args:
        module: The classifier, in evaluation mode.
        pictures: ``(N, C, H, W)``, -1 to 1.
        labels: ``(N,)``.
        pixels: How many pixels of each picture are changed; no more than the mask has.
        candidates: How many are tried in each round.
        mask: As :func:`fgsm` takes it.
        epsilon: Largest change of a colour, in grey levels.

    Returns:
        The changed pictures.

    Raises:
        ParameterError: If the mask has too few pixels.
    """
    count, channels, height, width = pictures.shape
    allowed = torch.ones(height, width, dtype=torch.bool) if mask is None else mask
    free = allowed.to(pictures.device).expand(count, 1, height, width).flatten(1).clone()
    room = int(free.sum(1).min())
    if not 1 <= pixels <= room:
        raise ParameterError(f"pixels (={pixels}) must be 1 to {room}, as many as the mask has")
    changed = pictures.clone()
    everyone = torch.arange(count, device=pictures.device)
    for number in range(pixels):
        gradient = loss_gradient(module, changed, labels)
        low, high = (pictures - epsilon * LEVEL).clamp(min=-1), (pictures + epsilon * LEVEL).clamp(max=1)
        target = torch.where(gradient > 0, high, torch.where(gradient < 0, low, changed))
        gains = (gradient * (target - changed)).sum(1).flatten(1).masked_fill(~free, -1.0)
        tried = min(candidates, room - number)
        places = gains.topk(tried, 1).indices
        moved = changed.flatten(2)[:, None].repeat(1, tried, 1, 1)
        goal = target.flatten(2)[:, None].expand_as(moved)
        index = places[:, :, None, None].expand(-1, -1, channels, 1)
        moved = moved.scatter(3, index, goal.gather(3, index)).reshape(-1, channels, height, width)
        with torch.no_grad():
            losses = F.cross_entropy(module(moved), labels.repeat_interleave(tried), reduction="none")
        best = losses.reshape(count, tried).argmax(1)
        changed = moved.reshape(count, tried, channels, height, width)[everyone, best]
        free[everyone, places[everyone, best]] = False
    return changed


@dataclass(frozen=True)
class Harm:
    """What an attack did, by picture.

    Attributes:
        gain: By how much the cross-entropy rose, in nats, ``(N,)``, float64.
        fooled: Whether a right answer became a wrong one, ``(N,)``, bool.
    """

    gain: Tensor
    fooled: Tensor


def harm(before: Tensor, after: Tensor, labels: Tensor) -> Harm:
    """Compare a network's answers before and after an attack.

    Args:
        before: ``(N, classes)``, scores of the pictures as they were.
        after: ``(N, classes)``, scores of the changed ones.
        labels: ``(N,)``.
    """
    losses = [F.cross_entropy(scores.double(), labels, reduction="none") for scores in (before, after)]
    fooled = (before.argmax(1) == labels) & (after.argmax(1) != labels)
    return Harm((losses[1] - losses[0]).cpu(), fooled.cpu())
