"""Small classifiers whose gradients are looked at: one per way to down-sample, and the shapes of published families.

All end in a global average over positions, so that whatever pattern a gradient has comes from the layers before it and
not from a head that knows positions. All take pictures from -1 to 1 and give ``(N, classes)``.

Published networks themselves, where their weights are on disk: :mod:`evenly.reproduce.published`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from evenly.errors import ParameterError
from evenly.nn import AntialiasedConv2d
from evenly.reproduce.train import Course, set_cosine, train

if TYPE_CHECKING:
    from torch import Generator

    from evenly.reproduce.experiment import Context

__all__ = [
    "DOWNSAMPLINGS",
    "FAMILIES",
    "accuracy",
    "classifier",
    "downsampling",
    "train_classifier",
]


def _convolution(
    channels_in: int, channels_out: int, kernel: int, stride: int = 1, padding: int | None = None
) -> nn.Module:
    reach = kernel // 2 if padding is None else padding
    return nn.Conv2d(channels_in, channels_out, kernel, stride, reach, bias=False)


def _after(layer: nn.Module, channels: int, *pool: nn.Module) -> nn.Sequential:
    """A layer, batch normalisation, ReLU and perhaps a pooling layer."""
    return nn.Sequential(layer, nn.BatchNorm2d(channels), nn.ReLU(), *pool)


def _strided(channels_in: int, channels_out: int) -> nn.Module:
    return _after(_convolution(channels_in, channels_out, 3, 2), channels_out)


def _antialiased(channels_in: int, channels_out: int) -> nn.Module:
    layer = AntialiasedConv2d(channels_in, channels_out, 3, 2, padding=1, bias=False, taps="even")
    return _after(layer, channels_out)


def _pooled(pool: Callable[[], nn.Module]) -> Callable[[int, int], nn.Module]:
    return lambda channels_in, channels_out: _after(_convolution(channels_in, channels_out, 3), channels_out, pool())


DOWNSAMPLINGS: Mapping[str, Callable[[int, int], nn.Module]] = {
    "strided": _strided,
    "max-pool": _pooled(lambda: nn.MaxPool2d(2)),
    "max-pool-overlapping": _pooled(lambda: nn.MaxPool2d(3, 2, 1)),
    "average-pool": _pooled(lambda: nn.AvgPool2d(2)),
    "anti-aliased": _antialiased,
}
"""Ways to halve the size, with a 3x3 convolution, batch normalisation and ReLU, by name."""


def downsampling(kind: str, channels_in: int, channels_out: int) -> nn.Module:
    """A block that halves the size of its input.

    Args:
        kind: One of `DOWNSAMPLINGS`: ``"strided"`` (3x3 convolution of stride 2), ``"max-pool"`` (3x3 convolution,
            then 2x2 maximum), ``"max-pool-overlapping"`` (the same with a 3x3 maximum of stride 2), ``"average-pool"``
            (2x2 mean), ``"anti-aliased"`` (:class:`evenly.nn.AntialiasedConv2d` with ``taps="even"``).
        channels_in: Channels of the input.
        channels_out: Channels of the output.

    Raises:
        ParameterError: If there is no such kind.
    """
    if kind not in DOWNSAMPLINGS:
        raise ParameterError(f"kind (={kind!r}) must be one of {', '.join(DOWNSAMPLINGS)}")
    return DOWNSAMPLINGS[kind](channels_in, channels_out)


def _head(channels: int, classes: int) -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)


class _Residual(nn.Module):
    """ResNet's basic block; where the size changes, the skip connection is a 1x1 convolution of that stride."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _after(_convolution(channels_in, channels_out, 3, stride), channels_out),
            _convolution(channels_out, channels_out, 3),
            nn.BatchNorm2d(channels_out),
        )
        self.skip: nn.Module = nn.Identity()
        if stride > 1 or channels_in != channels_out:
            self.skip = nn.Sequential(_convolution(channels_in, channels_out, 1, stride), nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.skip(x))


def _resnet(classes: int, width: int) -> nn.Module:
    """Stem of ResNet: 7x7 of stride 2, 3x3 maximum of stride 2; then three stages of one basic block."""
    return nn.Sequential(
        _after(_convolution(3, width, 7, 2), width, nn.MaxPool2d(3, 2, 1)),
        _Residual(width, width),
        _Residual(width, 2 * width, 2),
        _Residual(2 * width, 4 * width, 2),
        *_head(4 * width, classes),
    )


def _vgg(classes: int, width: int) -> nn.Module:
    """VGG with batch normalisation: pairs of 3x3 convolutions, 2x2 maxima."""
    stages: list[nn.Module] = []
    channels = 3
    for factor in (1, 2, 4):
        stages += [
            _after(_convolution(channels, factor * width, 3), factor * width),
            _after(_convolution(factor * width, factor * width, 3), factor * width, nn.MaxPool2d(2)),
        ]
        channels = factor * width
    return nn.Sequential(*stages, *_head(channels, classes))


def _alexnet(classes: int, width: int) -> nn.Module:
    """AlexNet: 11x11 of stride 4, overlapping 3x3 maxima of stride 2, 5x5, three 3x3.

    Its last maximum is left out (32 pixels leave no room for it); batch normalisation stands for its local one.
    """
    return nn.Sequential(
        _after(_convolution(3, width, 11, 4, 2), width, nn.MaxPool2d(3, 2)),
        _after(_convolution(width, 2 * width, 5), 2 * width, nn.MaxPool2d(3, 2)),
        _after(_convolution(2 * width, 4 * width, 3), 4 * width),
        _after(_convolution(4 * width, 4 * width, 3), 4 * width),
        _after(_convolution(4 * width, 4 * width, 3), 4 * width),
        *_head(4 * width, classes),
    )


class _ChannelNorm(nn.LayerNorm):
    """Layer normalisation over channels alone, position by position, of ``(N, C, H, W)``."""

    def forward(self, input: Tensor) -> Tensor:
        normalised: Tensor = super().forward(input.permute(0, 2, 3, 1))
        return normalised.permute(0, 3, 1, 2)


class _ConvNeXtBlock(nn.Module):
    """7x7 depthwise convolution, normalisation, and a network of two layers at every position; with layer scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels),
            _ChannelNorm(channels),
            nn.Conv2d(channels, 4 * channels, 1),
            nn.GELU(),
            nn.Conv2d(4 * channels, channels, 1),
        )
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.body(x)
        return x + self.scale * changed


def _convnext(classes: int, width: int) -> nn.Module:
    """ConvNeXt: 4x4 patches of stride 4, 2x2 convolutions of stride 2 between the stages."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 4), _ChannelNorm(width)]
    for channels in (width, 2 * width):
        layers += [_ConvNeXtBlock(channels), _ChannelNorm(channels), nn.Conv2d(channels, 2 * channels, 2, 2)]
    return nn.Sequential(*layers, _ConvNeXtBlock(4 * width), *_head(4 * width, classes))


FAMILIES: Mapping[str, Callable[[int, int], nn.Module]] = {
    "resnet": _resnet,
    "vgg": _vgg,
    "alexnet": _alexnet,
    "convnext": _convnext,
}
"""Published families, with their own stems and ways to down-sample, narrow and shallow: from classes and width."""


def classifier(kind: str, classes: int, width: int) -> nn.Module:
    """An untrained classifier, with PyTorch's initialisation.

    Args:
        kind: One of `DOWNSAMPLINGS`: three such blocks from the input on, a 3x3 convolution, and a linear layer on the
            averages; or one of `FAMILIES`.
        classes: How many classes.
        width: Channels after the first layer, at least 1; four times as many at the end.

    Returns:
        A module that takes ``(N, 3, H, W)``, float32, -1 to 1, of at least 32 pixels, and gives ``(N, classes)``.

    Raises:
        ParameterError: If there is no such kind, or a number is below 1.
    """
    if classes < 1 or width < 1:
        raise ParameterError(f"classes (={classes}) and width (={width}) must be at least 1")
    if kind in FAMILIES:
        return FAMILIES[kind](classes, width)
    if kind not in DOWNSAMPLINGS:
        raise ParameterError(f"kind (={kind!r}) must be one of {', '.join((*DOWNSAMPLINGS, *FAMILIES))}")
    return nn.Sequential(
        downsampling(kind, 3, width),
        downsampling(kind, width, 2 * width),
        downsampling(kind, 2 * width, 4 * width),
        _after(_convolution(4 * width, 4 * width, 3), 4 * width),
        *_head(4 * width, classes),
    )


def train_classifier(
    context: Context,
    name: str,
    module: nn.Module,
    *,
    steps: int,
    batch: int,
    size: int,
    learning_rate: float = 2e-3,
    observe: Callable[[int], Mapping[str, Any]] | None = None,
    observe_at: Collection[int] = (),
) -> tuple[nn.Module, Course]:
    """Train a classifier to tell the data's classes; AdamW, learning rate falling to 0 along a cosine.

    Args:
        context: The cell's; the training goes on from its checkpoint.
        name: Of this training, unique in the cell.
        module: The network; it is trained in place.
        steps: How many.
        batch: Pictures a step.
        size: Of their sides, in pixels.
        learning_rate: At the beginning.
        observe: As :func:`evenly.reproduce.train.train` takes it; it sees `module` as it is by then.
        observe_at: Likewise.

    Returns:
        `module`, trained, on the context's device and in evaluation mode, and the course, with the losses
        ``cross-entropy`` (in nats) and ``accuracy`` (of the batches trained on, as a ratio).
    """
    data, fabric = context.data, context.fabric
    module.train()
    network, optimizer = fabric.setup(module, torch.optim.AdamW(module.parameters(), learning_rate, weight_decay=0.01))

    def step(number: int, generator: Generator) -> Mapping[str, float]:
        pictures, labels = fabric.to_device(data.labelled(batch, size, generator))
        set_cosine(optimizer, learning_rate, number, steps)
        scores = network(pictures)
        loss = F.cross_entropy(scores, labels)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        right = (scores.argmax(1) == labels).float().mean()
        return {"cross-entropy": loss.item(), "accuracy": right.item()}

    state = {"network": network, "optimizer": optimizer}
    course = train(context, name, state, steps, step, observe=observe, observe_at=observe_at)
    return module.eval(), course


@torch.no_grad()
def accuracy(context: Context, module: nn.Module, size: int, count: int) -> float:
    """Share of held-out pictures that are put into the right class; the same pictures for every network.

    Args:
        context: The cell's.
        module: The classifier, on the context's device.
        size: Of the pictures' sides, in pixels.
        count: How many, drawn with every class equally often.
    """
    pictures, labels = context.data.labelled(count, size, torch.Generator().manual_seed(1), "held-out")
    training = module.training
    module.eval()
    right = 0
    for begin in range(0, count, 64):
        some, truth = context.fabric.to_device((pictures[begin : begin + 64], labels[begin : begin + 64]))
        right += int((module(some).argmax(1) == truth).sum())
    module.train(training)
    return right / count
