"""One table says what to do with each kind of file."""

from __future__ import annotations

import logging
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from evenly.errors import InputShapeError, UntrustedError, UsageError
from evenly.load._failing import needing
from evenly.load._request import Loaded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch.export import ExportedProgram

    from evenly.load._request import Request

__all__ = ["FILES", "trusted_program"]


def _onnx(request: Request) -> Loaded:
    with needing("onnx", request.target):
        from evenly.graph.onnx import read_onnx
        from evenly.graph.onnx.files import load_model
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


def _program(request: Request) -> Loaded:
    program = trusted_program(request)
    from evenly.graph.torch import read_program

    graph = read_program(program, use_weights=request.use_weights, training=request.training, source=request.target)
    return Loaded(graph, "actual" if request.use_weights else "ignored")


def trusted_program(request: Request) -> ExportedProgram:
    if not request.trust:
        raise UntrustedError(
            f"{request.target}: loading a .pt2 file can execute code that is in it; refused. If you made it yourself, "
            "give --trust; a file from others is read safely as ONNX (torch.onnx.export(model, args, 'model.onnx'))"
        )
    if request.inputs:
        raise UsageError("--input is for module:attribute and ONNX; a .pt2 file was saved with its input shapes")
    with needing("torch", request.target):
        from evenly.graph.torch import load_program
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it logs what it raises as well; one clear line is enough
    try:
        return load_program(request.target)
    finally:
        logger.setLevel(level)


def _pickle(request: Request) -> Loaded:
    raise UntrustedError(
        f"{request.target}: a pickle, and loading it can execute code that is in it; refused. Save the weights with "
        "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors') and check "
        "package.module:attribute --weights weights.safetensors, or export the model to ONNX"
    )


def _weights_only(request: Request) -> Loaded:
    raise UsageError(
        f"{request.target}: holds weights and no network; give the network as well: "
        f"evenly check package.module:attribute --input 1,3,64,64 --weights {request.target}"
    )


FILES: Mapping[str, Callable[[Request], Loaded]] = MappingProxyType(
    {
        ".onnx": _onnx,
        ".pt2": _program,
        **dict.fromkeys((".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin"), _pickle),
        ".safetensors": _weights_only,
    }
)
