"""From the evidence of every period to a verdict and its likely causes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evenly.measure.result import Cause

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evenly.measure.files import Encoding
    from evenly.measure.result import PeriodResult, Verdict

__all__ = ["judge"]

_WEAK, _STRONG = -4.0, -8.0  # log10 p


def judge(
    results: Mapping[int, PeriodResult], encoding: Encoding | None
) -> tuple[Verdict, tuple[int, ...], tuple[Cause, ...]]:
    """The verdict, the periods that it is about, and the causes."""
    found = tuple(p for p, r in results.items() if r.mean is not None and r.mean.log10_p < _WEAK)
    if not found:
        return "none", (), ()
    strong = any(r.mean is not None and r.mean.log10_p < _STRONG for r in results.values())
    cause = Cause("up-sampling", found, f"up-sampling by {max(found)}")
    return ("strong" if strong else "weak"), found, (cause,)
