"""Running ONNX models in onnxruntime, on the CPU, with any values as further outputs."""

from __future__ import annotations

import os
import shutil
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import prod
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, ValueInfoProto

from evenly.errors import FormatError, MissingDependencyError, UsageError
from evenly.fix._onnx_tensors import all_tensors, is_external
from evenly.fix._onnx_writing import write_model
from evenly.graph.onnx.files import numpy_dtype
from evenly.graph.onnx.reader import GUESSES

__all__ = ["Session", "declared_inputs", "guessed_batches"]

Array = NDArray[Any]
IN_MEMORY = 2**31 - 2**20
"""Bytes of a model that protobuf can hand over in one piece, less some for the outputs that are added."""
LARGEST_GUESS = 2**22
"""Elements of an input whose sizes are guessed."""
NOISE = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
"""Operators that draw random numbers."""
FOLDER_OPTION = "session.model_external_initializers_file_folder_path"


class Session:
    """A model ready to run; the model may change afterwards.

    Args:
        model: The model.
        folder: Where its external data lie.
        values: Names of values that are wanted besides its outputs.

    Raises:
        MissingDependencyError: If onnxruntime is not installed.
        FormatError: If onnxruntime cannot run the model.
    """

    def __init__(self, model: ModelProto, folder: Path, values: Sequence[str] = ()) -> None:
        runtime = _runtime()
        graph = model.graph
        self.inputs = declared_inputs(model)
        self.outputs = [v.name for v in graph.output]
        present = {*self.outputs, *(v.name for v in graph.input)}
        self.values = tuple(dict.fromkeys(v for v in values if v not in present))
        extra = ModelProto(graph=GraphProto(output=[ValueInfoProto(name=v) for v in self.values]))
        options = runtime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised
        options.use_deterministic_compute = True
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0") or 0)
        try:
            source = self._source(model, extra, folder, options)
            make = partial(runtime.InferenceSession, source, options, providers=["CPUExecutionProvider"])
            self._session = make()
        except Exception as error:  # onnxruntime raises a class per status
            if isinstance(error, FormatError):
                raise
            raise FormatError(
                f"onnxruntime {runtime.__version__} cannot run the model: {_line(error)}; upgrade onnxruntime, or "
                "export the model with an older opset"
            ) from error
        noisy = any(node.op_type in NOISE for node in graph.node)
        self._renew = partial(_seeded, runtime, make) if noisy else None

    def _source(self, model: ModelProto, extra: ModelProto, folder: Path, options: Any) -> str | bytes:
        """What the session is made from. Protobuf messages written one after the other merge when they are read."""
        external = any(is_external(t) for t in all_tensors(model))
        if sum(len(t.raw_data) for t in model.graph.initializer) < IN_MEMORY:
            data: bytes = model.SerializeToString() + extra.SerializeToString()
            if len(data) < IN_MEMORY:
                if external:
                    options.add_session_config_entry(FOLDER_OPTION, str(folder.resolve()))
                return data
        own = mkdtemp(prefix="evenly-")
        weakref.finalize(self, shutil.rmtree, own, ignore_errors=True)  # values may be mapped as long as it runs
        path = Path(own) / "model.onnx"
        write_model(model, path, folder, outputs=extra)
        return str(path)

    def run(self, batch: Any) -> dict[str, Array]:
        """Run one batch.

        Returns:
            The inputs, the outputs, and the values that were asked for, by name.

        Raises:
            UsageError: If the batch does not fit the model's inputs.
        """
        feeds = _feeds(self.inputs, batch)
        wanted = list(dict.fromkeys([*self.outputs, *self.values]))
        if self._renew is not None:
            self._session = self._renew()
        try:
            found = self._session.run(wanted, feeds)
        except Exception as error:  # onnxruntime raises a class per status
            shapes = {name: list(array.shape) for name, array in feeds.items()}
            raise UsageError(f"the model does not run on inputs of shapes {shapes}: {_line(error)}") from error
        return {**feeds, **dict(zip(wanted, found, strict=True))}


def _seeded(runtime: Any, make: Callable[[], Any]) -> Any:
    """A session whose random numbers begin anew: their state goes on from run to run within one."""
    runtime.set_seed(0)
    return make()


class Declared:
    """An input as the file declares it: sizes are numbers, names, or ``None``; all ``None`` without a shape."""

    def __init__(self, name: str, code: int, dims: list[int | str | None] | None) -> None:
        self.name, self.code, self.dims = name, code, dims

    def __str__(self) -> str:
        shape = "any shape" if self.dims is None else str(["?" if d is None else d for d in self.dims])
        return f"{self.name}: {numpy_dtype(self.code).name} {shape}"


def declared_inputs(model: ModelProto) -> list[Declared]:
    """The inputs that a caller has to give, in order."""
    graph = model.graph
    stored = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    return [_declared(v) for v in graph.input if v.name not in stored]


def _declared(value: ValueInfoProto) -> Declared:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return Declared(value.name, kind.elem_type, None)
    dims: list[int | str | None] = [d.dim_value if d.dim_value > 0 else d.dim_param or None for d in kind.shape.dim]
    return Declared(value.name, kind.elem_type, dims)


def _feeds(inputs: Sequence[Declared], batch: Any) -> dict[str, Array]:
    names = [i.name for i in inputs]
    if isinstance(batch, Mapping):
        given = dict(batch)
    elif isinstance(batch, Sequence) and not isinstance(batch, str | bytes):
        if len(batch) != len(names):
            raise UsageError(f"the batch has {len(batch)} arrays, expected {len(names)}: {_listed(inputs)}")
        given = dict(zip(names, batch, strict=True))
    else:
        if len(names) != 1:
            raise UsageError(f"the batch is one array, expected {len(names)}: {_listed(inputs)}; pass a mapping")
        given = {names[0]: batch}
    if set(given) != set(names):
        raise UsageError(f"the batch has inputs {sorted(map(str, given))}, expected {_listed(inputs)}")
    symbols: dict[str, int] = {}
    return {i.name: _fitting(i, given[i.name], symbols) for i in inputs}


def _listed(inputs: Sequence[Declared]) -> str:
    return "; ".join(map(str, inputs))


def _fitting(declared: Declared, value: Any, symbols: dict[str, int]) -> Array:
    """The array in the input's own type, if it is of its kind and shape."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"input {declared.name!r} got {type(value).__name__}, expected an array") from error
    dtype = numpy_dtype(declared.code)
    kinds = {"f": "f", "V": "f", "i": "iu", "u": "iu", "b": "b"}.get(dtype.kind, dtype.kind)
    if array.dtype.kind not in kinds:
        raise UsageError(f"input {declared.name!r} got the type {array.dtype}, expected {declared}; convert it")
    fits = declared.dims is None or len(array.shape) == len(declared.dims)
    for size, d in zip(array.shape, declared.dims or (), strict=False):
        fits &= not isinstance(d, int) or d == size
        fits &= not isinstance(d, str) or symbols.setdefault(d, size) == size
    if not fits:
        raise UsageError(f"input {declared.name!r} got the shape {list(array.shape)}, expected {declared}")
    return np.ascontiguousarray(array, dtype).reshape(array.shape)


def guessed_batches(session: Session) -> Iterator[dict[str, Array]]:
    """Batches of noise that fit what the inputs declare, for usual sizes of what they leave open; always the same."""
    for guess in GUESSES:
        rng = np.random.default_rng(0)
        batch = {}
        for declared in session.inputs:
            dims = declared.dims or []
            shape = [d if isinstance(d, int) else 1 if k == 0 else guess for k, d in enumerate(dims)]
            if prod(shape) > LARGEST_GUESS and not all(isinstance(d, int) for d in dims[1:]):
                break
            dtype = numpy_dtype(declared.code)
            noise = rng.standard_normal(shape)
            batch[declared.name] = (noise if dtype.kind in "fV" else noise > 0).astype(dtype)
        else:
            yield batch
        if all(isinstance(d, int) for i in session.inputs for d in (i.dims or [])[1:]):
            return


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            "running ONNX files needs the package 'onnxruntime', which is not installed: pip install onnxruntime"
        ) from error
    return onnxruntime


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
