"""Read a PyTorch network: export it on tensors without values, fold what is constant, translate operator by operator.

``torch.export`` (non-strict) runs the module's own Python code on fake tensors, so reading needs neither the memory nor
the time of a forward pass. Its graph is used before any decomposition: ``conv2d``, ``layer_norm``,
``scaled_dot_product_attention`` are still what the user wrote.
"""

from __future__ import annotations

import operator
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evenly.errors import FormatError, MissingDependencyError

try:
    import torch
    from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind
    from torch.fx import GraphModule, Node
    from torch.utils import _pytree as pytree
except ImportError as _error:  # pragma: no cover - depends on what is installed
    if (_error.name or "").split(".")[0] != "torch":
        raise
    raise MissingDependencyError(
        "reading a PyTorch network needs torch; install it with pip install 'evenly[torch]'", name="torch"
    ) from _error

from evenly.graph._aten import LAYERS, TABLE, Call, Opaque
from evenly.graph._aten_idioms import Idiom, recognise
from evenly.graph._aten_views import IGNORED, RANDOM, TRANSPARENT, UNREADABLE
from evenly.graph._export import changes, exported, functional, graphs, line, name_of
from evenly.graph._folding import Const, NotConstantError, folded, stored
from evenly.graph.builder import Builder, Value, read_with_roles
from evenly.graph.ir import Weight
from evenly.graph.layout import LayoutError
from evenly.theory.resize import TooManyTaps

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import nn
    from torch.export import ExportedProgram

    from evenly.graph.ir import Graph

__all__ = ["load_program", "named_results", "read_module", "read_program"]

# Operators of higher order that run a subgraph once: how many arguments stand before it does not matter.
_WRAPPERS = frozenset({
    "wrap_with_set_grad_enabled", "wrap_with_autocast", "wrap_activation_checkpoint", "tag_activation_checkpoint",
    "wrap", "invoke_subgraph", "hints_wrapper", "inductor_compiled_code", "strict_mode",
})  # fmt: skip
_MUTATE_STATISTICS = (
    "batch_norm",
    "native_batch_norm",
    "_native_batch_norm_legit",
    "instance_norm",
    "cudnn_batch_norm",
)
_DATA_DEPENDENT = ("data-dependent", "data dependent", "GuardOnDataDependent", "unbacked symint", "unbacked symbol")


def read_module(
    module: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    use_weights: bool = True,
    training: bool = False,
    source: str | None = None,
) -> Graph:
    """Read a network from a module.

    Neither the module nor its inputs are changed, and its values are not copied: weights are read when
    :meth:`evenly.graph.ir.Weight.values` asks for them.

    Args:
        module: The network.
        args: Example inputs, batch included; only their shapes and types matter.
        kwargs: Keyword inputs.
        use_weights: Whether the values of trained weights count.
        training: Whether to read in training mode.
        source: What to call it; by default its class.

    Raises:
        ExportError: If ``torch.export`` cannot trace it.
        ModelError: If its dimensions are used in contradictory ways.
    """
    name = source or type(module).__qualname__
    return _read(exported(module, tuple(args), dict(kwargs or {}), training, name), name, use_weights, training)


def read_program(
    program: str | os.PathLike[str] | ExportedProgram,
    *,
    use_weights: bool = True,
    training: bool = False,
    source: str | None = None,
) -> Graph:
    """Read a network from an exported program.

    Args:
        program: The result of ``torch.export.export``, or the path of a ``.pt2`` file. Loading a file can execute code
            that is in it: the caller decides whether to trust it.
        use_weights: Whether the values of trained weights count.
        training: Whether it was exported in training mode.
        source: What to call it.

    Raises:
        FormatError: If the file is damaged or of another version.
        ExportError: If it cannot be brought into a form without in-place operations.
    """
    if isinstance(program, torch.export.ExportedProgram):
        return _read(program, source or "exported program", use_weights, training)
    return _read(load_program(program), source or str(program), use_weights, training)


def load_program(path: str | os.PathLike[str]) -> ExportedProgram:
    """Load a ``.pt2`` file, which can execute code that is in it: the caller decides whether to trust it.

    Raises:
        FormatError: If the file is damaged or of another version.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.load(Path(path))
    except Exception as error:  # the loader raises whatever its unpacking runs into
        raise FormatError(
            f"{path}: no readable .pt2 file: {line(error)}; save it again with torch.export.save, using this version "
            f"of torch ({torch.__version__})"
        ) from error


# -------------------------------------------------------------------------------------------------------------- names


class _Names:
    """Names that the user knows: module paths, with a label where one module does several things."""

    def __init__(self, program: ExportedProgram, idioms: Mapping[GraphModule, Mapping[Node, Idiom]]) -> None:
        work: Counter[str] = Counter()
        self.parents: set[str] = set()
        paths: dict[str, str] = {}
        given = {s.arg.name for s in program.graph_signature.input_specs if s.kind is InputKind.USER_INPUT}
        for graph, found in idioms.items():
            inside = {n for idiom in found.values() for n in idiom.inner}
            top = graph is program.graph_module
            depends = {n for n in graph.graph.nodes if n.op == "placeholder" and (not top or n.name in given)}
            for node in graph.graph.nodes:
                if node.op != "call_function":
                    continue
                stack = _stack(node)
                for _, path in stack:
                    parts = path.split(".")
                    self.parents.update(".".join(parts[:i]) for i in range(1, len(parts)))
                if name_of(node) not in RANDOM and depends.isdisjoint(node.all_input_nodes):
                    continue  # a constant is no work
                depends.add(node)
                if stack and name_of(node) not in TRANSPARENT and node not in inside:
                    work[stack[-1][0]] += 1
                    paths[stack[-1][0]] = stack[-1][1]
        self.single = {path for key, path in paths.items() if work[key] == 1}
        self.single -= {path for key, path in paths.items() if work[key] > 1}

    def of(self, node: Node, label: str, owner: str) -> str:
        """The name of what a node makes; ``owner`` is the module whose weight it uses."""
        stack = _stack(node)
        path = stack[-1][1] if stack else ""
        if owner and (not path or owner == path or owner.startswith(f"{path}.")):
            return owner
        if not path:
            return label
        return path if path in self.single and path not in self.parents else f"{path}:{label}"


def _stack(node: Node) -> list[tuple[str, str]]:
    """Key and path of the enclosing modules, outermost first, without the network itself and parametrisations."""
    found = []
    for key, entry in (node.meta.get("nn_module_stack") or {}).items():
        path = re.sub(r"@\d+", "", str(entry[0])).removeprefix("L['self']").removeprefix(".")
        if path and ".parametrizations" not in path:
            found.append((str(key), path))
    return found


def _owner(args: Mapping[str, Any]) -> str:
    """The module that holds the weight which an operator uses."""
    for key in ("weight", "mat2", "running_mean", "bias"):
        value = args.get(key)
        if isinstance(value, Const) and value.roots:
            module, parametrised, _ = value.roots[0].partition(".parametrizations.")
            return module if parametrised else module.rpartition(".")[0]
    return ""


def _output_names(program: ExportedProgram, count: int) -> list[str]:
    """``output``, ``output_0``, ... or the keys under which the network returns its results."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = list(named_results(pytree.tree_unflatten(list(range(count)), program.call_spec.out_spec), int))
    except Exception:  # classes of the user may refuse anything but tensors
        found = []
    if sorted(place for _, place in found) != list(range(count)):
        found = list(named_results(list(range(count)), int))
    names = {place: name for name, place in found}
    return [names[i] for i in range(count)]


def named_results(value: Any, kind: type) -> Iterator[tuple[str, Any]]:
    """What a network returned, leaf by leaf: ``output``, ``output_0``, ... or the keys that lead to it.

    Args:
        value: The result, of any structure of mappings, sequences and dataclasses.
        kind: Of the leaves; others are left out.
    """
    for leaf, path in _paths(value, kind):
        text = "_".join(str(k) for k in path)
        yield "output" if not path else text if isinstance(path[0], str) else f"output_{text}", leaf


def _paths(value: Any, kind: type, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Where in the network's result every leaf stands, by keys, places and fields."""
    if isinstance(value, kind):
        yield value, path
        return
    inside: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        inside = value.items()
    elif hasattr(value, "_asdict"):
        inside = value._asdict().items()
    elif isinstance(value, list | tuple):
        inside = enumerate(value)
    elif is_dataclass(value):
        inside = ((f.name, getattr(value, f.name)) for f in fields(value))
    for key, part in inside:
        yield from _paths(part, kind, (*path, key))


# -------------------------------------------------------------------------------------------------------- translation


def _read(program: ExportedProgram, source: str, use_weights: bool, training: bool) -> Graph:
    program = functional(program, source)
    idioms = {graph: recognise(graph) for graph in graphs(program.graph_module)}
    names = _Names(program, idioms)
    constants = _stored(program)
    return read_with_roles(
        lambda roles: _Translator(
            program,
            Builder(source, training=training, use_weights=use_weights, roles=roles),
            names,
            constants,
            idioms,
        ).run()
    )


def _stored(program: ExportedProgram) -> dict[str, Const]:
    """Parameters, buffers and literals by the name of their placeholder."""
    signature = program.graph_signature
    first: dict[int, str] = {}  # shared parameters are known by their first name
    for name, tensor in program.state_dict.items():
        first.setdefault(id(tensor), name)
    found = {}
    for spec in signature.input_specs:
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
            target = str(spec.target)
            tensor = program.state_dict.get(target)
            tensor = program.constants.get(target) if tensor is None else tensor
            if isinstance(tensor, torch.Tensor):
                found[spec.arg.name] = stored(first.get(id(tensor), target), tensor, spec.kind is InputKind.PARAMETER)
    return found


class _Translator:
    """One pass over the program."""

    def __init__(
        self,
        program: ExportedProgram,
        builder: Builder,
        names: _Names,
        constants: Mapping[str, Const],
        idioms: Mapping[GraphModule, Mapping[Node, Idiom]],
    ) -> None:
        self.idioms = idioms
        self.program, self.b, self.names, self.constants = program, builder, names, constants
        self.values: dict[Const, Value] = {}
        self.grown = _grown(program, set(constants))
        self.frozen = False  # whether a parameter's value was read as a number: no draw changes that

    def run(self) -> Graph:
        env: dict[Node, Any] = {}
        kinds = {spec.arg.name: spec for spec in self.program.graph_signature.input_specs}
        for node in self.program.graph.nodes:
            if node.op != "placeholder":
                continue
            spec = kinds.get(node.name)
            if node.name in self.constants:
                env[node] = self.constants[node.name]
            elif spec is not None and spec.kind is InputKind.USER_INPUT:
                env[node] = self._input(node, spec.arg)
        results = self._graph(self.program.graph_module, env)
        specs = self.program.graph_signature.output_specs
        wanted = [r for r, spec in zip(results, specs, strict=True) if spec.kind is OutputKind.USER_OUTPUT]
        for name, value in zip(_output_names(self.program, len(wanted)), wanted, strict=True):
            if isinstance(value, Const):
                value = self._constant(value)
            if isinstance(value, Opaque):
                value = self.b.unknown(value.operator, list(value.sources), (1,), value.reason, name=name)
            if isinstance(value, Value):
                self.b.output(name, value)
        return _frozen(self.b.build()) if self.frozen else self.b.build()

    def _input(self, node: Node, argument: Any) -> Any:
        meta = node.meta.get("val")
        if isinstance(argument, ConstantArgument) or not isinstance(meta, torch.Tensor):
            return getattr(argument, "value", meta)
        return self.b.input(node.name, _shape(meta), str(meta.dtype).removeprefix("torch."))

    def _constant(self, const: Const) -> Value:
        found = self.values.get(const)
        if found is None:
            found = self.values[const] = self.b.constant(const.name, const.weight())
        return found

    def _graph(self, module: GraphModule, env: dict[Node, Any]) -> list[Any]:
        """Translate one graph; the results of its output node."""
        idioms = self.idioms.get(module, {})
        inside = {n for idiom in idioms.values() for n in idiom.inner}
        same: dict[Node, set[Node]] = {}  # nodes that are one tensor, because one was changed in place
        alive = _alive(module)
        for node in module.graph.nodes:
            if node.op == "get_attr":
                env[node] = self._attribute(module, str(node.target))
            elif node.op == "output":
                results = pytree.tree_map(lambda a: env.get(a) if isinstance(a, Node) else a, node.args[0])
                return list(results) if isinstance(results, list | tuple) else [results]
            elif node.op == "call_function" and node in alive and node not in inside:
                fused = self._fused(idioms[node], env) if node in idioms else None
                if fused is None and node in idioms:
                    for inner in idioms[node].inner:
                        env[inner] = self._call(inner, env)
                env[node] = self._call(node, env) if fused is None else fused
                if (changes(node) or _hands_on(node)) and node.args and isinstance(node.args[0], Node):
                    group = same.setdefault(node.args[0], {node.args[0]})
                    group.add(node)
                    for member in group:
                        same[member] = group
                        env[member] = env[node]
        return []

    def _fused(self, idiom: Idiom, env: Mapping[Node, Any]) -> Value | None:
        """An operation that is spelled out; ``None`` if it does not mean that here."""
        x = env.get(idiom.source)
        if not isinstance(x, Value) or x.is_constant or x.scores is not None:
            return None

        def name(label: str) -> str:
            return self.names.of(idiom.tail, label, "")

        if idiom.kind == "pointwise":
            return self.b.pointwise(x, idiom.function, idiom.parameters, name=name(idiom.function))
        rank = len(x.shape)
        positions = [bool(x.dims[d].axes) for d in idiom.dims]
        if idiom.kind == "layer" and all(positions) and rank > 2 and idiom.dims == tuple(range(2, rank)):
            return self.b.normalize(
                x, "instance", dims=idiom.dims, eps=idiom.eps, weight=None, bias=None, name=name("instance_norm")
            )
        if any(positions) or 0 in idiom.dims:
            return None
        label = {"layer": "layer_norm", "rms": "rms_norm", "l2": "normalize"}[idiom.kind]
        return self.b.normalize(x, idiom.kind, dims=idiom.dims, eps=idiom.eps, weight=None, bias=None, name=name(label))

    def _attribute(self, module: GraphModule, target: str) -> Any:
        found: Any = module
        for part in target.split("."):
            found = getattr(found, part)
        return stored(target, found, False) if isinstance(found, torch.Tensor) else found

    def _call(self, node: Node, env: Mapping[Node, Any]) -> Any:
        args = pytree.tree_map(lambda a: env.get(a) if isinstance(a, Node) else a, list(node.args))
        kwargs = pytree.tree_map(lambda a: env.get(a) if isinstance(a, Node) else a, dict(node.kwargs))
        if node.target is operator.getitem:
            return self._item(node, args)
        name = name_of(node)
        if name in IGNORED:
            return None
        if name in _WRAPPERS:
            return self._wrapped(args)
        leaves = [a for a in pytree.tree_leaves((args, kwargs)) if isinstance(a, Value | Const | Opaque)]
        if not any(isinstance(a, Value | Opaque) for a in leaves) and name not in RANDOM and node not in self.grown:
            return self._folded(node, name, args, kwargs)
        return self._translated(node, name, args, kwargs, leaves)

    def _item(self, node: Node, args: Sequence[Any]) -> Any:
        held, place = args[0], args[1]
        if isinstance(held, list | tuple):
            if place < len(held):
                return held[place]
            return Opaque(str(node.target), "this result of the operator is not analysed")
        return held if isinstance(held, Opaque) else None

    def _wrapped(self, args: Sequence[Any]) -> Any:
        """Run the subgraph of an operator of higher order in place."""
        place, module = next((i, a) for i, a in enumerate(args) if isinstance(a, GraphModule))
        operands = [a for a in args[place + 1 :] if not isinstance(a, str)]
        inner = [n for n in module.graph.nodes if n.op == "placeholder"]
        return self._graph(module, dict(zip(inner, operands, strict=False)))

    def _folded(self, node: Node, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
        meta = node.meta.get("val")
        where = self.names.of(node, name, "")
        if isinstance(meta, torch.Tensor) or (
            isinstance(meta, list | tuple) and any(isinstance(m, torch.Tensor) for m in meta)
        ):
            try:
                return folded(where, _target(node), args, kwargs, meta)
            except (TypeError, ValueError, RuntimeError):  # a size that the data decide
                return Opaque(_foreign(node), "its shape is not known")
        if name in ("item", "_local_scalar_dense") and isinstance(args[0], Const) and args[0].make is not None:
            self.frozen |= args[0].trained
            return args[0].tensor().item()
        if callable(node.target) and not any(isinstance(a, Const) for a in pytree.tree_leaves((args, kwargs))):
            return node.target(*args, **kwargs)  # arithmetic of sizes
        return meta

    def _translated(self, node: Node, name: str, args: list[Any], kwargs: dict[str, Any], leaves: Sequence[Any]) -> Any:
        named = _arguments(node, args, kwargs)
        meta = node.meta.get("val")
        if not isinstance(meta, torch.Tensor | list | tuple):
            return Opaque(_foreign(node), UNREADABLE.get(name, "it makes a number from the data"))
        opaque = next((a for a in leaves if isinstance(a, Opaque) and a.windows is None), None)
        owner = _owner(named)
        reason = UNREADABLE.get(name, "the operator has no entry")
        values = [a for a in leaves if isinstance(a, Value)]
        foreign = _foreign(node)
        handler = TABLE.get(name) if _namespace(node) == "aten" else None
        if opaque is not None:
            foreign, reason = opaque.operator, opaque.reason
            values = list(dict.fromkeys([*values, *(s for a in leaves if isinstance(a, Opaque) for s in a.sources)]))
        elif handler is not None:
            call = Call(
                name,
                node.target._overloadname.replace("default", ""),  # type: ignore[union-attr]
                named,
                meta,
                _first_meta(node),
                self.b,
                lambda label: self.names.of(node, label, owner),
                self._constant,
                self.b.training,
            )
            try:
                result = handler(call)
            except (NotConstantError, LayoutError, TooManyTaps) as problem:
                reason = str(problem)
            else:
                wrong = _disagreement(result, meta)
                if wrong is None:
                    return result
                reason = wrong
        return self._unknown(node, foreign, values, reason, meta, self.names.of(node, name, owner))

    def _unknown(self, node: Node, foreign: str, values: list[Value], reason: str, meta: Any, name: str) -> Any:
        def one(tensor: Any) -> Any:
            if not isinstance(tensor, torch.Tensor):
                return None
            try:
                shape = _shape(tensor)
            except (TypeError, ValueError, RuntimeError):
                return Opaque(foreign, f"{reason}; the shape of its output is not known", tuple(values))
            if tensor.dtype == torch.bool or not shape:
                return (
                    Opaque(foreign, reason, tuple(values))
                    if tensor.dtype == torch.bool
                    else self.b.unknown(foreign, values, shape, reason, name=name)
                )
            return self.b.unknown(foreign, values, shape, reason, name=name)

        return [one(m) for m in meta] if isinstance(meta, list | tuple) else one(meta)


def _frozen(graph: Graph) -> Graph:
    """The graph without what its weights would be for other parameters."""

    def known(value: Any) -> Any:
        return replace(value, redraw=None) if isinstance(value, Weight) else value

    nodes = (replace(n, op=replace(n.op, **{k: known(v) for k, v in vars(n.op).items()})) for n in graph.nodes)  # type: ignore[type-var]
    return replace(graph, nodes=tuple(nodes))


def _hands_on(node: Node) -> bool:
    """Whether an operator returns its very argument: dropout outside training."""
    return "dropout" in name_of(node) and len(node.args) == 3 and node.args[2] is False


def _shape(meta: torch.Tensor) -> tuple[int, ...]:
    return tuple(int(n) for n in meta.shape)


def _disagreement(result: Any, meta: Any) -> str | None:
    """What differs between the shapes that were read and those that PyTorch states."""
    pairs = zip(result, meta, strict=False) if isinstance(result, list | tuple) else [(result, meta)]
    for value, expected in pairs:
        if isinstance(value, Value | Const) and isinstance(expected, torch.Tensor):
            shape = _shape(expected)
            if tuple(value.shape) != shape:
                return f"it was read as making {list(value.shape)} where PyTorch makes {list(shape)}; please report it"
    return None


def _namespace(node: Node) -> str:
    schema = getattr(node.target, "_schema", None)
    return "" if schema is None else str(schema.name.split("::")[0])


def _foreign(node: Node) -> str:
    """The full name of an operator, for the user."""
    space = _namespace(node)
    return f"{space}.{name_of(node)}" if space else name_of(node)


def _target(node: Node) -> Callable[..., Any]:
    target = node.target
    assert callable(target)
    return target


def _first_meta(node: Node) -> Any:
    first = next((a for a in node.args if isinstance(a, Node)), None)
    return None if first is None else first.meta.get("val")


def _arguments(node: Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by the names of the operator's schema."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return dict(kwargs)
    return {**{a.name: v for a, v in zip(schema.arguments, args, strict=False)}, **kwargs}


def _alive(module: GraphModule) -> set[Node]:
    """Nodes that the outputs need, in-place changes of needed tensors included."""
    needed: set[Node] = set()
    for node in reversed(module.graph.nodes):
        changed = node.args[0] if node.op == "call_function" and changes(node) and node.args else None
        if node.op == "output" or node in needed or changed in needed:
            needed.add(node)
            needed.update(node.all_input_nodes)
    return needed


# A generator may start from a constant of its own: then its first layers are layers, no weights to be folded.
_STARTS = LAYERS | {
    f"{prefix}{kind}" for prefix in ("upsample_", "_upsample_") for kind in
    ("nearest1d", "nearest2d", "nearest3d", "nearest_exact1d", "nearest_exact2d", "nearest_exact3d", "linear1d",
     "bilinear2d", "trilinear3d", "bicubic2d", "bilinear2d_aa", "bicubic2d_aa")
}  # fmt: skip


def _grown(program: ExportedProgram, constants: set[str]) -> set[Node]:
    """Nodes that only read constants and are layers all the same, because trained weights filter a field."""
    fixed: set[Node] = set()
    trained: set[Node] = set()
    signature = {s.arg.name: s.kind for s in program.graph_signature.input_specs}
    layers: list[Node] = []
    for node in program.graph.nodes:
        sources = node.all_input_nodes
        if node.op == "placeholder" and node.name in constants:
            fixed.add(node)
            if signature.get(node.name) is InputKind.PARAMETER:
                trained.add(node)
        elif node.op == "call_function" and all(s in fixed for s in sources) and name_of(node) not in RANDOM:
            fixed.add(node)
            if any(s in trained for s in sources):
                trained.add(node)
            weights = node.args[1] if len(node.args) > 1 else None
            if name_of(node) in LAYERS and weights in trained:
                layers.append(node)
    chain: set[Node] = set(layers)
    stack = [layer.args[0] for layer in layers]
    while stack:
        node = stack.pop()
        if isinstance(node, Node) and node in fixed and node.op == "call_function" and node not in chain:
            chain.add(node)
            stack.append(node.args[0] if node.args else None)
    grown: set[Node] = set(layers)
    for node in program.graph.nodes:
        if node in chain and (name_of(node) in _STARTS or any(s in grown for s in node.all_input_nodes)):
            grown.add(node)
    return grown
