"""Weights from files of the user's: tensors alone, nothing in them is executed."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch

from evenly.errors import UnreadableError

__all__ = ["read_weights"]


def read_weights(path: Path) -> Any:
    """What a file of weights holds, on the CPU: a ``state_dict``, if it is one.

    Args:
        path: ``.safetensors``, or what ``torch.save`` wrote.

    Raises:
        UnreadableError: If it cannot be read, or holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return importlib.import_module("safetensors.torch").load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds: pickle, zip, header
        raise UnreadableError(f"{path}: cannot be read as weights: {error}") from error
