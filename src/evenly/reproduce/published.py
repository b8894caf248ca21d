"""Published classifiers, from weights that are on disk already; nothing is ever downloaded.

The environment variable ``EVENLY_WEIGHTS`` names a folder with state files of torchvision's models: ``resnet50.pth``,
``resnet50-0676ba61.pth``, ``vgg16.safetensors``, .... Without it, or without torchvision, experiments do without.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from evenly.errors import MissingDependencyError, UsageError
from evenly.reproduce._weights import read_weights

__all__ = ["WEIGHTS", "load_torchvision", "published"]

WEIGHTS = "EVENLY_WEIGHTS"
"""Environment variable: the folder."""

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of red, green and blue that torchvision's classifiers expect, of values from 0 to 1."""


def published() -> dict[str, tuple[Path, str]]:
    """Weights of torchvision's models in the folder that the environment variable ``EVENLY_WEIGHTS`` names.

    Returns:
        By the model's name (the file's, up to the first dot), the file and its SHA-256; empty if the variable is not
        set. A cell that uses one should carry the digest among its options, so that it is not kept for another file.

    Raises:
        UsageError: If the variable names no folder.
    """
    given = os.environ.get(WEIGHTS, "")
    if not given:
        return {}
    folder = Path(given)
    if not folder.is_dir():
        raise UsageError(f"{WEIGHTS} (={given}) must name a folder with weights of torchvision's models, or be unset")
    files = sorted(path for path in folder.iterdir() if path.suffix in (".pth", ".pt", ".safetensors"))
    return {path.name.split(".")[0].partition("-")[0]: (path, _digest(path)) for path in files}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Normalised(nn.Module):
    """A classifier that was trained on ImageNet, for pictures from -1 to 1."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        for name, values in zip(("mean", "deviation"), _IMAGENET, strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.network(((x + 1) / 2 - self.mean) / self.deviation)
        return scores


def load_torchvision(name: str, weights: Path) -> nn.Module:
    """One of torchvision's classifiers with weights from a file, for pictures from -1 to 1.

    Args:
        name: As torchvision calls the model, such as ``"resnet50"``.
        weights: Its state: ``.safetensors``, or a file of ``torch.save`` that holds tensors only.

    Returns:
        The network in evaluation mode.

    Raises:
        MissingDependencyError: If torchvision is not installed.
        UsageError: If torchvision has no such model, or the weights are another's.
        UnreadableError: If the file cannot be read, or holds more than tensors.
    """
    try:
        models = importlib.import_module("torchvision.models")
    except ImportError as error:
        raise MissingDependencyError(
            f"torchvision is not installed; {weights.name} needs it, or unset {WEIGHTS}"
        ) from error
    try:
        network: nn.Module = models.get_model(name, weights=None)
    except ValueError as error:
        raise UsageError(
            f"{weights}: torchvision has no model called {name!r}; name the file like the model"
        ) from error
    state = read_weights(weights)
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UsageError(f"{weights}: these are not the weights of torchvision's {name}: {error}") from error
    return _Normalised(network).eval()
