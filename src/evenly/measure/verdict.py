"""From the evidence of every period to a verdict and its likely causes."""

from __future__ import annotations

from math import lcm
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from evenly.measure.jpeg import JPEG_PERIODS
from evenly.measure.result import TRACES, Cause

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from evenly.measure.examine import Examination
    from evenly.measure.files import Encoding
    from evenly.measure.result import PeriodResult, Trace, Verdict

__all__ = ["judge"]

_WEAK, _STRONG = -4.0, -8.0  # log10 p of one trace at one period; some 28 are tested in a picture
_SIDEBANDS = 24.0  # dB below a pattern that follows the content, its own sidebands pass for lines
_LEAST_DB = 4.0  # with many lines, less over the background can be certain without being of interest
_FAINT = 0.1  # grey levels (rms) that rounding an interpolated picture can leave as a pattern of its own
_COMPRESSED = {2: 0.06, 4: 0.12, 8: 0.25}  # the same of JPEG's blocks
_LEAST_TILE, _EDGES = 8, 0.8  # pixels; share of a pattern's energy in two neighbouring pixels
_ONE_AXIS = -12.0  # log10 p along one axis from which the others are looked at
_OTHER_AXES = 0.1  # what part of that the others reach at least if both axes are up-sampled


def judge(
    results: Mapping[int, PeriodResult],
    before: Mapping[int, PeriodResult],
    examination: Examination,
    encoding: Encoding | None,
) -> tuple[Verdict, tuple[int, ...], tuple[Cause, ...]]:
    """The verdict, the periods that it is about, and the causes of all that was found.

    Args:
        results: By period, without what JPEG's grid explains.
        before: By period, with it.
        examination: Answers what else is asked of the picture.
        encoding: What is known of the file.
    """
    seen = {name: {p: t for p, r in before.items() if _fires(t := r.traces()[name])} for name in TRACES}
    if not any(seen.values()):
        return "none", (), ()
    inflation = dict.fromkeys(TRACES, 1.0) | examination.inflation(name for name, found in seen.items() if found)
    seen = {name: {p: t for p, t in found.items() if _fires(t, inflation[name])} for name, found in seen.items()}
    evidence: dict[int, float] = {}  # log10 p of what is counted, by period

    compressed = before is not results or (encoding is not None and encoding.lossy)
    processed = set(seen["variance"]) | set(seen["interpolation"])
    causes: list[Cause] = []
    grid = sorted(p for p in processed if before is not results and p in JPEG_PERIODS)
    if grid:
        causes.append(Cause("jpeg-grid", tuple(grid), f"JPEG's grid ({_pixels(grid)})"))

    def added_by(name: str) -> dict[int, Trace]:
        """Periods whose lines neither rounding nor a pattern in the strength of details explains."""
        left = {}
        for p in seen[name]:
            trace = results[p].traces()[name]
            assert trace is not None
            floor = _FAINT if p in processed or name == "chroma" else 0.0
            floor = _COMPRESSED.get(p, floor) if compressed else floor
            if not floor or (_strength(trace) >= floor and examination.ungained(name, p) < _WEAK):
                left[p] = trace
        strongest = max((t.db or 0.0 for t in left.values()), default=0.0)
        return {p: t for p, t in left.items() if (t.db or 0.0) > strongest - _SIDEBANDS}

    def split(name: str, found: Mapping[int, Trace], counted: set[int]) -> None:
        """Texture, or what counts."""
        if _is_texture(found, name, examination):
            texture.update(found)
            return
        counted.update(found)
        for p, trace in found.items():
            evidence[p] = min(evidence.get(p, 0.0), trace.log10_p / inflation[name])

    texture: set[int] = set()
    added: set[int] = set()  # periods with a pattern in brightness or colour
    split("mean", added_by("mean"), added)
    mosaic = 2 not in added and any(2 in periods for periods in seen.values()) and examination.is_mosaic
    if mosaic:
        causes.append(Cause("demosaicing", (2,), "demosaicing of a colour sensor (2 pixels)"))
    if not compressed and not mosaic:
        split("chroma", added_by("chroma"), added)
    elif compressed and (subsampled := [p for p in seen["chroma"] if p not in grid]):
        text = f"colours stored coarser ({_pixels(subsampled)})"
        causes.append(Cause("chroma-subsampling", tuple(subsampled), text))
    strengths: set[int] = set()  # periods with a pattern in the strength of details only
    for name in ("variance", "interpolation"):
        left = {p: t for p, r in results.items() if _fires(t := r.traces()[name], inflation[name])}
        split(name, {p: t for p, t in left.items() if not _related(p, added) and not (mosaic and p == 2)}, strengths)
    if texture:  # its harmonics, and what is faint beside it, are its own
        strengths -= {p for p in strengths if _related(p, texture)}
        for periods in (added, strengths):
            faint = {p for p in periods if evidence[p] > _STRONG}
            texture |= faint
            periods -= faint
    texture -= added | strengths
    if added and _at_edges(results, max(added)):
        text = f"tiles of {max(added)} pixels with visible edges, or a kernel just larger than its stride"
        causes.append(Cause("tiling", tuple(sorted(added)), f"{text} ({_pixels(added)})"))
    elif added:
        causes.append(Cause("up-sampling", tuple(sorted(added)), f"up-sampling by {_chain(added)} ({_pixels(added)})"))
    if strengths:
        text = f"interpolation ({_pixels(strengths)}): resized, or layers that interpolate"
        causes.append(Cause("resize", tuple(sorted(strengths)), text))
    if texture:
        causes.append(Cause("texture", tuple(sorted(texture)), f"texture of the picture itself ({_pixels(texture)})"))
    found = tuple(sorted(added | strengths))
    if not found:
        return "none", (), tuple(causes)
    return ("strong" if min(evidence[p] for p in found) < _STRONG else "weak"), found, tuple(causes)


def _related(period: int, others: Iterable[int]) -> bool:
    """Whether one of two periods divides the other: a pattern's harmonics, or its strength."""
    return any(period % p == 0 or p % period == 0 for p in others)


def _fires(trace: Trace | None, inflation: float = 1.0) -> TypeGuard[Trace]:
    """Whether a trace is beyond chance and beyond its background."""
    return trace is not None and trace.log10_p / inflation < _WEAK and (trace.db is None or trace.db > _LEAST_DB)


def _strength(trace: Trace) -> float:
    """Root mean square of the pattern, in grey levels."""
    return 0.0 if trace.lines is None else float(np.sqrt((trace.lines.amplitude**2).sum() / 2))


def _is_texture(found: Mapping[int, Trace], name: str, examination: Examination) -> bool:
    """Whether lines of one trace are those of something in the picture: along one axis only, or among others."""
    if not found:
        return False
    strongest = min(found.values(), key=lambda t: t.log10_p)
    axes = (strongest.log10_p_x, strongest.log10_p_y, strongest.log10_p_diagonal)
    x, y, rest = (0.0 if v is None else v for v in axes)
    first, second = min(x, y), max(x, y)
    if first < _ONE_AXIS and min(second, rest) > _OTHER_AXES * first:
        return True
    return examination.is_texture(name, found)


def _at_edges(results: Mapping[int, PeriodResult], period: int) -> bool:
    """Whether along both axes the pattern is all in two neighbouring pixels of a long period."""
    if period < _LEAST_TILE:
        return False
    n = np.arange(period)
    for axis in (0, 1):
        profile = np.zeros(period)
        for p, result in results.items():
            if period % p == 0 and result.mean is not None and (lines := result.mean.lines) is not None:
                along = lines.index[:, 1 - axis] == 0
                turns = 2 * np.pi * np.outer(n, lines.index[along, axis]) / p + lines.phase[along]
                profile += (lines.amplitude[along] * np.cos(turns)).sum(axis=1)
        energy = profile**2
        if (energy + np.roll(energy, 1)).max() < _EDGES * energy.sum():
            return False
    return True


def _chain(periods: Iterable[int]) -> str:
    """The factors of the smallest chain of up-samplings that leaves these periods: 2 x 2 x 2 for 2, 4 and 8."""
    found = sorted(periods)
    whole, steps = 1, []
    for p in found:
        step = lcm(whole, p) // whole
        if step > 1:
            steps.append(str(step))
            whole *= step
    return " x ".join(steps)


def _pixels(periods: Iterable[int]) -> str:
    names = [str(p) for p in sorted(periods)]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{'period' if len(names) == 1 else 'periods'} {listed} pixels"
