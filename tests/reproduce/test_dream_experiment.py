"""Dreams: the ascent, what it leaves, and that the experiment can find its claims wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from killing import check_killed_and_resumed
from torch import nn

from evenly.reproduce.dream_findings import NETWORKS, PERIODS, VARIANTS
from evenly.reproduce.dreaming import Ascent, ascend, concentration, high_share, many_features, one_feature
from evenly.reproduce.experiment import Context, Outcome, Scale
from evenly.reproduce.odena2016_dream import EXPERIMENT, measured
from evenly.reproduce.result import Architecture, Row
from evenly.reproduce.run import run_cell


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dream")
    cells = EXPERIMENT.cells(Scale.SMOKE, (0, 1))
    return {
        cell.name: run_cell(EXPERIMENT, cell, Context(Scale.SMOKE, folder / cell.name, cell.seed)) for cell in cells
    }


def test_smoke_run_speaks_about_every_claim(smoke):
    conclusion = EXPERIMENT.conclude(Scale.SMOKE, smoke)
    assert tuple(finding.claim for finding in conclusion.findings) == EXPERIMENT.claims
    assert conclusion.findings[0].parts[0].state == "met"  # exact: holds at any scale
    architectures = [piece.name for piece in conclusion.evidence if isinstance(piece, Architecture)]
    assert architectures == list(NETWORKS)
    assert len(conclusion.evidence) - len(architectures) <= 12
    for row in (piece for piece in conclusion.evidence if isinstance(piece, Row)):
        assert len({picture.pixels.shape[:2] for picture in row.pictures}) == 1
        assert all(picture.pixels.dtype == np.uint8 for picture in row.pictures)
    for outcome in smoke.values():
        json.dumps(outcome.numbers, allow_nan=False)


def test_conclusions_are_the_same_each_time(smoke):
    first, second = (EXPERIMENT.conclude(Scale.SMOKE, smoke) for _ in range(2))
    assert [f.to_dict() for f in first.findings] == [f.to_dict() for f in second.findings]


def test_a_killed_cell_goes_on_as_if_it_had_not_been(smoke, tmp_path, monkeypatch):
    check_killed_and_resumed(EXPERIMENT, "average-pool", 3, smoke, tmp_path, monkeypatch)


# planted effects

SEEDS = 3
SIZE = 64


def _noise(rng, low):
    """Grey noise: of low frequency, or white."""
    values = rng.normal(size=(2, SIZE, SIZE, 1))
    if low:
        spectrum = np.fft.fft2(values, axes=(1, 2))
        kept = np.abs(np.fft.fftfreq(SIZE)) < 0.2
        values = 3 * np.fft.ifft2(spectrum * (kept[:, None] & kept[None, :])[None, :, :, None], axes=(1, 2)).real
    return values


def _planted(smoke, fixed_line, others_line, organised=True, agreeing=True):
    """Outcomes of which the claims are true, as far as they are told to be."""
    places = np.arange(SIZE)
    pattern = ((-1.0) ** (places[:, None] + places[None, :]))[None, :, :, None]
    pattern = pattern + ((-1.0) ** places)[None, None, :, None] + ((-1.0) ** places)[None, :, None, None]
    outcomes = {}
    for network in NETWORKS:
        base = smoke[f"{network}/seed-0"].numbers
        for seed in range(SEEDS):
            rng = np.random.default_rng((seed, NETWORKS.index(network)))
            starts = 128 + 8 * rng.normal(size=(2, SIZE, SIZE, 3))
            loose = network == "max-pool" if organised else network != "max-pool"
            dreams = {}
            for variant, line in (("fixed", fixed_line), ("jitter", others_line))[: 2 if network == "strided" else 1]:
                added = 10 * _noise(rng, low=not loose) + (line if network == "strided" else 0) * pattern
                dreams[variant] = np.clip(np.rint(starts + added), 0, 255).astype(np.uint8)
            found = measured(dreams, starts.astype(np.uint8))
            found |= {variant: found.get("jitter", found["fixed"]) for variant in VARIANTS if variant not in found}
            numbers = {**base, "dreams": found}
            expected = np.array(base["expected"])
            cell = np.tile(expected, [8 // side for side in expected.shape]) * np.exp(rng.normal(0, 0.05, (8, 8)))
            if not agreeing:
                cell = rng.permuted(cell.ravel()).reshape(8, 8) * (20.0 ** (np.arange(8) % 2))[None, :]
            for when in ("untrained", "trained"):
                numbers[when] = {**numbers[when], "energies": {"8": cell.tolist()}}
            outcomes[f"{network}/seed-{seed}"] = Outcome(numbers)
    return outcomes


def test_planted_effects_are_found(smoke):
    conclusion = EXPERIMENT.conclude(Scale.SMOKE, _planted(smoke, 10, 0))
    assert conclusion.answers() == {"C16": "holds", "C17": "holds", "C18": "holds"}


def test_absent_effects_are_not_found(smoke):
    conclusion = EXPERIMENT.conclude(Scale.SMOKE, _planted(smoke, 0, 0, organised=False, agreeing=False))
    assert conclusion.answers()["C17"] == "does not hold here"
    assert conclusion.answers()["C18"] == "does not hold here"
    exact, *others = conclusion.findings[0].parts
    assert exact.state == "met"  # of the true gradient, which was not changed
    assert [part.state for part in others] == ["not met"] * 3


def test_lines_everywhere_are_severe_and_not_reduced(smoke):
    conclusion = EXPERIMENT.conclude(Scale.SMOKE, _planted(smoke, 10, 10))
    assert [part.state for part in conclusion.findings[1].parts] == ["met", "not met", "not met", "not met"]


def test_another_gradient_is_noticed(smoke):
    wrong = {
        name: replace(outcome, numbers={**outcome.numbers, "trained": {**outcome.numbers["trained"], "difference": 1}})
        for name, outcome in smoke.items()
    }
    assert EXPERIMENT.conclude(Scale.SMOKE, wrong).findings[0].parts[0].state == "not met"


# the ascent


def test_ascent_raises_the_objective():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3))
    starts = torch.rand(2, 3, 24, 24) - 0.5
    for objective in (one_feature(body, [1, 5]), many_features(body)):
        for ascent in (Ascent(8), Ascent(8, jitter=7), Ascent(9, octaves=3)):
            pictures = ascend(objective, starts, ascent, np.random.default_rng(0))
            assert pictures.shape == starts.shape
            assert pictures.abs().max() <= 1
            with torch.no_grad():
                assert objective(pictures) > objective(starts)


def test_one_step_moves_by_its_size():
    body = nn.Conv2d(3, 1, 1)
    starts = torch.zeros(1, 3, 16, 16)
    pictures = ascend(one_feature(body, [0]), starts, Ascent(1, step=2), np.random.default_rng(0))
    assert pictures.abs().mean().item() == pytest.approx(2 / 127.5, rel=1e-5)


def test_steps_are_shared_by_the_octaves():
    seen = []

    def objective(pictures):
        seen.append(pictures.shape[-1])
        return pictures.sum()

    ascend(objective, torch.zeros(1, 3, 28, 28), Ascent(5, octaves=2), np.random.default_rng(0))
    assert seen == [20, 20, 28, 28, 28]


def test_jitter_spreads_what_a_fixed_position_piles_up():
    """A body that reads every second pixel: fixed, only those change; with jitter all."""
    body = nn.Conv2d(3, 1, 1, stride=2)
    starts = torch.zeros(1, 3, 16, 16)
    fixed, moved = (
        ascend(one_feature(body, [0]), starts, Ascent(40, jitter=jitter), np.random.default_rng(0)) for jitter in (0, 3)
    )
    assert (fixed != 0).float().mean().item() == pytest.approx(0.25)
    assert (moved != 0).all()


def test_spectra_of_noise_and_of_lines():
    rng = np.random.default_rng(0)
    power = rng.exponential(size=(64, 64))
    assert high_share(power) == pytest.approx(10 * np.log10(1 - (33 / 64) ** 2), abs=0.1)
    assert concentration(power, 8) == pytest.approx(0, abs=0.3)
    power[::8, ::8] *= 1000
    assert concentration(power, 8) > 6
    assert PERIODS[-1] == 8
