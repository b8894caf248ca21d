"""Read an ONNX file: fold what is constant, recognise idioms, translate the rest node by node."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import onnx
import onnx.shape_inference
from onnx import GraphProto, ModelProto, TensorProto, TypeProto, ValueInfoProto

from evenly.errors import EvenlyError, FormatError, InputShapeError, ParameterError
from evenly.graph.builder import Builder, Value, read_with_roles
from evenly.graph.layout import LayoutError
from evenly.graph.onnx import operators
from evenly.graph.onnx.constants import Const, fold
from evenly.graph.onnx.files import DIM_LIMIT, Tensor, graph_tensors, load_model, numpy_dtype, tensor
from evenly.graph.onnx.idioms import DOMAIN, recognise
from evenly.graph.onnx.names import Names
from evenly.graph.onnx.nodes import Item, item
from evenly.graph.onnx.operators import Call, NotConstantError
from evenly.theory.resize import TooManyTaps

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from evenly.graph.ir import Graph

__all__ = ["OnnxFile", "opened", "read_onnx", "read_opened"]

Shape = tuple[int, ...]
Result = TypeVar("Result")
# Tried in order for sizes that the file leaves open: divisible by what networks divide by, then usual pictures.
GUESSES = (64, 256, 224, 32, 8, 512, 16, 1, 4, 128, 77)
DEPTH = 16  # nested Ifs that are followed


@dataclass(frozen=True)
class _Opaque:
    """A value whose shape nobody can tell.

    Attributes:
        reason: Why, for the user.
        operator: The operator where that began.
        sources: The values that it was made from.
    """

    operator: str
    reason: str
    sources: tuple[Value, ...] = ()


Held = Value | Const | _Opaque


@dataclass
class _Input:
    """An input as declared: ``None`` for a size that is left open, its name where it has one."""

    name: str
    code: int
    dims: list[int | str | None] | None


@dataclass
class OnnxFile:
    """What every attempt to translate shares."""

    path: Path
    opset: int
    items: list[Item]
    consts: dict[str, Const]
    inputs: list[_Input]
    outputs: list[ValueInfoProto]
    declared: dict[str, TypeProto]
    stored: int
    names: Names


def read_onnx(
    path: str | os.PathLike[str],
    *,
    input_shapes: Mapping[str | int, Sequence[int]] | None = None,
    use_weights: bool = True,
    training: bool = False,
) -> Graph:
    """Read a network from an ONNX file.

    The file is untrusted: nothing in it is executed, no path outside its folder is read, and sizes are checked before
    anything is allocated. Weights are read when :meth:`evenly.graph.ir.Weight.values` asks for them.

    Args:
        path: An ``.onnx`` file, opset 7 or newer.
        input_shapes: Tensor shapes by input name or position, batch included, for sizes that the file leaves open;
            the batch size is else 1, and other open sizes get the first usual size for which the network's shapes
            agree.
        use_weights: Whether the values of trained weights count.
        training: Whether to read normalisations as in training.

    Raises:
        FormatError: If the file is damaged, no ONNX model, or of an unsupported version.
        UntrustedError: If its external data lies outside its folder.
        InputShapeError: If ``input_shapes`` does not fit its inputs, or open sizes cannot be guessed.
    """
    try:
        return read_opened(opened(load_model(path), Path(path)), input_shapes, use_weights, training)
    except (FormatError, InputShapeError) as error:
        # Context is added once, at the boundary.
        if str(error).startswith(f"{path}"):
            raise
        raise type(error)(f"{path}: {error}") from error


def read_proto(
    model: ModelProto, path: str | os.PathLike[str], *, input_shapes: Mapping[str | int, Sequence[int]] | None = None
) -> Graph:
    """Read a network that :func:`evenly.graph.onnx.files.load_model` has loaded, and that was edited since.

    Args:
        model: The model, which stays as it is.
        path: Of its file: external data lie beside it.
        input_shapes: As in :func:`read_onnx`.

    Raises:
        FormatError: If it is damaged.
        UntrustedError: If its external data lies outside the folder.
        InputShapeError: If ``input_shapes`` does not fit its inputs, or open sizes cannot be guessed.
    """
    return _read(opened(model, Path(path)), input_shapes or {}, use_weights=True, training=False)


def read_opened(
    file: OnnxFile,
    input_shapes: Mapping[str | int, Sequence[int]] | None = None,
    use_weights: bool = True,
    training: bool = False,
) -> Graph:
    """As :func:`read_onnx`, of a model that is opened already.

    Raises:
        FormatError: If it is damaged.
        InputShapeError: As there.
    """
    return _read(file, input_shapes or {}, use_weights, training)


def _read(file: OnnxFile, declared: Mapping[str | int, Sequence[int]], use_weights: bool, training: bool) -> Graph:
    given = _named(file, declared)
    first: FormatError | None = None
    open_sizes = False
    for guess in GUESSES:
        shapes, open_sizes = _bind(file, given, guess)
        try:
            return read_with_roles(partial(_translated, file, shapes, use_weights, training))
        except FormatError as error:
            first = first or error
            if not open_sizes:
                raise
    raise InputShapeError(
        f"{file.path}: no usual size fits the open sizes of its inputs "
        f"({', '.join(_describe(i) for i in file.inputs)}); declare "
        f"them (--input NAME=SIZES); with {GUESSES[0]}: {first}"
    ) from first


def _translated(file: OnnxFile, shapes: Sequence[Shape], use_weights: bool, training: bool, roles: Any) -> Graph:
    return _Translator(file, shapes, use_weights, training, roles).run()


def _describe(declared: _Input) -> str:
    if declared.dims is None:
        return f"{declared.name}: unknown rank"
    return f"{declared.name}: {['?' if d is None else d for d in declared.dims]}"


def opened(model: ModelProto, path: Path) -> OnnxFile:
    """A model without functions, checked, folded and simplified; its external data lie beside `path`.

    Raises:
        FormatError: If it is damaged.
        UntrustedError: If its external data lies outside the folder.
    """
    folder = path.parent
    graph = model.graph
    tensors = graph_tensors(graph, folder, path)
    consts = {name: Const.stored(t) for name, t in tensors.items() if t.code != TensorProto.STRING}
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    inputs = [_declared(value, path) for value in graph.input if value.name not in tensors]
    if len({i.name for i in inputs}) != len(inputs):
        raise FormatError(f"{path}: has two inputs of the same name; the file is damaged")
    declared = {v.name: v.type for v in [*graph.value_info, *graph.output]}
    stored = sum(c.nbytes for c in consts.values())
    items = [item(node, i) for i, node in enumerate(graph.node)]
    items = _simplified(items, consts, path, opset, stored, [v.name for v in graph.output], {i.name for i in inputs})
    names = Names(items, consts)
    return OnnxFile(path, opset, items, consts, inputs, list(graph.output), declared, stored, names)


def _declared(value: ValueInfoProto, path: Path) -> _Input:
    if not value.type.HasField("tensor_type"):
        raise FormatError(
            f"{path}: input {value.name!r} is no tensor, expected tensors only; export it with tensor inputs"
        )
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return _Input(value.name, kind.elem_type, None)
    dims: list[int | str | None] = []
    for d in kind.shape.dim:
        known = d.HasField("dim_value") and d.dim_value > 0
        if known and d.dim_value > DIM_LIMIT:
            raise FormatError(
                f"{path}: input {value.name!r} has a size of {d.dim_value}, expected one that fits in memory"
            )
        dims.append(int(d.dim_value) if known else (d.dim_param or None))
    return _Input(value.name, kind.elem_type, dims)


# -------------------------------------------------------------------------------------- before any shape is known


def _simplified(
    items: list[Item],
    consts: dict[str, Const],
    path: Path,
    opset: int,
    stored: int,
    outputs: list[str],
    inputs: set[str],
) -> list[Item]:
    """Check the order, fold what depends on the file only, drop what nobody reads, recognise idioms."""
    made = set(consts) | inputs | {""}
    for it in items:
        _check_arity(it, path, opset)
        for name in it.inputs:
            if name not in made:
                raise FormatError(
                    f"{path}: {it.label} reads {name!r} before any node makes it; the file is damaged, export it again"
                )
        for name in it.outputs:
            if name and name in made:
                raise FormatError(
                    f"{path}: {it.label} makes {name!r} a second time; the file is damaged, export it again"
                )
            made.add(name)
    for name in outputs:
        if not name or name not in made:
            raise FormatError(f"{path}: no node makes the output {name!r}; the file is damaged, export it again")
    rest = []
    for it in items:
        folded = _folded(it, consts, path, stored)
        if folded is None:
            rest.append(it)
        else:
            consts.update((c.name, c) for c in folded if c.name)
    return _alive(recognise(_alive(rest, outputs), consts, outputs), outputs)


def _alive(items: Sequence[Item], outputs: Sequence[str]) -> list[Item]:
    """The nodes that the outputs need."""
    needed = set(outputs)
    kept = []
    for it in reversed(items):
        if any(name in needed for name in it.outputs):
            needed.update(it.inputs)
            needed.update(_captured(it))
            kept.append(it)
    return kept[::-1]


def _check_arity(it: Item, path: Path, opset: int) -> None:
    """A standard operator must have as many inputs and outputs as its definition says."""
    if it.domain or not onnx.defs.has(it.op, ""):
        return
    try:
        schema = onnx.defs.get_schema(it.op, opset, "")
    except onnx.defs.SchemaError:  # younger than the file's opset: its table entry decides
        return
    least, most = schema.min_input, schema.max_input
    if not least <= len(it.inputs) <= most or not schema.min_output <= len(it.outputs) <= schema.max_output:
        raise FormatError(
            f"{path}: {it.label} has {len(it.inputs)} inputs and {len(it.outputs)} outputs, expected at least {least} "
            "and "
            f"{schema.min_output}, at most {most} and {schema.max_output}; the file is damaged, export it again"
        )
    if not all(it.inputs[:least]):
        raise FormatError(f"{path}: {it.label} leaves out an input that it needs; the file is damaged, export it again")


def _captured(it: Item) -> set[str]:
    """Names that the subgraphs of a node may read from outside."""
    names: set[str] = set()
    stack = [g for g in it.attributes.values() if isinstance(g, GraphProto)]
    while stack:
        graph = stack.pop()
        names.update(v.name for v in graph.output)
        for node in graph.node:
            names.update(node.input)
            stack.extend(a.g for a in node.attribute if a.HasField("g"))
    return names


def _folded(it: Item, consts: Mapping[str, Const], path: Path, stored: int) -> list[Const] | None:
    if it.op == "Constant" and not it.domain:
        return [_constant(it, path)]
    if not it.inputs or not all(not name or name in consts for name in it.inputs):
        return None
    if not any(it.inputs):
        return None
    return _guarded(it, path, lambda: fold(it, [consts[n] if n else None for n in it.inputs], stored))


def _constant(it: Item, path: Path) -> Const:
    name = it.outputs[0] if it.outputs else ""
    proto = it.tensor("value")
    if proto is not None:
        stored: Tensor = tensor(proto, path.parent, f"{path}: {it.label}")
        const = Const.stored(stored)
        const.name, const.root = name, ""
        return const
    for key, dtype in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if key in it.attributes:
            return Const.of(name, np.asarray(it.attributes[key], dtype=dtype))
    if "value_string" in it.attributes or "value_strings" in it.attributes:
        return Const(name, (), np.dtype(object), None)
    raise FormatError(f"{path}: {it.label} holds no value of a known kind; export it again")


def _guarded(it: Item, path: Path, act: Callable[[], Result]) -> Result:
    """Run the reading of one node; what a damaged node breaks becomes one clear line."""
    try:
        return act()
    except FormatError as error:
        text = str(error)
        if text.startswith(str(path)):
            raise
        raise FormatError(f"{path}: {text}" if it.label in text else f"{path}: {it.label}: {text}") from error
    except (ArithmeticError, LookupError, MemoryError, RecursionError, TypeError, ValueError) as error:
        if isinstance(error, EvenlyError) and not isinstance(error, ParameterError):
            raise
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise FormatError(
            f"{path}: {it.label} cannot be read: {cause}; check the input shapes, or export it again"
        ) from error


# ----------------------------------------------------------------------------------------------------- input shapes


def _named(file: OnnxFile, given: Mapping[str | int, Sequence[int]]) -> dict[str, Shape]:
    """The declared shapes by name, checked as far as possible without the file's own."""
    names = [i.name for i in file.inputs]
    shapes: dict[str, Shape] = {}
    for key, sizes in given.items():
        name = names[key] if isinstance(key, int) and 0 <= key < len(names) else key
        shape = tuple(int(n) for n in sizes)
        if name not in names:
            raise InputShapeError(f"{file.path} has no input {name!r}, expected one of {names}; correct --input")
        if any(n < 1 for n in shape) or len(shape) > 32 or prod(shape) > DIM_LIMIT:
            raise InputShapeError(
                f"input {name!r} got the shape {list(shape)}, expected positive sizes that fit in memory; correct "
                "--input"
            )
        shapes[str(name)] = shape
    return shapes


def _bind(file: OnnxFile, given: Mapping[str, Shape], guess: int) -> tuple[list[Shape], bool]:
    """Concrete shapes for the inputs, and whether any size was guessed."""
    symbols: dict[str, int] = {}
    for declared in file.inputs:
        shape = given.get(declared.name, ())
        if declared.name not in given or declared.dims is None:
            continue
        if len(shape) != len(declared.dims):
            raise InputShapeError(
                f"input {declared.name!r} got the shape {list(shape)}, expected {len(declared.dims)} sizes as in "
                f"{_describe(declared)}; "
                "correct --input"
            )
        for n, d in zip(shape, declared.dims, strict=True):
            if (isinstance(d, int) and d != n) or (isinstance(d, str) and symbols.setdefault(d, n) != n):
                raise InputShapeError(
                    f"input {declared.name!r} got the shape {list(shape)}, which contradicts {_describe(declared)} at "
                    f"size {n}; "
                    "correct --input"
                )
    guessed = False
    shapes = []
    for declared in file.inputs:
        if declared.name in given:
            shapes.append(given[declared.name])
            continue
        rank, channels = _conv_reader(file, declared.name)
        dims = declared.dims if declared.dims is not None else ([None] * rank if rank else None)
        if dims is None:
            raise InputShapeError(
                f"{file.path}: input {declared.name!r} declares no shape, expected one; declare it (--input "
                f"{declared.name}=SIZES)"
            )
        sizes = []
        for position, d in enumerate(dims):
            if isinstance(d, int):
                size = d
            elif isinstance(d, str) and d in symbols:
                size = symbols[d]
            elif position == 0:
                size = 1
            elif position == 1 and channels:
                size = channels
            else:
                size, guessed = guess, True
            if isinstance(d, str):
                symbols.setdefault(d, size)
            sizes.append(size)
        shapes.append(tuple(sizes))
    return shapes, guessed


def _conv_reader(file: OnnxFile, name: str) -> tuple[int, int]:
    """Rank and channels of an input, from the first convolution that reads it; zeros if none does."""
    reached = {name}
    for it in file.items:
        if it.domain or not it.inputs or it.inputs[0] not in reached:
            continue
        weight = file.consts.get(it.input(1))
        if it.op in ("Conv", "ConvTranspose") and weight is not None and len(weight.shape) > 2:
            group = it.integer("group", 1)
            return len(weight.shape), weight.shape[1] * group if it.op == "Conv" else weight.shape[0]
        if it.op in (
            "Identity",
            "Cast",
            "QuantizeLinear",
            "DequantizeLinear",
            "Pad",
            "Relu",
            "Resize",
            "Sub",
            "Mul",
            "Add",
            "Div",
        ):
            reached.update(it.outputs)
    return 0, 0


# ------------------------------------------------------------------------------------------------------ translation


class _Translator:
    """One pass over the nodes with concrete shapes."""

    def __init__(self, file: OnnxFile, shapes: Sequence[Shape], use_weights: bool, training: bool, roles: Any) -> None:
        self.file, self.shapes, self.training = file, shapes, training
        self.builder = Builder(str(file.path), training=training, use_weights=use_weights, roles=roles)
        self.held: dict[str, Held] = {}
        self.codes: dict[str, int] = {i.name: i.code for i in file.inputs}
        self.names = file.names

    def run(self) -> Graph:
        for declared, shape in zip(self.file.inputs, self.shapes, strict=True):
            dtype = numpy_dtype(declared.code).name
            self.held[declared.name] = self.builder.input(declared.name, shape, dtype)
        self._nodes(self.file.items, 0)
        for value in self.file.outputs:
            self.builder.output(value.name, self._result(value.name))
        return self.builder.build()

    def _nodes(self, items: Sequence[Item], depth: int) -> None:
        for it in items:
            _guarded(it, self.file.path, partial(self._node, it, depth))

    def _get(self, name: str) -> Held | None:
        if not name:
            return None
        found = self.held.get(name) or self.file.consts.get(name)
        if found is None:
            raise FormatError(f"reads {name!r}, which no node makes; the file is damaged")
        return found

    def _result(self, name: str) -> Value:
        found = self._get(name)
        if isinstance(found, Const):
            return self.builder.constant(found.name, operators.weight(found))
        if isinstance(found, _Opaque):
            shape = self._declared_shape(name) or (1,)
            return self.builder.unknown(found.operator, list(found.sources), shape, found.reason, name=name)
        assert found is not None
        return found

    def _node(self, it: Item, depth: int) -> None:
        args = [self._get(name) for name in it.inputs]
        if it.op in ("Shape", "Size") and not it.domain and not isinstance(args[0], _Opaque) and args[0] is not None:
            return self._keep(it, [_shape_of(it, args[0].shape)])
        consts = [a for a in args if a is None or isinstance(a, Const)]
        if len(consts) == len(args) and any(a is not None for a in args):
            folded = fold(it, consts, self.file.stored)
            if folded is not None:
                return self._keep(it, folded)
        if it.op == "If" and not it.domain and isinstance(args[0], Const) and args[0].size == 1 and args[0].known:
            return self._branch(it, bool(args[0].array().reshape(-1)[0]), depth)
        if it.op == "MaxUnpool":
            args[1] = None  # the positions that its pooling remembered: where they are does not matter
        opaque = next((a for a in args if isinstance(a, _Opaque)), None)
        if opaque is not None:
            sources = [
                s for a in args for s in (a.sources if isinstance(a, _Opaque) else (a,) if isinstance(a, Value) else ())
            ]
            return self._unknown(it, opaque.operator, opaque.reason, list(dict.fromkeys(sources)))
        handler = operators.TABLE.get((it.domain, it.op))
        known = [a for a in args if not isinstance(a, _Opaque)]
        reason = operators.UNREADABLE.get(it.op, "the operator has no entry") if not it.domain else _foreign(it)
        if handler is not None:
            call = Call(it, known, self.file.opset, self.builder, lambda label: self.names.of(it, label), self.training)
            try:
                result = handler(call)
            except (NotConstantError, LayoutError, TooManyTaps) as problem:
                reason = str(problem)
            else:
                if isinstance(result, Value | Const):
                    result = [result]
                return self._keep(it, result)
        values = [a for a in known if isinstance(a, Value)]
        operator = it.parts[-1].op if it.parts else it.op
        operator = f"{it.domain}::{operator}" if it.domain not in ("", DOMAIN) else f"onnx.{operator}"
        return self._unknown(it, operator, reason, values)

    def _keep(self, it: Item, results: Sequence[Value | Const]) -> None:
        for name, result in zip(it.outputs, results, strict=False):
            if not name:
                continue
            self.held[name] = result
            if it.op == "Cast":
                self.codes[name] = it.integer("to", 1)
            elif it.inputs and it.inputs[0] in self.codes:
                self.codes[name] = self.codes[it.inputs[0]]
        for name in it.outputs[len(results) :]:
            if name:
                self.held[name] = _Opaque(f"onnx.{it.op}", "this output of the operator is not analysed")

    def _unknown(self, it: Item, operator: str, reason: str, values: list[Value]) -> None:
        shapes = self._inferred(it)
        for name in it.outputs:
            if not name:
                continue
            shape = shapes.get(name) or self._declared_shape(name)
            if shape is None:
                self.held[name] = _Opaque(operator, f"{reason}; the shape of its output is not known", tuple(values))
            else:
                self.held[name] = self.builder.unknown(
                    operator, values, shape, reason, name=self.names.of(it, it.op.lower())
                )

    def _declared_shape(self, name: str) -> Shape | None:
        """A shape that the file states in full."""
        kind = self.file.declared.get(name)
        if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
            return None
        sizes = tuple(int(d.dim_value) for d in kind.tensor_type.shape.dim)
        return sizes if all(0 < n <= DIM_LIMIT for n in sizes) else None

    def _inferred(self, it: Item) -> dict[str, Shape]:
        """Shapes of a standard operator's outputs, from the package's own shape inference on this one node."""
        if it.proto is None or it.parts or it.domain or any(isinstance(v, GraphProto) for v in it.attributes.values()):
            return {}
        types: dict[str, TypeProto] = {}
        data: dict[str, TensorProto] = {}
        for name in it.inputs:
            found = self._get(name)
            if found is None:
                continue
            if isinstance(found, _Opaque):
                return {}
            code = self.codes.get(name, TensorProto.FLOAT)
            if isinstance(found, Const):
                code = onnx.helper.np_dtype_to_tensor_dtype(found.dtype)
                if found.small:
                    data[name] = onnx.numpy_helper.from_array(found.array(), name)
            types[name] = onnx.helper.make_tensor_type_proto(code, list(found.shape))
        try:
            schema = onnx.defs.get_schema(it.op, self.file.opset, "")
            found_types = onnx.shape_inference.infer_node_outputs(
                schema, it.proto, types, data, opset_imports=[onnx.helper.make_opsetid("", self.file.opset)]
            )
        except Exception:  # C++ errors of several kinds: then the shape is simply not known
            return {}
        shapes = {}
        for name, kind in found_types.items():
            dims = kind.tensor_type.shape.dim if kind.tensor_type.HasField("shape") else []
            sizes = tuple(int(d.dim_value) for d in dims)
            if kind.tensor_type.HasField("shape") and all(0 < n <= DIM_LIMIT for n in sizes):
                shapes[name] = sizes
        return shapes

    def _branch(self, it: Item, condition: bool, depth: int) -> None:
        """Follow the branch of an ``If`` whose condition the file decides."""
        graph = it.graph("then_branch" if condition else "else_branch")
        if graph is None or depth >= DEPTH:
            raise FormatError(
                f"{it.label}: lacks the branch that its condition takes, or nests too deeply; the file is damaged"
            )
        path = self.file.path
        tensors = graph_tensors(graph, path.parent, path)
        self.held.update({name: Const.stored(t) for name, t in tensors.items() if t.code != TensorProto.STRING})
        items = [item(node, it.index) for node in graph.node]
        for inner in items:
            if inner.op == "Constant" and not inner.domain:
                self.held[inner.outputs[0]] = _constant(inner, path)
        self.names.follow(items)
        self._nodes([inner for inner in items if inner.op != "Constant"], depth + 1)
        for name, value in zip(it.outputs, graph.output, strict=False):
            found = self._get(value.name)
            if found is not None:
                self.held[name] = found


def _foreign(it: Item) -> str:
    return f"operators of the domain {it.domain!r} are not part of ONNX"


def _shape_of(it: Item, shape: Shape) -> Const:
    if it.op == "Size":
        return Const.of(it.outputs[0], np.asarray(np.prod(shape, dtype=np.int64)))
    start, end = it.integer("start"), it.attributes.get("end")
    return Const.of(
        it.outputs[0], np.asarray(shape[start : len(shape) if end is None else it.integer("end")], dtype=np.int64)
    )
