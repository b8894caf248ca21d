"""Outcomes of cells on disk: whole or not at all, and only used again for the same work."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from evenly import __version__
from evenly.errors import OutputError
from evenly.reproduce.experiment import Outcome
from evenly.reproduce.result import FORMAT_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evenly.reproduce.experiment import Cell, Experiment, Scale

__all__ = ["Kept", "versions"]

_PACKAGES = ("torch", "lightning-fabric", "numpy", "scipy", "scikit-image", "scikit-learn")


def versions() -> dict[str, str]:
    """Of what decides about the numbers."""
    found = {"evenly": __version__}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


class Kept:
    """Where an experiment keeps its cells at one scale."""

    def __init__(self, folder: Path, experiment: Experiment, scale: Scale, data: str, device: str) -> None:
        """Prepare the folder.

        Args:
            folder: Of the whole reproduction.
            experiment: The experiment.
            scale: The scale.
            data: Digest of the data.
            device: What it runs on; other devices give other numbers.
        """
        self._root = folder / "cells" / experiment.name / scale.value
        self._basis = (
            FORMAT_VERSION, experiment.name, experiment.revision, scale.value, data, device.partition(":")[0],
            versions(),
        )  # fmt: skip

    def forget(self) -> None:
        """Drop whatever earlier runs kept here.

        Raises:
            OutputError: If it cannot be removed.
        """
        try:
            if self._root.is_dir():
                shutil.rmtree(self._root)
        except OSError as error:
            raise OutputError(f"{self._root}: cannot be removed: {error.strerror or error}") from error

    def checkpoints(self, cell: Cell) -> Path:
        """Folder for the checkpoints of a cell; they are of this work alone."""
        return self._root / f"{self._slug(cell)}.checkpoints"

    def load(self, cell: Cell) -> Outcome | None:
        """A cell's outcome, if it was kept; one that is damaged was not."""
        path = self._root / f"{self._slug(cell)}.npz"
        if not path.is_file():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                form = json.loads(str(archive["outcome"]))
                arrays = {name[6:]: archive[name] for name in archive.files if name.startswith("array_")}
            return Outcome(form["numbers"], arrays, float(form["seconds"]))
        except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile, zlib.error):
            return None

    def save(self, cell: Cell, outcome: Outcome) -> Outcome:
        """Keep an outcome; the checkpoints behind it are dropped.

        Returns:
            The outcome as it will be read: lists instead of tuples, strings instead of other keys.

        Raises:
            OutputError: If it cannot be written.
        """
        form = {"cell": cell.name, "numbers": outcome.numbers, "seconds": outcome.seconds}
        try:
            text = json.dumps(form, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise OutputError(
                f"the numbers of the cell {cell.name} must be JSON values, none infinite or NaN: {error}"
            ) from error
        arrays = {f"array_{name}": np.asarray(array) for name, array in outcome.arrays.items()}
        final = self._root / f"{self._slug(cell)}.npz"
        temporary = final.with_suffix(".tmp")
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, outcome=np.array(text), **arrays)
            temporary.replace(final)
        except OSError as error:
            raise OutputError(f"{final}: cannot be written: {error.strerror or error}") from error
        shutil.rmtree(self.checkpoints(cell), ignore_errors=True)
        return Outcome(
            json.loads(text)["numbers"], {name[6:]: array for name, array in arrays.items()}, outcome.seconds
        )

    def _slug(self, cell: Cell) -> str:
        work: Mapping[str, Any] = {"name": cell.name, "options": dict(cell.options), "seed": cell.seed}
        digest = hashlib.sha256(json.dumps([self._basis, work], sort_keys=True).encode()).hexdigest()[:12]
        return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', cell.name)}.{digest}"
