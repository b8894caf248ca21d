"""evenly: find checkerboard artifacts in neural networks before training."""

__version__ = "0.1.0"
