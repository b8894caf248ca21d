r"""A differentiable cost of periodic patterns, for training generators that resist checkerboard artifacts.

With the high-pass residual ``r = x - B * x`` (``B`` the product of ``[1, 2, 1] / 4`` over the axes), a Hann window
``v`` over all positions and the lines ``f`` new at period ``p`` (``f = a / p``, ``gcd(a, p) = 1``; period 2 is not
counted again under 4),

* line energy ``L_p = sum_f |sum_n v(n) r(n) exp(-2 pi i f n)|^2 / (sum v)^2``: of a pattern of period ``p`` alone, its
  variance after the residual, in the square of the values' unit;
* high-pass energy ``H = sum_n v(n)^2 r(n)^2 / sum v^2``, the same for any signal;
* background ``G_p``: what the lines would hold if they were like their surroundings, the mean over 2 to 3 bins away.

All are sums over channels, for each sample. The level of a sample at a period is ``L_p / (H + e)``
(``relative="energy"``: the share of the details that is periodic, 0 to about 1), ``L_p / (G_p + e)``
(``"background"``, about 1 for noise), or ``L_p`` itself (``"none"``); the cost is ``max(level - reference, 0)``. ``e =
(range / 255)^2 / 12``, the noise of rounding to 8 bits, keeps constant pictures at 0 with a gradient of 0. Shifting a
pattern changes its lines' phases only, not its level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from evenly.errors import InputShapeError, ParameterError
from evenly.measure._spectral import new_mask, residual, transform, window
from evenly.measure.phases import check_periods

__all__ = ["CheckerboardLoss"]


class CheckerboardLoss(nn.Module):
    """Cost of the patterns that are new at given periods.

    Add it to the loss of a generator, ``loss = adversarial + weight * checkerboard(images)``. With ``reference`` the
    level of real pictures (``CheckerboardLoss(...).levels(real).mean(0)``), nothing is paid for what real texture has.

    Args:
        periods: In positions (pixels).
        data_range: Largest less smallest possible value: 1 for pictures in 0 to 1, 2 for -1 to 1.
        relative: ``"energy"``, ``"background"`` or ``"none"``, see :mod:`evenly.losses`.
        reference: Levels up to which nothing is paid: a number, or one by period.
        reduction: ``"mean"`` over samples and periods, ``"sum"`` over both, or ``"none"``: shape (samples, periods).

    Raises:
        ParameterError: If an argument is out of range.
    """

    def __init__(
        self,
        periods: Sequence[int] = (2, 4),
        *,
        data_range: float = 1.0,
        relative: Literal["energy", "background", "none"] = "energy",
        reference: float | Sequence[float] | Tensor | Mapping[int, float] = 0.0,
        reduction: Literal["mean", "sum", "none"] = "mean",
    ) -> None:
        super().__init__()
        self.periods = check_periods(periods)
        if not 0 < data_range < float("inf"):
            raise ParameterError(f"data_range (={data_range!r}) must be a positive number; give 1 for values in 0 to 1")
        for name, value, allowed in (
            ("relative", relative, ("energy", "background", "none")),
            ("reduction", reduction, ("mean", "sum", "none")),
        ):
            if value not in allowed:
                raise ParameterError(f"{name} (={value!r}) must be one of {', '.join(map(repr, allowed))}; choose one")
        self.data_range = float(data_range)
        self.relative = relative
        self.reduction = reduction
        if isinstance(reference, Mapping):
            missing = set(self.periods) - set(reference)
            if missing:
                raise ParameterError(f"reference (={dict(reference)!r}) lacks period(s) {sorted(missing)}; give all")
            reference = [reference[p] for p in self.periods]
        values = torch.as_tensor(reference, dtype=torch.float64)
        if values.numel() not in (1, len(self.periods)) or not bool((values >= 0).all()):
            raise ParameterError(
                f"reference (={reference!r}) must be a number of at least 0, or one for each of "
                f"{len(self.periods)} periods"
            )
        self.reference: Tensor
        self.register_buffer("reference", values.flatten().expand(len(self.periods)).clone(), persistent=False)

    def extra_repr(self) -> str:
        """Options, as in ``print``."""
        return f"periods={self.periods}, data_range={self.data_range:g}, relative={self.relative!r}"

    def forward(self, x: Tensor) -> Tensor:
        """The cost of tensors ``(N, C, *spatial)`` with one to three axes in space."""
        excess = self.levels(x)
        excess = (excess - self.reference.to(excess)).clamp(min=0)
        if self.reduction == "none":
            return excess
        return excess.mean() if self.reduction == "mean" else excess.sum()

    def levels(self, x: Tensor) -> Tensor:
        """The levels, shape (samples, periods).

        Raises:
            InputShapeError: If the shape is another, or has fewer than four whole periods and the residual's two.
        """
        self._check(x)
        with torch.autocast(x.device.type, enabled=False):
            values = x if x.dtype == torch.float64 else x.float()
            axes = x.ndim - 2
            details = residual(values, axes)
            floor = (self.data_range / 255) ** 2 / 12
            if self.relative == "energy":
                base = _windowed_power(details, axes)[:, None]
            found = [self._lines(details, p, axes) for p in self.periods]
            lines = torch.stack([line for line, _ in found], 1)
            if self.relative == "none":
                return lines
            if self.relative == "background":
                base = torch.stack([around for _, around in found], 1)
            return lines / (base + floor)

    def _check(self, x: Tensor) -> None:
        if not x.is_floating_point() or not 3 <= x.ndim <= 5:
            raise InputShapeError(
                f"x of shape {tuple(x.shape)} and type {x.dtype} is not understood; expected floating (N, C, *spatial) "
                "with one to three axes in space"
            )
        least = 4 * max(self.periods) + 2
        if min(x.shape[2:]) < least:
            raise InputShapeError(
                f"x of shape {tuple(x.shape)} is too small for period {max(self.periods)}; expected at least {least} "
                "positions along every axis: leave the period out"
            )

    def _lines(self, details: Tensor, period: int, axes: int) -> tuple[Tensor, Tensor]:
        """Energy of the new lines, and what their surroundings would put there, both (samples,)."""
        sizes = details.shape[2:]
        mask = new_mask(period, axes).to(details)
        lines = torch.arange(period, dtype=torch.float64) / period

        def energy(axis: int, bins: float) -> Tensor:
            frequencies = [lines + bins / s if k == axis else lines for k, s in enumerate(sizes)]
            real, imaginary = transform(details, frequencies)
            power = (real.square() + imaginary.square()).sum(1)  # (N, period, ...)
            for size in sizes:
                power = power / window(size).sum().square().to(power)
            return (power * mask).flatten(1).sum(1)

        here = energy(0, 0.0)
        if self.relative != "background":
            return here, here
        around = []
        for axis, size in enumerate(sizes):
            # from two bins, where the window's main lobe ends, to half the way to the next line, at most three
            far = min(3.0, size / max(self.periods) / 2)
            around += [energy(axis, bins) for bins in (-far, -2.0, 2.0, far)]
        return here, torch.stack(around).mean(0)


def _windowed_power(details: Tensor, axes: int) -> Tensor:
    """``sum v^2 r^2`` summed over channels, (samples,); the sum of ``v^2`` is 1."""
    power = details.square().sum(1)
    for axis in range(1, axes + 1):
        weights = window(power.shape[axis]).to(details).square()
        power = power * weights.reshape([-1 if a == axis else 1 for a in range(axes + 1)])
    total: Tensor = power.flatten(1).sum(1)
    return total
