"""Take the lines of whole periods off a signal: notches that follow how a pattern changes from place to place.

With a smooth window ``v`` of unit sum around each sample, the local mean of the samples of the sample's own phase
(those whole periods away) less the local mean of all samples is what the pattern of period ``P`` adds there. In
frequencies that is ``sum over lines m/P, m != 0, of V(f - m/P)``: a notch at every line, and nothing in between
(Poisson's summation). Patterns of all periods that divide ``P`` go with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["without_lines"]

_REACH = 32
"""Samples to each side that a window covers at least: notches as narrow as the lines of a picture of 64 pixels."""
_LEAST = 4
"""Periods that it covers at least."""


def without_lines(signals: Tensor, periods: Sequence[int]) -> Tensor:
    """Signals without the lines of these periods.

    Args:
        signals: ``(N, C, *sizes)``, real; anything without sizes is given back as it is.
        periods: In samples; in place of one that the sizes do not have four times its longest divisor that they have.

    Returns:
        Of the same shape.
    """
    if signals.ndim < 3:
        return signals
    longest = min(signals.shape[2:]) // _LEAST
    for period in sorted({_fitting(period, longest) for period in periods} - {1}, reverse=True):
        signals = signals - _pattern(signals, period, max(_LEAST, -(-_REACH // period)))
    return signals


def _fitting(period: int, longest: int) -> int:
    """The longest divisor that is not too long."""
    return max((n for n in range(1, min(period, longest) + 1) if period % n == 0), default=1)


def _pattern(signals: Tensor, period: int, reach: int) -> Tensor:
    own, every = signals, signals
    for axis in range(2, signals.ndim):
        own = _mean(own, axis, period, reach, period)
        every = _mean(every, axis, 1, reach * period, period)
    return own - every


def _mean(signals: Tensor, axis: int, step: int, reach: int, period: int) -> Tensor:
    """Local mean along an axis of the samples that are multiples of a step away; at the border of those that exist."""
    places = torch.arange(-reach, reach + 1, device=signals.device, dtype=signals.dtype) * step
    width = (places.abs().max() + period).item()
    window = 0.5 * (1 + torch.cos(torch.pi * places / width))
    moved = signals.movedim(axis, -1)
    flat = moved.reshape(-1, 1, moved.shape[-1])

    def smooth(values: Tensor) -> Tensor:
        return functional.conv1d(values, window.view(1, 1, -1), padding=reach * step, dilation=step)

    mean = smooth(flat) / smooth(torch.ones_like(flat[:1]))
    return mean.reshape(moved.shape).movedim(-1, axis)
