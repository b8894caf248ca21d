"""One picture: pixels to planes, planes to lines, lines to a verdict."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from evenly.errors import UsageError
from evenly.measure.examine import TRACE_PLANES, Examination, TracePlanes, gather, grid_of
from evenly.measure.jpeg import JPEG_PERIODS, find_grid, without_grid
from evenly.measure.levels import grey_levels
from evenly.measure.lines import chosen, combine
from evenly.measure.planes import LUMA, MARGIN
from evenly.measure.probability import cauchy
from evenly.measure.result import PERIODS, TRACES, Lines, Measurement, PeriodResult, Trace
from evenly.measure.tapers import plan
from evenly.measure.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from evenly.measure.examine import Level
    from evenly.measure.files import Encoding
    from evenly.measure.lines import PlaneLines
    from evenly.measure.result import Cause, Verdict

__all__ = ["measure_image"]

_LEAST_SIDE = 24  # pixels: below, no period has the three tapers per axis that a test needs
_BLOCKS_SIDE = 512  # pixels: JPEG's blocks are looked for in the middle of larger pictures
_LIKELY_GRID = -2.0  # log10 p from which a grid is looked for
_FOLLOWS_CONTENT = 4  # pixels: at longer periods details of the content itself are in the way
_NEIGHBOURS = 24  # frequencies whose backgrounds a line's power is compared with
_LN10 = float(np.log(10.0))


def measure_image(
    pixels: NDArray[Any],
    periods: Iterable[int] = PERIODS,
    *,
    traces: Iterable[str] = TRACES,
    path: str | None = None,
    encoding: Encoding | None = None,
    keep: bool = False,
) -> Measurement:
    """Measure the periodic traces of up-sampling in one picture.

    Args:
        pixels: Shape (H, W), (H, W, 1) or (H, W, 3), any real dtype. Integers are of their type's full range; floats
            are of the range that :func:`~evenly.measure.levels.grey_levels` finds and notes.
        periods: In pixels, 2 or more.
        traces: Which to measure, of :data:`~evenly.measure.result.TRACES`; the first two alone take half the time.
        path: Named in the result.
        encoding: What is known of the file.
        keep: Keep the pixels in the result, for :meth:`Measurement.plot`.

    Raises:
        UsageError: If the array, a period or a trace is not of these forms, or if a value is not finite.
    """
    wanted = tuple(sorted({int(p) for p in periods}))
    if not wanted or wanted[0] < 2:
        raise UsageError(f"periods (={list(wanted)}) must be integers of at least 2 pixels")
    asked = tuple(traces)
    if unknown := set(asked) - set(TRACES):
        raise UsageError(f"traces (={sorted(unknown)}) are none of {', '.join(TRACES)}")
    pixels, level, notes = grey_levels(pixels)
    height, width = pixels.shape[:2]
    if encoding is not None:
        notes = (*encoding.notes, *notes)
    results = {p: PeriodResult(p) for p in wanted}
    verdict: Verdict = "none"
    found: tuple[int, ...] = ()
    causes: tuple[Cause, ...] = ()
    if min(height, width) >= _LEAST_SIDE:
        layout = plan(height - 2 * MARGIN, width - 2 * MARGIN, tuple(sorted({*wanted, *PERIODS})))
        power = TracePlanes(asked)
        raw = gather(pixels, level, layout, power.planes, every=power.every)
        before = {p: _period(p, raw, power.mean) for p in wanted}
        grids, results = raw, before
        origin = _jpeg_origin(pixels, level, before, encoding)
        if origin is not None:
            grids = without_grid(raw, [start - MARGIN for start in origin])
            results = {p: _period(p, grids, power.mean) for p in wanted}
        verdict, found, causes = judge(results, before, Examination(pixels, level, layout, grids), encoding)
    return Measurement(
        path, width, height, verdict, found, causes, results, notes, np.asarray(pixels) if keep else None
    )


def _jpeg_origin(
    pixels: NDArray[Any], level: Level, results: Mapping[int, PeriodResult], encoding: Encoding | None
) -> tuple[int, int] | None:
    """Where JPEG's blocks start, if the picture is stored so, or if what they leave was found."""
    if encoding is not None and encoding.format == "JPEG":
        return 0, 0
    traces = [t for p in JPEG_PERIODS if p in results for t in (results[p].variance, results[p].interpolation)]
    if min((t.log10_p for t in traces if t is not None), default=0.0) > _LIKELY_GRID:
        return None
    start = [max(0, (n - _BLOCKS_SIDE) // 16 * 8) for n in pixels.shape[:2]]  # a multiple of 8
    grey = level(pixels[start[0] : start[0] + _BLOCKS_SIDE, start[1] : start[1] + _BLOCKS_SIDE])
    return find_grid(grey if grey.ndim == 2 else grey @ LUMA)


def _period(period: int, grids: dict[str, dict[int, PlaneLines]], power: float) -> PeriodResult:
    found: dict[str, Any] = {}
    for trace, names in TRACE_PLANES.items():
        planes = [g for name in names if (g := grid_of(grids.get(name, {}), period)) is not None]
        if planes:
            found[trace] = _trace(period, [grids[n] for n in names if n in grids], planes, trace)
    mean = grid_of(grids.get("mean", {}), period)
    if mean is not None:
        index, at = chosen(mean, period)
        copies = np.where((2 * index % period == 0).all(axis=1), 1.0, 0.5)
        share = np.clip(1 - mean.background[at] / np.maximum(mean.power[at], 1e-12), 0, 1)
        found["energy_fraction"] = float((copies * share * np.abs(mean.wave[at]) ** 2).sum() / power) if power else 0.0
    return PeriodResult(period, **found)


def _trace(period: int, all_grids: Sequence[dict[int, PlaneLines]], planes: Sequence[PlaneLines], name: str) -> Trace:
    index, at = chosen(planes[0], period)
    steerings = 2 if period > _FOLLOWS_CONTENT else 3
    evidence = [combine(plane.log_p[:steerings, at[0], at[1]], index) for plane in planes]
    scores = [_score(g, p, index, at) for g, p in zip(all_grids, planes, strict=True)]

    def joined(part: str) -> float | None:
        values = [v for e in evidence if (v := getattr(e, part)) is not None]
        return cauchy(values) / _LN10 if values else None

    together = joined("together")
    assert together is not None
    lines = [_lines(plane, index, at, period, name) for plane in planes]
    if name == "interpolation":  # lines along the columns from the differences along them, or phases would mix
        shown = _either(lines[0], lines[1], index[:, 1] > 0)
    elif len(lines) > 1:
        shown = _stronger(lines[0], lines[1], index, period)
    else:
        shown = lines[0]
    return Trace(together, max(scores), joined("along"), joined("down"), joined("diagonal"), shown)


def _stronger(first: Lines, second: Lines, index: NDArray[np.int64], period: int) -> Lines:
    """Each line from the plane that has more of it, its p-value that of the smaller of two."""
    shown = _either(first, second, first.log10_p <= second.log10_p)
    log_p = shown.log10_p * _LN10 + np.log(2 - 10.0**shown.log10_p)
    return replace(shown, log10_p=log_p / _LN10, z=_standard(log_p, shown.phase, index, period))


def _either(first: Lines, second: Lines, which: NDArray[np.bool_]) -> Lines:
    """Each line from the first where ``which`` says so, else from the second."""
    parts = (np.where(which, getattr(first, f), getattr(second, f)) for f in ("log10_p", "z", "amplitude", "phase"))
    return Lines(first.index, *parts)


def _score(
    grids: dict[int, PlaneLines], plane: PlaneLines, index: NDArray[np.int64], at: tuple[NDArray[np.int64], ...]
) -> float:
    """Power of the lines over the median background of many near frequencies, in dB; axes alone, or all."""
    near = _neighbours(tuple(grids), plane.group.base, tuple(map(tuple, np.stack(at, 1).tolist())))
    pool = np.concatenate([g.background.ravel() for g in grids.values()])
    background = np.maximum(np.median(pool[near], axis=1), 1e-9)
    power = plane.power[at]
    axes = (index == 0).any(axis=1)
    ratio = max(power[which].sum() / background[which].sum() for which in (axes, np.ones_like(axes)) if which.any())
    return float(10 * np.log10(max(ratio, 1e-9)))


@lru_cache(maxsize=256)
def _neighbours(bases: tuple[int, ...], base: int, lines: tuple[tuple[int, int], ...]) -> NDArray[np.int64]:
    """For each line, the frequencies of all grids that are nearest to it on the torus, as indices into their pool."""
    from scipy.spatial import cKDTree

    grids = (np.meshgrid(np.arange(b) / b, np.arange(b // 2 + 1) / b, indexing="ij") for b in bases)
    pool = np.concatenate([np.stack(grid, axis=-1).reshape(-1, 2) for grid in grids])
    both = np.concatenate([pool, -pool]) % 1.0  # a line and its conjugate are one
    _, near = cKDTree(both, boxsize=1.0).query(np.array(lines) / base % 1.0, min(_NEIGHBOURS, len(both)))
    return np.asarray(near % len(pool))


def _lines(
    plane: PlaneLines, index: NDArray[np.int64], at: tuple[NDArray[np.int64], ...], period: int, trace: str
) -> Lines:
    log_p = plane.log_p[0][at]
    wave = plane.wave[at] * np.exp(-2j * np.pi * MARGIN * index.sum(axis=1) / period)
    angle = np.angle(wave)
    z = _standard(log_p, angle, index, period) * np.where(plane.halved[at], np.sqrt(0.5), 1.0)
    amplitude = np.abs(wave)
    if trace in ("mean", "chroma"):  # back through the residual's gain 1 - cos^2 cos^2
        amplitude = amplitude / (1 - np.prod(np.cos(np.pi * index / period) ** 2, axis=1))
    return Lines(index, log_p / _LN10, z, amplitude, angle)


def _standard(
    log_p: NDArray[np.float64], angle: NDArray[np.float64], index: NDArray[np.int64], period: int
) -> NDArray[np.complex128]:
    """A line's evidence with its phase: standard complex normal by chance, standard normal where the line is real."""
    z = np.exp(1j * angle) * np.sqrt(np.maximum(-log_p, 0))
    real = (2 * index % period == 0).all(axis=1)
    if real.any():
        z[real] = np.sign(np.cos(angle[real])) * _normal(log_p[real])
    return np.asarray(z)


def _normal(log_p: NDArray[np.float64]) -> NDArray[np.float64]:
    """The size of a standard normal that is exceeded in absolute value with this probability."""
    from scipy.special import ndtri_exp

    return -np.asarray(ndtri_exp(log_p - np.log(2.0)))
