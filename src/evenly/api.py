"""``evenly.check``, ``measure``, ``attribute``, ``fix``, ``reproduce`` as people call them from Python."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from evenly import settings as _settings
from evenly.check.engine import analyse
from evenly.errors import UsageError
from evenly.load import Declared, Loaded, load_network, load_object, load_target, module_network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike
    from torch import nn
    from torch.export import ExportedProgram

    from evenly.check.result import Report
    from evenly.fix.attributed import Attribution
    from evenly.fix.engine import FixMethod
    from evenly.fix.network import Network
    from evenly.fix.result import FixResult
    from evenly.measure.result import Measurement
    from evenly.measure.sound_result import AudioMeasurement
    from evenly.reproduce.run import Progress
    from evenly.reproduce.stored import Reproduction

__all__ = [
    "attribute",
    "attribute_network",
    "check",
    "fix",
    "measure",
    "report_on",
    "reproduce",
]


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


def measure(
    source: ArrayLike | str | os.PathLike[str],
    periods: Iterable[int] | None = None,
    *,
    kind: Literal["image", "audio"] | None = None,
    rate: float | None = None,
) -> Measurement | AudioMeasurement:
    """Measure the periodic artifacts of up-sampling in one picture or recording.

    For many, and for one set against another, see :func:`evenly.measure_set`.

    Args:
        source: A path; or a picture, shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); or a recording, shape (samples,)
            or (samples, channels).
        periods: In pixels or samples; by default :data:`evenly.measure.result.PERIODS` or
            :data:`evenly.measure.sound_result.STRIDES`.
        kind: ``"image"`` or ``"audio"``; by default what the file's name says. An array of one axis, or with a
            ``rate``, is a recording.
        rate: Sampling rate in Hz, for a recording that is an array.

    Returns:
        The measurement: ``verdict``, ``cause``, ``periods``; print it, or see it with ``.plot()``.

    Raises:
        UsageError: If the arguments or the array cannot be measured.
        EvenlyError: If the file cannot be read.
        MissingDependencyError: If an extra is needed and not installed.
    """
    path = Path(source) if isinstance(source, str | os.PathLike) else None
    if path is not None and path.is_dir():
        raise UsageError(f"{path}: a folder; expected one file. evenly.measure_set measures sets")
    if kind not in (None, "image", "audio"):
        raise UsageError(f"kind (={kind!r}) must be 'image' or 'audio'")
    if kind is None:
        kind = "audio" if rate is not None or _sounds(source if path is None else path) else "image"
    if kind == "audio":
        from evenly.measure.audio import measure_audio

        return measure_audio(source, rate) if periods is None else measure_audio(source, rate, tuple(periods))
    if rate is not None:
        raise UsageError(f"rate (={rate}) is for recordings; a picture has none")
    from evenly.measure.image import measure_image
    from evenly.measure.result import PERIODS

    wanted = PERIODS if periods is None else tuple(periods)
    if path is None:
        import numpy as np

        return measure_image(np.asarray(source), wanted, keep=True)
    from evenly.measure.files import read_picture

    picture = read_picture(path)
    return measure_image(picture.pixels, wanted, path=str(path), encoding=picture.encoding, keep=True)


def _sounds(source: Any) -> bool:
    """Whether a file or an array is a recording."""
    if isinstance(source, Path):
        from evenly.measure.sources import EXTENSIONS

        return source.suffix.lower() in EXTENSIONS["audio"]
    return getattr(source, "ndim", 0) == 1


def attribute(
    model: Any,
    *example_inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    weights: str | os.PathLike[str] | None = None,
    inputs: Iterable[Any] | str | os.PathLike[str] | None = None,
    values: tuple[float, float] = (0.0, 1.0),
    limit: int = 64,
    periods: Iterable[int] | None = None,
    output: str | None = None,
    backward: bool = False,
    seed: int = 0,
    trust: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Attribution:
    """Name the layers that make the lines in a model's output, or in the gradient of its input.

    The network is run: as it is, with each layer in question made even alone, and with all of them made even. Layers
    rank by how far they make the lines fall; see :mod:`evenly.fix.attribution` for what *even* means.

    Args:
        model: An ``nn.Module``, a ``ModelProto``, the path of a ``.onnx`` or ``.pt2`` file, or
            ``"package.module:attribute"``. It stays as it is.
        *example_inputs: Tensors ``(N, C, *spatial)`` as ``model.forward`` takes them, for a module without an attribute
            ``example_inputs``. Random signals, and crops of pictures, have their shapes.
        kwargs: Keyword inputs of ``model.forward``.
        input_shapes: For a file, a ``ModelProto`` or ``"module:attribute"``, tensor shape per input name, where sizes
            are open.
        weights: A ``.safetensors`` file for ``"module:attribute"``.
        inputs: What to run it on: batches (arrays, sequences of arguments or mappings by name), or the path of a
            folder of pictures or recordings or of a ``.npy`` or ``.npz`` file, see
            :func:`evenly.fix.data.load_batches`; by default random signals.
        values: What black and white of pictures become.
        limit: Most signals that are read from a path.
        periods: Of the lines, in samples of the output (of the input, backward); by default 2, 3, 4, 5, 6, 8 and 16, as
            far as the sizes allow.
        output: Name of the output that is explained (derived, backward), if there are several.
        backward: Explain the lines of the squared gradient by the input instead; torch only.
        seed: Of random inputs, of what is derived, and of the weights that ``"module:attribute"`` draws.
        trust: Whether a ``.pt2`` file may be loaded although its loader can execute code.
        progress: Told after each run how many are done, and of how many.

    Returns:
        The attribution: ``present``, ``lines``, ``ranking()``, ``layers``; print it.

    Raises:
        UsageError: If an argument does not fit the model, or there is nothing to explain.
        EvenlyError: If the model or the inputs cannot be read.
        MissingDependencyError: If torch, onnx or onnxruntime is needed and not installed.
    """
    given = inputs is not None and not isinstance(inputs, str | os.PathLike)
    network = _network(model, example_inputs, kwargs, input_shapes or {}, weights, seed, needed=not given, trust=trust)
    return attribute_network(
        network,
        inputs,
        values=values,
        limit=limit,
        periods=None if periods is None else tuple(periods),
        output=output,
        backward=backward,
        seed=seed,
        progress=progress,
    )


def _network(
    model: Any,
    example_inputs: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None,
    input_shapes: Mapping[str, Sequence[int]],
    weights: str | os.PathLike[str] | None,
    seed: int,
    needed: bool,
    trust: bool | None = None,
) -> Network:
    named = isinstance(model, str | os.PathLike)
    proto = type(model).__module__.partition(".")[0] == "onnx"
    if (named or proto) and (example_inputs or kwargs):
        raise UsageError("example inputs are for an nn.Module; for a file or module:attribute give input_shapes")
    if not named and weights is not None:
        raise UsageError("weights is for module:attribute; load them into the module")
    if named:
        declared = [Declared(tuple(shape), name) for name, shape in input_shapes.items()]
        path = None if weights is None else Path(weights)
        return load_network(os.fspath(model), inputs=declared, weights=path, seed=seed, trust=trust)
    if proto:
        from evenly.fix.network import onnx_network

        return onnx_network(model, list(input_shapes.items()))
    if input_shapes:
        raise UsageError("input_shapes is for a file or module:attribute; give a module its tensors")
    return module_network(model, example_inputs, kwargs, needed=needed)


def attribute_network(
    network: Network,
    source: Iterable[Any] | str | os.PathLike[str] | None,
    *,
    values: tuple[float, float],
    limit: int,
    periods: Sequence[int] | None,
    output: str | None,
    backward: bool,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> Attribution:
    """Run an opened network on what the user names; arguments as those of :func:`attribute`."""
    from evenly.fix import attribution
    from evenly.fix.data import load_batches

    if backward and not network.differentiable:
        raise UsageError(f"{network.name}: gradients are had from torch only; give a module, or leave backward out")
    notes = network.notes
    if source is None:
        batches, words = network.random(seed, constants=not backward)
    elif isinstance(source, str | os.PathLike):
        data = load_batches(source, network.inputs, limit=limit, values=values)
        batches, words = network.batches(data), data.words
        notes += tuple(f"left out: {failure.path}: {failure.reason}" for failure in data.left_out)
    else:
        batches, words = list(source), "as given"
    found = attribution.attribute(
        network.model,
        inputs=batches,
        periods=periods,
        output=output,
        backward=backward,
        seed=seed,
        progress=progress,
    )
    return replace(found, model=network.name, inputs=words, notes=notes)


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
    network = _network(model, example_inputs, kwargs, input_shapes or {}, weights, seed, needed=not given)
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


def reproduce(
    names: str | Iterable[str] = ("all",),
    scale: Literal["smoke", "small", "full"] = "small",
    *,
    data: str | os.PathLike[str] | None = None,
    seeds: int | None = None,
    device: str = "cpu",
    resume: bool = False,
    output: str | os.PathLike[str] = "reproduction",
    jobs: int | None = 1,
    progress: Callable[[Progress], None] | None = None,
) -> Reproduction:
    """Run experiments of Odena, Dumoulin and Olah (2016, doi 10.23915/distill.00003) again and say which claims hold.

    Args:
        names: Experiments, or ``"all"``; ``evenly reproduce --list`` names them.
        scale: ``"smoke"`` takes seconds and decides little, ``"small"`` minutes to an hour on a CPU; ``"full"`` is for
            a GPU.
        data: A folder of pictures, whose sub-folders are classes, or of CIFAR-10's binary files; by default the
            photographs that ship with scikit-image and scikit-learn.
        seeds: How many networks of each kind; by default what the experiment asks for.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
        resume: Whether to use what earlier runs of the same work have kept.
        output: Folder for the page, the results and what is kept.
        jobs: Processes; 1 works in this one, ``None`` takes one for every core. A script that takes more than one must
            guard its call with ``if __name__ == "__main__"``.
        progress: Told what happens.

    Returns:
        All results in the output folder: ``answers`` and ``claims`` by number, ``results`` by experiment.

    Raises:
        UsageError: If an argument is wrong.
        EvenlyError: If an experiment cannot be finished; the others are run and written before.
        MissingDependencyError: If the extra ``reproduce`` is not installed.
    """
    from evenly.reproduce.experiment import Scale
    from evenly.reproduce.run import Job, processes
    from evenly.reproduce.together import run_together

    if scale not in list(Scale):
        raise UsageError(f"scale (={scale!r}) must be 'smoke', 'small' or 'full'")
    job = Job(
        Scale(scale),
        Path(output),
        None if data is None else Path(data),
        seeds,
        device,
        resume,
        processes(device) if jobs is None else jobs,
    )
    wanted = [names] if isinstance(names, str) else list(names)
    ran = run_together(wanted, job, progress or (lambda _: None))
    for error in ran.failed.values():
        raise error
    return ran.found
