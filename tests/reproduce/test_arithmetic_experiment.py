"""The arithmetic: all of it runs, numbers agree with known ones, every claim fails when its effect is taken away."""

from __future__ import annotations

import copy
import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from evenly.errors import UsageError
from evenly.reproduce import boundaries, layer_matrices, painting, pixel_diagrams, worked_examples
from evenly.reproduce.arithmetic_outcomes import share
from evenly.reproduce.data import Data
from evenly.reproduce.experiment import Context, Outcome, Scale
from evenly.reproduce.odena2016_arithmetic import EXPERIMENT
from evenly.reproduce.painting import Layer
from evenly.reproduce.result import Architecture, Row
from evenly.reproduce.run import run_cell

SEEDS = (0, 1)


def data():
    """Pictures of noise on ramps, large enough for the crops."""
    rng = np.random.default_rng(1)
    ramp = np.linspace(60, 200, 48)
    planes = [torch.from_numpy((ramp + rng.normal(0, 9, (3, 48, 48))).clip(0, 255).astype(np.uint8)) for _ in range(6)]
    return Data("ramps", "", "", ("one",), tuple((0, (plane,)) for plane in planes))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setattr(Context, "data", property(lambda self: data()))
    folder = tmp_path_factory.mktemp("arithmetic")
    found = {
        cell.name: run_cell(EXPERIMENT, cell, Context(Scale.SMOKE, folder, cell.seed))
        for cell in EXPERIMENT.cells(Scale.SMOKE, SEEDS)
    }
    patch.undo()
    return found


def changed(outcomes, cell, change):
    """Outcomes with the numbers of all cells of a topic changed."""
    found = dict(outcomes)
    for name, outcome in outcomes.items():
        if name.partition("/")[0] == cell:
            numbers = copy.deepcopy(outcome.numbers)
            change(numbers)
            found[name] = replace(outcome, numbers=numbers)
    return found


def finding(outcomes, claim):
    conclusion = EXPERIMENT.conclude(Scale.SMOKE, outcomes)
    return next(found for found in conclusion.findings if found.claim == claim)


def test_all_of_it_runs_and_speaks_about_every_claim(outcomes):
    json.dumps([outcome.numbers for outcome in outcomes.values()], allow_nan=False)
    conclusion = EXPERIMENT.conclude(Scale.SMOKE, outcomes)
    assert tuple(found.claim for found in conclusion.findings) == EXPERIMENT.claims
    exact = [found for found in conclusion.findings if found.claim in ("C1", "C2", "C8", "C11", "C23")]
    assert {found.answer for found in exact} == {"holds"}
    assert conclusion.findings == EXPERIMENT.conclude(Scale.SMOKE, outcomes).findings
    names = {piece.name for piece in conclusion.evidence if isinstance(piece, Architecture)}
    assert len(names) == 7
    for row in (piece for piece in conclusion.evidence if isinstance(piece, Row)):
        assert len({picture.pixels.shape for picture in row.pictures}) == 1
        assert all(picture.pixels.dtype == np.uint8 for picture in row.pictures)


def test_a_cell_gives_the_same_again(outcomes, tmp_path, monkeypatch):
    monkeypatch.setattr(Context, "data", property(lambda self: data()))
    cells = [cell for cell in EXPERIMENT.cells(Scale.SMOKE, SEEDS) if cell.name in ("stacks/seed-1", "boundary/seed-1")]
    assert len(cells) == 2
    for cell in cells:
        again = run_cell(EXPERIMENT, cell, Context(Scale.SMOKE, tmp_path, cell.seed))
        assert again.numbers == outcomes[cell.name].numbers
    assert outcomes["stacks/seed-0"].numbers != outcomes["stacks/seed-1"].numbers


def one_less(*path):
    def change(numbers):
        for key in path[:-1]:
            numbers = numbers[key]
        numbers[path[-1]] -= 1

    return change


def always_kept(numbers):
    numbers["draws"] = 1000
    numbers["kept"]["transposed convolution k3 s2"]["positive/rising"] = 1000


@pytest.mark.parametrize(
    ("claim", "cell", "change"),
    [
        ("C1", "overlap", one_less("grid", "equal")),
        ("C1", "overlap", one_less("grid", "undivided_uneven")),
        ("C1", "overlap", one_less("grid", "divided_even")),
        ("C2", "overlap", one_less("plane", "equal")),
        ("C2", "overlap", lambda n: n["plane"].update(plane=2.0)),
        ("C3", "stacks", lambda n: n.update(several_scales=0)),
        ("C3", "stacks", lambda n: n.update(worse=0)),
        ("C3", "stacks", lambda n: n.update(cancelled=0)),
        ("C3", "stacks", lambda n: n.update(cancelled=n["some_uneven"])),
        ("C4", "overlap", one_less("last", "removed")),
        ("C4", "overlap", one_less("last", "reduced")),
        ("C4", "overlap", lambda n: n["last"].update(deviation=1e-6)),
        ("C4", "last", lambda n: n["positive"].update(others=[1.0] * 40)),
        ("C5", "stacks", lambda n: n.update(periods_as_strides=0)),
        ("C5", "stacks", lambda n: n.update(octaves=[-o for o in n["octaves"]])),
        ("C8", "matrices", lambda n: n["freedoms"][0].update(balanced=n["freedoms"][0]["free"])),
        ("C8", "matrices", lambda n: n["freedoms"][0].update(theory_resize=99)),
        ("C9", "layers", one_less("subpixel", "equal")),
        ("C9", "layers", lambda n: n["subpixel"].update(pattern_db=[-300.0] * 20)),
        ("C10", "layers", lambda n: n["constants"].update(bilinear=[-30.0] * 20)),
        ("C11", "matrices", one_less("linear", "equal")),
        ("C11", "matrices", lambda n: n["tied"][0].update(resize=n["tied"][0]["transposed"])),
        ("C12", "boundary", lambda n: n["errors"]["constants"].update(reflect=[-20.0] * 20)),
        ("C12", "boundary", lambda n: n["errors"]["photographs"].update(zero=n["errors"]["photographs"]["reflect"])),
        ("C23", "worked", lambda n: n["examples"]["convolution of 1 to 7"].update(layer=[14, 20, 26, 32, 39])),
        ("C24", "order", lambda n: n["kept"]["convolution k3"].update({"positive/rising": 0})),
        ("C24", "order", always_kept),
    ],
)  # fmt: skip
def test_a_claim_fails_without_its_effect(outcomes, claim, cell, change):
    before, after = finding(outcomes, claim), finding(changed(outcomes, cell, change), claim)
    refuted = [part.state for part in after.parts].count("not met")
    assert refuted > [part.state for part in before.parts].count("not met")
    assert after.answer != "holds"


def test_nothing_is_decided_by_a_handful_of_draws():
    assert share(3, 3).low < 99 <= share(3, 3).high
    assert share(0, 1000).high < 1 < share(5, 100).high
    for count, of in itertools.product((0, 1, 7), (7, 50)):
        effect = share(count, of)
        assert effect.low <= effect.value <= effect.high


def test_known_patterns_are_painted():
    assert painting.paint(4, 3, 2).tolist() == [1, 1, 2, 1, 2, 1, 2, 1, 1]
    assert painting.painted_plane(4, (3, 3), (2, 2))[2:4, 2:4].tolist() == [[4, 2], [2, 1]]
    assert Layer(3, 2).uneven
    assert not Layer(4, 2).uneven
    assert sorted(painting.composed([Layer(3, 2)]).tolist()) == [1, 2]
    assert np.ptp(painting.composed([Layer(3, 2), Layer(4, 2)])) == 0  # a kernel of 4 sums the period of 4 that came in
    stack = [Layer(3, 2)] * 3
    assert painting.scales(stack, painting.composed(stack)) == [8, 4, 2]
    assert painting.scales([Layer(4, 2)] * 2, painting.composed([Layer(4, 2)] * 2)) == []
    assert [painting.period_of(one) for one in painting.origins(stack, np.random.default_rng(0))] == [8, 4, 2]


def test_a_last_layer_follows_the_law_only_with_its_own_weights():
    before, after, left = painting.attenuation(Layer(3, 2), 2, np.ones(2))
    assert before == pytest.approx([1 / 3])
    assert after == pytest.approx([0], abs=1e-15)
    assert left == pytest.approx(0, abs=1e-15)
    assert painting.attenuation(Layer(3, 2), 3, np.ones(3))[2] == pytest.approx(1 / 3)
    assert painting.attenuation(Layer(3, 2), 2, np.array([1.0, 0.5]))[2] == pytest.approx(1 / 3)


def test_matrices_show_the_weights():
    found = layer_matrices.matrices(3)
    transposed, subpixel, resized = found.values()
    assert transposed.tolist() == [[2, 0, 0], [4, 1, 0], [8, 2, 0], [0, 4, 1], [0, 8, 2], [0, 0, 4]]
    assert set(subpixel.ravel()) == {0, 1, 2, 4, 8}
    assert set(resized.ravel()) == {0, 1, 4, 3, 6}  # sums of two neighbouring weights, and the outer ones
    picture = pixel_diagrams.matrix_picture(resized, 9)
    assert picture.shape == (55, 28, 3)
    assert len({tuple(colour) for colour in picture[1:9, 1:9].reshape(-1, 3)}) == 2  # a sum has both colours


def test_freedom_of_known_kernels():
    by_size = {(row["kernel"], row["stride"]): row for row in layer_matrices.freedoms(4, 2)}
    assert {key: by_size[4, 2][key] for key in ("free", "balanced", "resize")} == {
        "free": 16, "balanced": 13, "resize": 9,
    }  # fmt: skip


def test_a_border_is_wrong_only_where_the_padding_is():
    rng = np.random.default_rng(0)
    constant = torch.full((1, 1, 32, 32), 0.5, dtype=torch.float64)
    found = boundaries.errors([constant] * 2, rng, 2, 2)
    assert set(found) == {"constants", "ramps", "photographs"}
    assert found["photographs"]["replicate"] == found["photographs"]["reflect"] == [-120.0] * 2
    assert min(found["photographs"]["zero"]) > -40
    assert all(max(group["interior"]) == -120 for group in found.values())
    small = Data("small", "", "", ("one",), ((0, (torch.zeros(3, 20, 40, dtype=torch.uint8),)),) * 3)
    with pytest.raises(UsageError, match="room for crops of 32 pixels"):
        boundaries.photographs(small, rng, 3)


def test_photographs_count_once_however_many_seeds(outcomes):
    parts = [part for part in finding(outcomes, "C12").parts if part.statement.startswith("On photographs")]
    assert {part.effect.count for part in parts} == {6}


def test_the_examples_are_those_of_a_textbook():
    found = worked_examples.examples()
    assert found["convolution of 1 to 7"]["by hand"] == [14, 20, 26, 32, 38]
    assert found["transposed convolution of 1 to 5, stride 2"]["by hand"] == [1, 2, 5, 4, 9, 6, 13, 8, 17, 10, 15]
    assert found["transposed convolution of five ones, stride 2"]["layer"][2:-2] == [4, 2, 4, 2, 4, 2, 4]


def test_the_order_is_lost_where_it_is_said_to_be():
    example = worked_examples.overturned(np.random.default_rng(0), 50)
    assert (np.diff(example["input"]) >= 0).all()
    assert min(example["weight"]) >= 0
    assert (np.diff(example["convolution"]) >= 0).all()
    assert (np.diff(example["transposed"]) < 0).any()


def test_a_diagram_collects_what_was_painted():
    sheet = pixel_diagrams.overlap_diagram(2, 3, 2, 5)
    assert sheet.shape == (6 * 4 + 5, 31, 3)
    below = sheet[6 * 2 + 4 :]
    painted = [(below[2::6, 6 * n + 3] != 255).any(axis=-1).sum() for n in range(5)]
    assert painted == [1, 1, 2, 1, 1]


def test_planes_tell_even_from_uneven():
    assert np.ptp(pixel_diagrams.pattern_plane(np.ones(4), 8, 1.5)) == 0
    assert np.ptp(pixel_diagrams.pattern_plane(np.array([1.0, 2.0]), 8, 1.5)) > 0
    plane = pixel_diagrams.counts_plane(np.array([[4.0, 2.0], [2.0, 1.0]]))
    assert plane.shape == (11, 11, 3)
    assert (plane[3, 3] != plane[8, 8]).any()
    assert (plane[3, 8] == plane[8, 3]).all()


def test_outcomes_without_arrays_are_read(outcomes):
    assert isinstance(outcomes["boundary/seed-0"], Outcome)
    assert set(outcomes["boundary/seed-0"].arrays) == {
        "truth", *boundaries.PADDINGS, *(f"{name}-error" for name in boundaries.PADDINGS),
    }  # fmt: skip
