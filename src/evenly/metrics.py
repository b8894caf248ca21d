r"""A torchmetrics metric of checkerboard artifacts: how far the lines of a period stand out of the spectrum, in dB.

Of each picture's grey levels (BT.601 of RGB) the high-pass residual ``r = x - B * x`` is taken, ``B`` the product of
``[1, 2, 1] / 4`` over both axes, with a Hann window ``v`` of ``sum v^2 = 1``:

* ``Y(f) = sum_n v(n) r(n) exp(-2 pi i f n)`` at the lines new at period ``p``: ``f = (a, b) / p``,
  ``gcd(a, b, p) = 1``, up to conjugation (period 2 is not counted again under 4 and 8);
* background ``b(f)``: the median of ``|Y|^2`` over frequencies up to 12 bins (0.1 cycles per pixel) away, over
  ``ln 2`` (the median of an exponential variable of mean 1), leaving out what lies within 2 bins of any line of any
  period; for lines on an axis only up to 2 bins beside it where there is room, since pictures have more power there;
* ``z = Y / sqrt(b + e)`` with ``e`` the noise of rounding to 8 bits, ``1 / (12 * 255^2)`` of the range squared: without
  a pattern ``E |z|^2`` is 1 to 1.5, the more uncertain the median, the larger.

Over pictures, ``origin="unknown"`` takes ``q(f) = mean (|z|^2 + e / (b + e))``; ``origin="aligned"`` (the pictures
start at the same place of the network's grid, as uncropped outputs do) takes what is common in phase, ``q(f) = 1 +
max((|sum z|^2 - sum |z|^2) / (n (n - 1)), 0)``, which real texture does not share. The score is ``10 log10`` of the
mean of ``q`` over the lines down the rows, along the columns, or all others, whichever is largest. 0 dB: nothing;
higher is worse. Means of ratios: smooth pictures, in which a pattern shows most, weigh most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from evenly.errors import InputShapeError, MissingDependencyError, ParameterError
from evenly.measure._spectral import residual, transform
from evenly.measure.phases import check_periods, new_lines

try:
    from torchmetrics import Metric
except ImportError as error:
    raise MissingDependencyError(
        "evenly.metrics needs torchmetrics; install it with pip install 'evenly[metrics]'"
    ) from error

__all__ = ["CheckerboardScore"]

_LUMA = (0.299, 0.587, 0.114)
_REACH = 12  # bins
_LEAST = 40  # neighbours on the axis: fewer make a background too uncertain to divide by
_LOBE = 2  # bins that the Hann window's main lobe reaches
_FLOOR = 1 / (12 * 255**2)


class CheckerboardScore(Metric):  # type: ignore[misc, unused-ignore]
    """Strength of patterns that are new at given periods, in dB over the background; higher is worse.

    ``compute()`` gives ``{"checkerboard_2": dB, ...}``, or their largest with ``output="max"``. States are sums, so
    processes merge exactly; batches and pictures may have any size.

    Args:
        periods: In pixels.
        origin: ``"aligned"`` if all pictures start at the same place of the network's grid, else ``"unknown"``.
        data_range: Smallest and largest value of floating pictures; integer ones have 0 to 255.
        output: ``"periods"`` for a dict, ``"max"`` for one number.
        **options: Of ``torchmetrics.Metric``.

    Raises:
        ParameterError: If an argument is out of range.
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    count: Tensor

    def __init__(
        self,
        periods: Sequence[int] = (2, 4, 8),
        *,
        origin: Literal["unknown", "aligned"] = "unknown",
        data_range: tuple[float, float] = (0.0, 1.0),
        output: Literal["periods", "max"] = "periods",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.periods = check_periods(periods)
        for name, value, allowed in (
            ("origin", origin, ("unknown", "aligned")),
            ("output", output, ("periods", "max")),
        ):
            if value not in allowed:
                raise ParameterError(f"{name} (={value!r}) must be one of {', '.join(map(repr, allowed))}; choose one")
        if len(data_range) != 2 or not 0 < data_range[1] - data_range[0] < math.inf:
            raise ParameterError(
                f"data_range (={data_range!r}) must be the smallest and the largest value; give (-1, 1) for tanh"
            )
        self.origin = origin
        self.output = output
        self.data_range = (float(data_range[0]), float(data_range[1]))
        self.add_state("count", torch.tensor(0.0), dist_reduce_fx="sum")
        for p in self.periods:
            lines = len(new_lines(p, 2)[0])
            for part in ("power", "real", "imaginary"):
                self.add_state(f"{part}_{p}", torch.zeros(lines), dist_reduce_fx="sum")

    def update(self, images: Tensor) -> None:
        """Count pictures ``(N, C, H, W)`` with one or three channels.

        Raises:
            InputShapeError: If the shape is another, or a side is below ``4 * period + 2``.
            ParameterError: If a value is not finite.
        """
        details = residual(self._grey(images), 2)
        for p in self.periods:
            real, imaginary, floor = _evidence(details, p, self.periods)
            power = real.square() + imaginary.square()
            self._sum(f"real_{p}", real.sum(0))
            self._sum(f"imaginary_{p}", imaginary.sum(0))
            self._sum(f"power_{p}", (power if self.origin == "aligned" else power + floor).sum(0))
        self._sum("count", details.new_tensor(float(len(images))))

    def compute(self) -> dict[str, Tensor] | Tensor:
        """The scores of all pictures so far."""
        found = {f"checkerboard_{p}": self._score(p) for p in self.periods}
        return torch.stack(list(found.values())).max() if self.output == "max" else found

    def _sum(self, name: str, value: Tensor) -> None:
        state = getattr(self, name)
        setattr(self, name, state + value.to(state))

    def _score(self, period: int) -> Tensor:
        power, n = getattr(self, f"power_{period}"), self.count
        if self.origin == "aligned":
            both = getattr(self, f"real_{period}").square() + getattr(self, f"imaginary_{period}").square()
            # one picture is in phase with itself
            coherent = torch.where(n > 1, (both - power) / (n * (n - 1)).clamp(min=1), power - 1)
            quotient = 1 + coherent.clamp(min=0)
        else:
            quotient = power / n.clamp(min=1)
        index, _ = new_lines(period, 2)
        rows, columns = index[:, 1] == 0, index[:, 0] == 0
        groups = [rows, columns, ~rows & ~columns]
        means = [quotient[torch.from_numpy(g).to(quotient.device)].mean() for g in groups if g.any()]
        return 10 * torch.stack(means).max().log10()

    def _grey(self, images: Tensor) -> Tensor:
        """``(N, 1, H, W)`` with the range scaled to 1."""
        if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] not in (1, 3) or not images.numel():
            what = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise InputShapeError(f"images (={what}) must be a tensor (N, C, H, W) with one or three channels")
        least = 4 * self.periods[-1] + 2
        if min(images.shape[2:]) < least:
            raise InputShapeError(
                f"images of {images.shape[2]} x {images.shape[3]} pixels are too small for period {self.periods[-1]}; "
                f"expected at least {least} x {least}: leave the period out"
            )
        low, high = self.data_range if images.is_floating_point() else (0.0, 255.0)
        values = images if images.dtype == torch.float64 else images.float()
        if not bool(values.isfinite().all()):
            raise ParameterError("images hold NaN or infinities; expected finite values: leave such pictures out")
        if values.shape[1] == 3:
            values = (values * values.new_tensor(_LUMA).reshape(1, 3, 1, 1)).sum(1, keepdim=True)
        return (values - low) / (high - low)


def _evidence(details: Tensor, period: int, periods: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Real and imaginary parts of ``z``, and ``e / (b + e)``, all (N, lines)."""
    height, width = details.shape[2:]
    bins = np.arange(-_REACH, _REACH + 1)
    frequencies = [torch.from_numpy((np.arange(period)[:, None] / period + bins / s).ravel()) for s in (height, width)]
    real, imaginary = transform(details[:, 0], frequencies, first=1)
    blocks = (len(details), period, len(bins), period, len(bins))
    index, _ = new_lines(period, 2)
    rows, columns = (torch.tensor(part).to(details.device) for part in index.T)
    real, imaginary = (y.reshape(blocks)[:, rows, :, columns].transpose(0, 1) for y in (real, imaginary))
    power = (real.square() + imaginary.square()).flatten(2)  # (N, lines, bins^2)
    mask = torch.from_numpy(_background(period, periods, height, width)).to(details.device)
    around = power.where(mask, power.new_full((), math.nan)).nanmedian(-1).values / math.log(2)
    scale = (around + _FLOOR).rsqrt()
    middle = (slice(None), slice(None), _REACH, _REACH)
    return real[middle] * scale, imaginary[middle] * scale, _FLOOR * scale.square()


@lru_cache(maxsize=256)
def _background(period: int, periods: tuple[int, ...], height: int, width: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which neighbours of each line count, (lines, bins^2)."""
    index, _ = new_lines(period, 2)
    bins = np.arange(-_REACH, _REACH + 1)
    y = index[:, :1, None] / period + bins[:, None] / height  # (lines, bins, 1)
    x = index[:, 1:, None] / period + bins / width  # (lines, 1, bins)
    free = np.ones((len(index), len(bins), len(bins)), bool)
    for q in periods:
        free &= ~((_bins_off(y, q, height) < _LOBE) & (_bins_off(x, q, width) < _LOBE))
    free &= (abs(bins)[:, None] <= _reach(height)) & (abs(bins) <= _reach(width))
    along = np.zeros_like(free)
    along[index[:, 1] == 0] |= (abs(bins) <= _LOBE)[None, :]
    along[index[:, 0] == 0] |= (abs(bins) <= _LOBE)[:, None]
    on_axis = free & along
    few = on_axis.sum((1, 2)) < _LEAST
    chosen = np.where((along.any((1, 2)) & ~few)[:, None, None], on_axis, free)
    return chosen.reshape(len(index), -1)


def _reach(size: int) -> int:
    """How many bins away the background may lie: at most a tenth of a cycle per pixel, since spectra have slopes."""
    return min(max(size // 10, _LOBE + 1), _REACH)


def _bins_off(f: np.ndarray[Any, np.dtype[np.float64]], period: int, size: int) -> np.ndarray[Any, Any]:
    """Distance in bins to the nearest multiple of ``1 / period``."""
    return np.abs(f - np.round(f * period) / period) * size + 1e-9
