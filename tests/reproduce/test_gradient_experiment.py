"""Gradients by phase and aliasing: the measures, and that the experiment can find its claims wrong."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from killing import check_killed_and_resumed
from torch import nn

from evenly.errors import ParameterError
from evenly.nn import AntialiasedConv2d
from evenly.reproduce.aliasing import folded_db, gain, shifted
from evenly.reproduce.data import open_data
from evenly.reproduce.experiment import Context, Outcome, Scale
from evenly.reproduce.gradient_findings import COMPARED, FAMILIES
from evenly.reproduce.gradient_maps import by_phase, crops, expected_by_phase, folded, gradient_pictures, phase_picture
from evenly.reproduce.odena2016_gradient import EXPERIMENT
from evenly.reproduce.published import WEIGHTS
from evenly.reproduce.result import Architecture, Row, Table
from evenly.reproduce.run import run_cell

NETWORKS = (*FAMILIES, *COMPARED)


@pytest.fixture(scope="module", autouse=True)
def without_published_weights():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(WEIGHTS, raising=False)
        yield


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gradient")
    cells = EXPERIMENT.cells(Scale.SMOKE, (0, 1))
    return {
        cell.name: run_cell(EXPERIMENT, cell, Context(Scale.SMOKE, folder / cell.name, cell.seed)) for cell in cells
    }


def test_smoke_run_speaks_about_every_claim(smoke):
    conclusion = EXPERIMENT.conclude(Scale.SMOKE, smoke)
    assert tuple(finding.claim for finding in conclusion.findings) == EXPERIMENT.claims
    architectures = [piece.name for piece in conclusion.evidence if isinstance(piece, Architecture)]
    assert architectures == list(NETWORKS)
    assert len(conclusion.evidence) - len(architectures) <= 12
    for row in (piece for piece in conclusion.evidence if isinstance(piece, Row)):
        assert len({picture.pixels.shape[:2] for picture in row.pictures}) == 1
    for outcome in smoke.values():
        json.dumps(outcome.numbers, allow_nan=False)
    assert WEIGHTS in conclusion.limits


def test_the_strided_network_is_as_uneven_as_predicted(smoke):
    """Measured on few pictures, but the strongest of 4 phases is known: the one that 3x3 windows share."""
    for seed in (0, 1):
        cell = np.array(smoke[f"strided/seed-{seed}"].numbers["untrained"]["energies"]["2"])
        assert cell.argmax() == 3
        assert np.array(smoke["strided/seed-0"].numbers["expected"]).shape == (8, 8)


def test_a_killed_cell_goes_on_as_if_it_had_not_been(smoke, tmp_path, monkeypatch):
    check_killed_and_resumed(EXPERIMENT, "strided", 2, smoke, tmp_path, monkeypatch)


# planted effects


def _planted(smoke, ratio, forward_db, points, backward):
    """Outcomes with chosen effects, and 3 % of noise."""
    outcomes = {}
    for network in NETWORKS:
        base = smoke[f"{network}/seed-0"].numbers
        for seed in range(5):
            rng = np.random.default_rng((seed, NETWORKS.index(network)))
            strided = network == "strided"
            cells = {p: np.exp(rng.normal(0, 0.03, (p, p))) for p in (2, 4, 8)}
            for p, cell in cells.items():
                cell[0, 0] *= 1 if network == "anti-aliased" else backward if strided and p == 2 else ratio
            trained = {**base["trained"], "energies": {str(p): cell.tolist() for p, cell in cells.items()}}
            numbers = {**base, "trained": trained}
            if network in COMPARED:
                more = rng.normal(0, 0.1) + (forward_db if strided else 0)
                numbers["forward"] = {
                    **base["forward"],
                    "folded_db": -20 + more,
                    "change_db": -15 + more,
                    "consistency": 0.9 - (points / 100 if strided else 0) + rng.normal(0, 1e-3),
                }
            outcomes[f"{network}/seed-{seed}"] = Outcome(numbers)
    return outcomes


@pytest.mark.parametrize(
    ("effects", "answers"),
    [
        ((8, 6, 4, 4), {"C20": "holds", "C25": "holds"}),
        ((1, 0, 0, 1), {"C20": "does not hold here", "C25": "does not hold here"}),
        ((1, 6, 0, 1), {"C20": "does not hold here", "C25": "partly"}),
    ],
)
def test_planted_effects_decide(smoke, effects, answers):
    assert EXPERIMENT.conclude(Scale.SMOKE, _planted(smoke, *effects)).answers() == answers


def test_one_family_without_the_effect_is_said(smoke):
    outcomes = _planted(smoke, 8, 6, 4, 4)
    without = _planted(smoke, 1, 6, 4, 4)
    mixed = {name: (without if name.startswith("vgg/") else outcomes)[name] for name in outcomes}
    finding = EXPERIMENT.conclude(Scale.SMOKE, mixed).findings[0]
    assert [part.state for part in finding.parts] == ["met", "met", "not met", "met", "met"]
    assert finding.answer == "partly"


def test_dead_phases_count_as_many_times(smoke):
    outcomes = _planted(smoke, 8, 6, 4, 4)
    for name, outcome in outcomes.items():
        if name.startswith("vgg/"):
            outcome.numbers["trained"]["energies"]["4"][1][1] = 0.0
    part = EXPERIMENT.conclude(Scale.SMOKE, outcomes).findings[0].parts[2]
    assert part.state == "met"
    assert part.effect.value > 1e6


# published networks


class _Small(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


def test_published_networks_are_measured_beside_the_others(smoke, tmp_path, monkeypatch):
    models = ModuleType("torchvision.models")
    models.get_model = lambda name, weights: _Small()
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    torch.save(_Small().state_dict(), tmp_path / "small-0123.pth")
    monkeypatch.setenv(WEIGHTS, str(tmp_path))
    *_, cell = EXPERIMENT.cells(Scale.SMOKE, (0,))
    assert cell.name == "published-small/seed-0"
    outcome = run_cell(EXPERIMENT, cell, Context(Scale.SMOKE, tmp_path / "cell"))
    json.dumps(outcome.numbers, allow_nan=False)
    assert folded(np.array(outcome.numbers["expected"]), 2).max() == pytest.approx(16 / 9)
    conclusion = EXPERIMENT.conclude(Scale.SMOKE, {**smoke, cell.name: outcome})
    assert "No published weights" not in conclusion.limits
    table = next(piece for piece in conclusion.evidence if isinstance(piece, Table))
    assert [row[1] for row in table.rows if row[0] == "small, published"] == [2, 4, 8]


# measures


@pytest.mark.parametrize("padding", [0, 1])
def test_one_strided_convolution_is_measured_as_predicted(padding):
    """3x3 of stride 2: 4:2:2:1, with the windows' shared pixels moved by the padding."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 64, 3, 2, padding)
    expected = expected_by_phase(layer, 32)
    assert sorted(expected.ravel()) == pytest.approx([4 / 9, 8 / 9, 8 / 9, 16 / 9])
    found = by_phase(layer, torch.randn(64, 3, 32, 32), (2,))
    np.testing.assert_allclose(found["energies"]["2"], expected, rtol=0.25)
    assert found["dead"] == (63 / 1024 if padding == 0 else 0)  # without padding the last row and column are not read


def test_cells_are_repeated_or_averaged():
    cell = np.array([[1.0, 2], [3, 4]])
    np.testing.assert_array_equal(folded(cell, 4), np.tile(cell, (2, 2)))
    np.testing.assert_array_equal(folded(np.tile(cell, (2, 2)), 2), cell)
    np.testing.assert_array_equal(folded(cell, 1), [[2.5]])
    np.testing.assert_array_equal(folded(cell[:1], 2), [[1, 2], [1, 2]])
    with pytest.raises(ParameterError, match="period 3"):
        folded(cell, 3)


def test_pictures_of_gradients_and_phases():
    layer = nn.Conv2d(3, 1, 1, stride=2)
    (maps,) = gradient_pictures(layer, torch.rand(1, 3, 8, 8), lambda scores: scores.sum())
    assert (maps[::2, ::2] == 255).all()
    assert (maps[1::2] == 0).all()
    np.testing.assert_array_equal(phase_picture([[1, 0], [0.2, 0.4]], 4)[:2, 2:], [[255, 0], [51, 102]])


def test_crops_of_small_pictures_are_enlarged(monkeypatch):
    data = open_data(None)
    assert crops(data, 2, 48, 1, "held-out").equal(data.sample(2, 48, 1))
    large = crops(data, 2, 2048, 1, "held-out")
    assert large.shape == (2, 3, 2048, 2048)
    assert large.abs().max() <= 1


def test_every_second_sample_folds_all_high_frequencies():
    noise = torch.randn(64, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    pick = nn.Conv2d(1, 1, 1, 2, bias=False)
    share = 1 - (17 / 32) ** 2  # frequencies up to 1/4, ends included
    assert folded_db(pick, noise) == pytest.approx(10 * np.log10(share), abs=0.1)
    torch.manual_seed(0)
    filtered = AntialiasedConv2d(1, 1, 1, 2, bias=False, taps=(1, 3, 3, 1))
    assert folded_db(filtered, noise) < folded_db(pick, noise) - 4


def test_gain_of_a_mean_of_two_samples():
    layer = nn.Conv2d(3, 1, (1, 2), bias=False)
    nn.init.ones_(layer.weight)
    frequencies = np.linspace(0, 0.5, 17)
    np.testing.assert_allclose(gain(layer, 32), np.cos(np.pi * frequencies) ** 2, atol=0.02)


class _Scores(nn.Module):
    """Scores from one pixel of stride 2, or from the picture's mean colour."""

    def __init__(self, steady):
        super().__init__()
        self.steady = steady

    def forward(self, x):
        return x.mean((2, 3)) if self.steady else x[:, :, 16, 16]


def test_shifts_change_what_looks_at_single_pixels():
    noise = torch.randn(256, 3, 33, 33, generator=torch.Generator().manual_seed(0))
    loose, steady = shifted(_Scores(False), noise), shifted(_Scores(True), noise)
    assert loose.change_db == pytest.approx(3, abs=0.5)
    assert loose.consistency == pytest.approx(1 / 3, abs=0.08)
    assert steady.change_db < -5
    assert steady.consistency > 0.8
    same = shifted(_Scores(False), noise[:8, :, :1, :1].expand(-1, -1, 33, 33) + 1e-6 * noise[:8])
    assert same.consistency == 1
