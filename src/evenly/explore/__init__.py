"""The interactive explorer: one page of HTML that computes everything in the browser and loads nothing.

The page is built from the sources in ``web/`` of the repository (``make web``) and shipped as it is.
"""

from __future__ import annotations

import json
from importlib.resources import files

from evenly.errors import UsageError

__all__ = ["page"]


def page(report: str | None = None) -> str:
    """The explorer as HTML; it opens from a file or any server, without a network.

    Args:
        report: JSON of ``evenly check`` (docs/json.md) that the last panel shows; by default it asks for a file.

    Returns:
        A document with its script and styles inside. A report travels as data that no browser runs.

    Raises:
        UsageError: If the report is not JSON.
    """
    html = (files(__name__) / "page.html").read_text(encoding="utf-8")
    if report is None:
        return html
    try:
        data = json.dumps(json.loads(report), separators=(",", ":"))
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"the report is not JSON: {error}; expected what `evenly check --format json` writes"
        ) from error
    # In JSON a "<" stands in texts only; escaped, none of them can end the element.
    harmless = data.replace("<", "\\u003c")
    head, end, tail = html.rpartition("</body>")
    return f'{head}<script type="application/json" id="evenly-report">{harmless}</script>{end}{tail}'
