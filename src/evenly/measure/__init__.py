"""Signals: periodic artifacts of up-sampling in pictures, sets of pictures, sound, activations and gradients.

The package, and the function that measures one picture or recording (see :mod:`evenly.callable`)::

    import evenly

    measurement = evenly.measure("picture.png")
    from evenly.measure.result import Measurement
"""

from __future__ import annotations

from evenly.callable import make_callable

__all__: list[str] = []

make_callable(__name__)
