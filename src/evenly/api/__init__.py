"""``evenly.check``, ``measure``, ``attribute``, ``fix``, ``reproduce`` as people call them from Python."""

from __future__ import annotations

from evenly.api._attributing import attribute, attribute_network
from evenly.api._checking import check, report_on
from evenly.api._fixing import fix
from evenly.api._measuring import measure
from evenly.api._reproducing import reproduce

__all__ = [
    "attribute",
    "attribute_network",
    "check",
    "fix",
    "measure",
    "report_on",
    "reproduce",
]
