"""Checks for other people's test suites.

Example:
    ::

        def test_decoder_is_even():
            evenly.testing.assert_even(Decoder(), torch.zeros(1, 64, 8, 8), select=["EV1"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evenly.api import check
from evenly.errors import UsageError
from evenly.settings import FAIL_ON, failing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evenly.check.result import Report
    from evenly.settings import FailOn

__all__ = ["assert_even"]


def assert_even(
    model: Any,
    *inputs: Any,
    select: str | Iterable[str] | None = None,
    ignore: str | Iterable[str] | None = None,
    fail_on: FailOn = "error",
    **options: Any,
) -> Report:
    """Fail a test if a network has findings.

    Args:
        model: As for :func:`evenly.check`.
        *inputs: Example tensors ``(N, C, *spatial)``.
        select: Codes or beginnings of codes to look at (``["EV1"]``); by default all.
        ignore: Codes or beginnings of codes to leave out.
        fail_on: Lowest severity that fails: ``"error"`` or ``"warning"``.
        **options: Further options of :func:`evenly.check` (``use_weights=False``, ``per_layer_ignores=...``).

    Returns:
        The report, for further assertions.

    Raises:
        AssertionError: If there are findings at or above ``fail_on``, listed one per paragraph.
        EvenlyError: If the model cannot be checked.
    """
    __tracebackhide__ = True  # pytest then shows the caller's line
    if fail_on not in FAIL_ON or fail_on == "never":
        raise UsageError(f"fail_on (={fail_on!r}) is not understood; expected 'error' or 'warning'")
    report = check(model, *inputs, select=select, ignore=ignore, **options)
    found = failing(report, fail_on)
    if found:
        count = "1 finding" if len(found) == 1 else f"{len(found)} findings"
        paragraphs = [f"  {f.code} {f.severity} at {f.layer}: {f.message}\n    Fix: {f.fix}" for f in found]
        raise AssertionError("\n".join([f"{report.model.source} is not even ({count}):", *paragraphs]))
    return report
