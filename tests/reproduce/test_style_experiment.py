"""Style transfer: losses with an even gradient, patterns, and that the experiment can find its claim wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from evenly.errors import ParameterError, UnreadableError, UsageError
from evenly.reproduce import _style
from evenly.reproduce._style import UPS, RandomFilters, Vgg, load_vgg, stylist, transfer_loss
from evenly.reproduce.experiment import Context, Outcome, Scale
from evenly.reproduce.odena2016_style import EXPERIMENT, lines, pattern
from evenly.reproduce.result import Architecture, Row
from evenly.reproduce.run import run_cell
from evenly.reproduce.style_findings import KINDS


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("style")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("EVENLY_WEIGHTS", raising=False)
        cells = EXPERIMENT.cells(Scale.SMOKE, (0, 1))
    return {
        cell.name: run_cell(EXPERIMENT, cell, Context(Scale.SMOKE, folder / cell.name, cell.seed)) for cell in cells
    }


def test_smoke_run_speaks_about_its_claim(smoke):
    first, second = (EXPERIMENT.conclude(Scale.SMOKE, smoke) for _ in range(2))
    assert [f.to_dict() for f in first.findings] == [f.to_dict() for f in second.findings]
    assert tuple(finding.claim for finding in first.findings) == EXPERIMENT.claims
    assert "random filters" in first.findings[0].note
    named = {piece.name: piece.summary for piece in first.evidence if isinstance(piece, Architecture)}
    assert tuple(named) == KINDS
    assert "EV101 x 2" in named["transposed k3"]
    assert not {"EV101", "EV103", "EV104"} & set(named["nearest"].replace(",", "").split())
    rows = [piece for piece in first.evidence if isinstance(piece, Row)]
    assert len(rows) == 4
    for row in rows:
        assert len({picture.pixels.shape for picture in row.pictures}) == 1
    for outcome in smoke.values():
        json.dumps(outcome.numbers, allow_nan=False)


def test_constant_colours_stay_constant_with_resize_convolutions_alone(smoke):
    for name, outcome in smoke.items():
        for seen in outcome.numbers["course"]["observations"][1:]:
            assert (seen["constant"] < 1e-3) == name.startswith("nearest")


def test_a_killed_cell_goes_on_as_if_it_had_not_been(smoke, tmp_path, monkeypatch):
    monkeypatch.delenv("EVENLY_WEIGHTS", raising=False)
    (cell,) = [cell for cell in EXPERIMENT.cells(Scale.SMOKE, (0,)) if cell.options["kind"] == "nearest"]
    context = Context(Scale.SMOKE, tmp_path, cell.seed, checkpoint_seconds=0)
    made, steps = _style.transfer_loss, []

    def killed(*given):
        loss = made(*given)

        def step(*pictures):
            steps.append(None)
            if len(steps) == 3:
                raise KeyboardInterrupt
            return loss(*pictures)

        return step

    monkeypatch.setattr(_style, "transfer_loss", killed)
    with pytest.raises(KeyboardInterrupt):
        run_cell(EXPERIMENT, cell, context)
    again = run_cell(EXPERIMENT, cell, context)
    assert len(steps) == 3 + 2
    assert again.numbers == smoke[cell.name].numbers
    for name, array in smoke[cell.name].arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)


# planted effects


def _planted(smoke, strengths):
    """Outcomes in which every network adds a checkerboard of so many grey levels to noise."""
    places = np.arange(48)
    board = ((-1.0) ** places)[None, :, None] + ((-1.0) ** places)[:, None, None]
    outcomes = {}
    for kind, strength in strengths.items():
        base = smoke[f"{kind}/seed-0"].numbers
        for seed in range(3):
            content = 128 + 8 * np.random.default_rng(seed).normal(size=(4, 48, 48, 3))
            made = np.rint(content + strength * board).astype(np.uint8)
            seen = {
                **lines(made, np.rint(content).astype(np.uint8)),
                "constant": pattern((strength / 127.5 * board).transpose(2, 0, 1)[None]),
            }
            observations = [{**seen, "step": step} for step in (0, 1, 4)]
            course = {**base["course"], "observations": observations}
            outcomes[f"{kind}/seed-{seed}"] = Outcome({**base, "course": course})
    return outcomes


def _states(smoke, transposed, nearest):
    strengths = {"transposed k3": transposed, "transposed k4": 0, "nearest": nearest}
    conclusion = EXPERIMENT.conclude(Scale.SMOKE, _planted(smoke, strengths))
    return conclusion.answers()["C15"], [part.state for part in conclusion.findings[0].parts]


def test_planted_patterns_are_found(smoke):
    assert _states(smoke, 5, 0) == ("holds", ["met"] * 5)


def test_absent_patterns_are_not_found(smoke):
    answer, states = _states(smoke, 0, 0)
    assert answer == "partly"  # resize-convolutions have none, as claimed
    assert states == ["not met", "not met", "met", "not met", "met"]


def test_patterns_of_resize_convolutions_would_be_found(smoke):
    assert _states(smoke, 0, 5) == ("does not hold here", ["not met"] * 5)


# networks and losses


@pytest.mark.parametrize("up", UPS)
def test_stylists_keep_the_size(up):
    assert stylist(up, 4, 1)(torch.zeros(2, 3, 32, 24)).shape == (2, 3, 32, 24)


def test_unknown_layers_are_refused():
    with pytest.raises(ParameterError, match="nearest"):
        stylist("cubic", 4, 1)
    with pytest.raises(ParameterError, match="vgg16"):
        Vgg("vgg11")


def _by_phase(features, content_weight):
    """Largest over smallest of the four phases' mean squared gradient of the loss (ratio)."""
    random = torch.Generator().manual_seed(5)
    style, content, made = (torch.rand(n, 3, 48, 48, generator=random) * 2 - 1 for n in (1, 8, 8))
    made.requires_grad_()
    transfer_loss(features, style, content_weight)(made, content).backward()
    squared = made.grad.square().mean((0, 1))[12:-12, 12:-12].reshape(12, 2, 12, 2).mean((0, 2))
    return float(squared.max() / squared.min())


class _Strided(RandomFilters):
    def style(self, pictures):
        return [torch.relu(torch.conv2d(pictures, filters, stride=2)) for filters in self.buffers()]


def test_the_losses_write_no_grid_into_the_gradient():
    torch.manual_seed(0)
    for features in (RandomFilters(8, torch.Generator().manual_seed(0)), Vgg("vgg16").requires_grad_(False)):
        assert max(_by_phase(features, weight) for weight in (0.0, 1.0)) < 1.2
    assert _by_phase(_Strided(8, torch.Generator().manual_seed(0), sizes=(3,)), 0.0) > 1.5


def test_the_loss_is_least_for_what_is_wanted():
    first, second = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(5)) * 2 - 1
    loss = transfer_loss(RandomFilters(4, torch.Generator().manual_seed(0)), first, 0.5)
    assert float(loss(first, first)) == 0
    assert float(loss(second, first)) > 0.01


def test_weights_of_vgg_are_read_as_torchvision_names_them(tmp_path):
    torch.manual_seed(0)
    state = {**Vgg("vgg16").state_dict(), "classifier.0.weight": torch.zeros(1)}
    torch.save(state, tmp_path / "vgg16.pth")
    found = load_vgg("vgg16", tmp_path / "vgg16.pth")
    assert list(found.state_dict()) == [n for n in state if n.startswith("features.")]
    assert {"features.0.weight", "features.21.bias"} <= set(state)
    assert [x.shape[1] for x in found.style(torch.zeros(1, 3, 32, 32))] == [64, 128, 256, 512]
    assert found.content(torch.zeros(1, 3, 32, 32)).shape == (1, 128, 16, 16)
    with pytest.raises(UsageError, match="vgg19"):
        load_vgg("vgg19", tmp_path / "vgg16.pth")
    (tmp_path / "broken.pth").write_bytes(b"not weights")
    with pytest.raises(UnreadableError, match="broken"):
        load_vgg("vgg16", tmp_path / "broken.pth")


def test_patterns_are_measured_in_grey_levels():
    board = np.indices((16, 16)).sum(0) % 2 * 2.0 - 1
    pictures = np.broadcast_to(board * 3 / 127.5, (2, 3, 16, 16))
    assert pattern(pictures) == pytest.approx(3)
    assert pattern(np.full((2, 3, 16, 16), 0.4)) == pytest.approx(0, abs=1e-9)
