"""evenly's own instruments, as the experiments use them: lines in sets of pictures, spectra, reports on networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import evenly
from evenly.measure.accumulate import SetState
from evenly.measure.compare import compare
from evenly.measure.image import measure_image
from evenly.reproduce.result import Architecture

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Levels", "architecture", "axis_spectrum", "levels", "mosaic", "to_pixels"]

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Levels:
    """Lines of a set of pictures by period in pixels, against their surroundings and against other pictures.

    Attributes:
        db: Mean power of the mean trace's new lines over the local background, in dB.
        variance_db: The same of the variance trace.
        above: How much more `db` is than that of the pictures compared with, in dB; empty without them.
        log10_p: log10 of the p-value of no lines, all pictures together, their phases added (mean trace).
        log10_p_above: log10 of the p-value of no more than the pictures compared with (mean trace, by rank).
    """

    db: Mapping[int, float]
    variance_db: Mapping[int, float]
    above: Mapping[int, float]
    log10_p: Mapping[int, float]
    log10_p_above: Mapping[int, float]

    def to_dict(self) -> dict[str, dict[str, float]]:
        """JSON form, with periods as strings."""
        return {name: {str(p): float(v) for p, v in values.items()} for name, values in vars(self).items()}


def levels(pictures: Bytes, periods: Sequence[int], against: Bytes | None = None) -> Levels:
    """Measure the lines of a set of pictures with ``evenly measure``'s statistics.

    Args:
        pictures: ``(N, H, W, 3)`` or ``(N, H, W)``, uint8, all on the same grid (not cropped).
        periods: In pixels; those that these sizes cannot show are left out of the result.
        against: Pictures of the same size to compare with, as a rule the data.
    """
    state = _state(pictures, periods)
    mine = state.result("aligned").periods
    other = None if against is None else _state(against, periods)
    compared = None if other is None else compare(state, other).periods
    found: dict[str, dict[int, float]] = {
        "db": {}, "variance_db": {}, "above": {}, "log10_p": {}, "log10_p_above": {},
    }  # fmt: skip
    for period in periods:
        result = mine.get(period)
        if result is None or result.mean is None or result.mean.db is None:
            continue
        found["db"][period] = result.mean.db
        found["log10_p"][period] = result.mean.log10_p
        if result.variance is not None and result.variance.db is not None:
            found["variance_db"][period] = result.variance.db
        trace = None if compared is None or period not in compared else compared[period]["mean"]
        if trace is not None and trace.db is not None:
            found["above"][period] = trace.db
            found["log10_p_above"][period] = trace.log10_p
    return Levels(**found)


def _state(pictures: Bytes, periods: Sequence[int]) -> SetState:
    return SetState(measure_image(picture, tuple(periods)) for picture in pictures)


def to_pixels(batch: Tensor) -> Bytes:
    """Tensors ``(N, 3, H, W)`` from -1 to 1 as pictures ``(N, H, W, 3)``, uint8; what lies outside is clipped."""
    pixels = batch.detach().float().add(1).mul(127.5).round().clamp(0, 255).cpu().numpy()
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)).astype(np.uint8)


def axis_spectrum(pictures: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean power spectrum along the rows and the columns of pictures, for plots.

    Args:
        pictures: ``(N, H, W, 3)`` or ``(N, H, W)``, grey levels.

    Returns:
        Frequencies in cycles per pixel, 0 to 0.5, and the power in dB (of squared grey levels, Hann window), the mean
        of both axes for square pictures, of the rows otherwise.
    """
    grey = pictures.astype(np.float64)
    if grey.ndim == 4:
        grey = grey @ np.array([0.299, 0.587, 0.114])  # BT.601
    grey -= grey.mean(axis=(1, 2), keepdims=True)
    powers = []
    for axis in (1, 2) if grey.shape[1] == grey.shape[2] else (2,):
        length = grey.shape[axis]
        window = np.hanning(length + 2)[1:-1]
        shape = [1, 1, 1]
        shape[axis] = length
        spectrum = np.abs(np.fft.rfft(grey * window.reshape(shape), axis=axis)) ** 2 / (window**2).sum()
        powers.append(spectrum.mean(axis=tuple(a for a in range(3) if a != axis)))
    power = np.mean(powers, axis=0)
    return np.fft.rfftfreq(length).astype(np.float64), np.asarray(10 * np.log10(power + 1e-12), np.float64)


def mosaic(pictures: Bytes, columns: int) -> Bytes:
    """Pictures ``(N, H, W, 3)`` set side by side in rows, with a gap of two white pixels."""
    count, height, width = pictures.shape[:3]
    rows = -(-count // columns)
    sheet = np.full((rows * (height + 2) - 2, columns * (width + 2) - 2, 3), 255, np.uint8)
    for n, picture in enumerate(pictures):
        y, x = (n // columns) * (height + 2), (n % columns) * (width + 2)
        sheet[y : y + height, x : x + width] = picture
    return sheet


def architecture(name: str, module: nn.Module, *example_inputs: Any, **options: Any) -> Architecture:
    """What PyTorch prints of a network, and what ``evenly check`` says about it.

    Args:
        name: As the other evidence calls it.
        module: The network.
        *example_inputs: As :func:`evenly.check` takes them.
        **options: As :func:`evenly.check` takes them.
    """
    report = evenly.check(module, *example_inputs, **options)
    codes: dict[str, int] = {}
    for finding in report.findings:
        codes[finding.code] = codes.get(finding.code, 0) + 1
    summary = ", ".join(f"{code} x {n}" if n > 1 else code for code, n in sorted(codes.items())) or "no findings"
    return Architecture(name, str(module), str(report), summary)
