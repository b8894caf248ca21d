"""Repair trained networks: name the guilty layer, solve its weights anew, say what it cost.

Not yet on the command line. :mod:`~evenly.fix.levels` is what a repair is judged by, :mod:`~evenly.fix.scatter` and
:mod:`~evenly.fix.solve` are the closed form, :mod:`~evenly.fix.backend` is how a model is looked at, run and edited.
"""
