"""Saving ONNX models: whole or not at all, checked before they take their place."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
import onnx.checker
from onnx import ModelProto

from evenly.errors import OutputError, UsageError, VerificationError
from evenly.fix._onnx_session import Session, guessed_batches
from evenly.fix._onnx_tensors import Home
from evenly.fix._onnx_writing import locations, write_model

__all__ = ["save_model"]

ROUNDING = 1e-5
"""Difference of two runs of one model, relative to the largest output."""


def save_model(
    model: ModelProto,
    path: Path,
    folder: Path,
    homes: Mapping[str, Home],
    source: Path | None,
    session: Session,
    batch: Any,
) -> None:
    """Write a model beside its place, check it there, then move it.

    Args:
        model: The model.
        path: Where to.
        folder: Where its external data lie.
        homes: Tensors in memory that go back to external data.
        source: The file that it was read from.
        session: The model ready to run.
        batch: What to run it on, or ``None``.

    Raises:
        OutputError: If it cannot be written.
        VerificationError: If what was written is not the model.
        UsageError: If the model does not run on the batch.
    """
    path = path.resolve()  # a link stays a link
    if not path.parent.is_dir():
        raise OutputError(f"{path}: cannot be written: there is no folder {path.parent}; make it first")
    names = _names(locations(model, homes), path, folder, source)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as staging:
            staged = Path(staging) / path.name
            write_model(model, staged, folder, homes=homes, names=names)
            _verify(staged, path, source or model, session, batch)
            _move(staged.parent, [*names.values(), path.name], path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}; choose another path") from error


def _names(found: list[str], path: Path, folder: Path, source: Path | None) -> dict[str, str]:
    """What the files beside the new model are called.

    Raises:
        OutputError: If one would overwrite what the model is read from, or what belongs to another model.
    """
    own = path.parent == folder.resolve()
    if found and source is not None and path == source.resolve():
        raise OutputError(
            f"{path}: is the file that the model is read from, with values in {found[0]!r} beside it, which cannot be "
            "replaced at once; choose another path"
        )
    names: dict[str, str] = {}
    for location in found:
        place = PurePosixPath(location)
        name = place.name
        if source is not None and name.startswith(source.name):
            name = path.name + name[len(source.name) :]
        elif source is not None and name.startswith(source.stem):
            name = path.stem + name[len(source.stem) :]
        elif own:
            name = f"{path.stem}.{name}"
        names[location] = str(place.with_name(name))
        final = path.parent / names[location]
        if final.exists() and not path.exists():
            raise OutputError(f"{final}: exists and belongs to another model; choose another path, or remove it")
    reads = {(folder / location).resolve() for location in found}
    for name in names.values():
        if (path.parent / name).resolve() in reads or name == path.name:
            raise OutputError(f"{path.parent / name}: holds values that the model is read from; choose another path")
    if len(set(names.values())) < len(names):
        raise OutputError(f"{path}: two files beside the model would be called alike; choose another name")
    return names


def _verify(staged: Path, path: Path, source: Path | ModelProto, session: Session, batch: Any) -> None:
    problem = _problem(staged)
    if problem is not None and _problem(source) is None:
        raise VerificationError(
            f"{path}: not written, since onnx.checker refuses the result: {problem}; report this model"
        )
    written = onnx.load_model(str(staged), load_external_data=False)
    again = Session(written, staged.parent)
    used = batch if batch is not None else _running(session)
    first, second = session.run(used), again.run(used)
    for name in session.outputs:
        if not _same(first[name], second[name]):
            raise VerificationError(
                f"{path}: not written, since its output {name!r} is not that of the model in memory; report this model"
            )


def _problem(model: Path | ModelProto) -> str | None:
    """What ``onnx.checker`` has to say, in one line."""
    try:
        onnx.checker.check_model(str(model) if isinstance(model, Path) else model)
    except Exception as error:  # ValidationError, and C++ errors of other kinds
        return " ".join(str(error).split())[:300]
    return None


def _running(session: Session) -> dict[str, Any]:
    """The first batch of noise that the model runs on."""
    first: UsageError | None = None
    for batch in guessed_batches(session):
        try:
            session.run(batch)
        except UsageError as error:
            first = first or error
        else:
            return batch
    raise UsageError(f"no usual size of the inputs runs, so the result cannot be checked; pass a batch: {first}")


def _same(a: Any, b: Any) -> bool:
    if not isinstance(a, np.ndarray):
        return type(a) is type(b)
    if a.shape != b.shape or a.dtype != b.dtype or a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    a, b = a.astype(np.float64), b.astype(np.float64)
    finite = np.abs(a[np.isfinite(a)])
    return bool(np.allclose(a, b, rtol=0, atol=ROUNDING * float(finite.max(initial=0)), equal_nan=True))


def _move(staging: Path, names: list[str], path: Path) -> None:
    """Move files to their places, the model last; on failure everything is as it was."""
    kept: list[tuple[Path, Path | None]] = []
    try:
        for number, name in enumerate(names):
            final, backup = path.parent / name, staging / f"{number}.old"
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.exists():
                _kept(final, backup)
            kept.append((final, backup if backup.exists() else None))
            (staging / name).replace(final)
    except BaseException:
        for final, held in reversed(kept):
            with suppress(OSError):
                final.unlink(missing_ok=True) if held is None else held.replace(final)
        raise


def _kept(final: Path, backup: Path) -> None:
    """Hold on to a file, by a link where the file system has them."""
    try:
        os.link(final, backup)
    except OSError:
        shutil.copyfile(final, backup)
