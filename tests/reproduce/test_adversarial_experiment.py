"""Adversarial examples by phase: the whole smoke run, planted effects and their absence, killed and resumed."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from evenly.reproduce import adversarial_networks, odena2016_adversarial
from evenly.reproduce.adversarial_findings import (
    EVEN,
    PERIOD,
    UNEVEN,
    Attacks,
    ends,
    findings,
    network_share_db,
    strongest,
)
from evenly.reproduce.experiment import Context, Outcome, Scale
from evenly.reproduce.registry import load
from evenly.reproduce.result import Architecture, Plot, Row, Table
from evenly.reproduce.run import run_cell

EXPERIMENT = odena2016_adversarial.EXPERIMENT


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adversarial")
    return {
        cell.name: run_cell(EXPERIMENT, cell, Context(Scale.SMOKE, folder / str(n), cell.seed))
        for n, cell in enumerate(EXPERIMENT.cells(Scale.SMOKE, (0, 1)))
    }


def test_the_smoke_run(outcomes):
    assert load("adversarial") is EXPERIMENT
    for outcome in outcomes.values():
        json.dumps(outcome.numbers, allow_nan=False)
        assert all(np.isfinite(array).all() for array in outcome.arrays.values())
    conclusion = EXPERIMENT.conclude(Scale.SMOKE, outcomes)
    (finding,) = conclusion.findings
    assert finding.claim == "C21"
    assert len(finding.parts) == 13  # one of them of the network that was trained against attacks
    pieces = [piece for piece in conclusion.evidence if not isinstance(piece, Architecture)]
    assert len(pieces) <= 13
    assert {type(piece) for piece in pieces} == {Row, Plot, Table}
    assert sum(isinstance(piece, Architecture) for piece in conclusion.evidence) == 7
    for piece in pieces:
        if isinstance(piece, Row):
            assert len({picture.pixels.shape[:2] for picture in piece.pictures}) == 1
        if isinstance(piece, Plot):
            assert all(np.isfinite(series.y).all() for series in piece.series)
        if isinstance(piece, Table):
            assert all(len(row) == len(piece.columns) for row in piece.rows)


def planted(outcomes, where, half, moves=1.0):
    """Five seeds whose gains go as the expected gradient to the power `where`, and whose even networks need `half`."""
    rng, read, found = np.random.default_rng(0), Attacks(outcomes), {}
    for network, seed in itertools.product(read.by_network, range(5)):
        name, outcome = f"{network}/seed-{seed}", outcomes[f"{network}/seed-{min(seed, 1)}"]
        factor = (half if network.startswith(EVEN) else 1) * rng.uniform(1, 1.005)
        cell = np.sqrt(read.expected(network, PERIOD)) ** where
        noise = [rng.normal(0, 0.02, (40, 16)) for _ in range(2)]
        pixels = np.tile(cell**2, (8, 8))
        phases = np.arange(16)
        shift = [[(p // 4 - o // 4) % 4 * 4 + (p - o) % 4 for p in phases] for o in phases]
        network_side, picture_side = np.log(cell.ravel()), 0.1 * np.sin(phases)[np.array(shift)]
        found[name] = Outcome(
            {
                **outcome.numbers,
                "course": {
                    "observations": [
                        {"accuracy": 0.6 + 0.1 * step, "fooled": [0.5] * 7, "half fooled": factor * (2 - 0.5 * step)}
                        for step in (0, 1)
                    ]
                },
            },
            {
                **outcome.arrays,
                "pgd-gain": cell.ravel() * 0.1 * np.exp(noise[0]),
                "pgd-random-gain": 0.1 * np.exp(noise[1]),
                "rolled": np.exp(moves * network_side[None, :] + picture_side + rng.normal(0, 1e-3, (16, 16))),
                "energy": pixels / pixels.sum(),
            },
        )  # fmt: skip
    return found


def states(outcomes):
    (finding,) = findings(Attacks(outcomes))
    return finding.answer, [part.state for part in finding.parts]


def test_a_planted_effect_is_found(outcomes):
    answer, found = states(planted(outcomes, 2.0, 1.5))
    assert (answer, set(found)) == ("holds", {"met"})


def test_without_it_the_claim_does_not_hold(outcomes):
    answer, found = states(planted(outcomes, 0.0, 1.0, moves=0.0))
    assert answer == "does not hold here"
    assert set(found) == {"not met"}


def test_where_the_harm_is_and_how_large_it_is_are_told_apart(outcomes):
    answer, found = states(planted(outcomes, 2.0, 1.0))
    assert answer == "partly"
    assert found[7:9] == ["not met", "not met"]
    assert set(found[:7] + found[9:]) == {"met"}
    answer, found = states(planted(outcomes, 0.0, 1.5, moves=0.0))
    assert answer == "partly"
    assert [n for n, state in enumerate(found) if state == "met"] == [7, 8]


def test_effects_of_the_pictures_are_not_those_of_the_network():
    phases = np.arange(16)
    picture = np.array([[(p // 4 - o // 4) % 4 * 4 + (p - o) % 4 for p in phases] for o in phases])
    strength = np.exp(np.sin(phases))
    assert network_share_db(np.tile(strength, (16, 1))) > 60
    assert network_share_db(strength[picture]) < -60
    assert abs(network_share_db(np.tile(strength, (16, 1)) * strength[picture])) < 1e-6


def test_masks_that_are_alike_do_not_differ_by_being_chosen():
    rng = np.random.default_rng(1)
    alike = [strongest(rng.gamma(2, 1, (64, 16))) for _ in range(200)]
    assert abs(np.mean(alike)) < 3 * np.std(alike) / np.sqrt(200)
    assert strongest(np.ones((6, 2)) * [1.0, 3.0]) == pytest.approx(np.log(3))
    assert strongest(np.ones((6, 2)) * [-1.0, 3.0]) > 10  # a loss counts as nothing


def test_ends_are_chosen_on_other_pictures():
    chosen = np.array([[0.0, 1.0, 2.0], [5.0, 4.0, 3.0]])
    judged = np.array([[10.0, 20.0, 30.0], [40.0, 50.0, 60.0]])
    assert ends(chosen, judged) == ((60 + 10) / 2, (40 + 30) / 2)


def test_epsilons_are_compared_at_equal_accuracy(outcomes):
    def with_course(outcome, *points):
        course = {"observations": [{"accuracy": a, "half fooled": h, "fooled": [0.0]} for a, h in points]}
        return replace(outcome, numbers={**outcome.numbers, "course": course})

    change = dict(outcomes)
    for seed in (0, 1):
        change[f"strided/seed-{seed}"] = with_course(outcomes[f"strided/seed-{seed}"], (0.5, 4.0), (0.7, 1.0))
        name = f"anti-aliased/seed-{seed}"
        change[name] = with_course(outcomes[name], (0.4, 9.0), (0.6, 4.0), (0.3, None))
    effect = Attacks(change).needed("anti-aliased", "strided")
    assert effect.value == pytest.approx(2)  # at 0.6, 4 against the geometric mean of 4 and 1
    name = "anti-aliased/seed-1"
    change[name] = with_course(outcomes[name], (0.4, None))
    unknown = Attacks(change).needed("anti-aliased", "strided")
    assert (unknown.low, unknown.high) == (1 / 64, 64)


def test_killed_and_resumed_is_unbroken(tmp_path, outcomes, monkeypatch):
    (cell,) = [c for c in EXPERIMENT.cells(Scale.SMOKE, (0, 1)) if c.name == "strided-even-hardened/seed-1"]
    attack, calls = adversarial_networks.pgd, []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return attack(*arguments)

    monkeypatch.setattr(adversarial_networks, "pgd", killed)
    with pytest.raises(KeyboardInterrupt):
        run_cell(EXPERIMENT, cell, Context(Scale.SMOKE, tmp_path, cell.seed, checkpoint_seconds=0))
    assert (tmp_path / "classifier.ckpt").is_file()
    monkeypatch.undo()
    again = run_cell(EXPERIMENT, cell, Context(Scale.SMOKE, tmp_path, cell.seed))
    unbroken = outcomes[cell.name]
    assert again.numbers == unbroken.numbers
    assert again.arrays.keys() == unbroken.arrays.keys()
    for name, array in again.arrays.items():
        np.testing.assert_array_equal(array, unbroken.arrays[name])


def test_the_uneven_networks_are_expected_to_be_uneven(outcomes):
    read = Attacks(outcomes)
    assert all(np.ptp(read.expected(name, PERIOD)) > 0.5 for name in UNEVEN)
    assert all(np.ptp(read.expected(name, PERIOD)) < 1e-6 for name in EVEN)
