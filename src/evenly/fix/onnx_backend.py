"""ONNX files as :mod:`evenly.fix.backend` sees models: looked at, run in onnxruntime, edited, saved.

Nothing but what an edit names changes: nodes, names, metadata, opset, and where the values lie stay as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from evenly.errors import FormatError, UntrustedError, UsageError
from evenly.fix._onnx_geometry import known_values
from evenly.fix._onnx_places import Place, channels_last, find_places
from evenly.fix._onnx_saving import save_model
from evenly.fix._onnx_session import Session
from evenly.fix._onnx_surgery import Surgery
from evenly.fix._onnx_tensors import Home, all_tensors, is_external
from evenly.fix.backend import Edit, Floats, Layer, Run
from evenly.graph.onnx.files import check_model, inlined, parse_model
from evenly.graph.onnx.reader import OnnxFile, opened

__all__ = ["OnnxBackend"]

SESSIONS = 4
"""Sessions that are kept, each with a copy of the weights."""


class OnnxBackend:
    """A model in the ONNX format.

    Layers are ``Conv`` and ``ConvTranspose`` nodes of the graph itself; :attr:`unlisted` says why others are not among
    them. Padding by a ``Pad`` node of its own belongs to that node, so that the layer reads what is padded already.
    Layers keep their names through edits. In a saved file, nodes without a name are called by their place, which the
    nodes of weights by phase move.

    Args:
        source: Path of a file, which is not trusted, or a model in memory with all its values.

    Raises:
        FormatError: If it is no ONNX model, damaged, or of an unsupported version.
        UntrustedError: If its external data lie outside its folder.
        UsageError: If a model in memory refers to values in files.
    """

    def __init__(self, source: str | os.PathLike[str] | ModelProto) -> None:
        if isinstance(source, ModelProto):
            model, path = ModelProto(), Path("model")
            model.CopyFrom(source)
            check_model(model, path)
            if any(is_external(t) for t in all_tensors(model)):
                raise UsageError(
                    "the model in memory refers to values in files, expected all values in it; pass the path of its "
                    "file, or load it with onnx.load(path)"
                )
        else:
            path = Path(source)
            model = parse_model(path)
        self._set(model, path, None if isinstance(source, ModelProto) else path, {}, {}, {})

    def _set(
        self,
        model: ModelProto,
        path: Path,
        file: Path | None,
        homes: Mapping[str, Home],
        names: Mapping[str, str],
        phased: Mapping[str, str],
    ) -> None:
        """Take a model in.

        Args:
            model: The model.
            path: For messages; its folder is where external data lie.
            file: The file that it was read from.
            homes: Tensors in memory that lay in external data.
            names: Names of layers by what their nodes make.
            phased: Layers that differ by phase: what their nodes make, and the values behind their shuffles.
        """
        self._model, self._path, self._file = model, path, file
        self._homes, self._phased = dict(homes), dict(phased)
        self._sessions: dict[frozenset[str], Session] = {}
        try:
            read = opened(inlined(model, path), path)
            self._read, self._opset = read, read.opset
            self._places, self._unlisted = find_places(model, read, names, phased)
            self._last = channels_last(model, read.consts)
        except (FormatError, UntrustedError) as error:
            if str(error).startswith(str(path)):
                raise
            raise type(error)(f"{path}: {error}") from error

    @property
    def model(self) -> ModelProto:
        """The model; what lies in external data stays there unless it was edited. Not to be changed."""
        return self._model

    @property
    def path(self) -> Path:
        """Of the file that it was read from: external data lie beside it."""
        return self._path

    @property
    def unlisted(self) -> Mapping[str, str]:
        """Convolutions that are not among the layers, with the reason."""
        return dict(self._unlisted)

    @property
    def places(self) -> Sequence[Place]:
        """Where the layers stand."""
        return self._places

    @property
    def file(self) -> OnnxFile:
        """The model as it was read."""
        return self._read

    @cached_property
    def _layers(self) -> tuple[Layer, ...]:
        return tuple(place.layer() for place in self._places)

    def layers(self) -> Sequence[Layer]:
        """All convolutions in the order of the file, which is one in which they can run.

        Raises:
            FormatError: If the values of a weight are damaged.
        """
        return self._layers

    def run(self, batch: Any, record: Iterable[str] = ()) -> Run:
        """Run one batch in onnxruntime, on the CPU; as many threads as ``OMP_NUM_THREADS`` says.

        Args:
            batch: An array of a model with one input, a sequence of arrays, or a mapping by the names of inputs. Floats
                are brought to the precision of the input.
            record: Layers whose inputs and results are wanted.

        Returns:
            Arrays in float32 or float64 (integers as float64); outputs that are no arrays of numbers are left out.
            Outputs that the file brings to the order ``(N, *sizes, C)`` are given as ``(N, C, *sizes)``.
            Random numbers that the model draws are the same in every run.

        Raises:
            UsageError: If the batch does not fit the inputs, or a layer does not exist.
            MissingDependencyError: If onnxruntime is not installed.
            FormatError: If onnxruntime cannot run the model.
        """
        places = [self._place(name) for name in dict.fromkeys(record)]
        session = self._session(places)
        values = session.run(batch)
        return Run(
            {name: self._turned(name, values[name]) for name in session.outputs if _numeric(values[name])},
            {p.name: _floats(values[p.source]) for p in places},
            {p.name: _floats(values[p.result]) for p in places},
        )

    def _turned(self, name: str, values: NDArray[Any]) -> Floats:
        """An output with its channels in the second place."""
        found = _floats(values)
        return np.ascontiguousarray(np.moveaxis(found, -1, 1)) if name in self._last else found

    def edited(self, edits: Sequence[Edit]) -> Self:
        """A copy with new weights; equal values change no byte.

        A bias of ``None`` leaves the layer's as it is.

        Raises:
            UsageError: If a layer does not exist, cannot be edited, appears twice, or does not fit its edit.
        """
        names = [edit.name for edit in edits]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"layer {twice!r} has two edits, expected one; make them one after the other")
        places = [self._place(name) for name in names]
        surgery = self.operated()
        for place, edit in zip(places, edits, strict=True):
            surgery.apply(place, edit)
        return self.renewed(surgery)

    def operated(self) -> Surgery:
        """A copy of the model that may be changed."""
        model = ModelProto()
        model.CopyFrom(self._model)
        surgery = Surgery(model, self._path.parent, self._opset, known_values(self._model))
        surgery.homes.update(self._homes)
        return surgery

    def renewed(self, surgery: Surgery) -> Self:
        """The model after changes; layers are called as they were."""
        made = {result: inner for inner, result in {**surgery.moved, **surgery.renamed}.items()}
        known = {made.get(p.output, p.output): p.name for p in self._places}
        new = type(self).__new__(type(self))
        new._set(surgery.model, self._path, self._file, surgery.homes, known, {**self._phased, **surgery.renamed})
        return new

    def save(self, path: str | os.PathLike[str], batch: Any = None) -> None:
        """Write the model, whole or not at all, in the layout of the file that it was read from.

        Values that lay in files beside the model lie in files beside the new one, called after it where they were
        called after the model. What was written is checked with ``onnx.checker`` and run in onnxruntime beside this
        model before it takes its place.

        Args:
            path: The new file.
            batch: What to run it on; by default noise of the shapes that the inputs declare.

        Raises:
            OutputError: If it cannot be written, would overwrite the values that this model is read from, or what was
                written is not what this model is.
            UsageError: If the batch does not fit.
            MissingDependencyError: If onnxruntime is not installed.
        """
        save_model(self._model, Path(path), self._path.parent, self._homes, self._file, self._session([]), batch)

    def _place(self, name: str) -> Place:
        for place in self._places:
            if place.name == name:
                return place
        if name in self._unlisted:
            raise UsageError(f"layer {name!r} cannot be used: {self._unlisted[name]}; choose another layer")
        known = ", ".join(repr(p.name) for p in self._places[:20]) or "none"
        raise UsageError(f"there is no layer {name!r}, expected one of: {known}; see layers()")

    def _session(self, places: Sequence[Place]) -> Session:
        """The session that records these layers; the last few are kept."""
        key = frozenset(p.name for p in places)
        if key not in self._sessions:
            if len(self._sessions) >= SESSIONS:
                self._sessions.pop(next(iter(self._sessions)))
            wanted = [value for p in places for value in (p.source, p.result)]
            self._sessions[key] = Session(self._model, self._path.parent, wanted)
        return self._sessions[key]


def _numeric(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiub"


def _floats(array: NDArray[Any]) -> Floats:
    """In single or double precision: 16 bits overflow where squares are summed."""
    if array.dtype in (np.float32, np.float64):
        return array
    return array.astype(np.float32 if array.dtype == np.float16 else np.float64)
