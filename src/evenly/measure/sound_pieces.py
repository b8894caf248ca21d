"""A sound cut into pieces, each made even in time and frequency, so that loud parts do not drown quiet ones."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from math import lcm
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MARGIN", "Even", "PieceSums", "Pieces", "even", "families", "irregular"]

MARGIN = 1024  # samples on both sides of a piece: longer than the whitening filter and the window of the gain
_GAIN = 1024  # samples over which the level is averaged
_BANDS = 64  # of the whitening; far wider than a taper's band
_RING = 64  # samples by which the whitening filter lets sound reach into digital silence
_CLIP = 5.0  # of the local level: clicks; less would make partials of what is there
_FLOOR = 1e-13  # of the largest power: below is the rounding of the transform
_QUIET = 1e-7  # of the loudest level in a piece: below, rounding


def families(periods: Sequence[int], limit: int) -> list[tuple[int, tuple[int, ...]]]:
    """Periods that are measured together: (a common multiple of at most ``limit`` or the one period, the periods)."""
    found: list[tuple[int, list[int]]] = []
    for period in sorted(periods, reverse=True):
        for i, (base, members) in enumerate(found):
            if base % period == 0 or lcm(base, period) <= limit:
                found[i] = (lcm(base, period), [*members, period])
                break
        else:
            found.append((period, [period]))
    return [(base, tuple(sorted(members))) for base, members in found]


def irregular(base: int, middle: int) -> Iterator[int]:
    """Multiples of ``base`` between 3/4 and 5/4 of ``middle * base``, without end, in an irregular order.

    With pieces of one length a steady tone one cycle per piece off a line would have the line's phase in every piece.
    """
    spread = middle // 4
    draws = random.Random(middle)
    pattern = [int(middle + round((2 * draws.random() - 1) * spread)) * base for _ in range(997)]
    return cycle(pattern)


class Pieces:
    """Consecutive pieces of a sound that arrives in blocks of any size, each with a margin on both sides.

    Args:
        channels: How many.
        lengths: Of the pieces in samples, without end.
        step: At the end of the sound, pieces get shorter by this much
        least: but not shorter than this.
    """

    def __init__(self, channels: int, lengths: Iterable[int], step: int, least: int) -> None:
        self._lengths = iter(lengths)
        self._step, self._least = step, least
        self._wanted = next(self._lengths)
        self._parts = [np.zeros((channels, MARGIN))]
        self._held = MARGIN

    def push(self, block: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
        """Pieces that are complete with this block, shape (channels, MARGIN + length + MARGIN)."""
        self._parts.append(block)
        self._held += block.shape[1]
        while self._held >= self._wanted + 2 * MARGIN:
            yield self._take(self._wanted)
            self._wanted = next(self._lengths)

    def rest(self) -> Iterator[NDArray[np.float64]]:
        """Pieces of what is left at the end."""
        self._parts.append(np.zeros((self._parts[0].shape[0], MARGIN)))
        self._held += MARGIN
        while (left := self._held - 2 * MARGIN) >= self._least:
            yield self._take(min(self._wanted, left // self._step * self._step))
            self._wanted = next(self._lengths)

    def _take(self, length: int) -> NDArray[np.float64]:
        joined = np.concatenate(self._parts, axis=1)
        self._parts = [joined[:, length:]]
        self._held -= length
        return joined[:, : length + 2 * MARGIN]


class PieceSums(ABC):
    """Sums over the pieces of a sound that arrives in blocks of any size.

    Args:
        pieces: Cuts the blocks.
    """

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces

    def push(self, block: NDArray[np.float64]) -> None:
        """More of the sound, shape (channels, any number of samples)."""
        for piece in self._pieces.push(block):
            self._add(piece)

    def finish(self) -> None:
        """The sound ends here."""
        for piece in self._pieces.rest():
            self._add(piece)

    @abstractmethod
    def _add(self, piece: NDArray[np.float64]) -> None:
        """One more piece, shape (channels, MARGIN + length + MARGIN)."""


@dataclass(frozen=True)
class Even:
    """A piece made even.

    Attributes:
        values: Shape (length,): of local variance about 1.
        present: Shape (length,): 1 where there is sound, 0 in digital silence; ``None`` if there is sound everywhere.
    """

    values: NDArray[np.float64]
    present: NDArray[np.float64] | None


def even(piece: NDArray[np.float64]) -> Even | None:
    """Whiten a piece coarsely over frequency, divide it by its local level, clip it; ``None`` for digital silence.

    Whitening keeps the low frequencies of speech and music, 60 dB above the high ones, from leaking into these. It
    takes the median over wide bands, which a tone does not move. Neither step can make a tone: the filter is invariant
    in time, and the level is that of hundreds of samples.

    Args:
        piece: Shape (MARGIN + length + MARGIN,).
    """
    from scipy.fft import irfft, next_fast_len, rfft
    from scipy.ndimage import maximum_filter1d, uniform_filter1d

    size = piece.size
    length = size - 2 * MARGIN
    changes = np.zeros(size)
    changes[1:] = piece[1:] != piece[:-1]
    if not changes[MARGIN:-MARGIN].any():
        return None
    sounding = maximum_filter1d(changes, 2 * _RING + 1)
    fast = next_fast_len(size, real=True)
    centred = piece - piece.mean() * (piece != 0)
    power = np.abs(rfft(centred * np.hanning(size), fast)) ** 2
    width = power.size // max(1, min(_BANDS, length // 32))
    level = np.median(power[: power.size // width * width].reshape(-1, width), axis=1)
    level = np.log(np.maximum(level, _FLOOR * power.max()))
    smooth = np.interp(np.arange(power.size), (np.arange(level.size) + 0.5) * width, level)
    white = irfft(rfft(centred, fast) * np.exp((smooth.min() - smooth) / 2), fast)[:size]
    window = min(_GAIN, length // 2)
    share = uniform_filter1d(sounding, window, mode="constant")
    loudness = uniform_filter1d(np.abs(white) * sounding, window, mode="constant")
    audible = (sounding > 0) & (loudness > _QUIET * loudness.max())
    if not audible[MARGIN:-MARGIN].any():
        return None
    gain = np.where(audible, share / np.where(audible, 1.25 * loudness, 1.0), 0.0)  # E|x| = 0.8 of the deviation
    values = np.clip(white * gain, -_CLIP, _CLIP)[MARGIN:-MARGIN]
    inside = audible[MARGIN:-MARGIN]
    return Even(values, None if inside.all() else inside.astype(np.float64))
