"""Checks of arguments that the layers share; every message gives the value, what was expected and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from evenly.errors import ParameterError

__all__ = ["channels", "choice", "integers", "pairs", "refuse", "scales"]


def refuse(name: str, value: object, expected: str, do: str) -> NoReturn:
    """Raise a ParameterError in the house's form."""
    raise ParameterError(f"{name} (={value!r}) must be {expected}; {do}")


def integers(name: str, value: int | Sequence[int], dims: int, least: int = 1) -> tuple[int, ...]:
    """One integer per axis, each at least ``least``."""
    values = (value,) * dims if isinstance(value, int) and not isinstance(value, bool) else value
    wish = f"an integer of at least {least}, or {dims} of them, one per spatial axis"
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != dims:
        refuse(name, value, wish, f"give {name}={max(least, 1)} or one value per axis")
    if any(isinstance(v, bool) or not isinstance(v, int) or v < least for v in values):
        refuse(name, value, wish, f"give integers of at least {least}")
    return tuple(values)


def channels(in_channels: int, out_channels: int, groups: int) -> tuple[int, int, int]:
    """Channels and groups of a convolution, as they are if the groups divide both."""
    named = (("in_channels", in_channels), ("out_channels", out_channels), ("groups", groups))
    first, second, parts = (integers(name, value, 1)[0] for name, value in named)
    if first % parts or second % parts:
        wish = f"a divisor of in_channels (={first}) and out_channels (={second})"
        refuse("groups", parts, wish, "change groups or the channels")
    return first, second, parts


def pairs(name: str, value: int | Sequence[int | Sequence[int]], dims: int) -> tuple[tuple[int, int], ...]:
    """A (before, after) pair of integers per axis from one integer, one per axis, or a pair per axis."""
    wish = f"an integer, {dims} integers, or {dims} pairs (before, after)"
    values = (value,) * dims if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != dims:
        refuse(name, value, wish, "give one value per spatial axis")
    found: list[tuple[int, int]] = []
    for entry in values:
        both = (entry, entry) if isinstance(entry, int) else tuple(entry) if isinstance(entry, Sequence) else ()
        if len(both) != 2 or any(isinstance(v, bool) or not isinstance(v, int) for v in both):
            refuse(name, value, wish, "give whole samples (negative ones crop)")
        found.append((both[0], both[1]))
    return tuple(found)


def scales(name: str, value: float | Sequence[float], dims: int) -> tuple[int | float, ...]:
    """One positive scale factor per axis; whole numbers become integers."""
    wish = f"a positive number, or {dims} of them, one per spatial axis"
    values = (value,) * dims if isinstance(value, int | float) and not isinstance(value, bool) else value
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != dims:
        refuse(name, value, wish, f"give {name}=2 or one factor per axis")
    if any(isinstance(v, bool) or not isinstance(v, int | float) or not 0 < v < float("inf") for v in values):
        refuse(name, value, wish, "give finite factors above 0")
    return tuple(int(v) if float(v).is_integer() else float(v) for v in values)


def choice(name: str, value: str, allowed: Sequence[str]) -> str:
    """``value`` if it is one of ``allowed``."""
    if value not in allowed:
        refuse(name, value, "one of " + ", ".join(repr(a) for a in allowed), "choose one of these")
    return value
