"""A model comes in: readers of PyTorch and ONNX, and the one small graph that they produce.

``ir`` defines the graph; ``layout`` says which part of a field each dimension of a tensor runs through; ``builder``
turns tensor-level calls into nodes, with a module of ``building`` for every group of calls; ``torch`` and ``onnx``
translate foreign operators into such calls. Importing this package loads neither torch nor onnx.
"""
