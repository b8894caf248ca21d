"""The experiment ``gan``: it runs, it can fail, it can be killed, and what it measures is what was planted."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import evenly
from evenly.errors import ParameterError, UsageError
from evenly.reproduce import generators
from evenly.reproduce.data import open_data
from evenly.reproduce.experiment import Context, Outcome, Scale
from evenly.reproduce.gan_measures import (
    colour_distance,
    decoder,
    patch_distance,
    periodic_energy,
    requested,
)
from evenly.reproduce.gan_setup import DECODERS, GENERATORS
from evenly.reproduce.generators import (
    UPS,
    codes,
    discriminator,
    generator,
    learned_ripples,
    measured,
    multiply_adds,
    up_layer,
)
from evenly.reproduce.instruments import to_pixels
from evenly.reproduce.odena2016_gan import EXPERIMENT
from evenly.reproduce.result import Conclusion, Finding, Plot, Row
from evenly.reproduce.run import run_cell

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Outcome]:
    folder = tmp_path_factory.mktemp("gan")
    cells = EXPERIMENT.cells(Scale.SMOKE, range(2))
    return {
        cell.name: run_cell(EXPERIMENT, cell, Context(Scale.SMOKE, folder / str(n), cell.seed))
        for n, cell in enumerate(cells)
    }


def test_the_whole_experiment_runs(smoke: Mapping[str, Outcome]) -> None:
    conclusion = EXPERIMENT.conclude(Scale.SMOKE, smoke)
    assert tuple(finding.claim for finding in conclusion.findings) == EXPERIMENT.claims
    assert all(finding.parts for finding in conclusion.findings)
    for piece in conclusion.evidence:
        if isinstance(piece, Row):
            assert len({picture.pixels.shape for picture in piece.pictures}) == 1
        if isinstance(piece, Plot):
            assert all(len(series.x) == len(series.y) > 0 for series in piece.series)


def test_untrained_layers_do_what_check_says(smoke: Mapping[str, Outcome]) -> None:
    for name, last in GENERATORS:
        summary = smoke[f"{name}/seed-0"].numbers["architecture"]["summary"]
        before = smoke[f"{name}/seed-0"].numbers["stages"][0]
        even = set(last) <= {"nearest", "bilinear"}
        assert (summary == "no findings") == even
        assert (before["ripples"][-1] > 0.05) == (not even and name != "sub-pixel, ICNR")
    lines = {name: smoke[f"{name}/seed-0"].numbers["stages"][0]["db"]["2"] for name, _ in GENERATORS}
    assert lines["two transposed"] > 6 + max(lines["nearest"], lines["bilinear"])  # dB


def test_seeds_differ_and_are_needed(smoke: Mapping[str, Outcome]) -> None:
    first, second = (smoke[f"nearest/seed-{seed}"].arrays["pictures-0"] for seed in (0, 1))
    assert not np.array_equal(first, second)
    with pytest.raises(UsageError, match="at least 2"):
        EXPERIMENT.cells(Scale.SMALL, (0,))


@pytest.mark.parametrize("kind", ["two transposed/seed-1", "colours, k3 s2/seed-1"])
def test_a_killed_cell_gives_the_same(
    kind: str, smoke: Mapping[str, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cell,) = (cell for cell in EXPERIMENT.cells(Scale.SMOKE, range(2)) if cell.name == kind)
    seen = 0
    real = torch.optim.Adam.step

    def dying(self: torch.optim.Adam, *args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == 3:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    context = Context(Scale.SMOKE, tmp_path, cell.seed, checkpoint_seconds=0.0)
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", dying)
        with pytest.raises(KeyboardInterrupt):
            run_cell(EXPERIMENT, cell, context)
    assert list(tmp_path.glob("*.ckpt"))
    again = run_cell(EXPERIMENT, cell, Context(Scale.SMOKE, tmp_path, cell.seed))
    assert again.numbers == smoke[kind].numbers
    for name, array in smoke[kind].arrays.items():
        assert np.array_equal(array, again.arrays[name])


# What is planted decides.


@cache
def _real(seed: int) -> Any:
    return to_pixels(open_data(None).sample(8, 32, seed))


@cache
def _measured(seed: int, periods: tuple[int, ...]) -> dict[str, Any]:
    pictures = _real(seed).astype(float)
    for period in periods:
        pictures[:, :, ::period] += 3
        pictures[:, ::period] -= 3
    return measured(np.clip(pictures, 0, 255).astype(np.uint8))


ARTICLE = {
    "two transposed": (2, 4),
    "one transposed": (2,),
    "nearest": (),
    "bilinear": (),
    "even overlap": (2,),
    "sub-pixel": (2,),
    "sub-pixel, ICNR": (2,),
}


def _outcomes(
    planted: Mapping[str, tuple[int, ...]],
    ripple: float = 0.5,
    growth: float = 0.1,
    distances: Mapping[str, float] | None = None,
) -> dict[str, Outcome]:
    """Pictures of the data with patterns added, in the form of the cells' outcomes."""
    found = {}
    colours = np.linspace(1, 100, 30)
    for seed in SEEDS:
        shown = _real(seed)
        points = {"away": colours, "energy": colours * growth}
        rest = {"energy_slope": 0.0, "patch_distance": 1.0}
        found[f"data/seed-{seed}"] = Outcome({**_measured(seed, ()), **rest}, {"pictures": shown, **points})
        words = {"name": "n", "printed": "p", "report": "r", "summary": "s"}
        common = {"multiply_adds": 10, "architecture": words, "discriminator": words}
        for name, _ in GENERATORS:
            stages = [
                {"step": step, "ripples": [0.0, ripple + seed / 1e4], **_measured(seed, planted[name])}
                for step in (0, 9)
            ]
            distance = 5 * (distances or {}).get(name, 1.0) * (1 + seed / 1e4)
            rest = {"energy_slope": growth * 10 + seed / 1e4, "patch_distance": distance}
            arrays = {"pictures-0": shown, "pictures-1": shown, **points}
            found[f"{name}/seed-{seed}"] = Outcome({**common, **rest, "stages": stages}, arrays)
        for kind in DECODERS:
            pattern = 5 + growth * (colours - 5) + 1e-4 * np.cos(colours + seed)
            arrays = {"away": colours, "before": pattern, "after": pattern, "pictures": shown[:6]}
            found[f"colours, {kind}/seed-{seed}"] = Outcome({"architecture": words}, arrays)
    return found


def _finding(conclusion: Conclusion, claim: str) -> Finding:
    (found,) = (finding for finding in conclusion.findings if finding.claim == claim)
    return found


def _conclude(**options: Any) -> Conclusion:
    planted = {**ARTICLE, **options.pop("planted", {})}
    return EXPERIMENT.conclude(Scale.SMALL, _outcomes(planted, **options))


def test_planted_as_in_the_article_everything_holds() -> None:
    conclusion = _conclude(distances={"bilinear": 1.2})
    assert set(conclusion.answers().values()) == {"holds"}


def test_without_patterns_nothing_is_claimed() -> None:
    conclusion = _conclude(planted=dict.fromkeys(ARTICLE, ()), ripple=0.0, growth=0.0, distances={"nearest": 1.3})
    answers = conclusion.answers()
    assert [answers[claim] for claim in ("C6", "C7", "C9", "C10")] == ["does not hold here"] * 4
    for claim in ("C13", "C14"):
        refuted = [part.state for part in _finding(conclusion, claim).parts if part.at_least is not None]
        assert refuted == ["not met"] * 3


@pytest.mark.parametrize(("name", "periods"), [("nearest", (2,)), ("nearest", (4,)), ("one transposed", (2, 4))])
def test_patterns_where_none_should_be(name: str, periods: tuple[int, ...]) -> None:
    finding = _finding(_conclude(planted={name: periods}), "C13")
    assert finding.answer == "partly"
    assert any(name in part.statement for part in finding.parts if part.state == "not met")


def test_patterns_that_shrink_with_the_distance() -> None:
    finding = _finding(_conclude(growth=-0.04), "C6")
    assert [part.state for part in finding.parts] == ["not met"] * 3


def test_quality_that_is_worse() -> None:
    parts = _finding(_conclude(distances={"nearest": 1.5}), "C10").parts
    assert [part.state for part in parts] == ["met", "not met", "not met"]


def test_seeds_that_disagree_leave_it_open() -> None:
    outcomes = _outcomes(ARTICLE)
    for seed in SEEDS:
        outcome = outcomes[f"sub-pixel/seed-{seed}"]
        planted = _measured(seed, ARTICLE["sub-pixel"] if seed else ())
        last = {**outcome.numbers["stages"][1], **planted}
        stages = [outcome.numbers["stages"][0], last]
        outcomes[f"sub-pixel/seed-{seed}"] = Outcome({**outcome.numbers, "stages": stages}, outcome.arrays)
    finding = _finding(EXPERIMENT.conclude(Scale.SMALL, outcomes), "C9")
    assert [part.state for part in finding.parts] == ["open", "met"]


# The networks.


def test_generators_of_every_kind() -> None:
    for kind in UPS:
        network = generator(32, 4, (kind, kind))
        made = network(codes(3, torch.Generator().manual_seed(0)))
        assert made.shape == (3, 3, 32, 32)
        ripples = learned_ripples(network)
        assert len(ripples) == 3
        assert ripples[0] == 0
        assert (ripples[-1] > 0.05) == (kind in ("k3 s2", "k4 s2", "sub-pixel"))
    assert generator(64, 4, ("k3 s2",), refined=True)(codes(2, torch.Generator())).shape == (2, 3, 64, 64)
    for size, last in ((48, ("nearest",)), (8, ("nearest", "nearest")), (4, ())):
        with pytest.raises(ParameterError, match="power of two"):
            generator(size, 4, last)
    with pytest.raises(ParameterError, match="one of"):
        up_layer("k7 s3", 1, 1)


def test_discriminators_are_even_but_for_the_first_layer() -> None:
    picture = torch.zeros(2, 3, 32, 32)
    regular, strided = (discriminator(32, 4, 3, stride) for stride in (1, 2))
    assert regular(picture).shape == strided(picture).shape == (2, 1)
    assert evenly.check(regular, picture).inputs[0].gradient_unevenness == 1
    assert evenly.check(strided, picture).inputs[0].gradient_unevenness == pytest.approx(4)
    assert [p.shape for p in regular.parameters()] == [p.shape for p in strided.parameters()]


def test_multiply_adds_are_counted() -> None:
    layer = torch.nn.Conv2d(2, 5, 3)
    assert multiply_adds(layer, torch.zeros(1, 2, 6, 6)) == 2 * 5 * 9 * 16


def test_looking_leaves_a_generator_as_it_was(tmp_path: Path) -> None:
    network = generator(32, 4, ("k3 s2",))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first, second = (generators.sample(Context(Scale.SMOKE, tmp_path), network, 4) for _ in range(2))
    assert np.array_equal(first, second)
    assert first.std() > 5  # grey levels: untrained pictures have contrast
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


# What is measured beside lines.


def test_energy_of_a_planted_pattern() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(128, 10, (400, 32, 32, 3))
    free = periodic_energy(noise.astype(np.uint8))
    assert abs(free.mean()) < 0.5  # squared grey levels; the noise has 100
    for period, amplitude in ((2, 6), (4, 6)):
        pattern = amplitude * np.cos(2 * np.pi * np.arange(32) / period)[:, None]
        found = periodic_energy((noise + pattern[..., None]).astype(np.uint8)) - free
        expected = amplitude**2 * (1 if period == 2 else 0.5)
        assert found.mean() == pytest.approx(expected, rel=0.1)
    ramp = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None, None] * 4, (1, 32, 32, 3))
    assert periodic_energy(ramp)[0] == pytest.approx(0, abs=0.5)


def test_patch_distance_knows_grey_levels() -> None:
    pictures = _real(0)
    assert patch_distance(pictures, pictures, np.random.default_rng(0)) < 6
    dark = (pictures // 4).astype(np.uint8)
    shifts = [patch_distance(dark + np.uint8(n), dark, np.random.default_rng(0)) for n in (50, 100)]
    assert shifts[1] == pytest.approx(80, rel=0.2)
    assert shifts[1] > 1.6 * shifts[0]


def test_requested_colours(tmp_path: Path) -> None:
    context = Context(Scale.SMOKE, tmp_path)
    colours, pattern, made = requested(context, decoder("nearest", 4), 32)
    assert colours.shape == (125, 3)
    assert made.shape == (125, 3, 32, 32)
    assert pattern.max() < 1e-3  # grey levels: even for every weight
    assert np.median(requested(context, decoder("k3 s2", 16), 32)[1]) > 1
    away = colour_distance(colours, np.array([127.5] * 3))
    assert away.min() == 0
    assert away.max() == pytest.approx(127.5)
