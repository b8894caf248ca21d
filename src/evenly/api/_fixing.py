"""``evenly.fix`` as people call it from Python."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evenly.api._opening import opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike

    from evenly.fix.engine import FixMethod
    from evenly.fix.result import FixResult

__all__ = ["fix"]


def fix(
    model: Any,
    *example_inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    weights: str | os.PathLike[str] | None = None,
    calibration: Iterable[Any] | str | os.PathLike[str] | None = None,
    reference: ArrayLike | Mapping[str, ArrayLike] | str | os.PathLike[str] | None = None,
    paired: bool = False,
    values: tuple[float, float] = (0.0, 1.0),
    limit: int = 64,
    layers: Literal["auto"] | Sequence[str] = "auto",
    method: FixMethod = "auto",
    max_distortion: float = 36.0,
    finetune: int = 0,
    loss: Callable[[Any], float] | None = None,
    seed: int = 0,
    periods: Iterable[int] | None = None,
    within_db: float = 3.0,
    peak: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> FixResult:
    """Repair a trained model's checkerboards without training, or with a few steps of it, and say what that cost.

    Part of the calibration data is kept for the proof: every number of the report is from there.

    Args:
        model: An ``nn.Module``, a ``ModelProto``, the path of a ``.onnx`` file, or ``"package.module:attribute"``. It
            stays as it is.
        *example_inputs: Tensors ``(N, C, *spatial)`` as ``model.forward`` takes them, for a module without an attribute
            ``example_inputs``. Random signals, and crops of pictures, have their shapes.
        kwargs: Keyword inputs of ``model.forward``.
        input_shapes: For a file, a ``ModelProto`` or ``"module:attribute"``, tensor shape per input name, where sizes
            are open.
        weights: A ``.safetensors`` file for ``"module:attribute"``.
        calibration: What the model is for: batches (arrays, sequences of arguments or mappings by name), or the path of
            a folder of pictures or recordings or of a ``.npy`` or ``.npz`` file, see
            :func:`evenly.fix.data.load_batches`. By default random signals, which show less.
        reference: Real data as the output should be, ``(N, C, *spatial)``, by output if there are several; or a path,
            as for `calibration`. Lines need not fall below its own. Without it they are compared with their
            surroundings.
        paired: Whether the reference is what the model should give for the calibration data, in their order.
        values: What black and white of pictures become.
        limit: Most signals that are read from a path.
        layers: Names of the layers that may be changed; by default all that it takes.
        method: ``"auto"``, ``"solve"``, ``"balance"``, ``"resize"``, ``"subpixel"``, ``"fold"`` or ``"antialias"``; see
            :func:`evenly.fix.engine.fix`.
        max_distortion: Least PSNR to the original output, in dB.
        finetune: Steps of training inside the constraint that all phases have equal gains; torch only.
        loss: The task's loss of a model, called with the module; of ONNX models with a function from a batch to the
            outputs by name.
        seed: Of random inputs, of fine-tuning, and of the weights that ``"module:attribute"`` draws.
        periods: Of the lines, in samples of the output; by default those that the model's up-sampling can make.
        within_db: How far lines may stand over the reference, in dB.
        peak: Range of the output's values, which the PSNR refers to; by default that of the reference, else of the
            original output.
        checkpoint: File that fine-tuning keeps its state in, and goes on from.
        progress: Told what is being done and the share that is done, 0 to 1.

    Returns:
        ``model``, ``report``, and ``save(path)``; :func:`evenly.fix.restore` loads what was saved of a module. With the
        verdict ``partly`` the model is the best one within `max_distortion`.

    Raises:
        UsageError: If an argument does not fit the model, or nothing in it can be repaired so.
        EvenlyError: If the model or the data cannot be read.
        MissingDependencyError: If torch, onnx or onnxruntime is needed and not installed.
    """
    given = calibration is not None and not isinstance(calibration, str | os.PathLike)
    network = opened(model, example_inputs, kwargs, input_shapes or {}, weights, seed, needed=not given)
    from evenly.fix.calibration import fix_network

    return fix_network(
        network,
        calibration,
        reference,
        values=values,
        limit=limit,
        seed=seed,
        paired=paired,
        layers=layers,
        method=method,
        max_distortion=max_distortion,
        finetune=finetune,
        loss=loss,
        periods=None if periods is None else tuple(periods),
        within_db=within_db,
        peak=peak,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        progress=progress,
    )
