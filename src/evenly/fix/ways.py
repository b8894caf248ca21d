"""Ways to repair: solve a layer, balance all of them, fine-tune inside the condition, replace layers.

Each takes a search, which it fills with what it tries, and gives what it chose and the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from operator import itemgetter
from pathlib import Path
from typing import Any

from evenly.errors import EvenlyError, UsageError
from evenly.fix.backend import Backend
from evenly.fix.changes import Method as Structural
from evenly.fix.checked import shapes
from evenly.fix.result import LayerRepair, Verdict
from evenly.fix.search import Search, Tried
from evenly.fix.task import Task

__all__ = ["balanced", "finetuned", "replaced", "solved"]

STRENGTHS = (1.0, 0.75, 0.5, 0.25)
_FOLLOWS = 0.5
"""Squared error over variance below which a network is taken to have been trained for its targets in the mean square;
one that makes sounds for their spectra is not."""


def solved(search: Search, layers: Sequence[str] | None, *, or_balanced: bool = False) -> tuple[Tried, Verdict]:
    """The cheapest layer that does it, solved; if none does and that may be tried, all layers balanced."""
    task = search.task
    if all(value <= task.within_db for value in task.over(search.before.found).values()):
        return _untouched(search), "clean"
    chosen = search.solve(layers)
    if chosen is search.before:
        chosen = _untouched(search)
    verdict = _verdict(task, chosen)
    if verdict == "partly" and or_balanced:
        try:
            instead = search.add(_balance(search, layers, 1.0))
        except EvenlyError as error:
            search.refused.append(f"balance all layers: {error}")
        else:
            if task.reached(instead.found):
                return instead, "reached"
    return chosen, verdict


def balanced(search: Search, layers: Sequence[str] | None) -> tuple[Tried, Verdict]:
    """All phases equal, as far as the distortion allows."""
    for strength in STRENGTHS:
        tried = search.add(_balance(search, layers, strength))
        if search.task.psnr(tried.found) >= search.task.max_distortion:
            break
    within = [t for t in search.tried if search.task.psnr(t.found) >= search.task.max_distortion]
    if not within:
        return _untouched(search), "partly"
    return within[0], _verdict(search.task, within[0])


def _balance(search: Search, layers: Sequence[str] | None, strength: float, extra: int = 0) -> Tried:
    from evenly.fix.certified import balance_layers

    task = search.task
    done = balance_layers(task.original, task.fit.batches, layers=layers, strength=strength, extra=extra)
    if not any(repair.done for repair in done.repairs):
        reasons = "; ".join(done.why_not) or "it has no layer that up-samples with weights of its own"
        raise UsageError(f"nothing can be balanced in this model: {reasons}")
    search.refused += [why for why in done.why_not if why not in search.refused]
    words = f"balance, strength {strength:g}" if strength < 1 else "balance all layers" if layers is None else "balance"
    words += f", {extra} more tap per side" if extra else ""
    return search.judged(words, done.backend, done.repairs, strength=strength)


def finetuned(
    search: Search,
    layers: Sequence[str] | None,
    steps: int,
    seed: int,
    checkpoint: str | Path | None,
    method: str,
) -> tuple[Tried, Verdict]:
    """Balance, then train inside the constraint.

    What the model should give is the teacher where it is known and the original comes near it in the mean square; else
    the original network is. As long as the task's loss, or where that is not known the error towards the targets, has
    risen, balanced layers get a tap more per side, then the original takes over as the teacher. The least counts.
    """
    if method not in ("auto", "balance"):
        raise UsageError(f"finetune (={steps}) goes with method auto or balance, not {method!r}")
    task = search.task
    if not hasattr(task.original.model, "forward"):
        raise UsageError("fine-tuning needs a torch module; repair the checkpoint and export it again")
    missed = task.fit.missed(task.fit.originals)
    follows = missed is not None and missed < _FOLLOWS

    def harm(tried: Tried) -> float | None:
        if tried.loss is not None or not follows:
            return tried.loss
        return task.proof.missed(tried.backend.run(batch).outputs for batch in task.proof.batches)

    before = harm(search.before)
    bases: dict[int, Tried] = {}
    found: list[tuple[float, Tried]] = []
    for paired, extra in product((True, False) if follows else (False,), (1,) if before is None else (0, 1)):
        if extra not in bases:
            bases[extra] = search.add(_balance(search, layers, 1.0, extra))
        place = None if checkpoint is None else f"{checkpoint}{f'.{len(found)}' if found else ''}"
        tuned = _tuned(search, bases[extra], steps, seed, place, paired)
        after = harm(tuned)
        found.append((after or 0.0, tuned))
        if before is None or after is None or after <= before:
            break
    _, done = min(found, key=itemgetter(0))
    return done, _verdict(task, done)


def _tuned(search: Search, base: Tried, steps: int, seed: int, checkpoint: str | Path | None, paired: bool) -> Tried:
    """Train a balanced model."""
    from evenly.fix.finetune import finetuned as trained
    from evenly.fix.torch_backend import TorchBackend

    task = search.task
    tuned = trained(
        base.backend.model,
        task.original.model,
        task.fit.batches,
        steps,
        targets=task.fit.references if paired else None,
        seed=seed,
        checkpoint=checkpoint,
        progress=lambda done, whole: search.say("fine-tuning", done / whole),
    )
    backend = TorchBackend(tuned.module)
    backend.run(task.fit.batches[0])
    teacher = "what it should give" if paired else "the original"
    note = f"then {tuned.steps} steps of training towards {teacher}"
    repairs = [replace(repair, note=_joined(repair.note, note)) for repair in base.repairs]
    words = f"{base.method}, {tuned.steps} steps towards {teacher}"
    return search.add(search.judged(words, backend, repairs, strength=1.0))


def replaced(search: Search, method: Structural, layers: Sequence[str] | None, example: Any) -> tuple[Tried, Verdict]:
    """Layers become others of the same output sizes.

    Args:
        search: Of what is tried.
        method: Which layers they become.
        layers: Names to choose from; by default all.
        example: A batch.

    Raises:
        UsageError: If there is no layer for it.
    """
    task = search.task
    backend: Backend
    if hasattr(task.original.model, "forward"):
        from evenly.fix.structure import replaced as replaced_torch
        from evenly.fix.torch_backend import TorchBackend

        module, changes = replaced_torch(
            task.original.model, method, layers="auto" if layers is None else layers, example=example
        )
        backend = TorchBackend(module)
    else:
        from evenly.fix.onnx_backend import OnnxBackend
        from evenly.fix.onnx_structure import replaced_onnx

        if not isinstance(task.original, OnnxBackend):
            raise UsageError(f"{method} replaces layers of torch modules and ONNX models")
        backend, changes = replaced_onnx(
            task.original, method, input_shapes=shapes(example), layers="auto" if layers is None else layers
        )
    if not any(change.done for change in changes):
        reasons = "; ".join(f"{c.name}: {c.note}" for c in changes if c.note) or "no layer is for it"
        raise UsageError(f"nothing can be repaired by {method}: {reasons}")
    repairs = [LayerRepair(c.name, c.method, c.before, c.after, c.fit_error, c.note) for c in changes]
    done = search.add(search.judged(method, backend, repairs))
    return done, "folded" if method == "fold" else "structural"


def _untouched(search: Search) -> Tried:
    """The model as it was, as a copy."""
    return replace(search.before, backend=search.task.original.edited([]))


def _verdict(task: Task, chosen: Tried) -> Verdict:
    return "reached" if task.reached(chosen.found) else "partly"


def _joined(*words: str | None) -> str:
    return "; ".join(word for word in words if word)
