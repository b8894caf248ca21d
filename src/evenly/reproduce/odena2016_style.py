"""Feed-forward style transfer with transposed convolutions and with resize-convolutions (C15).

Odena, Dumoulin & Olah 2016, section "Image Generation Results", on Dumoulin et al.'s networks for artistic style: the
same network, loss, style and pictures; the two layers that up-sample differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evenly.reproduce.experiment import Cell, Context, Experiment, Outcome, Scale
from evenly.reproduce.result import Conclusion
from evenly.reproduce.style_findings import KINDS, Transfers, evidence, findings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Generator, Tensor

    from evenly.reproduce._style import Features

__all__ = ["EXPERIMENT"]


@dataclass(frozen=True)
class _Settings:
    """Sizes, by scale.

    Attributes:
        width, blocks: Of the networks.
        steps, batch, size: Of the training, on crops of `size` pixels.
        filters: Random filters of each size, where there is no VGG.
        measured: Crops and colours that are measured.
        shown: Pixels of the pictures that are shown.
    """

    width: int
    blocks: int
    steps: int
    batch: int
    size: int
    filters: int
    measured: int
    shown: int


_SETTINGS = {
    Scale.SMOKE: _Settings(width=4, blocks=1, steps=4, batch=2, size=48, filters=4, measured=4, shown=64),
    Scale.SMALL: _Settings(width=12, blocks=2, steps=200, batch=4, size=64, filters=16, measured=48, shown=128),
    Scale.FULL: _Settings(width=32, blocks=5, steps=20_000, batch=8, size=128, filters=128, measured=256, shown=256),
}
_STYLE = "ihc"
"""The style, where there is such a photograph: stained tissue, blots of brown and blue."""
_CONTENT = 0.5
_BORDER = 8
"""Pixels that are cut off before measuring, a multiple of the periods: zeros are padded to transposed convolutions."""
_LOOKS = (0.0, 0.1, 0.3, 1.0)
"""Shares of the steps at which lines are measured."""


def _cells(scale: Scale, seeds: Sequence[int]) -> list[Cell]:
    weights = _weights()
    network = {} if weights is None else {"loss": weights[0], "digest": weights[2]}
    return [
        Cell(f"{kind}/seed-{seed}", {"kind": kind, "shown": seed == seeds[0], **network}, seed)
        for kind in KINDS
        for seed in seeds
    ]


def _weights() -> tuple[str, Path, str] | None:
    """Name, file and digest of VGG's weights, if they are on disk."""
    from evenly.reproduce.published import published

    found = published()
    return next(((name, *found[name]) for name in ("vgg16", "vgg19") if name in found), None)


def _features(cell: Cell, context: Context) -> Features:
    import torch

    from evenly.errors import UsageError
    from evenly.reproduce._style import RandomFilters, load_vgg

    if "loss" not in cell.options:
        random = torch.Generator().manual_seed(context.seed + 40_009)
        return RandomFilters(_SETTINGS[context.scale].filters, random).to(context.fabric.device)
    weights = _weights()
    if weights is None or weights[2] != cell.options["digest"]:
        raise UsageError(
            "the weights of VGG are no longer those that the run began with; keep EVENLY_WEIGHTS as it was"
        )
    return load_vgg(weights[0], weights[1]).to(context.fabric.device)


def _run(cell: Cell, context: Context) -> Outcome:
    import torch

    from evenly.reproduce._style import stylist, transfer_loss
    from evenly.reproduce.instruments import architecture, to_pixels
    from evenly.reproduce.train import train

    settings = _SETTINGS[context.scale]
    network: Any = stylist(str(cell.options["kind"]), settings.width, settings.blocks)
    numbers: dict[str, Any] = {}
    if cell.options["shown"]:
        report = architecture(str(cell.options["kind"]), network, torch.zeros(1, 3, 64, 64))
        numbers["architecture"] = asdict(report)
    fabric, data = context.fabric, context.data
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    network, optimizer = fabric.setup(network, optimizer)
    features = _features(cell, context)
    style = _style_picture(context)
    loss = transfer_loss(features, fabric.to_device(style), _CONTENT)
    held_out = data.sample(settings.measured, settings.size, 11)

    def step(number: int, random: Generator) -> Mapping[str, float]:
        content = fabric.to_device(data.batch(settings.batch, settings.size, random))
        value = loss(network(content), content)
        optimizer.zero_grad()
        fabric.backward(value)
        optimizer.step()
        return {"loss": float(value.detach())}

    course = train(
        context,
        "stylist",
        {"network": network, "optimizer": optimizer},
        settings.steps,
        step,
        observe=lambda _: _measured(context, network, held_out),
        observe_at={round(share * settings.steps) for share in _LOOKS},
    )
    numbers |= {"loss": features.name, "content": lines(to_pixels(_cut(held_out))), "course": course.to_dict()}
    arrays = {}
    if cell.options["shown"]:
        shown = data.sample(3, settings.shown, 12, "train")
        colours = torch.tensor([[0.0, 0.0, 0.0], [0.6, -0.2, -0.5]])[:, :, None, None].expand(-1, -1, 64, 64)
        arrays = {"content": to_pixels(shown), "style": to_pixels(style[:, :, : settings.shown, : settings.shown])}
        arrays["made"] = to_pixels(_made(context, network, shown))
        arrays["colours"] = to_pixels(_cut(_made(context, network, colours)))
    return Outcome(numbers, arrays)


def _style_picture(context: Context) -> Tensor:
    """The largest version of the style's photograph, or of the first picture of other data, ``(1, 3, H, W)``."""
    names = context.data.classes
    label = names.index(_STYLE) if _STYLE in names else 0
    picture = next(planes[0] for own, planes in context.data.pyramids if own == label)
    return picture[None].float() / 127.5 - 1


def _made(context: Context, network: Any, pictures: Tensor) -> Tensor:
    import torch

    with torch.no_grad():
        parts = [network(context.fabric.to_device(part)).cpu() for part in torch.split(pictures, 16)]
    return torch.cat(parts)


def _cut(pictures: Tensor) -> Tensor:
    return pictures[..., _BORDER:-_BORDER, _BORDER:-_BORDER]


def _measured(context: Context, network: Any, held_out: Tensor) -> dict[str, Any]:
    """Lines of stylised pictures against the pictures themselves, and the pattern on constant colours."""
    import torch

    from evenly.reproduce.instruments import to_pixels

    made = to_pixels(_cut(_made(context, network, held_out)))
    random = torch.Generator().manual_seed(13)
    colours = 2 * torch.rand(len(held_out), 3, 1, 1, generator=random) - 1
    flat = _made(context, network, colours.expand(-1, -1, *held_out.shape[2:]))
    return {**lines(made, to_pixels(_cut(held_out))), "constant": pattern(_cut(flat).numpy())}


def lines(pictures: NDArray[np.uint8], against: NDArray[np.uint8] | None = None) -> dict[str, Any]:
    """Lines of period 2 and 4 of pictures ``(N, H, W, 3)``, and their spectrum, as outcomes keep them."""
    from evenly.reproduce.instruments import axis_spectrum, levels

    found = levels(pictures, (2, 4), against).to_dict()
    return {"db": found["db"], "above": found["above"], "spectrum": [x.tolist() for x in axis_spectrum(pictures)]}


def pattern(pictures: NDArray[np.floating[Any]]) -> float:
    """Root mean square of the part of period 4 in ``(N, 3, H, W)`` from -1 to 1, in grey levels (0 to 255)."""
    import numpy as np

    count, colours, height, width = pictures.shape
    values = pictures.astype(np.float64).reshape(count, colours, height // 4, 4, width // 4, 4) * 127.5
    cells = values.mean(axis=(2, 4))
    return float(np.sqrt(cells.var(axis=(2, 3)).mean()))


def _conclude(scale: Scale, outcomes: Mapping[str, Outcome]) -> Conclusion:
    read = Transfers(outcomes)
    settings = _SETTINGS[scale]
    return Conclusion(
        findings(read),
        evidence(read),
        f"Networks of {settings.width} channels and {settings.blocks} residual blocks, {settings.steps} steps on crops "
        f"of {settings.size} pixels, one style. Loss: {read.loss}; it has no strided convolutions and no maxima, "
        "whose gradients would write grids of their own, and no total variation, which would hide them: only the "
        "up-sampling differs.",
    )


EXPERIMENT = Experiment(
    "style",
    "Feed-forward style transfer: transposed convolutions and resize-convolutions",
    "Odena, Dumoulin & Olah 2016, section Image Generation Results",
    ("C15",),
    {Scale.SMOKE: 2, Scale.SMALL: 4, Scale.FULL: 8},
    _cells,
    _run,
    _conclude,
)
