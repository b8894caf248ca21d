"""Findings: a graph meets the theory.

The package of the rules and the engine, and the function that runs them (see :mod:`evenly.callable`)::

    import evenly

    report = evenly.check(model, torch.zeros(1, 64, 8, 8))
    from evenly.check.result import Report
"""

from __future__ import annotations

from evenly.callable import make_callable

__all__: list[str] = []

make_callable(__name__)
