"""From the evidence of every period to a verdict and its likely causes.

Everything that is certain in a picture is sorted in steps (:data:`_STEPS`), each of which leaves less to the next; what
they have sorted is named by a table of causes (:data:`_CAUSES`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import lcm
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from evenly.measure.jpeg import JPEG_PERIODS
from evenly.measure.result import TRACES, Cause
from evenly.measure.shapes import along_one_axis, at_edges, displaced, is_screen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from evenly.measure.examine import Examination
    from evenly.measure.files import Encoding
    from evenly.measure.result import PeriodResult, Trace, Verdict

    Found = dict[int, Trace]

__all__ = ["judge"]

_WEAK, _STRONG = -4.0, -8.0  # log10 p of one trace at one period; some 28 are tested in a picture
_SIDEBANDS = 24.0  # dB below a pattern that follows the content, its own sidebands pass for lines
_LEAST_DB = 4.0  # with many lines, less over the background can be certain without being of interest
_FAINT = 0.1  # grey levels (rms) that rounding an interpolated picture can leave as a pattern of its own
_COMPRESSED = {2: 0.06, 4: 0.12, 8: 0.25}  # the same of JPEG's blocks


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
    gridded = before is not results
    compressed = gridded or (encoding is not None and encoding.lossy)
    case = _Case(results, seen, inflation, examination, gridded, compressed)
    for step in _STEPS:
        step(case)
    return case.verdict, case.found, case.causes


@dataclass
class _Case:
    """What was seen in a picture, and how far it is sorted.

    Attributes:
        results: By period, without what JPEG's grid explains.
        seen: By trace and period, what was certain with it.
        inflation: By trace, how many times larger ``-log p`` is than by chance.
        examination: Answers what else is asked of the picture.
        gridded: Whether something was taken out for JPEG's grid.
        compressed: Whether the picture went through a lossy format.
        grid: Periods that JPEG's grid explains.
        mosaic: Whether a sensor's colour mosaic explains period 2.
        subsampled: Periods of colours that are stored coarser.
        added: Periods with a pattern in brightness or colour.
        strengths: Periods with a pattern in the strength of details only.
        texture: Periods of what is in the picture itself.
        evidence: log10 p of what is added or strengths, by period.
    """

    results: Mapping[int, PeriodResult]
    seen: Mapping[str, Found]
    inflation: Mapping[str, float]
    examination: Examination
    gridded: bool
    compressed: bool
    grid: set[int] = field(default_factory=set)
    mosaic: bool = False
    subsampled: set[int] = field(default_factory=set)
    added: set[int] = field(default_factory=set)
    strengths: set[int] = field(default_factory=set)
    texture: set[int] = field(default_factory=set)
    evidence: dict[int, float] = field(default_factory=dict)

    @property
    def found(self) -> tuple[int, ...]:
        """The periods that count."""
        return tuple(sorted(self.added | self.strengths))

    @property
    def verdict(self) -> Verdict:
        """By the strongest evidence of what counts."""
        if not self.found:
            return "none"
        return "strong" if min(self.evidence[p] for p in self.found) < _STRONG else "weak"

    @property
    def causes(self) -> tuple[Cause, ...]:
        """Those of :data:`_CAUSES` that have a period."""
        return tuple(
            Cause(kind, periods, text.format(pixels=_pixels(periods), chain=_chain(periods), largest=periods[-1]))
            for kind, of, text in _CAUSES
            if (periods := tuple(sorted(of(self))))
        )

    @property
    def tiled(self) -> bool:
        """Whether the longest pattern stands at the edges of its period."""
        return bool(self.added) and at_edges(self.results, max(self.added))

    @property
    def processed(self) -> set[int]:
        """Periods in the strength of details: whatever interpolates or compresses leaves them."""
        return set(self.seen["variance"]) | set(self.seen["interpolation"])

    def left(self, name: str) -> Found:
        """What of the mean or chroma neither rounding nor a pattern in the strength of details explains."""
        left = {
            p: t
            for p in self.seen[name]
            if (t := self.results[p].traces()[name]) is not None and self._exceeds(name, p, t)
        }
        strongest = max((t.db or 0.0 for t in left.values()), default=0.0)
        return {p: t for p, t in left.items() if (t.db or 0.0) > strongest - _SIDEBANDS}

    def _exceeds(self, name: str, period: int, trace: Trace) -> bool:
        floor = _FAINT if period in self.processed or name == "chroma" else 0.0
        floor = _COMPRESSED.get(period, floor) if self.compressed else floor
        return not floor or (_strength(trace) >= floor and self.examination.ungained(name, period) < _WEAK)

    def count(self, name: str, found: Found, counted: set[int]) -> None:
        """Count what was found in a trace, unless it is texture."""
        if _is_texture(found, name, self.examination):
            self.texture.update(found)
            return
        counted.update(found)
        for p, trace in found.items():
            self.evidence[p] = min(self.evidence.get(p, 0.0), trace.log10_p / self.inflation[name])


def _find_grid(case: _Case) -> None:
    """JPEG's blocks change the strength of details at their edges."""
    if case.gridded:
        case.grid = case.processed & set(JPEG_PERIODS)


def _find_brightness(case: _Case) -> None:
    case.count("mean", case.left("mean"), case.added)


def _find_mosaic(case: _Case) -> None:
    """A sensor's mosaic has period 2, and adds nothing to the brightness."""
    seen = any(2 in periods for periods in case.seen.values())
    case.mosaic = 2 not in case.added and seen and case.examination.is_mosaic


def _find_colours(case: _Case) -> None:
    """Colours count where neither a file that stores them coarser nor a mosaic has patterns of its own in them."""
    if case.compressed:
        case.subsampled = set(case.seen["chroma"]) - case.grid
    elif not case.mosaic:
        case.count("chroma", case.left("chroma"), case.added)


def _find_strengths(case: _Case) -> None:
    """A pattern in the strength of details counts by itself where nothing was added at its period."""
    for name in ("variance", "interpolation"):
        left = {p: t for p, r in case.results.items() if _fires(t := r.traces()[name], case.inflation[name])}
        own = {p: t for p, t in left.items() if not _related(p, case.added) and not (case.mosaic and p == 2)}
        case.count(name, own, case.strengths)


def _widen_texture(case: _Case) -> None:
    """A texture's harmonics, and what is faint beside it, are its own."""
    if case.texture:
        case.strengths -= {p for p in case.strengths if _related(p, case.texture)}
        for periods in (case.added, case.strengths):
            faint = {p for p in periods if case.evidence[p] > _STRONG}
            case.texture |= faint
            periods -= faint
    case.texture -= case.added | case.strengths


_STEPS: tuple[Callable[[_Case], None], ...] = (
    _find_grid,
    _find_brightness,
    _find_mosaic,
    _find_colours,
    _find_strengths,
    _widen_texture,
)
"""In the order in which they explain what was seen."""

_CAUSES: tuple[tuple[str, Callable[[_Case], Iterable[int]], str], ...] = (
    ("jpeg-grid", lambda c: c.grid, "JPEG's grid ({pixels})"),
    ("demosaicing", lambda c: (2,) if c.mosaic else (), "demosaicing of a colour sensor (2 pixels)"),
    ("chroma-subsampling", lambda c: c.subsampled, "colours stored coarser ({pixels})"),
    (
        "tiling",
        lambda c: c.added if c.tiled else (),
        "tiles of {largest} pixels with visible edges, or a kernel just larger than its stride ({pixels})",
    ),
    ("up-sampling", lambda c: () if c.tiled else c.added, "up-sampling by {chain} ({pixels})"),
    ("resize", lambda c: c.strengths, "interpolation ({pixels}): resized, or layers that interpolate"),
    ("texture", lambda c: c.texture, "texture of the picture itself ({pixels})"),
)
"""In the order in which they are named: kind, the periods that it explains, and the text for people."""


def _related(period: int, others: Iterable[int]) -> bool:
    """Whether one of two periods divides the other: a pattern's harmonics, or its strength."""
    return any(period % p == 0 or p % period == 0 for p in others)


def _fires(trace: Trace | None, inflation: float = 1.0) -> TypeGuard[Trace]:
    """Whether a trace is beyond chance and beyond its background."""
    return trace is not None and trace.log10_p / inflation < _WEAK and (trace.db is None or trace.db > _LEAST_DB)


def _strength(trace: Trace) -> float:
    """Root mean square of the pattern, in grey levels."""
    return 0.0 if trace.lines is None else float(np.sqrt((trace.lines.amplitude**2).sum() / 2))


def _is_texture(found: Found, name: str, examination: Examination) -> bool:
    """Whether lines of one trace are those of something in the picture."""
    if not found:
        return False
    if along_one_axis(min(found.values(), key=lambda t: t.log10_p)):
        return True
    lines = {p: t.lines for p, t in found.items() if t.lines is not None} if name == "mean" else {}
    if lines and (is_screen(lines) or displaced(lines, examination)):
        return True
    return examination.is_texture(name, found)


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
