r"""Phase profiles of maps that share one grid, and a test by cyclic shifts.

A map ``x[n, c, y]`` (sample, channel, position) is folded at period ``p``: its *profile* is the mean of each of the
``p^d`` phases, ``m[n, c, i] = sum_y A[y, i] x[n, c, y]``. The weights ``A`` are a Hann window over the whole periods
that remain without a margin, divided by its sum on each phase, so that constants leave no profile, borders weigh little
and trends do not leak (three periods are needed: the window's main lobe reaches two bins). Phases count from
position 0.

Only the lines that are *new* at ``p`` count, ``f = a / p`` with ``gcd(a_1, ..., a_d, p) = 1``: what period 2 explains
is no effect of period 4. With ``mh[n, c, f]`` the profile's discrete Fourier transform over ``p^d``,

* between-phase energy ``E = sum_f sum_c |E_n mh[n, c, f]|^2``: the variance over phases of the part of the phase means
  that is new at ``p``. All samples share the network's grid, so it is the *coherent mean* that counts. The estimate
  leaves out each sample's product with itself, ``(|sum_n mh|^2 - sum_n |mh|^2) / (N (N - 1))``, and so has
  expectation 0 where there is no pattern (a single sample's noise is taken from its variance within phases instead,
  as if positions were independent);
* within-phase energy ``W``: the variance around the phase means, averaged over phases and samples, summed over
  channels;
* effect ``E / W``.

Test: where no phase is special, shifting any sample's profile cyclically changes nothing in distribution; so ``sum_f
sum_c |sum_n mh[n, c, f]|^2`` is compared with its values after independent uniform shifts of all samples. Of ``B``
random shifts ``b`` give as much: the p-value is ``(1 + b) / (1 + B)``; where there are few shifts, all are counted. A
common shift of all samples changes nothing, so one sample alone is never testable, and ``N`` reach ``p^(1 - N)`` in the
worst case (a pattern along one axis). At most ``1 / 100`` is asked for: 8 samples at period 2, 5 at 4, 3 at 16.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evenly.errors import InputShapeError, ParameterError
from evenly.theory.torus import line_periods

__all__ = [
    "DRAWS",
    "LEAST_PERIODS",
    "PhaseEffect",
    "PhaseState",
    "check_periods",
    "fits",
    "fold",
    "measure_phases",
    "new_lines",
    "samples_needed",
    "shift_test",
]

DRAWS = 999
"""Random shifts of the test."""
LEAST_PERIODS = 3
"""Whole periods per axis that a map must have without its margin."""
_SMALLEST_P = 0.01
_CHANNELS = 16
_CHUNK = 1 << 20
_CONSTANT = 1e-5  # of the root mean square: below it, a pattern without noise is the order of additions

Maps = Any
"""A numpy array or a torch tensor of floats, ``(N, C, *spatial)``: only operations that both have are used."""


@dataclass(frozen=True)
class PhaseEffect:
    """The pattern that is new at a period.

    Attributes:
        period: In positions.
        samples: Number of samples.
        ratio: Between-phase over within-phase energy, 0 where there is no more than chance; infinite for a pattern
            without any variation within phases.
        p: Probability of so strong a pattern where no phase is special; ``None`` where it is not testable.
        note: Why it is not testable.
    """

    period: int
    samples: int
    ratio: float
    p: float | None
    note: str | None = None

    @property
    def fraction(self) -> float:
        """Between-phase energy over the sum of both."""
        return 1.0 if math.isinf(self.ratio) else self.ratio / (1 + self.ratio)

    @property
    def db(self) -> float | None:
        """``10 log10(ratio)`` in dB; ``None`` where the ratio is 0 or infinite."""
        return 10 * math.log10(self.ratio) if 0 < self.ratio < math.inf else None

    @property
    def log10_p(self) -> float | None:
        """Decimal logarithm of ``p``."""
        return None if self.p is None else math.log10(self.p)

    def to_dict(self) -> dict[str, Any]:
        """As in JSON: an infinite ratio becomes ``None``, its fraction is 1."""
        return {
            "ratio": None if math.isinf(self.ratio) else self.ratio,
            "fraction": self.fraction,
            "db": self.db,
            "p": self.p,
            "log10_p": self.log10_p,
            "samples": self.samples,
            "note": self.note,
        }


def check_periods(periods: Sequence[int]) -> tuple[int, ...]:
    """The periods sorted, each once.

    Raises:
        ParameterError: If one is no integer of at least 2, or there are none.
    """
    found = tuple(periods)
    if not found or any(isinstance(p, bool) or not isinstance(p, int | np.integer) or p < 2 for p in found):
        raise ParameterError(f"periods (={found!r}) must be integers of at least 2; give for instance (2, 4, 8)")
    return tuple(sorted({int(p) for p in found}))


@lru_cache(maxsize=256)
def new_lines(period: int, axes: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Lines new at a period, up to conjugation.

    Returns:
        Indices ``a`` of the frequencies ``a / period``, shape (lines, axes), and how often each counts: 2, or 1 for
        lines that are their own conjugates.
    """
    found = np.argwhere(line_periods((period,) * axes) == period)
    kept = [a for a in found.tolist() if a <= [-i % period for i in a]]
    index = np.array(kept, np.int64).reshape(-1, axes)
    own = (index == -index % period).all(1)
    weights = np.where(own, 1.0, 2.0)
    index.flags.writeable = weights.flags.writeable = False  # every caller gets the same
    return index, weights


def fits(sizes: Sequence[int], period: int, margin: int | None = None) -> bool:
    """Whether enough whole periods remain on every axis."""
    return all(_periods_inside(s, period, margin) >= LEAST_PERIODS for s in sizes)


def samples_needed(period: int) -> int:
    """The least number of samples with ``period^(1 - N)`` at most 0.01."""
    samples = 2
    while period ** (samples - 1) * _SMALLEST_P < 1:
        samples += 1
    return samples


def _periods_inside(size: int, period: int, margin: int | None) -> int:
    left_out = size // 8 if margin is None else margin
    return max(size - 2 * left_out, 0) // period


@lru_cache(maxsize=1024)
def _weights(size: int, period: int, margin: int | None) -> NDArray[np.float64]:
    """``A``, shape (size, period)."""
    length = period * _periods_inside(size, period, margin)
    start = (size - length) // 2
    where = np.arange(length)
    weights = np.zeros((size, period))
    weights[start + where, (start + where) % period] = np.sin(np.pi * (where + 0.5) / length) ** 2
    made: NDArray[np.float64] = weights / weights.sum(0)
    return made


def fold(maps: Maps, period: int, margin: int | None = None) -> tuple[Maps, Maps, float]:
    """Phase profiles of maps.

    Args:
        maps: ``(N, C, *spatial)``, floats of an array or a tensor.
        period: In positions.
        margin: Positions left out at every border; by default an eighth of the size.

    Returns:
        Profiles ``(N, C, period, ...)`` around each map's mean; the variance within phases ``(N, C)``; and the
        variance of a phase's mean per variance within phases, if positions were independent.

    Raises:
        InputShapeError: If fewer than three whole periods remain.
    """
    sizes = tuple(maps.shape[2:])
    if not fits(sizes, period, margin):
        raise InputShapeError(
            f"maps of {' x '.join(map(str, sizes))} positions have fewer than {LEAST_PERIODS} whole periods of "
            f"{period} inside the margin; give larger maps or smaller periods"
        )
    axes = tuple(range(2, len(sizes) + 2))
    profile = maps - maps.mean(axes, keepdims=True)
    second = profile * profile
    independent = 1.0
    for axis, size in zip(axes, sizes, strict=True):
        plain = _weights(size, period, margin)
        independent *= float((plain**2).sum(0).mean())
        weights = plain.astype(profile.dtype) if isinstance(maps, np.ndarray) else maps.new_tensor(plain)
        profile = (profile.swapaxes(axis, -1) @ weights).swapaxes(axis, -1)
        second = (second.swapaxes(axis, -1) @ weights.mean(1)[:, None]).swapaxes(axis, -1)
    within = (second.mean(axes) - (profile * profile).mean(axes)) / (1 - independent)
    return profile, within.clip(min=0), independent


class PhaseState:
    """Sums over samples at one period: no maps are kept, and of profiles only their new lines.

    The test needs every sample's lines; of more than 16 channels it keeps 16 sums with random signs, which
    leaves it exact and its statistic's expectation what it was. The effect counts all channels.

    Args:
        period: In positions.
        margin: As for :func:`fold`.
        seed: Of the signs and the random shifts.
    """

    def __init__(self, period: int, *, margin: int | None = None, seed: int = 0) -> None:
        self.period = period
        self.margin = margin
        self.samples = 0
        self._seed = seed
        self._kept: list[NDArray[np.complex64]] = []
        self._sum: Any = 0.0
        self._power = self._within = self._independent = self._scale = 0.0
        self._rounding = 0.0
        self._axes = 0

    def add(self, maps: Maps, rounding: float | None = None) -> bool:
        """Count samples.

        Args:
            maps: As for :func:`fold`.
            rounding: Relative rounding error of the maps' values; by default of their type.

        Returns:
            Whether the maps are large enough; otherwise nothing is counted.
        """
        sizes = tuple(maps.shape[2:])
        if not fits(sizes, self.period, self.margin):
            return False
        eps = float(np.finfo(maps.dtype).eps) if isinstance(maps, np.ndarray) else _eps(maps)
        means, within, independent = (_to_numpy(a) for a in fold(maps, self.period, self.margin))
        squares = _to_numpy((maps * maps).mean(tuple(range(2, len(sizes) + 2))))
        self._axes = len(sizes)
        index, weight = new_lines(self.period, self._axes)
        spectrum = np.fft.fftn(means, axes=tuple(range(2, means.ndim))) / self.period**self._axes
        lines = spectrum[(slice(None), slice(None), *index.T)] * np.sqrt(weight)  # (N, C, lines)
        self.samples += len(lines)
        self._sum = self._sum + lines.sum(0)
        self._power += float((np.abs(lines) ** 2).sum())
        self._within += float(within.sum())
        self._scale += float(squares.sum())
        # noise of one map's lines: weight.sum() of the p^d lines of its profile
        self._independent += float(independent * within.sum()) * weight.sum() / self.period**self._axes
        self._rounding = max(self._rounding, eps if rounding is None else rounding)
        self._kept.append(self._sketch(lines).astype(np.complex64))
        return True

    def _sketch(self, lines: NDArray[np.complex128]) -> NDArray[np.complex128]:
        channels = lines.shape[1]
        if channels <= _CHANNELS:
            return lines
        signs = np.random.default_rng([self._seed, channels]).choice([-1.0, 1.0], channels)
        padded = np.zeros((len(lines), -(-channels // _CHANNELS) * _CHANNELS, lines.shape[2]), complex)
        padded[:, :channels] = lines * signs[:, None]
        return np.asarray(padded.reshape(len(lines), -1, _CHANNELS, lines.shape[2]).sum(1))

    def result(self, draws: int = DRAWS) -> PhaseEffect | None:
        """Effect and p-value; ``None`` if no sample was counted."""
        n = self.samples
        if not n:
            return None
        within = self._within / n
        coherent = float((np.abs(self._sum) ** 2).sum())
        between = (coherent - self._power) / (n * (n - 1)) if n > 1 else self._power - self._independent
        if (
            self._power / n + within <= max(4 * self._rounding, _CONSTANT) ** 2 * self._scale / n
        ):  # constant up to rounding
            return PhaseEffect(self.period, n, 0.0, 1.0, None)
        ratio = 0.0 if between <= 0 else between / within if within > 0 else math.inf
        needed = samples_needed(self.period)
        if n < needed:
            note = f"{n} sample(s); a test at period {self.period} needs at least {needed}"
            return PhaseEffect(self.period, n, ratio, None, note)
        index, _ = new_lines(self.period, self._axes)
        rng = np.random.default_rng([self._seed, self.period])
        kept = np.concatenate(self._kept).astype(np.complex128)
        p = shift_test(kept, index, self.period, draws=draws, rng=rng)
        return PhaseEffect(self.period, n, ratio, p)


def shift_test(
    lines: NDArray[np.complex128],
    index: NDArray[np.int64],
    period: int,
    *,
    draws: int = DRAWS,
    rng: np.random.Generator,
) -> float:
    """The p-value of the samples' coherent sum, by independent cyclic shifts.

    Args:
        lines: Shape (samples, channels, lines): Fourier coefficients of the profiles.
        index: Shape (lines, axes): their frequencies in cycles per period.
        period: In positions.
        draws: Random shifts, if all ``period^(axes (samples - 1))`` of them are more than that.
        rng: Where they are drawn.
    """
    samples, cells = len(lines), period ** index.shape[1]
    places = np.stack(np.unravel_index(np.arange(cells), (period,) * index.shape[1]), 1)
    turns = 2j * np.pi / period

    def power(shifts: NDArray[np.int64]) -> NDArray[np.float64]:
        """The statistic of shifts, given as numbers of places in the cell, (draws, samples)."""
        total = np.zeros(len(shifts))
        for a, line in zip(index, np.moveaxis(lines, 2, 0), strict=True):
            total += (np.abs(np.exp(turns * (places @ a % period))[shifts] @ line) ** 2).sum(1)
        return total

    least = power(np.zeros((1, samples), np.int64))[0] * (1 - 1e-9)
    exact = cells ** (samples - 1) <= draws  # with the first sample in its place
    count = total = 0
    for shifts in _all_shifts(cells, samples) if exact else _random_shifts(cells, samples, draws, rng):
        count += int((power(shifts) >= least).sum())
        total += len(shifts)
    return count / total if exact else (1 + count) / (1 + total)


def _all_shifts(cells: int, samples: int) -> Iterator[NDArray[np.int64]]:
    yield np.array([(0, *s) for s in product(range(cells), repeat=samples - 1)], np.int64)


def _random_shifts(cells: int, samples: int, draws: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    step = max(_CHUNK // samples, 1)
    for start in range(0, draws, step):
        yield rng.integers(0, cells, (min(step, draws - start), samples))


def measure_phases(
    maps: NDArray[Any], periods: Sequence[int], *, margin: int | None = None, draws: int = DRAWS, seed: int = 0
) -> Mapping[int, PhaseEffect | None]:
    """The pattern that maps share at every period, ``None`` where they are too small.

    Args:
        maps: ``(N, C, *spatial)``, all on the same grid.
        periods: In positions.
        margin: As for :func:`fold`.
        draws: Random shifts of the test.
        seed: Of the shifts.
    """
    found = {}
    for period in check_periods(periods):
        state = PhaseState(period, margin=margin, seed=seed)
        state.add(np.asarray(maps, np.float64))
        found[period] = state.result(draws)
    return found


def _eps(maps: Maps) -> float:
    import torch

    return float(torch.finfo(maps.dtype).eps)


def _to_numpy(value: Any) -> Any:
    """A tensor's values as float64; arrays and numbers as they are."""
    if isinstance(value, float):
        return value
    return np.asarray(value if isinstance(value, np.ndarray) else value.cpu().numpy(), np.float64)
