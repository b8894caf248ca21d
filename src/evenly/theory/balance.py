"""Kernels that make no checkerboard: the DC condition of order ``m``, and the nearest kernel that meets it.

An up-sampling layer by ``s`` adds ``W[j] x[i]`` to output ``n = s i + u_j`` (up to a shift), ``u_j`` being the place of
tap ``j`` on the output's lattice. Its response ``W(f) = sum_j W[j] exp(-2 pi i f u_j)`` must have a zero of order ``m``
at every image of DC: ``W`` and all its derivatives of total order below ``m`` vanish at every frequency
``(a_1/s_1, ..., a_n/s_n)`` of the output that is not zero modulo 1. Taking the Fourier transform over the phases
``r = u mod s``, that is the same as equal moments of all phases,

    ``sum over u_j = r of W[j] u_j^alpha``   does not depend on ``r``,   ``|alpha| < m``,

measured in one coordinate for all phases. Order 1 is the DC condition (Sugawara, Shiota & Kiya, arXiv 1806.02658):
equal DC gains, so constants stay constant. Order ``m`` keeps polynomials below degree ``m`` free of images (the
Strang-Fix conditions). In 1-D, without dilation, it says that ``(1 + z + ... + z^(s-1))^m`` divides the kernel; in n-D
it is weaker than divisibility axis by axis.

**When it can be met.** A kernel with a DC gain exists iff one exists on every axis alone: summing a kernel over the
other axes keeps the zeros on the lines of one axis and the gain, and products of 1-D kernels meet the condition. For a
transposed convolution that is ``gcd(d, s) = 1`` and ``k >= m (s - 1) + 1``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from math import gcd, prod

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from evenly.errors import ParameterError

__all__ = ["balancing_projection", "excluded_directions", "moment_conditions", "subpixel_places", "transposed_places"]

Array = NDArray[np.float64]
Places = tuple[tuple[int, ...], ...]


def transposed_places(kernel: Sequence[int], dilation: Sequence[int] | None = None) -> tuple[tuple[int, ...], ...]:
    """Places of a transposed convolution's taps on the output's lattice, ``u = d t``, per axis.

    Args:
        kernel: Kernel size per axis.
        dilation: Dilation per axis, 1 by default.

    Returns:
        One tuple of ``k`` places per axis, in output samples.

    Raises:
        ParameterError: If the number of axes does not fit or a parameter is below 1.
    """
    dilation = tuple(dilation or (1,) * len(kernel))
    _positive(kernel_size=kernel, dilation=dilation)
    return tuple(tuple(d * t for t in range(k)) for k, d in zip(kernel, dilation, strict=True))


def subpixel_places(
    kernel: Sequence[int], factor: Sequence[int], dilation: Sequence[int] | None = None
) -> tuple[tuple[int, ...], ...]:
    """Places of a sub-pixel convolution's taps, ``u = r - s d o`` for phase ``r`` and offset ``o``, per axis.

    The convolution reads ``x[i + d o - p]`` for output ``n = s i + r``; solved for the input that is read, tap
    ``(r, o)`` writes to ``s x + r - s d o + s p``.

    Args:
        kernel: Kernel size per axis.
        factor: Scale factor ``s`` per axis.
        dilation: Dilation per axis, 1 by default.

    Returns:
        One tuple of ``s k`` places per axis, ordered ``(r, o)``, in output samples.

    Raises:
        ParameterError: If the number of axes does not fit or a parameter is below 1.
    """
    dilation = tuple(dilation or (1,) * len(kernel))
    _positive(kernel_size=kernel, scale_factor=factor, dilation=dilation)
    return tuple(
        tuple(r - s * d * o for r in range(s) for o in range(k))
        for k, s, d in zip(kernel, factor, dilation, strict=True)
    )


def moment_conditions(places: Sequence[Sequence[int]], stride: Sequence[int], order: int = 1) -> Array:
    """The conditions of order ``m`` as rows: a kernel ``W`` meets them iff ``conditions @ W.ravel() = 0``.

    The moments are taken against Legendre polynomials of the centred place, which span the same conditions as the
    powers and stay well conditioned.

    Args:
        places: Places of the taps per axis, from :func:`transposed_places` or :func:`subpixel_places`.
        stride: Stride ``s`` per axis.
        order: Order ``m``, 1 or more.

    Returns:
        ``(binomial(m - 1 + n, n) * prod(s), taps)``, taps in C order of the axes; every row is the difference of one
        phase's moment to the mean over all phases. The rows are not independent.

    Raises:
        ParameterError: If the order or a stride is below 1 or the axes do not fit.
    """
    _check_order(order)
    _positive(stride=stride)
    phases, moments = [], []
    for u, s in zip(places, stride, strict=True):
        u_ = np.asarray(u)
        phases.append((u_ % s == np.arange(s)[:, None]).astype(np.float64))  # (s, taps)
        half = max((u_.max() - u_.min()) / 2, 1.0)
        moments.append(legendre.legvander((u_ - (u_.max() + u_.min()) / 2) / half, order - 1).T)  # (m, taps)
    rows = []
    for degrees in product(range(order), repeat=len(phases)):
        if sum(degrees) >= order:
            continue
        # the moments separate over the axes: an outer product of (s, taps) matrices
        block = np.ones((1, 1))
        for indicator, moment, degree in zip(phases, moments, degrees, strict=True):
            block = np.kron(block, indicator * moment[degree])
        rows.append(block - block.mean(0))
    return np.concatenate(rows)


@lru_cache(maxsize=256)
def _excluded(places: Places, stride: tuple[int, ...], order: int) -> Array:
    conditions = moment_conditions(places, stride, order)
    _, values, rows = np.linalg.svd(conditions, full_matrices=False)
    result: Array = np.ascontiguousarray(rows[values > 1e-10 * max(values.max(initial=0.0), 1.0)].T)
    result.flags.writeable = False
    return result


def excluded_directions(places: Sequence[Sequence[int]], stride: Sequence[int], order: int = 1) -> Array:
    """Orthonormal directions that a kernel of order ``m`` may not have: balanced iff orthogonal to all of them.

    Args:
        places: Places of the taps per axis, from :func:`transposed_places` or :func:`subpixel_places`.
        stride: Stride ``s`` per axis.
        order: Order ``m``, 1 or more.

    Returns:
        ``(taps, rank)``, read-only; no columns for stride 1.

    Raises:
        ParameterError: If only kernels without DC gain meet the condition, so that the layer could never pass a
            constant on: phases without taps, or too few taps for the order.
    """
    _check_order(order)
    frozen = tuple(tuple(int(v) for v in u) for u in places)
    for axis, (u, s) in enumerate(zip(frozen, stride, strict=True)):
        _check_axis(axis, u, s, order)
    return _excluded(frozen, tuple(stride), order)


def balancing_projection(places: Sequence[Sequence[int]], stride: Sequence[int], order: int = 1) -> Array:
    """Matrix that takes a kernel to the nearest one (least squares) that meets the DC condition of order ``m``.

    Args:
        places: As in :func:`excluded_directions`.
        stride: As in :func:`excluded_directions`.
        order: As in :func:`excluded_directions`.

    Returns:
        Symmetric orthogonal projection ``(taps, taps)``; apply it as ``W.ravel() @ projection``.

    Raises:
        ParameterError: As :func:`excluded_directions`.
    """
    basis = excluded_directions(places, stride, order)
    result: Array = np.eye(len(basis)) - basis @ basis.T
    return result


def _check_axis(axis: int, places: tuple[int, ...], stride: int, order: int) -> None:
    """Raise unless a 1-D kernel on these places can have a DC gain and meet the condition."""
    _positive(stride=(stride,))
    if stride == 1:
        return
    ordered = sorted(places)
    step = gcd(*(v - ordered[0] for v in ordered)) if len(ordered) > 1 else 1
    where = f"axis {axis}: {len(places)} taps {step} apart at stride {stride}"
    if gcd(step, stride) > 1:
        raise ParameterError(
            f"{where}: some phases have no tap at all, since the spacing (={step}) and the stride share the factor "
            f"{gcd(step, stride)}; expected a dilation without a factor in common with the stride: use dilation=1"
        )
    empty = stride - len({v % stride for v in places})
    if empty:
        raise ParameterError(
            f"{where}: {empty} of {stride} phases have no tap, so no kernel keeps a constant constant; "
            f"expected kernel_size >= stride: use kernel_size={order * (stride - 1) + 1} or more"
        )
    sums = _excluded((places,), (stride,), order).sum(0)
    if len(places) - float(sums @ sums) < 1e-8 * len(places):  # squared gain of the best kernel of norm 1
        raise ParameterError(
            f"{where}: too few taps for order (={order}); every kernel that meets it has DC gain zero; expected at "
            f"least order * (stride - 1) + 1 = {order * (stride - 1) + 1} taps: use a larger kernel_size or order=1"
        )


def _check_order(order: int) -> None:
    if not isinstance(order, int) or isinstance(order, bool) or order < 1:
        raise ParameterError(f"order (={order!r}) must be an integer of at least 1: use order=1 to keep constants")


def _positive(**parameters: Sequence[int]) -> None:
    axes = {len(values) for values in parameters.values()}
    if len(axes) > 1 or 0 in axes:
        given = ", ".join(f"{name} (={tuple(values)})" for name, values in parameters.items())
        raise ParameterError(f"{given} must have as many entries as there are spatial axes: give one entry per axis")
    for name, values in parameters.items():
        if prod(int(v > 0) for v in values) == 0:
            raise ParameterError(f"{name} (={tuple(values)}) must be at least 1 on every axis: give positive integers")
