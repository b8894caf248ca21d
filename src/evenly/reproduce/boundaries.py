"""What the padding before a convolution does at the border of a picture (C12).

The same layer runs on a picture that goes on beyond the frame, which is the truth, and on the frame alone with one of
the paddings. The interior agrees to the bit; at the border the difference is the padding's doing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, pad

from evenly.errors import UsageError
from evenly.reproduce.data import Data

__all__ = ["PADDINGS", "errors", "photographs", "shown"]

PADDINGS = {"zero": "constant", "reflect": "reflect", "replicate": "replicate"}
"""Names of the paddings, and PyTorch's for them."""
MARGIN = 4
"""Pixels of the picture around the frame, enough for kernels of 2 ``MARGIN`` + 1 taps."""
FRAME = 24
"""Side of what the layers see, in pixels; with the margins it fits into CIFAR-10."""
_SHOWN = 56
"""Side of what is shown at most."""
_SILENT = 1e-12
"""Square errors below are rounding."""


def photographs(data: Data, rng: np.random.Generator, most: int, frame: int = FRAME) -> dict[int, Tensor]:
    """One crop from each of at most `most` pictures, the same ones for every `rng`.

    Args:
        data: The pictures.
        rng: Draws where the crops are taken.
        most: How many pictures at most.
        frame: Side of a crop without its margin, in pixels.

    Returns:
        By the picture's number ``(1, 3, frame + 2 MARGIN, ...)``, float64, -1 to 1.

    Raises:
        UsageError: If fewer than two pictures are large enough.
    """
    side, crops = frame + 2 * MARGIN, {}
    step = max(1, len(data.pyramids) // most)
    for number in range(0, len(data.pyramids), step)[:most]:
        plane = data.pyramids[number][1][0]
        if min(plane.shape[-2:]) < side:
            continue
        y, x = (int(rng.integers(0, length - side + 1)) for length in plane.shape[-2:])
        crops[number] = plane[None, :, y : y + side, x : x + side].double() / 127.5 - 1
    if len(crops) < 2:
        raise UsageError(f"--data: fewer than two pictures have room for crops of {side} pixels; give larger pictures")
    return crops


def _kernel(rng: np.random.Generator, taps: int) -> Tensor:
    """Drawn weights of mean above zero, so that a constant survives: uniform between -0.5 and 1, ``(1, 1, k, k)``."""
    return torch.from_numpy(rng.uniform(-0.5, 1, (1, 1, taps, taps)))


def _run(picture: Tensor, kernel: Tensor, mode: str | None) -> Tensor:
    """Nearest-neighbour resize by 2 and the convolution of every channel; without a padding the frame of the truth."""
    taps, channels = kernel.shape[-1], picture.shape[1]
    reach = (taps - 1) // 2
    wide: Tensor = interpolate(picture, scale_factor=2)
    if mode is None:
        cut = 2 * MARGIN - reach
        wide = wide[..., cut:-cut, cut:-cut]
    else:
        wide = pad(wide, (reach,) * 4, mode)
    out: Tensor = conv2d(wide, kernel.expand(channels, 1, taps, taps), groups=channels)
    return out


def _compared(picture: Tensor, kernel: Tensor) -> dict[str, float]:
    """Mean square error of the border by padding, over the truth's mean square there; and of the interior."""
    truth = _run(picture, kernel, None)
    frame = picture[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    reach = (kernel.shape[-1] - 1) // 2
    border = torch.ones(truth.shape[-2:], dtype=torch.bool)
    border[reach:-reach, reach:-reach] = False
    scale = (truth**2).mean() + 1e-300
    found = {}
    for name, mode in PADDINGS.items():
        square = (_run(frame, kernel, mode) - truth) ** 2
        found[name] = float(square[..., border].mean() / scale)
        found["interior"] = max(found.get("interior", 0.0), float(square[..., ~border].mean() / scale))
    return found


def _ramp(rng: np.random.Generator) -> Tensor:
    """A plane that rises in a drawn direction, ``(1, 1, H, W)``, within -1 to 1."""
    side = FRAME + 2 * MARGIN
    axis = torch.linspace(-0.5, 0.5, side, dtype=torch.float64)
    angle, level = rng.uniform(0, 2 * np.pi), rng.uniform(-0.25, 0.25)
    plane: Tensor = (level + np.cos(angle) * axis[:, None] + np.sin(angle) * axis)[None, None]
    return plane


def errors(
    pictures: Sequence[Tensor], rng: np.random.Generator, kernels: int, draws: int
) -> dict[str, dict[str, list[float]]]:
    """Border errors of every padding on constants, ramps and photographs.

    Args:
        pictures: Photographs.
        rng: Draws kernels of 3, 5 and 7 taps, constants and ramps.
        kernels: How many kernels each photograph is seen through.
        draws: How many constants and ramps, each seen through a kernel of its own.

    Returns:
        By kind of picture, then by padding and ``interior``: for each picture the mean over kernels of the square
        error, in dB of the output's mean square; -120 dB where there is none.
    """
    side = FRAME + 2 * MARGIN
    constants = [torch.full((1, 1, side, side), float(rng.uniform(-1, 1)), dtype=torch.float64) for _ in range(draws)]
    return {
        "constants": _group(constants, rng, 1),
        "ramps": _group([_ramp(rng) for _ in range(draws)], rng, 1),
        "photographs": _group(pictures, rng, kernels),
    }


def _group(pictures: Sequence[Tensor], rng: np.random.Generator, kernels: int) -> dict[str, list[float]]:
    rows = []
    for picture in pictures:
        drawn = [_compared(picture, _kernel(rng, int(rng.choice([3, 5, 7])))) for _ in range(kernels)]
        rows.append({name: float(np.mean([one[name] for one in drawn])) for name in drawn[0]})
    return {name: [float(10 * np.log10(max(row[name], _SILENT))) for row in rows] for name in rows[0]}


def shown(data: Data, rng: np.random.Generator, most: int) -> dict[str, NDArray[np.uint8]]:
    """A photograph up-sampled and smoothed by an even 7 x 7 kernel: the truth, each padding, and what is wrong, grey.

    Args:
        data: The pictures.
        rng: Draws a crop of each.
        most: Pictures among which the crop with the most contrast is taken.

    Returns:
        ``(H, W, 3)``: ``truth``, each padding's name, and the name with ``-error``: mid grey is no error.
    """
    room = min(min(planes[0].shape[-2:]) for _, planes in data.pyramids) - 2 * MARGIN
    picture = max(photographs(data, rng, most, min(room, _SHOWN)).values(), key=lambda crop: float(crop.std()))
    kernel = torch.full((1, 1, 7, 7), 1 / 49, dtype=torch.float64)
    truth = _run(picture, kernel, None)
    frame = picture[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    found = {"truth": truth}
    for name, mode in PADDINGS.items():
        found[name] = _run(frame, kernel, mode)
        found[f"{name}-error"] = found[name] - truth
    return {
        name: np.ascontiguousarray(
            value[0].add(1).mul(127.5).round().clamp(0, 255).permute(1, 2, 0).numpy().astype(np.uint8)
        )
        for name, value in found.items()
    }
