"""Repair a trained model: find what is guilty, try the cheapest repairs first, prove what came out.

:func:`fix` reads the model's lines on calibration data, compares them with real data's, and goes the way that the
method names. Part of the data is kept for the proof: the report's numbers are from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from evenly.check.result import Report
from evenly.errors import EvenlyError, UsageError
from evenly.fix import ways
from evenly.fix._attribution_inputs import random_inputs
from evenly.fix.attributed import Attribution
from evenly.fix.attribution import attribute, name_of, opened
from evenly.fix.backend import Backend
from evenly.fix.changes import Method as Structural
from evenly.fix.checked import checked
from evenly.fix.costs import cost
from evenly.fix.result import FixReport, FixResult, LineChange, OutputChange, Samples
from evenly.fix.search import Loss, Progress, Search, Tried
from evenly.fix.task import Task, chunks
from evenly.measure.phases import check_periods
from evenly.measure.result import PERIODS

__all__ = ["METHODS", "FixMethod", "fix"]

FixMethod = Literal["auto", "solve", "balance", "resize", "subpixel", "fold", "antialias"]
METHODS: tuple[FixMethod, ...] = get_args(FixMethod)
_STRUCTURAL: tuple[Structural, ...] = ("resize", "subpixel", "fold", "antialias")

SIGNALS = 64
"""Random signals, where nobody gives calibration data."""
_ATTRIBUTED = 2
"""Chunks of calibration data that layers are attributed on: every layer costs a run of each."""
_SAMPLES = 4


def fix(
    model: Any,
    *example_inputs: Any,
    calibration: Iterable[Any] | None = None,
    reference: Any = None,
    paired: bool = False,
    layers: Literal["auto"] | Sequence[str] = "auto",
    method: FixMethod = "auto",
    max_distortion: float = 36.0,
    finetune: int = 0,
    loss: Callable[[Any], float] | None = None,
    seed: int = 0,
    periods: Sequence[int] | None = None,
    within_db: float = 3.0,
    peak: float | None = None,
    checkpoint: str | Path | None = None,
    progress: Progress | None = None,
) -> FixResult:
    """Repair a trained model's checkerboards without training, or with a few steps of it, and say what that cost.

    Args:
        model: An ``nn.Module``, an ONNX file or model, or a :class:`evenly.fix.backend.Backend`. It stays as it is.
        *example_inputs: What it takes, arrays or tensors ``(N, C, *sizes)``; may be left out if `calibration` is given.
        calibration: Batches of the model's inputs: arrays, sequences of arguments, or mappings by name. A quarter of
            them is kept for the proof. By default random signals, which show less than what the model is for.
        reference: Real data in the form of the output, ``(N, C, *sizes)``, or a mapping by output: lines need not fall
            below its own. Without it lines are compared with their surroundings.
        paired: Whether the reference is what the model should give for the calibration data, in their order: freedom
            that the repair leaves is then spent on the task.
        layers: Names of the layers that may be changed; by default those that it takes.
        method: ``auto``, ``solve`` (the last up-sampling layer anew in closed form), ``balance`` (equal DC gains of
            all phases, all layers), ``resize``, ``subpixel``, ``antialias`` (layers replaced: train on), ``fold``
            (interpolation and convolution become one layer, the same function).
        max_distortion: Least PSNR to the original output, in dB.
        finetune: Steps of training inside the constraint that all phases have equal gains, after balancing; torch only.
        loss: The task's loss of a model, called with the module; of ONNX models with a function from a batch to the
            outputs by name. It is told in the report, and a repair that raises it by more than 2 % is taken only if
            there is no other.
        seed: Of random inputs and of fine-tuning.
        periods: Of the lines, in samples of the output; by default those that the model's up-sampling can make.
        within_db: How far lines may stand over the reference, in dB.
        peak: Range of the output's values, which the PSNR refers to; by default that of the reference, else of the
            original output.
        checkpoint: File that fine-tuning keeps its state in, and goes on from.
        progress: Called with what is being done and the share that is done, 0 to 1.

    Returns:
        The new model and the report. If not every line could be brought down, the verdict is ``partly`` and the model
        the best one within `max_distortion`.

    Raises:
        UsageError: If arguments or data do not fit the model, or nothing can be repaired with this method.
        ModelError: If the model cannot be read.
    """
    _expect(method, max_distortion, within_db, finetune, peak)
    original = opened(model)
    if calibration is not None:
        batches, words = list(calibration), "as given"
    elif example_inputs:
        batches, words = random_inputs(example_inputs, seed, constants=True, signals=SIGNALS)
    else:
        raise UsageError("there is nothing to run the model on; give calibration data, or an example of its inputs")
    named = None if layers == "auto" else _known(original, layers)
    if not batches:
        raise UsageError("calibration holds no batch; give at least one")
    batches = chunks(original, batches)
    before, note = checked(original, batches[0])
    task = Task.of(
        original,
        batches,
        words,
        reference=reference,
        paired=paired,
        periods=check_periods(periods) if periods is not None else _periods(before),
        within_db=within_db,
        max_distortion=max_distortion,
        peak=peak,
    )
    if not task.periods:
        raise UsageError(
            "no output has positions and sizes of at least six periods; give larger inputs, or other periods"
        )
    search = Search(task, _loss(loss, original), progress)
    attribution = _attributed(task, seed) if method == "auto" else None
    if finetune:
        chosen, verdict = ways.finetuned(search, named, finetune, seed, checkpoint, method)
    elif (structural := next((m for m in _STRUCTURAL if m == method), None)) is not None:
        chosen, verdict = ways.replaced(search, structural, named, batches[0])
    elif method == "balance":
        chosen, verdict = ways.balanced(search, named)
    else:
        chosen, verdict = ways.solved(search, named, or_balanced=method == "auto")
    after, _ = checked(chosen.backend, batches[0])
    notes = (*task.notes, *(() if note is None else (note,)), *search.refused)
    report = FixReport(
        model=name_of(model),
        method=method,
        verdict=verdict,
        calibration=f"{words}: {task.fit.signals} signals to solve with, {task.proof.signals} kept for the proof",
        reference=_reference_words(task, paired),
        limit_db=within_db,
        max_distortion_db=max_distortion,
        seed=seed,
        layers=chosen.repairs,
        outputs=_outputs(task, search.before, chosen),
        frontier=search.frontier(chosen),
        cost=cost(original, chosen.backend, task.proof.batches[0]),
        loss=None if search.before.loss is None or chosen.loss is None else (search.before.loss, chosen.loss),
        check_before=before,
        check_after=after,
        certificate=after is not None and bool(after.outputs) and all(o.certified is True for o in after.outputs),
        attribution=attribution,
        proposal=_proposal(search, chosen, verdict, original),
        notes=notes,
        samples=_samples(task, chosen.backend),
    )
    module = original.model if hasattr(original.model, "forward") else None
    return FixResult(chosen.backend.model, report, chosen.backend, original=module, example=batches[0])


# ---- what is asked ---------------------------------------------------------------------------------------------------


def _expect(method: str, max_distortion: float, within_db: float, finetune: int, peak: float | None) -> None:
    if method not in METHODS:
        raise UsageError(f"method (={method!r}) must be one of {', '.join(METHODS)}")
    if not (math.isfinite(max_distortion) and math.isfinite(within_db)):
        raise UsageError(f"max_distortion (={max_distortion}) and within_db (={within_db}) must be finite, in dB")
    if finetune < 0:
        raise UsageError(f"finetune (={finetune}) must be a number of steps, 0 for none")
    if peak is not None and not (math.isfinite(peak) and peak > 0):
        raise UsageError(f"peak (={peak}) must be the range of the output's values, above 0")


def _known(backend: Backend, layers: str | Sequence[str]) -> tuple[str, ...]:
    names = (layers,) if isinstance(layers, str) else tuple(layers)
    listed = [layer.name for layer in backend.layers()]
    unknown = [name for name in names if name not in listed]
    if unknown or not names:
        some = ", ".join(repr(name) for name in listed[:20]) or "none"
        raise UsageError(f"there is no layer {', '.join(map(repr, unknown)) or 'in layers'}; the model's are {some}")
    return names


def _periods(report: Report | None) -> tuple[int, ...]:
    """Those that the model's up-sampling can make; all that are measured, where that is not known."""
    if report is None:
        return PERIODS
    whole = 1
    for output in report.outputs:
        axes = output.period if isinstance(output.period, tuple) else (output.period,)
        for period in axes:
            if period is None:
                return PERIODS
            whole = math.lcm(whole, period)
    found = tuple(p for p in range(2, whole + 1) if whole % p == 0)
    return found or PERIODS


def _loss(loss: Callable[[Any], float] | None, original: Backend) -> Loss | None:
    if loss is None:
        return None
    called = loss

    def of(backend: Backend) -> float:
        if hasattr(original.model, "forward"):
            value = float(called(backend.model))
        else:
            value = float(called(lambda batch: backend.run(batch).outputs))
        if not math.isfinite(value):
            raise UsageError(f"loss gave {value}; expected a finite number")
        return value

    return of


def _attributed(task: Task, seed: int) -> Attribution | None:
    """Of the output with most lines; nothing where it cannot be had."""
    output = max(task.periods, key=lambda name: len(task.periods[name]))
    try:
        return attribute(
            task.original,
            inputs=task.fit.batches[:_ATTRIBUTED],
            output=output,
            periods=task.periods[output],
            seed=seed,
        )
    except EvenlyError:
        return None


# ---- what came out ---------------------------------------------------------------------------------------------------


def _outputs(task: Task, before: Tried, after: Tried) -> tuple[OutputChange, ...]:
    found = []
    for name, periods in task.periods.items():
        old, new, wanted = before.found[name], after.found[name], task.wanted[name]
        lines = tuple(
            LineChange(p, old.levels[p], new.levels[p], wanted.get(p), task.within_db)
            for p in periods
            if p in new.levels
        )
        found.append(
            OutputChange(
                name=name,
                sizes=task.proof.originals[0][name].shape[1:],
                signals=task.proof.signals,
                lines=lines,
                psnr_db=new.psnr(task.peaks[name]),
                max_change=new.largest,
                peak=task.peaks[name],
            )
        )
    return tuple(found)


def _reference_words(task: Task, paired: bool) -> str:
    if any(task.wanted.values()):
        return "the real data's own lines" + (", signal by signal what the model should give" if paired else "")
    return "the surroundings of every line"


def _proposal(search: Search, chosen: Tried, verdict: str, original: Backend) -> str | None:
    """What to do where not every line came down."""
    if verdict == "structural":
        return "train on: layers were replaced by others that are not the same function"
    if verdict != "partly":
        return None
    task = search.task
    able = [t for t in search.tried if all(v <= task.within_db for v in task.over(t.found).values())]
    ways = []
    if able:
        best = max(able, key=lambda t: task.psnr(t.found))
        ways.append(
            f"allow {task.psnr(best.found):.1f} dB PSNR (max_distortion), with which '{best.method}' reaches all"
        )
    if any(set(layer.upsampling) != {1} for layer in original.layers()):
        torch = hasattr(original.model, "forward")
        ways.append(
            "fine-tune inside the constraint (finetune=300)"
            if torch
            else "repair the torch checkpoint with finetune=300 and export it again"
        )
    if len(task.fit.batches) < 4:
        ways.append("give more calibration data")
    return "; or ".join(ways) or None


def _samples(task: Task, backend: Backend) -> tuple[Samples, ...]:
    """A few signals of the proof."""
    batch = task.proof.batches[0]
    after = backend.run(batch).outputs
    found = []
    for name in task.periods:
        before = task.proof.originals[0][name][:_SAMPLES]
        real = task.proof.reference(name, 0)
        shown = before if real is None else real[:_SAMPLES]
        found.append(
            Samples(
                name,
                before.astype("float32"),
                after[name][:_SAMPLES].astype("float32"),
                None if real is None else real[:_SAMPLES].astype("float32"),
                float(shown.min()),
                float(shown.max()),
            )
        )
    return tuple(found)
