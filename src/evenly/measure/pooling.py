"""Probabilities of what many pictures show together, as natural logarithms; see "Sets" in ``docs/theory.md``.

A photograph's p-values are close to uniform, not exactly so, and a few real textures have a period of whole pixels.
Over ten thousand pictures either would be "significant". So the hypothesis that a set has to refute is wider than
chance:

- **Tolerance.** A clean picture's p-value may follow ``P(p <= t) = t ** (1 / (1 + TOLERANCE))``, at most 1.5 % below
  0.01 instead of 1 %. ``-log p`` is then ``1 + TOLERANCE`` times an exponential variable, and Fisher's sum over that
  factor has a gamma distribution exactly.
- **Exceptions.** A share of ``EXCEPTIONS`` may have any p-value at all. The strongest pictures, as many as that share
  allows, are left out of the sum: what remains is at most the sum over the clean pictures, whichever they are.
- **Phases.** Whether phases agree is asked given the strengths: the squared length of a sum of vectors with
  independent uniform angles, over the sum of squares, has moments at most those of an exponential variable (for signs:
  of a chi-square), whatever the strengths (Khintchine's inequality); no texture gets through. Since a picture's borders
  leave a faint mark that is the same in all pictures of a size, the sum may first be longer by ``BIAS`` per picture.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from evenly.measure.probability import cauchy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["BIAS", "EXCEPTIONS", "TOLERANCE", "agreement", "exceptions", "gamma_tail", "strength", "together"]

TOLERANCE = 0.0966
"""How much larger the mean of ``-log p`` may be in clean pictures than by chance: ``0.01 ** (1 / 1.0966) = 0.015``."""
EXCEPTIONS = 0.02
"""Share of pictures that may show anything at all in a set that shows nothing, in sets of ``FEW`` and more."""
BIAS = 0.1
"""How long the mean of a line's vectors may be in clean pictures, of which each is a standard normal; 0.06 was seen."""
FEW = 10  # in smaller sets an exception cannot be told from the rule
_UNDERFLOW = 1e-250
_LARGEST = math.log(0.9)  # larger p-values would cancel real evidence in a Cauchy combination


def exceptions(count: int) -> int:
    """How many of ``count`` pictures may be exceptional."""
    return 0 if count < FEW else math.ceil(EXCEPTIONS * count)


def gamma_tail(shape: float, x: float) -> float:
    """Log of P(X >= x) of a gamma variable of unit scale, for any ``x``: by a continued fraction where that underflows.

    Half of a chi-square variable with ``2 * shape`` degrees of freedom is such a variable.
    """
    from scipy.special import gammaincc, gammaln

    if x <= 0:
        return 0.0
    direct = float(gammaincc(shape, x))
    if direct > _UNDERFLOW or x <= shape + 1:
        return math.log(max(direct, _UNDERFLOW))
    b = x + 1 - shape  # Lentz: Gamma(a, x) = exp(-x) x^a / (x + 1 - a - 1 (1 - a) / (x + 3 - a - 2 (2 - a) / ...))
    c, d = math.inf, 1 / b
    value = d
    for i in range(1, 1_000_000):
        a = -i * (i - shape)
        b += 2
        d = 1 / (a * d + b)
        c = b + a / c
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return -x + shape * math.log(x) - float(gammaln(shape)) + math.log(value)


def strength(count: int, total: float, *, left_out: int = 0, tolerance: float = TOLERANCE) -> float:
    """P-value (log) of the sum ``total`` of ``-log p`` over ``count`` pictures less the ``left_out`` strongest."""
    remaining = count - left_out
    return gamma_tail(remaining, total / (1 + tolerance)) if remaining > 0 else 0.0


def agreement(
    count: int, sums: NDArray[np.float64], real: NDArray[np.bool_], along: NDArray[np.bool_], *, bias: float = BIAS
) -> float:
    """P-value (log) of the agreement of the phases of ``count`` pictures at the lines of a period.

    Args:
        count: Pictures.
        sums: Shape (lines, 3): sums over pictures of the real part, the imaginary part and the squared length.
        real: Shape (lines,): lines that are their own conjugates; their evidence is real.
        along: Shape (lines,): lines on the axes.
        bias: Length of the mean that is no evidence.
    """
    import numpy as np

    if count == 0 or len(sums) == 0:
        return 0.0
    # Under the sum of squares' expectation the vectors are too short to be told from those of chance.
    length = np.maximum(np.hypot(sums[:, 0], sums[:, 1]) - bias * count, 0.0)
    agreed = length**2 / np.maximum(sums[:, 2], count)  # Exp(1), chi-square(1) where real
    halves = np.where(real, agreed / 2, agreed)  # gamma of shape 1, 1/2 where real
    shapes = np.where(real, 0.5, 1.0)
    parts = [gamma_tail(float(s), float(h)) for s, h in zip(shapes, halves, strict=True)]
    groups = [chosen for chosen in (along, np.full(len(sums), True)) if chosen.any()]
    joint = [gamma_tail(float(shapes[g].sum()), float(halves[g].sum())) for g in groups]
    return together([*joint, together(parts)])


def together(log_p: list[float]) -> float:
    """P-value (log) of the Cauchy combination; values near 1 count as 0.9."""
    return cauchy([min(value, _LARGEST) for value in log_p])
