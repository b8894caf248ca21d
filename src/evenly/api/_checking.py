"""``evenly.check`` as people call it from Python."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evenly import settings as _settings
from evenly.check.engine import analyse
from evenly.errors import UsageError
from evenly.load import Declared, Loaded, load_object, load_target

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import nn
    from torch.export import ExportedProgram

    from evenly.check.result import Report

__all__ = ["check", "report_on"]


def check(
    model: nn.Module | ExportedProgram | str | os.PathLike[str],
    *example_inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    backward: bool = True,
    use_weights: bool = True,
    weights: str | os.PathLike[str] | None = None,
    select: str | Iterable[str] | None = None,
    ignore: str | Iterable[str] | None = None,
    per_layer_ignores: Mapping[str, Iterable[str]] | None = None,
    ripple_tolerance: float = _settings.RIPPLE_TOLERANCE,
    train: bool = False,
    trust: bool = False,
) -> Report:
    """Say which layers can or do make periodic artifacts, forward and backward.

    The network is never run: a module is read through ``torch.export``, a file by its own reader.

    Args:
        model: An ``nn.Module``, the result of ``torch.export.export``, or what the command line takes: the path of a
            ``.onnx`` or ``.pt2`` file, or ``"package.module:attribute"``.
        *example_inputs: Tensors ``(N, C, *spatial)`` as ``model.forward`` takes them; their values do not matter. A
            module with an attribute ``example_inputs`` needs none.
        kwargs: Keyword inputs of ``model.forward``.
        input_shapes: For a file or ``"module:attribute"``, tensor shape per input name, where the file leaves sizes
            open.
        backward: Whether to analyse the gradient with respect to every input.
        use_weights: Whether the values of weights count; with False only the structure does.
        weights: A ``.safetensors`` file for ``"module:attribute"``, which is taken for freshly made otherwise.
        select: Codes or beginnings of codes to report (``["EV1"]``); by default all.
        ignore: Codes or beginnings of codes to leave out.
        per_layer_ignores: Codes to leave out per pattern of layer names (``{"encoder.*": ["EV201"]}``).
        ripple_tolerance: Ripple of actual weights above which EV104 is an error (ratio).
        train: Whether to read in training mode (batch statistics instead of running ones).
        trust: Whether a ``.pt2`` file may be loaded although its loader can execute code.

    Returns:
        The report; print it, or read ``report.findings``, ``report.layers``, ``report.outputs``, ``report.inputs``.

    Raises:
        UsageError: If an argument does not fit the model.
        ModelError: If the model cannot be read.
        WeightsError: If weights do not fit or are not finite.
        MissingDependencyError: If torch or onnx is needed and not installed.
    """
    wanted = _settings.Settings(
        select=_settings.codes(select, "select"),
        ignore=_settings.codes(ignore, "ignore"),
        ripple_tolerance=ripple_tolerance,
        backward=backward,
        per_layer_ignores={
            glob: _settings.codes(listed, f"per_layer_ignores[{glob!r}]")
            for glob, listed in (per_layer_ignores or {}).items()
        },
    )
    if isinstance(model, str | os.PathLike):
        if example_inputs or kwargs:
            raise UsageError("example inputs are for an nn.Module; for a file or module:attribute give input_shapes")
        loaded = load_target(
            os.fspath(model),
            inputs=[Declared(tuple(shape), name) for name, shape in (input_shapes or {}).items()],
            weights=None if weights is None else Path(weights),
            use_weights=use_weights,
            trust=trust,
            training=train,
        )
    else:
        if input_shapes or weights is not None:
            raise UsageError("input_shapes and weights are for a file or module:attribute; give a module its tensors")
        loaded = load_object(model, example_inputs, kwargs, use_weights=use_weights, training=train)
    return report_on(loaded, wanted)


def report_on(loaded: Loaded, settings: _settings.Settings) -> Report:
    """Analyse a graph and leave out what the settings do not ask for."""
    found = analyse(
        loaded.graph,
        backward=settings.backward,
        weights=loaded.weights,
        ripple_tolerance=settings.ripple_tolerance,
    )
    return _settings.filtered(found, settings)
