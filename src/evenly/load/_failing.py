"""Clear lines for what cannot be imported, and for what the user's own code raises."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from evenly.errors import EvenlyError, MissingDependencyError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["expect_scipy", "line", "needing"]


@contextmanager
def needing(extra: str, target: str) -> Iterator[None]:
    """Imports of an extra that a target needs.

    Raises:
        MissingDependencyError: If it is not installed.
        ModelError: If it is broken.
    """
    try:
        yield
    except ImportError as error:
        raise _failure(extra, target, error) from error


def _failure(extra: str, target: str, error: ImportError) -> EvenlyError:
    """A clear line when an extra is not installed or broken; a defect of evenly stays what it is."""
    package = (error.name or "").split(".")[0]
    if isinstance(error, EvenlyError) or package == "evenly":
        raise error
    if package == extra:
        return MissingDependencyError(f"{target}: needs {extra}; install it with pip install 'evenly[{extra}]'")
    return ModelError(f"{target}: {extra} cannot be imported: {line(error)}; repair its installation")


def line(error: BaseException) -> str:
    """The kind and the first line of an exception."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def expect_scipy(target: str) -> None:
    """Fail before a network is run where scipy is not installed."""
    try:
        import scipy  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"{target}: running it to explain or repair it needs scipy; install it with pip install 'evenly[fix]'"
        ) from error
