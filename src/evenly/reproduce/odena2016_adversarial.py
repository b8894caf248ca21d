"""Do uneven gradients exaggerate adversarial examples? Attacks by phase of the network's grid (C21).

Odena, Dumoulin & Olah 2016, section "Artifacts in Gradients", leave the question open. Here attacks are confined to the
pixels of one phase at a time, at equal count and equal epsilon, on classifiers whose gradients are uneven or even by
construction; pictures that are rolled and random masks are the controls; and whole networks are compared under the
unrestricted attack, which is what would make uneven gradients a danger and not only a pattern.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from evenly.reproduce.adversarial_evidence import evidence
from evenly.reproduce.adversarial_findings import NETWORKS, PERIOD, WHOLE, Attacks, findings
from evenly.reproduce.experiment import Cell, Context, Experiment, Outcome, Scale
from evenly.reproduce.result import Architecture, Conclusion

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from evenly.reproduce.adversarial_measures import Strength, Target

__all__ = ["EXPERIMENT"]


@dataclass(frozen=True)
class _Settings:
    """Sizes, by scale.

    Attributes:
        width: Channels of the first layer.
        steps, batch: Of the training, at `crop` pixels.
        attacked: Held-out pictures that are attacked.
        costly: Of them, those for the attacks that take many evaluations (few pixels by phase; rolled pictures).
        attack_steps: Of projected gradient descent.
        pixels, candidates: Of the attack on few pixels; by phase it has a quarter of both.
        held_out: Pictures for the accuracy.
        epsilon: Where one phase may change, in grey levels. A sixteenth of the pixels at 32 levels has the energy of
            all pixels at 8, the usual bound for small pictures.
        crop: Of the pictures' sides, in pixels.
    """

    width: int
    steps: int
    batch: int
    attacked: int
    costly: int
    attack_steps: int
    pixels: int
    candidates: int
    held_out: int
    epsilon: float = 32.0
    crop: int = 32


_SETTINGS = {
    Scale.SMOKE: _Settings(4, 3, 16, 8, 4, 1, 4, 4, 32),
    Scale.SMALL: _Settings(12, 240, 64, 64, 32, 5, 12, 8, 384),
    Scale.FULL: _Settings(64, 10_000, 256, 1024, 256, 20, 16, 16, 4096),
}
_EPSILONS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Grey levels of the unrestricted attack."""
_HARDENED = ("strided", "strided-even")
"""Networks that are trained against attacks, too."""
_HARDENING = 4.0
"""Epsilon of that training, in grey levels: half of the usual 8, which small networks do not learn under."""
_MASKS, _NOISE, _PICTURES = 11, 12, 13
"""What the random masks, the noise and the attacked pictures are drawn for; all networks of a seed get the same."""
_SHOWN = 2
"""Attacked pictures that are shown."""


def _cells(scale: Scale, seeds: Sequence[int]) -> list[Cell]:
    made = [(name, False) for name in NETWORKS] + [(name, True) for name in _HARDENED]
    return [
        Cell(
            f"{name}{'-hardened' if hardened else ''}/seed-{seed}",
            {"network": name, "hardened": hardened, "shown": seed == seeds[0]},
            seed,
        )
        for name, hardened in made
        for seed in seeds
    ]


def _run(cell: Cell, context: Context) -> Outcome:
    import torch

    from evenly.reproduce.adversarial_measures import Strength, Target
    from evenly.reproduce.adversarial_networks import attacked_classifier
    from evenly.reproduce.gradient_maps import expected_by_phase
    from evenly.reproduce.instruments import architecture

    settings, name = _SETTINGS[context.scale], str(cell.options["network"])
    network = attacked_classifier(name, len(context.data.classes), settings.width).eval()
    numbers: dict[str, Any] = {"epsilons": list(_EPSILONS)}
    if cell.options["shown"] and not cell.options["hardened"]:
        example = torch.zeros(1, 3, settings.crop, settings.crop)
        numbers["expected"] = expected_by_phase(network, settings.crop).tolist()
        numbers["architecture"] = asdict(architecture(name, network, example))
    generator = _generator(context, _PICTURES)
    pictures, labels = context.fabric.to_device(
        context.data.labelled(settings.attacked, settings.crop, generator, "held-out")
    )
    target = Target(network, pictures, labels, max(128, settings.batch))
    numbers["course"] = _trained(bool(cell.options["hardened"]), context, target)
    strength = Strength(settings.epsilon, settings.attack_steps, settings.pixels, settings.candidates)
    arrays = _by_phase(target, strength, context)
    more, shown = _few_pixels(target, strength, context if cell.options["shown"] else None)
    return Outcome(numbers | shown, arrays | more)


def _trained(hardened: bool, context: Context, target: Target) -> dict[str, Any]:
    """Train the target's network; accuracy and the harm of the unrestricted attack are observed on the way."""
    from evenly.reproduce.adversarial_measures import full_attack, half_fooled
    from evenly.reproduce.adversarial_networks import train_against_attacks
    from evenly.reproduce.classifiers import accuracy, train_classifier

    settings, network = _SETTINGS[context.scale], target.network.to(context.fabric.device)

    def observe(step: int) -> Mapping[str, Any]:
        training = network.training
        network.eval()
        fooled = full_attack(target, _EPSILONS, settings.attack_steps)
        right = accuracy(context, network, settings.crop, settings.held_out)
        network.train(training)
        return {"accuracy": right, "fooled": fooled, "half fooled": half_fooled(_EPSILONS, fooled)}

    common: dict[str, Any] = {
        "steps": settings.steps,
        "batch": settings.batch,
        "size": settings.crop,
        "observe": observe,
        "observe_at": {max(1, settings.steps * share // 4) for share in (1, 2, 4)},
    }
    if hardened:
        common |= {"epsilon": _HARDENING, "attack_steps": max(2, settings.attack_steps // 2)}
    training = train_against_attacks if hardened else train_classifier
    _, course = training(context, "classifier", network, **common)
    return course.to_dict()


def _generator(context: Context, purpose: int) -> Generator:
    """Of the cell's seed, and so the same for all networks of a seed."""
    import torch

    return torch.Generator().manual_seed(100 * context.seed + purpose)


def _by_phase(target: Target, strength: Strength, context: Context) -> dict[str, Any]:
    """All attacks by phase, and the controls."""
    from evenly.reproduce.adversarial_measures import by_mask, rolled
    from evenly.reproduce.attacks import phase_masks, random_masks

    settings = _SETTINGS[context.scale]
    phases = phase_masks(settings.crop, PERIOD)
    scattered = random_masks(settings.crop, PERIOD * PERIOD, _generator(context, _MASKS))
    few = replace(strength, pixels=max(1, strength.pixels // PERIOD), candidates=max(1, strength.candidates // PERIOD))
    some = target.first(settings.costly)
    found = {
        "fgsm": by_mask(target, phases, strength, "fgsm"),
        "pgd": by_mask(target, phases, strength, "pgd"),
        "sparse": by_mask(some, phases, few, "sparse"),
        "noise": by_mask(target, phases, strength, "noise", _generator(context, _NOISE)),
        "fgsm-random": by_mask(target, scattered, strength, "fgsm"),
        "pgd-random": by_mask(target, scattered, strength, "pgd"),
        "fgsm-whole": by_mask(target, phase_masks(settings.crop, WHOLE), strength, "fgsm"),
    }
    arrays = {f"{attack}-{key}": array for attack, harms in found.items() for key, array in harms.items()}
    return arrays | {"right": target.right().numpy(), "rolled": rolled(some, PERIOD, strength)}


def _few_pixels(target: Target, strength: Strength, context: Context | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The attack on any few pixels: where its energy goes; with a context also pictures of it, and the answers."""
    import torch

    from evenly.reproduce.adversarial_measures import perturbation, sparse_energy
    from evenly.reproduce.attacks import sparse
    from evenly.reproduce.instruments import to_pixels

    changed = target.attacked(lambda x, y: sparse(target.network, x, y, strength.pixels, strength.candidates))
    harm = target.harm(changed)
    arrays = {"energy": sparse_energy(target, changed)}
    numbers: dict[str, Any] = {"sparse fooled": _share(harm.fooled, target.right())}
    if context is None:
        return arrays, numbers
    sample = target.first(_SHOWN)
    with torch.no_grad():
        answers = target.network(changed[:_SHOWN]).argmax(1)
    names = context.data.classes
    numbers["answers"] = [[names[int(a)] for a in pair] for pair in zip(sample.labels, answers, strict=True)]
    arrays |= {
        "pictures": to_pixels(sample.pictures),
        "changed": to_pixels(changed[:_SHOWN]),
        "perturbation": perturbation(sample),
    }
    return arrays, numbers


def _share(fooled: Tensor, right: Tensor) -> float:
    return float(fooled.sum()) / max(1, int(right.sum()))


def _conclude(scale: Scale, outcomes: Mapping[str, Outcome]) -> Conclusion:
    read = Attacks(outcomes)
    settings = _SETTINGS[scale]
    architectures = [Architecture(**form) for form in read.shown("architecture").values()]
    return Conclusion(
        findings(read),
        (*evidence(read, settings.epsilon, settings.pixels), *architectures),
        f"Networks of {settings.width} channels after the first layer, trained for {settings.steps} steps on crops of "
        f"{settings.crop} pixels; {settings.attacked} held-out pictures are attacked, with {settings.attack_steps} "
        "steps of projected gradient descent. Stronger attacks find more, in all networks. Equal accuracy is reached "
        "at different steps of the trainings, which may change by itself how easily a network is fooled.",
    )


EXPERIMENT = Experiment(
    "adversarial",
    "Adversarial examples by phase of the network's grid",
    "Odena, Dumoulin & Olah 2016, section Artifacts in Gradients (an open question there)",
    ("C21",),
    {Scale.SMOKE: 2, Scale.SMALL: 4, Scale.FULL: 10},
    _cells,
    _run,
    _conclude,
)
