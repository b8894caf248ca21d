"""Packages that can be called.

``evenly.check`` and ``evenly.measure`` are each two things that people expect under one name: a package, and the
function that it is for. A module may be given a class of its own (see "Customizing module attribute access" in Python's
data model), so a package can be called. What is called is the function of the same name in :mod:`evenly.api`, which
has the signature and the documentation. Looking it up there is the one place where a room asks for a later one; it
happens when the package is called, never on import.
"""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CallablePackage", "make_callable"]


class CallablePackage(ModuleType):
    """A package that can be called."""

    @property
    def _function(self) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(import_module("evenly.api"), self.__name__.rpartition(".")[2])
        return function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function of the same name in :mod:`evenly.api`."""
        return self._function(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        """That of the function, for ``help`` and editors."""
        return inspect.signature(self._function)


def make_callable(package: str) -> None:
    """Let a package, by its full name, be called."""
    sys.modules[package].__class__ = CallablePackage
