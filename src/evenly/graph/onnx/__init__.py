"""The ONNX reader, in the order in which a file passes through it.

``files`` loads safely, ``nodes`` gives nodes typed attributes, ``constants`` folds what depends on the file only,
``idioms`` recognises chains of nodes that stand for one operator, ``names`` finds what the user calls things,
``operators`` is the table from operators to their meaning, and ``reader`` walks over the nodes.
"""

from __future__ import annotations

from evenly.graph.onnx.reader import read_onnx, read_proto

__all__ = ["read_onnx", "read_proto"]
