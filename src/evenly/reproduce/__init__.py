"""Every experiment of the article, run again and measured.

The package, and the function that runs them (see :mod:`evenly.callable`)::

    import evenly

    reproduction = evenly.reproduce(["arithmetic"], scale="smoke")
    from evenly.reproduce.stored import Reproduction

:mod:`~evenly.reproduce.claims` says what is claimed, :mod:`~evenly.reproduce.registry` which experiment speaks about
it; one module per experiment, named by its source, says what is run and what decides. :mod:`~evenly.reproduce.run`
runs them, and the pages are made from what is written then.
"""

from __future__ import annotations

from evenly.callable import make_callable

__all__: list[str] = []

make_callable(__name__)
