"""Repairs of an ONNX graph's structure: what :mod:`evenly.fix.structure` does to modules, in files.

The same methods with the same weights; each keeps the sizes of every output for every size of the input, open ones
too. Only operators of the file's own opset are used. Nothing but the layers in question changes: other nodes, names,
metadata, opset, and where values lie stay as they are, and what nobody reads any more goes.

* ``resize``: ``ConvTranspose`` becomes ``Resize`` (nearest) and ``Conv``, the nearest to it;
* ``subpixel``: ``ConvTranspose`` becomes ``Conv`` and ``DepthToSpace`` of equal phase gains; a convolution with its
  pixel shuffle keeps its place and gets equal phase gains;
* ``antialias``: a strided ``Conv``, ``MaxPool`` or ``AveragePool`` is filtered before it drops samples;
* ``pad``: a ``Conv`` that pads with zeros repeats the edge instead;
* ``fold``: ``Resize`` (nearest, whole factors) and ``Conv`` become one ``ConvTranspose``, the same function.

All but ``fold`` change the function: a file with ``resize``, ``subpixel``, ``antialias`` or ``pad`` wants training,
which ONNX files have not; they are for those who import the file again, or who accept the change that is reported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from onnx import ModelProto

from evenly.check.engine import analyse
from evenly.check.result import Report
from evenly.errors import EvenlyError, UsageError
from evenly.fix._onnx_down import Pool, antialiased, edge_padded, pooled
from evenly.fix._onnx_places import Place
from evenly.fix._onnx_replacing import Made, described
from evenly.fix._onnx_sites import Sites
from evenly.fix._onnx_surgery import Surgery
from evenly.fix._onnx_up import Interpolation, folded, resized, subpixeled
from evenly.fix.changes import LayerChange, Method, Step, cures, findings, told, wanted_methods
from evenly.fix.onnx_backend import OnnxBackend
from evenly.graph.onnx.reader import read_opened

__all__ = ["replaced_onnx"]

_Site = Place | Pool | Interpolation
_Task = LayerChange | tuple[_Site, Method]
"""A refusal, or what is to be replaced and how."""


def replaced_onnx(
    model: str | os.PathLike[str] | ModelProto | OnnxBackend,
    methods: Method | Sequence[Method] | Mapping[str, Method] | Sequence[Step],
    *,
    layers: Literal["auto"] | Report | Sequence[str] = "auto",
    input_shapes: Mapping[str | int, Sequence[int]] | None = None,
) -> tuple[OnnxBackend, tuple[LayerChange, ...]]:
    """A copy of an ONNX model with some of its layers replaced.

    Args:
        model: Path of a file, which is not trusted, a model in memory, or one that is opened already.
        methods: What may be done: a layer is replaced by the first that is for it. Or what is to be done, and
            ``layers`` is left out: methods by the names of layers, or steps.
        layers: ``"auto"``: those that a check of the file has findings about, above ``info``; a report, likewise; or
            names, as ``evenly check`` has them. With ``fold``, which cures no finding, ``"auto"`` is all that folds.
        input_shapes: Of inputs whose sizes the file leaves open, for that check.

    Returns:
        The copy, and for every layer what was done, or why nothing was.

    Raises:
        UsageError: If a method or a layer does not exist.
        FormatError: If the file is no ONNX model, or damaged.
        InputShapeError: If the check needs sizes that the file leaves open.
    """
    backend = model if isinstance(model, OnnxBackend) else OnnxBackend(model)
    sites = Sites(backend)
    steps = told(methods)
    wanted = wanted_methods(methods if steps is None else [method for _, method in steps])
    if steps is not None:
        tasks = [task for name, method in steps for task in _named(sites, name, (method,))]
    elif isinstance(layers, str | Report):
        tasks = list(_found(sites, backend, layers, wanted, input_shapes))
    else:
        tasks = [task for name in layers for task in _named(sites, name, wanted)]
    tasks = list(dict.fromkeys(tasks))
    pads = [task for task in tasks if not isinstance(task, LayerChange) and task[1] == "pad"]
    done, first = _carried_out(backend, pads)
    # where the padding has changed, a filter repeats the edge as well
    again = Sites(done) if pads else sites
    rest = [task if isinstance(task, LayerChange) else (again.same(task[0]), task[1]) for task in tasks]
    done, second = _carried_out(done, [t for t in rest if isinstance(t, LayerChange) or t[1] != "pad"])
    return done, (*first, *second)


def _named(sites: Sites, name: str, wanted: Sequence[Method]) -> Iterator[_Task]:
    """What is done with a layer that was named: the first method that is for it.

    Raises:
        UsageError: If there is no such layer.
    """
    if name in sites.refused:
        yield LayerChange(name, wanted[0], "a convolution", None, note=sites.refused[name])
        return
    interpolation, site = sites.interpolation(name), sites.layer(name)
    if interpolation is None and site is None:
        known = ", ".join(repr(n) for n in sites.names()[:20]) or "none"
        raise UsageError(f"there is no layer {name!r} that could be replaced, expected one of: {known}")
    if "fold" in wanted and interpolation is not None:
        yield interpolation, "fold"
        return
    others = [method for method in wanted if method != "fold"]
    if site is None or not others:
        before = described(sites.node(site)) if site is not None else "Resize"
        yield LayerChange(name, wanted[0], before, None, note=f"{wanted[0]} is not for it")
        return
    fitting = [method for method in others if _fits(site, method)]
    yield site, (fitting or others)[0]


def _fits(site: _Site, method: Method) -> bool:
    """Whether a layer is of a kind that the method is for."""
    if isinstance(site, Pool):
        return method == "antialias"
    if not isinstance(site, Place):
        return method == "fold"
    kinds = {"resize": ("transposed",), "subpixel": ("transposed", "subpixel"), "fold": ()}
    return site.kind in kinds.get(method, ("convolution", "subpixel"))


def _found(
    sites: Sites,
    backend: OnnxBackend,
    layers: str | Report,
    wanted: Sequence[Method],
    shapes: Mapping[str | int, Sequence[int]] | None,
) -> Iterator[_Task]:
    """What is done about the findings of a check, and everything that folds if that is wanted."""
    if isinstance(layers, str) and layers != "auto":
        raise UsageError(f"layers (={layers!r}) must be 'auto', a report or names; give [{layers!r}] for one layer")
    if "fold" in wanted:
        yield from ((found, "fold") for found in sites.interpolations)
    if set(wanted) == {"fold"}:
        return
    graph = read_opened(backend.file, shapes)
    report = layers if isinstance(layers, Report) else analyse(graph)
    feeding = sites.feeding(graph)
    for finding, op in findings(report):
        method = next((m for m in wanted if m in cures(finding.code, op)), None)
        if finding.severity == "info" or method is None:
            continue
        name = feeding.get(finding.layer, finding.layer)
        site = sites.layer(name)
        if site is not None:
            yield site, method
        else:
            note = sites.refused.get(name, f"no node of the file alone does it ({op}); change it by hand")
            yield LayerChange(finding.layer, method, op, None, note=note)


def _carried_out(backend: OnnxBackend, tasks: Sequence[_Task]) -> tuple[OnnxBackend, list[LayerChange]]:
    if not tasks:
        return backend, []
    surgery = backend.operated()
    changes = [task if isinstance(task, LayerChange) else _change(surgery, *task) for task in tasks]
    return backend.renewed(surgery), changes


def _change(surgery: Surgery, site: _Site, method: Method) -> LayerChange:
    """Replace one layer, or say why not."""
    node = surgery.node(site.output)
    before = described(node, site.weight.shape) if isinstance(site, Place) else described(node)
    try:
        made = _made(surgery, site, method)
    except EvenlyError as error:
        return LayerChange(site.name, method, before, None, note=str(error))
    return LayerChange(site.name, method, before, made.after, made.fit_error, made.note)


def _made(surgery: Surgery, site: _Site, method: Method) -> Made:
    acts: dict[tuple[type, str], Any] = {
        (Place, "resize"): resized,
        (Place, "subpixel"): subpixeled,
        (Place, "antialias"): antialiased,
        (Place, "pad"): edge_padded,
        (Pool, "antialias"): pooled,
        (Interpolation, "fold"): folded,
    }
    act = acts.get((type(site), method))
    if act is None:
        raise UsageError(f"{method} is not for it")
    made: Made = act(surgery, site)
    return made
