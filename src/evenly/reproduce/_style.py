"""Feed-forward style transfer: networks that differ in how they up-sample alone, and losses whose gradient is even.

Johnson et al. 2016 (arXiv 1603.08155): down with strided convolutions, residual blocks, up again. Strided
convolutions and maxima of a loss network write grids into the gradient (docs/claims.md, C16 and C18), so the losses
here have none: averages instead of maxima in VGG (Gatys et al. 2015, arXiv 1508.06576), stride 1 in the random filters.
What pattern is left is the up-sampling's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from evenly.errors import ParameterError, UsageError
from evenly.reproduce._weights import read_weights
from evenly.reproduce.generators import up_layer

__all__ = ["UPS", "Features", "RandomFilters", "Vgg", "load_vgg", "stylist", "transfer_loss"]

UPS: Mapping[str, str] = {"transposed k3": "k3 s2", "transposed k4": "k4 s2", "nearest": "nearest"}
"""Names here, and in :data:`evenly.reproduce.generators.UPS`."""


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(channels, channels, 3), _norm(channels), nn.ReLU(), _conv(channels, channels, 3), _norm(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


def _conv(c_in: int, c_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, padding_mode="replicate")


def _norm(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True)


def stylist(up: str, width: int, blocks: int) -> nn.Sequential:
    """Pictures ``(N, 3, H, W)`` from -1 to 1 to pictures of the same size, a multiple of 4.

    Args:
        up: One of `UPS`.
        width: Channels at full size; twice and four times as many at a half and a quarter.
        blocks: Residual blocks.

    Raises:
        ParameterError: If there is no such way to up-sample.
    """
    if up not in UPS:
        raise ParameterError(f"up (={up!r}) must be one of {', '.join(UPS)}")
    w = width
    layers: list[nn.Module] = []
    for layer, channels in ((_conv(3, w, 9), w), (_conv(w, 2 * w, 3, 2), 2 * w), (_conv(2 * w, 4 * w, 3, 2), 4 * w)):
        layers += [layer, _norm(channels), nn.ReLU()]
    layers += [_Residual(4 * w) for _ in range(blocks)]
    for channels in (2 * w, w):
        layers += [up_layer(UPS[up], 2 * channels, channels), _norm(channels), nn.ReLU()]
    return nn.Sequential(*layers, _conv(w, 3, 9), nn.Tanh())


class Features(Protocol):
    """What the losses compare."""

    name: str
    """In words, for every text about the experiment."""

    def style(self, pictures: Tensor) -> list[Tensor]:
        """Features whose Gram matrices are the style, each ``(N, C, H, W)``."""

    def content(self, pictures: Tensor) -> Tensor:
        """Features that are the content, ``(N, C, H, W)``."""


class RandomFilters(nn.Module):
    """One layer of random filters of several sizes and a ReLU (Ustyuzhaninov et al. 2016, arXiv 1606.00021).

    The content is the brightness, blurred by a box of 5 x 5: random filters know no objects.

    Args:
        channels: Filters of each size.
        random: Draws them.
        sizes: Of their sides, in pixels.
    """

    def __init__(self, channels: int, random: torch.Generator, sizes: tuple[int, ...] = (3, 5, 7, 11)) -> None:
        super().__init__()
        self.name = f"random filters of {', '.join(map(str, sizes))} pixels (Ustyuzhaninov et al. 2016)"
        for n, size in enumerate(sizes):
            weight = torch.randn(channels, 3, size, size, generator=random)
            self.register_buffer(f"filters_{n}", weight / weight.flatten(1).norm(dim=1)[:, None, None, None])

    def style(self, pictures: Tensor) -> list[Tensor]:
        """See `Features`."""
        return [F.relu(F.conv2d(pictures, filters)) for filters in self.buffers()]

    def content(self, pictures: Tensor) -> Tensor:
        """See `Features`."""
        return F.avg_pool2d(pictures.mean(1, keepdim=True), 5, stride=1)


_VGG = {
    "vgg16": (2, 2, 3, 3),
    "vgg19": (2, 2, 4, 4),
}
_WIDTHS = (64, 128, 256, 512)


class Vgg(nn.Module):
    """VGG-16 or VGG-19 up to ``relu4``, averaging instead of taking maxima; parameters named as in torchvision.

    Style: the last features of each of the four stages; content: those of the second (Johnson et al. 2016).

    Args:
        kind: ``"vgg16"`` or ``"vgg19"``.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind not in _VGG:
            raise ParameterError(f"kind (={kind!r}) must be one of {', '.join(_VGG)}")
        self.name = f"{kind.upper()} with average pooling, trained on ImageNet"
        layers: list[nn.Module] = []
        self._ends: list[int] = []
        before = 3
        for count, width in zip(_VGG[kind], _WIDTHS, strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
                before = width
            self._ends.append(len(layers))
            layers.append(nn.AvgPool2d(2))
        self.features = nn.Sequential(*layers[:-1])
        self.register_buffer("mean", torch.tensor((0.485, 0.456, 0.406))[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor((0.229, 0.224, 0.225))[:, None, None], persistent=False)

    def style(self, pictures: Tensor) -> list[Tensor]:
        """See `Features`."""
        x = ((pictures + 1) / 2 - self.mean) / self.deviation
        found, begin = [], 0
        for end in self._ends:
            x = self.features[begin:end](x)
            found.append(x)
            begin = end
        return found

    def content(self, pictures: Tensor) -> Tensor:
        """See `Features`."""
        x = ((pictures + 1) / 2 - self.mean) / self.deviation
        found: Tensor = self.features[: self._ends[1]](x)
        return found


def load_vgg(kind: str, path: Path) -> Vgg:
    """VGG with torchvision's weights from a file: ``.safetensors``, or tensors that ``torch.save`` wrote.

    Args:
        kind: ``"vgg16"`` or ``"vgg19"``.
        path: The file.

    Raises:
        UnreadableError: If it cannot be read, or holds more than tensors.
        UsageError: If it holds other weights.
    """
    state = read_weights(path)
    network = Vgg(kind)
    wanted = network.state_dict()
    try:
        network.load_state_dict({name: state[name] for name in wanted})
    except (KeyError, TypeError, RuntimeError) as error:
        raise UsageError(f"{path}: these are not the weights of torchvision's {kind}: {error}") from error
    return network.eval().requires_grad_(False)


def transfer_loss(features: Features, style: Tensor, content_weight: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Johnson et al.'s loss, each term relative to the size of what is wanted, without total variation.

    Total variation would hide the pattern that is looked for.

    Args:
        features: Compared.
        style: One picture ``(1, 3, H, W)``.
        content_weight: Of the content, against the style.

    Returns:
        A function of what was made and of the content, both ``(N, 3, H, W)``.
    """
    with torch.no_grad():
        wanted = [_gram(found) for found in features.style(style)]

    def loss(made: Tensor, content: Tensor) -> Tensor:
        styles = [
            (_gram(found) - gram).square().sum((1, 2)).mean() / gram.square().sum()
            for found, gram in zip(features.style(made), wanted, strict=True)
        ]
        seen, target = features.content(made), features.content(content)
        seen, target = (x - x.mean((2, 3), keepdim=True) for x in (seen, target))
        kept = (seen - target).square().mean() / target.square().mean().clamp(min=1e-6)
        return torch.stack(styles).mean() + content_weight * kept

    return loss


def _gram(features: Tensor) -> Tensor:
    """``(N, C, C)``: mean products of features over positions."""
    flat = features.flatten(2)
    return flat @ flat.mT / flat.shape[-1]
