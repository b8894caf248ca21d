"""From pixels to the planes that are tested, strip by strip, so that memory stays small and data stays in the cache.

Every plane has the picture's size. Beyond its borders a picture is mirrored; the outermost pixels, whose residual that
changes, are left out by :data:`MARGIN`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

__all__ = ["LUMA", "MARGIN", "Boxes", "Colour", "Planes", "strips"]

MARGIN = 1  # pixels along every border that are not tested
_HALO = 12  # pixels around a strip that its planes depend on: 1 for the residual, then the boxes
_STRIP = 64  # rows at a time: some planes of 64 x 1024 single-precision numbers fit a second-level cache
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue by BT.601, as in JPEG: others let in the grid of colours that it stores coarser."""
_BLUE = np.array([-0.168736, -0.331264, 0.5], np.float32)
_RED = np.array([0.5, -0.418688, -0.081312], np.float32)


@dataclass(frozen=True)
class Boxes:
    """Widths in pixels of the boxes that estimate local strength; smaller in small pictures."""

    gain: int
    strength: int

    @classmethod
    def of(cls, shorter: int) -> Boxes:
        """For a picture's shorter side in pixels."""
        most = max(3, shorter // 5 // 2 * 2 + 1)
        return cls(min(7, most), min(9, most))


@dataclass(frozen=True)
class Colour:
    """One colour difference of a strip: residual over local strength, what it was multiplied by, residual."""

    mean: NDArray[np.float32]
    weight: NDArray[np.float32]
    residual: NDArray[np.float32]


@dataclass(frozen=True)
class Planes:
    """The planes of one strip of rows, each of shape (rows, width), float32.

    Attributes:
        start: First row, from the picture's top.
        mean: Luma residual over its local strength, clipped to 3.
        weight: What ``mean`` was multiplied by, per grey level.
        content: The weight times the local brightness, from -2 (black) to 2 (white).
        residual: Luma residual in grey levels.
        variance: Strength of the details (residual and second differences) against their neighbourhood.
        differences: Log energy of the first differences against its neighbourhood: along the columns, down the rows.
        chroma: Both colour differences, blue and red; empty if grey.
    """

    start: int
    mean: NDArray[np.float32]
    weight: NDArray[np.float32]
    content: NDArray[np.float32]
    residual: NDArray[np.float32]
    variance: NDArray[np.float32]
    differences: tuple[NDArray[np.float32], ...]
    chroma: tuple[Colour, ...]


def strips(
    pixels: NDArray[np.generic], level: Callable[[NDArray[np.generic]], NDArray[np.float32]], *, every: bool = True
) -> Iterator[Planes]:
    """The planes of a picture, from top to bottom.

    Args:
        pixels: Shape (H, W) or (H, W, 3).
        level: From pixels to grey levels of 255, float32.
        every: Also differences and chroma.
    """
    height = pixels.shape[0]
    boxes = Boxes.of(min(pixels.shape[:2]))
    for start in range(0, height, _STRIP):
        stop = min(height, start + _STRIP)
        rows = _mirrored(np.arange(start - _HALO, stop + _HALO), height)
        block = pixels[rows[0] : rows[-1] + 1] if rows[-1] - rows[0] == len(rows) - 1 else pixels[rows]
        yield _planes(level(block), start, boxes, every)


def _mirrored(index: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Indices beyond the borders, mirrored about the outermost pixels."""
    period = max(1, 2 * size - 2)
    index = np.abs(index) % period
    return np.minimum(index, period - index)


def _planes(block: NDArray[np.float32], start: int, boxes: Boxes, every: bool) -> Planes:
    shape = block.shape[0] - 2 * _HALO, block.shape[1]
    luma = _widened(block if block.ndim == 2 else block @ LUMA)
    r = _residual(luma)
    mean, weight = _normalised(r, boxes.gain, shape)
    brightness = _box(_centre(luma, tuple(n + boxes.strength - 1 for n in shape)), boxes.strength)
    brightness *= np.float32(1 / (64 * boxes.strength**2))
    brightness -= np.float32(2.0)
    content = weight * brightness
    strength = _details(luma, r)
    local = _box(_box(strength, boxes.strength), 3)
    local *= np.float32(1 / (9 * boxes.strength**2))
    local += np.float32(2.0)
    e = _centre(strength, local.shape) / local
    np.minimum(e, np.float32(4.0), out=e)
    variance = _against_box(e, boxes.strength, shape)
    if not every:
        return Planes(start, mean, weight, content, _centre(r, shape), variance, (), ())
    near = _centre(luma, (shape[0] + boxes.strength + 1, shape[1] + boxes.strength + 1))
    middle = near[1:-1, 1:-1]
    differences = tuple(
        _against_box(_log_energy(d), boxes.strength, shape) for d in (near[1:-1, 2:] - middle, near[2:, 1:-1] - middle)
    )
    chroma: list[Colour] = []
    if block.ndim == 3:
        halo = (boxes.gain + 4) // 2
        part = block[_HALO - halo : block.shape[0] - _HALO + halo]
        for weights in (_BLUE, _RED):
            c = _residual(_widened(part @ weights))
            chroma.append(Colour(*_normalised(c, boxes.gain, shape), _centre(c, shape)))
    return Planes(start, mean, weight, content, _centre(r, shape), variance, differences, tuple(chroma))


def _widened(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Columns mirrored beyond both borders."""
    width = x.shape[1]
    left, right = _mirrored(np.arange(-_HALO, 0), width), _mirrored(np.arange(width, width + _HALO), width)
    return np.concatenate([x[:, left], x, x[:, right]], axis=1)


def _centre(x: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A view without what surrounds the middle of this shape."""
    rows, columns = ((have - want) // 2 for have, want in zip(x.shape, shape, strict=True))
    return x[rows : rows + shape[0], columns : columns + shape[1]]


def _residual(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """``x - B * x`` with the binomial ``B = outer([1, 2, 1], [1, 2, 1]) / 16``, where all of it is known.

    It is isotropic: a difference across each axis would wipe out the lines on the axes.
    """
    down = x[:-2] + x[2:]
    down += 2 * x[1:-1]
    both = down[:, :-2] + down[:, 2:]
    both += 2 * down[:, 1:-1]
    both *= np.float32(-1 / 16)
    both += x[1:-1, 1:-1]
    return both


def _details(x: NDArray[np.float32], r: NDArray[np.float32]) -> NDArray[np.float32]:
    """Strength of the details, ``|r| + (|Dx| + |Dy|) / 4``, where the residual ``r`` of ``x`` is known.

    The residual is ``-(Dx + Dy + Dx Dy / 4) / 4`` of the second differences. By themselves each of them passes details
    that are fine along its axis and coarse along the other, which outlast a resize (Gallagher 2005 tests them alone).
    """
    step = x[1:-1, 1:] - x[1:-1, :-1]
    strength = step[:, 1:] - step[:, :-1]
    np.abs(strength, out=strength)
    step = x[1:, 1:-1] - x[:-1, 1:-1]
    down = step[1:] - step[:-1]
    strength += np.abs(down, out=down)
    strength *= np.float32(0.25)
    strength += np.abs(r)
    return strength


def _normalised(
    r: NDArray[np.float32], gain: int, shape: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A residual over its local strength, clipped to 3, and the weight that it was multiplied by."""
    strength = np.abs(_centre(r, (shape[0] + gain + 1, shape[1] + gain + 1)))
    weight = _box(_box(strength, gain), 3)
    weight *= np.float32(1.25 / (9 * gain**2))
    weight += np.float32(1.0)
    np.divide(np.float32(1.0), weight, out=weight)
    z = _centre(r, shape) * weight
    np.clip(z, np.float32(-3.0), np.float32(3.0), out=z)
    return z, weight


def _log_energy(d: NDArray[np.float32]) -> NDArray[np.float32]:
    np.multiply(d, d, out=d)
    d += np.float32(1.0)
    return np.log(d, out=d)


def _against_box(x: NDArray[np.float32], width: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A plane less its mean in a box around each pixel."""
    around = _box(_centre(x, (shape[0] + width - 1, shape[1] + width - 1)), width)
    around *= np.float32(-1 / width**2)
    around += _centre(x, shape)
    return around


def _box(x: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Sums over boxes, where all of a box is known; by doubling, two to four additions per axis."""
    return _run(_run(x, width).T, width).T


def _run(x: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Sums of ``width`` consecutive rows."""
    length = x.shape[0] - width + 1
    total, done, power = x[:length], 1, 2  # odd widths: one row, then doubled blocks
    while power <= width:
        x = x[: -(power // 2)] + x[power // 2 :]
        if width & power:
            total = total + x[done : done + length]
            done += power
        power *= 2
    return total
