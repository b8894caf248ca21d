"""Gradients of classifiers by phase, and what strided convolutions do on the way forward (C20, C25).

Odena, Dumoulin & Olah 2016, section "Artifacts in Gradients". Classifiers of the shapes of published families are
measured before and after a training beside what ``evenly check`` expects before any; two that differ in their
down-sampling alone are compared for aliasing (Zhang 2019, arXiv 1904.11486).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evenly.reproduce.experiment import Cell, Context, Experiment, Outcome, Scale
from evenly.reproduce.gradient_findings import COMPARED, FAMILIES, PERIODS, Gradients, evidence, findings
from evenly.reproduce.published import WEIGHTS, load_torchvision, published
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
        probes, probed: Pictures behind the measured gradient, and their size.
        held_out: Pictures for accuracy and shifts.
    """

    width: int
    steps: int
    batch: int
    probes: int
    probed: int
    held_out: int
    crop: int = 32


_SETTINGS = {
    Scale.SMOKE: _Settings(width=4, steps=3, batch=16, probes=8, probed=32, held_out=32),
    Scale.SMALL: _Settings(width=16, steps=200, batch=64, probes=128, probed=64, held_out=512),
    Scale.FULL: _Settings(width=64, steps=5_000, batch=256, probes=1024, probed=64, held_out=4096),
}
_LARGE = 128
"""Pixels of the pictures for published networks, which were trained at 224."""


def _cells(scale: Scale, seeds: Sequence[int]) -> list[Cell]:
    made = [
        Cell(f"{network}/seed-{seed}", {"network": network, "shown": seed == seeds[0]}, seed)
        for network in (*FAMILIES, *COMPARED)
        for seed in seeds
    ]
    return made + [
        Cell(f"published-{name}/seed-0", {"published": name, "weights": str(path), "sha256": digest})
        for name, (path, digest) in published().items()
    ]


def _run(cell: Cell, context: Context) -> Outcome:
    return _published(cell, context) if "published" in cell.options else _trained(cell, context)


def _trained(cell: Cell, context: Context) -> Outcome:
    import torch

    from evenly.reproduce.classifiers import accuracy, classifier, train_classifier
    from evenly.reproduce.gradient_maps import crops, expected_by_phase, gradient_pictures
    from evenly.reproduce.instruments import architecture, to_pixels

    settings, name = _SETTINGS[context.scale], str(cell.options["network"])
    network = classifier(name, len(context.data.classes), settings.width).to(context.fabric.device).eval()
    probes = crops(context.data, settings.probes, settings.probed, 3, "held-out").to(context.fabric.device)
    numbers: dict[str, Any] = {"untrained": _measured(network, probes)}
    if cell.options["shown"]:
        numbers["expected"] = expected_by_phase(network.cpu(), settings.probed).tolist()
        numbers["architecture"] = asdict(architecture(name, network, torch.zeros(1, 3, 64, 64)))
    network, course = train_classifier(
        context, "classifier", network, steps=settings.steps, batch=settings.batch, size=settings.crop
    )
    numbers |= {
        "trained": _measured(network, probes),
        "accuracy": accuracy(context, network, settings.crop, settings.held_out),
        "course": course.to_dict(),
    }
    if name in COMPARED:
        numbers["forward"] = _forward(network, context)
    if not cell.options["shown"]:
        return Outcome(numbers)
    sample = probes[:2]
    maps = gradient_pictures(network, sample, _score)
    return Outcome(numbers, {"gradients": maps, "pictures": to_pixels(sample)})


def _score(scores: Tensor) -> Tensor:
    """The score of the class that is answered, as saliency maps derive it."""
    return scores.max(1).values.sum()


def _measured(network: nn.Module, probes: Tensor) -> dict[str, Any]:
    from evenly.reproduce.gradient_maps import by_phase

    return by_phase(network, probes, PERIODS, _score)


def _forward(network: nn.Module, context: Context) -> dict[str, Any]:
    """Aliasing of the first layer, and what a shift by a pixel does to the answers."""
    import torch

    from evenly.reproduce.aliasing import folded_db, gain, shifted
    from evenly.reproduce.gradient_maps import crops

    settings = _SETTINGS[context.scale]
    first = next(layer for layer in network.modules() if hasattr(layer, "weight"))
    pictures = crops(context.data, settings.held_out, settings.crop + 1, 5, "held-out").to(context.fabric.device)
    noise = torch.randn(64, 3, settings.crop, settings.crop, generator=torch.Generator().manual_seed(6))
    return {
        "folded_db": folded_db(first, pictures[..., :-1, :-1]),
        "folded_noise_db": folded_db(first, noise.to(context.fabric.device)),
        "gain": gain(first, 64),
        **asdict(shifted(network, pictures)),
    }


def _published(cell: Cell, context: Context) -> Outcome:
    import torch

    from evenly.errors import ParameterError
    from evenly.reproduce.gradient_maps import crops, expected_by_phase, gradient_pictures
    from evenly.reproduce.instruments import architecture, to_pixels

    name = str(cell.options["published"])
    network = load_torchvision(name, Path(str(cell.options["weights"])))
    probes = crops(context.data, _SETTINGS[context.scale].probes, _LARGE, 3, "train")
    numbers: dict[str, Any] = {"architecture": asdict(architecture(name, network, torch.zeros(1, 3, _LARGE, _LARGE)))}
    try:
        numbers["expected"] = expected_by_phase(network, _LARGE).tolist()
    except ParameterError as error:
        numbers["not_expected"] = str(error)
    network, probes = network.to(context.fabric.device), probes.to(context.fabric.device)
    numbers["trained"] = _measured(network, probes)
    maps = gradient_pictures(network, probes[:2], _score)
    return Outcome(numbers, {"gradients": maps, "pictures": to_pixels(probes[:2])})


def _conclude(scale: Scale, outcomes: Mapping[str, Outcome]) -> Conclusion:
    read = Gradients(outcomes)
    architectures = [Architecture(**form) for form in read.shown("architecture")]
    settings = _SETTINGS[scale]
    absent = "" if read.published else f" No published weights were given: {WEIGHTS} names a folder of them."
    return Conclusion(
        findings(read),
        (*evidence(read), *architectures),
        f"The families are scaled down to {settings.width} channels after the first layer and to few layers, trained "
        f"for {settings.steps} steps on crops of {settings.crop} pixels. All end in a global average, also where the "
        f"published network has fully connected layers that know positions.{absent}",
    )


EXPERIMENT = Experiment(
    "gradient",
    "Gradients of classifiers by phase; aliasing of strided convolutions",
    "Odena, Dumoulin & Olah 2016, section Artifacts in Gradients",
    ("C20", "C25"),
    {Scale.SMOKE: 2, Scale.SMALL: 5, Scale.FULL: 10},
    _cells,
    _run,
    _conclude,
)
