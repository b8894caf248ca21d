"""Gradient ascent on features (DeepDream): patterns of the gradient in the pictures that it makes (C16, C17, C18).

Odena, Dumoulin & Olah 2016, section "Artifacts in Gradients". Small classifiers that differ in how they down-sample
alone are trained; then photographs are changed so that a feature grows: always looking at the same position, from an
offset of its own in each step (jitter), for many features at once, and on several scales.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from evenly.reproduce.dream_findings import NETWORKS, PERIODS, VARIANTS, Dreams, evidence, findings
from evenly.reproduce.experiment import Cell, Context, Experiment, Outcome, Scale
from evenly.reproduce.result import Architecture, Conclusion

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["EXPERIMENT"]


@dataclass(frozen=True)
class _Settings:
    """Sizes, by scale.

    Attributes:
        width: Channels of the first layer.
        steps, batch: Of the training, at `crop` pixels.
        pictures, size: Of the dreams.
        ascent: Steps of each dream.
        probes, probed: Pictures behind each map of the gradient, and their size.
    """

    width: int
    steps: int
    batch: int
    pictures: int
    size: int
    ascent: int
    probes: int
    probed: int
    crop: int = 32


_SETTINGS = {
    Scale.SMOKE: _Settings(width=4, steps=4, batch=16, pictures=2, size=64, ascent=3, probes=4, probed=32),
    Scale.SMALL: _Settings(width=16, steps=200, batch=64, pictures=6, size=128, ascent=30, probes=64, probed=64),
    Scale.FULL: _Settings(width=64, steps=5_000, batch=256, pictures=24, size=160, ascent=60, probes=512, probed=64),
}
_JITTER = 31
_OCTAVES = 3


def _cells(scale: Scale, seeds: Sequence[int]) -> list[Cell]:
    return [
        Cell(f"{network}/seed-{seed}", {"network": network, "shown": seed == seeds[0]}, seed)
        for network in NETWORKS
        for seed in seeds
    ]


def _run(cell: Cell, context: Context) -> Outcome:
    import torch

    from evenly.reproduce.classifiers import accuracy, classifier, train_classifier
    from evenly.reproduce.gradient_maps import crops, expected_by_phase
    from evenly.reproduce.instruments import architecture, to_pixels

    settings = _SETTINGS[context.scale]
    network = classifier(str(cell.options["network"]), len(context.data.classes), settings.width)
    device = context.fabric.device
    probes = crops(context.data, settings.probes, settings.probed, 3, "held-out").to(device)
    described: dict[str, Any] = {}
    if cell.options["shown"]:
        described["expected"] = expected_by_phase(_averages(network), settings.probed).tolist()
        report = architecture(str(cell.options["network"]), network.eval(), torch.zeros(1, 3, 64, 64))
        described["architecture"] = asdict(report)
    untrained = _gradients(network.to(device).eval(), probes)
    network, course = train_classifier(
        context, "classifier", network, steps=settings.steps, batch=settings.batch, size=settings.crop
    )
    starts = crops(context.data, settings.pictures, settings.size, cell.seed, "train").to(device)
    dreams = {name: to_pixels(_dream(name, network, starts, context)) for name in VARIANTS}
    begun = to_pixels(starts)
    numbers = {
        **described,
        "untrained": untrained,
        "trained": _gradients(network, probes),
        "accuracy": accuracy(context, network, settings.crop, 256),
        "course": course.to_dict(),
        "dreams": measured(dreams, begun),
    }
    arrays = {f"dream-{name}": pictures[:2] for name, pictures in dreams.items()} if cell.options["shown"] else {}
    return Outcome(numbers, {**arrays, "starts": begun[:2]} if arrays else {})


def measured(dreams: Mapping[str, Any], starts: Any) -> dict[str, Any]:
    """What the dreams ``(N, H, W, 3)`` of every way hold, as outcomes keep it."""
    from evenly.reproduce.dreaming import marks

    return {name: marks(pictures, starts, PERIODS) for name, pictures in dreams.items()}


def _body(network: nn.Module) -> nn.Sequential:
    """Up to the last features, before their ReLU: a feature there can grow from below 0, too."""
    from torch import nn

    blocks = list(network.children())[:4]
    return nn.Sequential(*blocks[:3], *list(blocks[3].children())[:2])


def _averages(network: nn.Module) -> nn.Module:
    """The features' means over positions: what one feature's dream derives."""
    from torch import nn

    return nn.Sequential(_body(network), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def _gradients(network: nn.Module, probes: Tensor) -> dict[str, Any]:
    """The features' gradient by phase, and how far autograd's is from a transposed convolution at the first layer."""
    from evenly.reproduce.gradient_maps import by_phase

    return {**by_phase(_averages(network), probes, PERIODS), "difference": _difference(network, probes[:4])}


def _difference(network: nn.Module, pictures: Tensor) -> float | None:
    """Relative difference of autograd's gradient and a transposed convolution; ``None`` for anti-aliased layers.

    The gradient that arrives at the first convolution's output goes through the transposed convolution with the same
    kernel, stride and padding: every value is written, times the kernel, onto the positions that were read.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    body = _body(network)
    first = next(layer for layer in body.modules() if hasattr(layer, "weight"))
    if not isinstance(first, nn.Conv2d):
        return None
    seen: list[Tensor] = []
    handle = first.register_forward_hook(lambda layer, given, output: seen.append(output))
    try:
        leaf = pictures.detach().clone().requires_grad_()
        with torch.enable_grad():
            features = body(leaf).square().sum()
            found, arriving = torch.autograd.grad(features, (leaf, seen[0]))
    finally:
        handle.remove()
    columns = first.weight.detach().flatten(1).T @ arriving.flatten(2)
    predicted = functional.fold(
        columns, tuple(leaf.shape[2:]), first.kernel_size, padding=int(first.padding[0]), stride=first.stride
    )
    return float((found - predicted).norm() / found.norm())


def _dream(name: str, network: nn.Module, starts: Tensor, context: Context) -> Tensor:
    from evenly.reproduce.dreaming import Ascent, ascend, many_features, one_feature

    body = _body(network)
    if name in ("features", "all"):
        objective = many_features(body)
    else:
        rng = context.rng(7)
        width = 4 * _SETTINGS[context.scale].width
        objective = one_feature(body, rng.choice(width, len(starts), replace=len(starts) > width).tolist())
    ascent = Ascent(
        _SETTINGS[context.scale].ascent,
        jitter=_JITTER if name in ("jitter", "all") else 0,
        octaves=_OCTAVES if name in ("scales", "all") else 1,
    )
    return ascend(objective, starts, ascent, context.rng(8))


def _conclude(scale: Scale, outcomes: Mapping[str, Outcome]) -> Conclusion:
    read = Dreams(outcomes)
    architectures = [
        Architecture(**numbers["architecture"])
        for network in NETWORKS
        for numbers in read.by_network[network]
        if "architecture" in numbers
    ]
    settings = _SETTINGS[scale]
    return Conclusion(
        findings(read),
        (*evidence(read), *architectures),
        "Networks of five layers that tell pictures apart by texture: their features are no objects. "
        f"Dreams take {settings.ascent} steps of 1.5 grey levels on {settings.size} pixels; DeepDream's "
        "own network (GoogLeNet) begins with a 7x7 convolution of stride 2 and a maximum of 3x3, stride 2. The default "
        "number of seeds at the small scale was raised from 5 to 10 after a run with 5; no answer changed by that.",
    )


EXPERIMENT = Experiment(
    "dream",
    "Gradient ascent on features: fixed position, jitter, many features, many scales",
    "Odena, Dumoulin & Olah 2016, section Artifacts in Gradients",
    ("C16", "C17", "C18"),
    {Scale.SMOKE: 2, Scale.SMALL: 10, Scale.FULL: 10},
    _cells,
    _run,
    _conclude,
)
