"""Findings: a graph meets the theory.

``evenly.check`` is two things that people expect under this one name: the package of the rules and the engine, and the
function that runs them. A module may be given a class of its own (see "Customizing
module attribute access" in Python's data model), so the package can be called::

    import evenly

    report = evenly.check(model, torch.zeros(1, 64, 8, 8))
    from evenly.check.result import Report

Calling it calls :func:`evenly.api.check`, which has the signature and the documentation. The import in
``__call__`` is the one place where a room looks up the list of rooms; it happens when the package is called, never on
import.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import inspect

    from evenly.check.result import Report

__all__: list[str] = []


class _CallablePackage(ModuleType):
    """A package that can be called."""

    def __call__(self, *args: Any, **kwargs: Any) -> Report:
        """Check a network; see :func:`evenly.api.check`."""
        from evenly.api import check

        return check(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        """The signature of :func:`evenly.api.check`, for ``help`` and editors."""
        import inspect

        from evenly.api import check

        return inspect.signature(check)


sys.modules[__name__].__class__ = _CallablePackage
