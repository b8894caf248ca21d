"""From what the user names to a graph: a file, ``package.module:attribute``, or an object in Python.

One table says what to do with each kind of file. Files that can execute code when they are loaded are refused:
pickles always, saved programs (``.pt2``) unless the caller trusts them. ``package.module:attribute`` imports the user's
own code, as ``python -m`` would.
"""

from __future__ import annotations

from evenly.load._declared import DTYPES, MOST_ELEMENTS, Declared, parse_input
from evenly.load._reading import load_module, load_object, load_target
from evenly.load._request import Loaded
from evenly.load._running import load_network, module_network

__all__ = [
    "DTYPES",
    "MOST_ELEMENTS",
    "Declared",
    "Loaded",
    "load_module",
    "load_network",
    "load_object",
    "load_target",
    "module_network",
    "parse_input",
]
