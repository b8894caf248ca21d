"""Low-pass filters before samples are dropped: with which of them the gradient at their input is even.

See :mod:`evenly.nn.antialias` for what the conditions mean, and docs/theory.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["LONGEST_FILTER", "cell_extension", "even_filter", "even_filters"]

LONGEST_FILTER = 64
"""Taps up to which a filter may be made even for any weights; longer ones cost more than they bring."""


def even_filter(stride: int, reach: int = 2) -> tuple[float, ...]:
    r"""Low-pass taps whose decimation looks the same from every phase at every lag up to ``reach``.

    With ``Q = ceil(reach / 2)`` (at least 1), ``P = 2 Q + 1``, ``phi = 2 pi / (P s)`` and half-integer positions ``t``,

        h(t) = product over q < Q of (cos(phi (q + 1/2)) - cos(phi t)),        t = Q + 1/2, ..., P s - Q - 1/2.

    Proof. ``h`` is a cosine polynomial of degree ``Q`` and period ``P s``. Taken round the circle, the sums over a
    phase ``t = r + s j, j < P`` of ``h(t)`` and of ``h(t) h(t + l)``, polynomials of degree up to ``2 Q < P``, keep
    their constant part only, which does not depend on ``r``. The circle is opened at ``t = 0``, in the middle of ``2
    Q`` zeros, so no product of lag ``l <= 2 Q`` crosses the opening, and the sums along the line are those round the
    circle.

    At stride 2 the zeros of the transfer function are all those ``2 N``-th roots of one (``N = 2 Q + 1``) that lie in
    the upper half of the band. ``even_filter(2, 2)`` is ``[1, 2, 2, 1] / 6``, ``even_filter(2, 4)`` has the ratios
    ``1, 2 g, 2 g^2, 2 g^2, 2 g, 1`` with the golden ratio ``g``.

    Args:
        stride: The decimation ``s``, from 1.
        reach: The largest lag: ``dilation * (kernel_size - 1)`` of the convolution or maximum beside the filter.

    Returns:
        ``(2 Q + 1) s - 2 Q`` positive symmetric taps of sum 1.
    """
    if stride == 1:
        return (1.0,)
    zeros = max(1, -(-reach // 2))
    period = (2 * zeros + 1) * stride
    phi = 2 * math.pi / period
    taps = [
        math.prod(math.cos(phi * (q + 0.5)) - math.cos(phi * (t + 0.5)) for q in range(zeros))
        for t in range(zeros, period - zeros)
    ]
    total = math.fsum(taps)
    return tuple(tap / total for tap in taps)


def even_filters(stride: Sequence[int], reach: Sequence[int]) -> tuple[list[tuple[float, ...]], str | None]:
    """The filters beside a layer of a reach per axis, and what is to be known of them.

    One that would take more than :data:`LONGEST_FILTER` taps is even for independent weights only.
    """
    wanted = [(2 * max(1, -(-r // 2)) + 1) * s for s, r in zip(stride, reach, strict=True)]
    taps = [even_filter(s, r if n <= LONGEST_FILTER else 2) for s, r, n in zip(stride, reach, wanted, strict=True)]
    if max(wanted) <= LONGEST_FILTER:
        return taps, None
    return taps, (
        f"even for any weights would take {max(wanted)} taps: its squared gradient is even on average over "
        "independent weights only"
    )


def cell_extension(taps: int, stride: int) -> tuple[int, int]:
    """Extension before and after, so that ``L`` samples give ``ceil(L / stride)``, centred on their cell."""
    before = max(0, (taps - stride + 1) // 2)
    return before, taps - 1 - before
