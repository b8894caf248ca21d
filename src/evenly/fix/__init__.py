"""Repair trained networks: name the guilty layer, solve its weights anew, say what it cost.

Not yet on the command line, and not yet one function. The rooms' order:

:mod:`~evenly.fix.backend` is how a model is looked at, run and edited (:mod:`~evenly.fix.torch_backend`,
:mod:`~evenly.fix.onnx_backend`); :mod:`~evenly.fix.levels` is what a repair is judged by;
:mod:`~evenly.fix.attribution` says which layer makes a line. :mod:`~evenly.fix.scatter`, :mod:`~evenly.fix.geometry`
and :mod:`~evenly.fix.solve` are the closed form, :mod:`~evenly.fix.balance` the certificate's projection,
:mod:`~evenly.fix.last` repairs the layer that makes the output. :mod:`~evenly.fix.structure` replaces layers, for
people who go on training, and :mod:`~evenly.fix.planning` plans that.
"""
