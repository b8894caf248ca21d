"""The interactive explorer: one page of HTML that computes everything in the browser and loads nothing.

The page is built from the sources in ``web/`` of the repository (``make web``) and shipped as it is.
"""

from __future__ import annotations

from importlib.resources import files

__all__ = ["page"]


def page() -> str:
    """The explorer as HTML, about as large as a photograph; it opens from a file or any server, without a network.

    Returns:
        A document with its script and styles inside.
    """
    return (files(__name__) / "page.html").read_text(encoding="utf-8")
