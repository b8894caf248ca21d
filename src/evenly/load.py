"""From what the user names to a graph: a file, ``package.module:attribute``, or an object in Python.

One table says what to do with each kind of file. Files that can execute code when they are loaded are refused:
pickles always, saved programs (``.pt2``) unless the caller trusts them. ``package.module:attribute`` imports the user's
own code, as ``python -m`` would.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from evenly.errors import (
    EvenlyError,
    FormatError,
    InputShapeError,
    MissingDependencyError,
    ModelError,
    UntrustedError,
    UsageError,
    WeightsError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn
    from torch.export import ExportedProgram

    from evenly.fix.network import Network
    from evenly.graph.ir import Graph

__all__ = [
    "DTYPES",
    "MOST_ELEMENTS",
    "Declared",
    "Loaded",
    "load_module",
    "load_network",
    "load_object",
    "load_target",
    "module_network",
    "parse_input",
]

MOST_ELEMENTS = 2**31
"""Most elements that one declared input may have; a larger one is taken for a mistake before anything is allocated."""

DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool", "complex64")
"""Types that ``--input`` understands."""

_INPUT = re.compile(r"(?:(?P<name>[^=]+)=)?(?P<shape>[^:=]*)(?::(?P<dtype>[^:=]+))?")
_INPUT_FORM = "[name=]N,C,H,W[:dtype], for instance 1,8,16,16 or tokens=1,77:int64"


@dataclass(frozen=True)
class Declared:
    """One ``--input``.

    Attributes:
        shape: Tensor shape, batch included.
        name: Name of the input; ``None`` means the next one in order.
        dtype: One of :data:`DTYPES`; ``None`` means the usual one (``float32``).
    """

    shape: tuple[int, ...]
    name: str | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class Loaded:
    """A graph and whether its weights are the actual ones.

    Attributes:
        graph: The network.
        weights: ``"actual"``, ``"ignored"`` (``--no-weights``) or ``"none"`` (freshly made).
    """

    graph: Graph
    weights: Literal["actual", "ignored", "none"]


def parse_input(text: str) -> Declared:
    """Read ``[name=]1,8,16,16[:int64]``.

    Raises:
        InputShapeError: If it has another form, a size is not positive, or the product is beyond
            :data:`MOST_ELEMENTS`.
    """
    match = _INPUT.fullmatch(text.strip())
    if match is None:
        raise InputShapeError(f"--input (={text!r}) has another form than expected: {_INPUT_FORM}")
    pieces = [piece.strip() for piece in match["shape"].split(",")]
    sizes = []
    for piece in pieces:
        if not re.fullmatch(r"[+-]?[0-9]{1,19}", piece):
            raise InputShapeError(f"--input (={text!r}) has the size {piece!r}; expected whole numbers: {_INPUT_FORM}")
        sizes.append(int(piece))
    if min(sizes) < 1:
        raise InputShapeError(f"--input (={text!r}) has the size {min(sizes)}; expected sizes of 1 or more")
    if math.prod(sizes) > MOST_ELEMENTS:
        raise InputShapeError(
            f"--input (={text!r}) has {math.prod(sizes)} elements; expected at most {MOST_ELEMENTS}: findings do not "
            "depend on the resolution, so declare a smaller one"
        )
    dtype = match["dtype"]
    if dtype is not None and dtype not in DTYPES:
        raise InputShapeError(f"--input (={text!r}) has the type {dtype!r}; expected one of {', '.join(DTYPES)}")
    name = match["name"]
    return Declared(tuple(sizes), name.strip() if name else None, dtype)


# --------------------------------------------------------------------------------------------------------- the targets


@dataclass(frozen=True)
class _Request:
    """Everything that a loader may need."""

    target: str
    inputs: tuple[Declared, ...]
    weights: Path | None
    use_weights: bool
    trust: bool
    training: bool


def load_target(
    target: str,
    *,
    inputs: Sequence[Declared] = (),
    weights: Path | None = None,
    use_weights: bool = True,
    trust: bool = False,
    training: bool = False,
) -> Loaded:
    """Read what the user names.

    Args:
        target: A ``.onnx`` or ``.pt2`` file, or ``package.module:attribute``.
        inputs: Declared inputs; a module without ``example_inputs`` needs them.
        weights: A ``.safetensors`` file for a freshly made module.
        use_weights: Whether the values of weights count.
        trust: Whether a ``.pt2`` file may be loaded although its loader can execute code.
        training: Whether to read in training mode.

    Raises:
        UsageError: If the target is nothing of this kind, or an option does not fit it.
        ModelError: If it cannot be read.
        WeightsError: If the weights do not fit.
        MissingDependencyError: If torch or onnx is needed and not installed.
    """
    request = _Request(target, tuple(inputs), weights, use_weights, trust, training)
    loader = _FILES.get(Path(target).suffix.lower())
    if loader is not None:
        _expect_file(request)
        return loader(request)
    _expect_attribute(target)
    return _module_attribute(request)


def _expect_attribute(target: str) -> None:
    if not re.fullmatch(r"[^\W\d][\w.]*:[^\W\d][\w.]*", target):
        raise UsageError(
            f"TARGET (={target!r}) is not understood; expected a .onnx file, a .pt2 file or package.module:attribute"
        )


def _expect_file(request: _Request) -> None:
    """There has to be a file, and it brings its own weights."""
    path = Path(request.target)
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "not there"
        raise ModelError(f"{request.target}: {kind}; expected a file, check the path")
    if request.weights is not None:
        raise UsageError(
            f"--weights (={str(request.weights)!r}) is for module:attribute; {request.target} brings its own weights"
        )


def load_network(
    target: str,
    *,
    inputs: Sequence[Declared] = (),
    weights: Path | None = None,
    seed: int | None = None,
    trust: bool | None = None,
) -> Network:
    """What the user names, to be run and edited rather than read.

    Args:
        target: A ``.onnx`` or ``.pt2`` file, or ``package.module:attribute``.
        inputs: Declared inputs; a module without ``example_inputs`` needs them.
        weights: A ``.safetensors`` file for a freshly made module.
        seed: Of weights that are drawn when the module is made; by default they are as it makes them.
        trust: Whether a ``.pt2`` file may be loaded although its loader can execute code; ``None``: none is taken.

    Raises:
        EvenlyError: As :func:`load_target`.
    """
    _expect_scipy(target)
    request = _Request(target, tuple(inputs), weights, True, bool(trust), False)
    suffix = Path(target).suffix.lower()
    if suffix == ".onnx":
        _expect_file(request)
        return _onnx_to_run(request)
    if suffix == ".pt2":
        _expect_file(request)
        if trust is None:
            raise UsageError(
                f"{target}: a .pt2 file holds operations, not the layers that could be written back; give "
                "package.module:attribute, or export it to ONNX (torch.onnx.export(program, f='model.onnx'))"
            )
        return _program_to_run(request)
    if suffix in _FILES:
        _FILES[suffix](request)  # says why not
    _expect_attribute(target)
    try:
        import torch
    except ImportError as error:
        raise _missing("torch", target, error) from error
    from evenly.fix.network import torch_network

    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        if seed is not None:
            torch.manual_seed(seed)
        made = _made(request)
    note = f"weights as {target} makes them; --weights FILE.safetensors loads others"
    return torch_network(*made, name=target, notes=() if weights is not None else (note,))


def _program_to_run(request: _Request) -> Network:
    program = _trusted_program(request)
    from evenly.fix._program_layers import with_layers
    from evenly.fix.network import torch_network

    args, kwargs = program.example_inputs or ((), {})
    if not args and not kwargs:
        raise ModelError(f"{request.target}: was saved without example inputs; export and save it again")
    return torch_network(with_layers(program), args, kwargs, name=request.target, exact=True)


def module_network(
    model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None, *, needed: bool = True
) -> Network:
    """A module that a caller in Python holds, to be run and edited.

    Args:
        model: The module.
        args: Example inputs; by default the module's attribute ``example_inputs``.
        kwargs: Keyword inputs.
        needed: Whether there has to be an example.

    Raises:
        UsageError: If it is no module, or inputs are missing.
        MissingDependencyError: If torch is not installed.
    """
    _expect_scipy(type(model).__name__)
    try:
        from torch import nn
    except ImportError as error:
        raise _missing("torch", type(model).__name__, error) from error
    from evenly.fix.network import torch_network

    name = type(model).__qualname__
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"model is {name}; expected an nn.Module, a ModelProto, the path of a .onnx file or "
            "'package.module:attribute'"
        )
    kept = getattr(model, "example_inputs", None)
    if not args and not kwargs and (needed or kept is not None):
        args = _examples(name, name, kept)
    return torch_network(model, args, kwargs)


def _expect_scipy(target: str) -> None:
    try:
        import scipy  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"{target}: running it to explain or repair it needs scipy; install it with pip install 'evenly[fix]'"
        ) from error


def _onnx_to_run(request: _Request) -> Network:
    try:
        from evenly.fix.network import onnx_network

        return onnx_network(request.target, [(d.name, d.shape) for d in request.inputs])
    except ImportError as error:
        raise _missing("onnx", request.target, error) from error


def _onnx(request: _Request) -> Loaded:
    try:
        from evenly.graph.onnx import read_onnx
        from evenly.graph.onnx.files import load_model
    except ImportError as error:
        raise _missing("onnx", request.target, error) from error
    path = Path(request.target)
    named = {d.name: d for d in request.inputs if d.name is not None}
    unnamed = [d for d in request.inputs if d.name is None]
    if len(named) + len(unnamed) < len(request.inputs):
        raise InputShapeError(f"--input names an input of {path} twice; expected each input once")
    if unnamed:
        proto = load_model(path).graph
        stored = {tensor.name for tensor in proto.initializer}
        free = [i.name for i in proto.input if i.name not in stored and i.name not in named]
        if len(unnamed) > len(free):
            raise InputShapeError(
                f"--input is given {len(request.inputs)} times; {path} has {len(free) + len(named)}"
                f" ({', '.join([*named, *free])})"
            )
        named.update(zip(free, unnamed, strict=False))
    graph = read_onnx(
        path,
        input_shapes={name: declared.shape for name, declared in named.items()},
        use_weights=request.use_weights,
        training=request.training,
    )
    for index, dtype in zip(graph.inputs, graph.dtypes, strict=True):
        declared = named.get(graph.nodes[index].name)
        if declared is not None and declared.dtype not in (None, dtype):
            raise InputShapeError(
                f"--input {graph.nodes[index].name!r} has the type {declared.dtype!r}; {path} takes {dtype!r}"
            )
    return Loaded(graph, "actual" if request.use_weights else "ignored")


def _program(request: _Request) -> Loaded:
    program = _trusted_program(request)
    from evenly.graph.torch import read_program

    graph = read_program(program, use_weights=request.use_weights, training=request.training, source=request.target)
    return Loaded(graph, "actual" if request.use_weights else "ignored")


def _trusted_program(request: _Request) -> ExportedProgram:
    if not request.trust:
        raise UntrustedError(
            f"{request.target}: loading a .pt2 file can execute code that is in it; refused. If you made it yourself, "
            "give --trust; a file from others is read safely as ONNX (torch.onnx.export(model, args, 'model.onnx'))"
        )
    if request.inputs:
        raise UsageError("--input is for module:attribute and ONNX; a .pt2 file was saved with its input shapes")
    try:
        from evenly.graph.torch import load_program
    except ImportError as error:
        raise _missing("torch", request.target, error) from error
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it logs what it raises as well; one clear line is enough
    try:
        return load_program(request.target)
    finally:
        logger.setLevel(level)


def _pickle(request: _Request) -> Loaded:
    raise UntrustedError(
        f"{request.target}: a pickle, and loading it can execute code that is in it; refused. Save the weights with "
        "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors') and check "
        "package.module:attribute --weights weights.safetensors, or export the model to ONNX"
    )


def _weights_only(request: _Request) -> Loaded:
    raise UsageError(
        f"{request.target}: holds weights and no network; give the network as well: "
        f"evenly check package.module:attribute --input 1,3,64,64 --weights {request.target}"
    )


_FILES: Mapping[str, Callable[[_Request], Loaded]] = MappingProxyType(
    {
        ".onnx": _onnx,
        ".pt2": _program,
        **dict.fromkeys((".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin"), _pickle),
        ".safetensors": _weights_only,
    }
)


def _missing(extra: str, target: str, error: ImportError) -> EvenlyError:
    """A clear line when an extra is not installed or broken; a defect of evenly stays what it is."""
    package = (error.name or "").split(".")[0]
    if isinstance(error, EvenlyError) or package == "evenly":
        raise error
    if package == extra:
        return MissingDependencyError(f"{target}: needs {extra}; install it with pip install 'evenly[{extra}]'")
    return ModelError(f"{target}: {extra} cannot be imported: {_line(error)}; repair its installation")


def _line(error: BaseException) -> str:
    """The kind and the first line of an exception."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


# ----------------------------------------------------------------------------------------------------- module:attribute


def _made(request: _Request) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The network that is named, with its weights, and an example of its inputs."""
    module_name, _, attribute = request.target.partition(":")
    made, declared_by = _resolve(module_name, attribute)
    try:
        from torch import nn
    except ImportError as error:
        raise _missing("torch", request.target, error) from error
    examples = getattr(made, "example_inputs", None)
    network = _build(request.target, made, nn.Module)
    if request.inputs:
        args, kwargs = _arguments(request.target, network, request.inputs)
    else:
        examples = getattr(network, "example_inputs", None) if examples is None else examples
        args, kwargs = _examples(request.target, declared_by, examples), {}
    if request.weights is not None and request.use_weights:
        network = _filled(network, request.weights, args)
    return network, args, kwargs


def _module_attribute(request: _Request) -> Loaded:
    network, args, kwargs = _made(request)
    fresh = request.use_weights and request.weights is None
    return load_module(
        network,
        args,
        kwargs,
        weights="none" if fresh else "actual" if request.use_weights else "ignored",
        training=request.training,
        source=request.target,
    )


def load_object(
    model: nn.Module | ExportedProgram,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    use_weights: bool = True,
    training: bool = False,
) -> Loaded:
    """Read what a caller in Python holds; its weights count.

    Args:
        model: An ``nn.Module``, or the result of ``torch.export.export``.
        args: Example inputs of a module.
        kwargs: Keyword inputs of a module.
        use_weights: Whether the values of weights count.
        training: Whether to read in training mode.

    Raises:
        UsageError: If it is neither, or inputs are missing or given needlessly.
        ModelError: If it cannot be read.
        MissingDependencyError: If torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise _missing("torch", type(model).__name__, error) from error
    weights: Literal["actual", "ignored"] = "actual" if use_weights else "ignored"
    if isinstance(model, torch.nn.Module):
        if not args and not kwargs:
            kept = getattr(model, "example_inputs", None)
            args = _examples(type(model).__qualname__, type(model).__qualname__, kept)
        return load_module(model, args, kwargs, weights=weights, training=training)
    if isinstance(model, torch.export.ExportedProgram):
        if args or kwargs:
            raise UsageError("example inputs are for an nn.Module; an exported program has its own")
        from evenly.graph.torch import read_program

        return Loaded(read_program(model, use_weights=use_weights, training=training), weights)
    raise UsageError(
        f"model is {type(model).__name__}; expected an nn.Module, an exported program, a path or "
        "'package.module:attribute'"
    )


def load_module(
    network: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    weights: Literal["actual", "ignored", "none"],
    training: bool = False,
    source: str | None = None,
) -> Loaded:
    """Read an ``nn.Module`` through ``torch.export``.

    Args:
        network: The module; it is left as it was.
        args: Example inputs; their values do not matter.
        kwargs: Keyword inputs.
        weights: ``"actual"`` to use the module's values.
        training: Whether to read in training mode.
        source: What to call it in the report; by default its class.

    Raises:
        ModelError: If it cannot be read.
        MissingDependencyError: If torch is not installed.
    """
    try:
        from evenly.graph.torch import read_module
    except ImportError as error:
        raise _missing("torch", source or type(network).__name__, error) from error
    graph = read_module(
        network,
        args,
        dict(kwargs or {}),
        use_weights=weights == "actual",
        training=training,
        source=source or type(network).__qualname__,
    )
    return Loaded(graph, weights)


def _resolve(module_name: str, attribute: str) -> tuple[Any, str]:
    """Import the module, with the working directory on the path as for ``python -m``, and look the attribute up."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        if absent is not None and (module_name == absent or module_name.startswith(f"{absent}.")):
            raise UsageError(
                f"module {module_name!r} is not there; expected one importable from {here} or installed in this Python"
            ) from error
        raise ModelError(f"importing {module_name!r} failed: {_line(error)}; correct the module, then try again") from (
            error
        )
    for step in attribute.split("."):
        try:
            found = getattr(found, step)
        except AttributeError as error:
            names = sorted(n for n in vars(found) if not n.startswith("_")) if hasattr(found, "__dict__") else []
            some = ", ".join(names[:8]) or "nothing"
            raise UsageError(f"{module_name!r} has no {attribute!r}; it has {some}{', ...' * (len(names) > 8)}") from (
                error
            )
    return found, attribute


def _build(target: str, made: Any, module_class: type) -> Any:
    """An instance as it is; a class or a function called without arguments."""
    if isinstance(made, module_class):
        return made
    if not callable(made):
        raise UsageError(
            f"{target} is {type(made).__name__}; expected an nn.Module, a class or a function that makes one"
        )
    try:
        network = made()
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{target}() failed: {_line(error)}; expected a class or function without required arguments that makes "
            "an nn.Module"
        ) from error
    if not isinstance(network, module_class):
        raise UsageError(f"{target}() returned {type(network).__name__}; expected an nn.Module")
    return network


def _arguments(target: str, network: nn.Module, inputs: Sequence[Declared]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Tensors for the declared inputs, matched to the parameters of ``forward``."""
    args = tuple(_tensor(d) for d in inputs if d.name is None)
    kwargs: dict[str, Any] = {}
    for declared in inputs:
        if declared.name is not None:
            if declared.name in kwargs:
                raise InputShapeError(f"--input {declared.name!r} is given twice; expected each input once")
            kwargs[declared.name] = _tensor(declared)
    signature = inspect.signature(network.forward)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise InputShapeError(
            f"--input does not fit {target}: {error}; its forward takes {signature}, declare one --input per tensor"
        ) from error
    return bound.args, dict(bound.kwargs)


def _tensor(declared: Declared) -> Tensor:
    """An example of the declared shape, all zeros: nothing reads its values, and untouched zeros take no memory."""
    import torch

    return torch.zeros(declared.shape, dtype=getattr(torch, declared.dtype or "float32"))


def _examples(target: str, attribute: str, examples: Any) -> tuple[Any, ...]:
    import torch

    if callable(examples) and not isinstance(examples, torch.Tensor):
        try:
            examples = examples()
        except Exception as error:
            raise ModelError(f"{target}: example_inputs() failed: {_line(error)}; give --input instead") from error
    if isinstance(examples, torch.Tensor):
        return (examples,)
    if isinstance(examples, tuple | list) and examples:
        return tuple(examples)
    if examples is None:
        raise InputShapeError(
            f"{target} needs example inputs; give --input {_INPUT_FORM} (in Python: tensors after the model), or "
            f"{attribute}.example_inputs"
        )
    raise InputShapeError(
        f"{target}: example_inputs is {type(examples).__name__}; expected a tensor or a tuple of tensors"
    )


# -------------------------------------------------------------------------------------------------------------- weights


def _filled(network: nn.Module, path: Path, example: tuple[Any, ...]) -> nn.Module:
    """The network with the weights of a file, and with the layers that a repair gave another shape."""
    from evenly.fix.restoring import repaired, restore

    if repaired(path):
        return restore(network, path, *example)
    _fill(network, path)
    return network


def _fill(network: nn.Module, path: Path) -> None:
    """Load a ``.safetensors`` file into a module, every key and shape exactly."""
    if path.suffix.lower() != ".safetensors":
        raise UntrustedError(
            f"--weights (={str(path)!r}) is no .safetensors file; other formats can execute code. Save it with "
            "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')"
        )
    if not path.is_file():
        raise WeightsError(f"--weights (={str(path)!r}) is not there; check the path")
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise MissingDependencyError(
            f"{path}: needs safetensors; install it with pip install 'evenly[torch]'"
        ) from error
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise FormatError(f"{path}: not a readable .safetensors file: {_line(error)}; save it again") from error
    wanted = network.state_dict()
    problems = [
        *_listed("missing", [k for k in wanted if k not in tensors]),
        *_listed("unexpected", [k for k in tensors if k not in wanted]),
        *_listed(
            "of another shape",
            [
                f"{k} {tuple(tensors[k].shape)} for {tuple(wanted[k].shape)}"
                for k in wanted
                if k in tensors and tensors[k].shape != wanted[k].shape
            ],
        ),
        *_listed("not finite", [k for k, t in tensors.items() if t.is_floating_point() and not t.isfinite().all()]),
    ]
    if problems:
        raise WeightsError(f"{path} does not fit {type(network).__name__}: {'; '.join(problems)}; use its own weights")
    network.load_state_dict(tensors, strict=True)


def _listed(what: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    return [f"{len(names)} {what} ({', '.join(names[:5])}{', ...' * (len(names) > 5)})"]
