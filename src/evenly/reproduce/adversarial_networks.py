"""The classifiers that are attacked: uneven and even gradients with as little else between them as possible.

The 3x3 and the 4x4 network differ by one row and one column of taps: with a kernel that the stride divides, every pixel
is read equally often, without any filter. The network with skips is the 3x3 one, beside whose layers a 1x1 convolution
of the same stride reads one pixel of four, as in ResNet; the other three get no gradient through it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from evenly.reproduce.attacks import pgd
from evenly.reproduce.classifiers import classifier
from evenly.reproduce.train import Course, set_cosine, train

if TYPE_CHECKING:
    from torch import Generator

    from evenly.reproduce.experiment import Context

__all__ = ["attacked_classifier", "train_against_attacks"]

_BLOCKS = 3
"""Blocks that halve the size, at the beginning of each network of :func:`evenly.reproduce.classifiers.classifier`."""


class _WithSkip(nn.Module):
    """A layer that halves the size, and beside it a 1x1 convolution of stride 2; both are added."""

    def __init__(self, body: nn.Module, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.body = body
        self.skip = nn.Sequential(nn.Conv2d(channels_in, channels_out, 1, 2, bias=False), nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.body(x) + self.skip(x)
        return added


def _changed(change: Callable[[nn.Module, int, int], nn.Module], classes: int, width: int) -> nn.Module:
    """The strided network with another module in place of each of its strided blocks."""
    network = classifier("strided", classes, width)
    assert isinstance(network, nn.Sequential)
    channels = 3
    for place in range(_BLOCKS):
        wide = width << place
        network[place] = change(network[place], channels, wide)
        channels = wide
    return network


def _four(block: nn.Module, channels_in: int, channels_out: int) -> nn.Module:
    assert isinstance(block, nn.Sequential)
    block[0] = nn.Conv2d(channels_in, channels_out, 4, 2, 1, bias=False)
    return block


_OWN: Mapping[str, Callable[[int, int], nn.Module]] = {
    "strided-skip": lambda classes, width: _changed(_WithSkip, classes, width),
    "strided-even": lambda classes, width: _changed(_four, classes, width),
}


def attacked_classifier(name: str, classes: int, width: int) -> nn.Module:
    """An untrained classifier.

    Args:
        name: ``"strided-skip"`` (the strided network with a 1x1 skip of stride 2 beside each strided layer),
            ``"strided-even"`` (4x4 kernels in place of 3x3), or a kind of
            :func:`evenly.reproduce.classifiers.classifier`.
        classes: How many classes.
        width: Channels after the first layer.

    Raises:
        ParameterError: If there is none of this name.
    """
    return _OWN[name](classes, width) if name in _OWN else classifier(name, classes, width)


def train_against_attacks(
    context: Context,
    name: str,
    module: nn.Module,
    *,
    steps: int,
    batch: int,
    size: int,
    epsilon: float,
    attack_steps: int,
    learning_rate: float = 2e-3,
    observe: Callable[[int], Mapping[str, Any]] | None = None,
    observe_at: Collection[int] = (),
) -> tuple[nn.Module, Course]:
    """Adversarial training (Madry et al. 2017, arXiv 1706.06083): every batch is attacked before it is learnt from.

    As :func:`evenly.reproduce.classifiers.train_classifier` else.

    Args:
        context: The cell's; the training goes on from its checkpoint.
        name: Of this training, unique in the cell.
        module: The network; it is trained in place.
        steps: How many.
        batch: Pictures a step.
        size: Of their sides, in pixels.
        epsilon: Of the attack, in grey levels.
        attack_steps: Of projected gradient descent.
        learning_rate: At the beginning.
        observe: As :func:`evenly.reproduce.train.train` takes it.
        observe_at: Likewise.

    Returns:
        `module`, trained, in evaluation mode, and the course, with the loss ``cross-entropy`` under attack, in nats.
    """
    data, fabric = context.data, context.fabric
    network, optimizer = fabric.setup(module, torch.optim.AdamW(module.parameters(), learning_rate, weight_decay=0.01))

    def step(number: int, generator: Generator) -> Mapping[str, float]:
        pictures, labels = fabric.to_device(data.labelled(batch, size, generator))
        set_cosine(optimizer, learning_rate, number, steps)
        network.eval()  # the attack must not move the running averages of batch normalisation
        attacked = pgd(module, pictures, labels, epsilon, attack_steps)
        network.train()
        loss = F.cross_entropy(network(attacked), labels)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        return {"cross-entropy": loss.item()}

    state: dict[str, Any] = {"network": network, "optimizer": optimizer}
    course = train(context, name, state, steps, step, observe=observe, observe_at=observe_at)
    return module.eval(), course
