"""Repair trained networks: name the guilty layer, solve its weights anew, say what it cost.

The package, and the function that repairs (see :mod:`evenly.callable`)::

    import evenly

    result = evenly.fix(model, torch.zeros(1, 64, 8, 8), calibration=batches)
    result.save("repaired.safetensors")
    model = evenly.fix.restore(made_anew, "repaired.safetensors")

:mod:`~evenly.fix.engine` is the way through its rooms:

:mod:`~evenly.fix.backend` is how a model is looked at, run and edited (:mod:`~evenly.fix.torch_backend`,
:mod:`~evenly.fix.onnx_backend`); :mod:`~evenly.fix.levels` is what a repair is judged by;
:mod:`~evenly.fix.attribution` says which layer makes a line. :mod:`~evenly.fix.scatter`, :mod:`~evenly.fix.geometry`
and :mod:`~evenly.fix.solve` are the closed form, :mod:`~evenly.fix.balance` the certificate's projection,
:mod:`~evenly.fix.solved` solves a layer of a model, :mod:`~evenly.fix.search` finds which: the cheapest of
:mod:`~evenly.fix.candidates` that does. :mod:`~evenly.fix.structure` replaces layers, for
people who go on training, :mod:`~evenly.fix.onnx_structure` does so in files, and :mod:`~evenly.fix.planning` plans it.
:mod:`~evenly.fix.saving` and :mod:`~evenly.fix.restoring` are the way to files and back.
"""

from __future__ import annotations

from evenly.callable import make_callable
from evenly.fix.restoring import restore

__all__ = ["restore"]

make_callable(__name__)
