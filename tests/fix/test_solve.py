"""The closed form against a general optimiser, and against what it promises."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from evenly.fix.levels import line_levels
from evenly.fix.scatter import Scatter, transposed
from evenly.fix.solve import Calibration, Moments, moments, solve, windows_for


def _random_moments(rng: np.random.Generator, count: int = 6) -> Moments:
    def positive(rank: int) -> np.ndarray:
        rows = rng.standard_normal((rank, count))
        return rows.T @ rows / rank

    return Moments(positive(20), {2: positive(2), 4: positive(3)}, rng.standard_normal((count, 2)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_the_closed_form_is_the_optimum(seed, gamma):
    rng = np.random.default_rng(seed)
    known = _random_moments(rng)
    before = rng.standard_normal((6, 2))
    targets = {p: 0.2 * known.power(p, before) for p in (2, 4)}
    found = solve(known, before, targets, gamma=gamma, ridge=0.0)

    def cost(flat: np.ndarray) -> float:
        w = flat.reshape(6, 2)
        d = w - before
        total = np.sum(d * (known.gram @ d))
        return float(total + gamma * (np.sum(w * (known.gram @ w)) - 2 * np.sum(w * known.cross)))

    best = optimize.minimize(
        cost,
        before.ravel(),
        method="SLSQP",
        constraints=[
            {"type": "ineq", "fun": lambda f, p=p: targets[p] - known.power(p, f.reshape(6, 2))} for p in targets
        ],
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert best.success
    assert all(found.powers[p] <= 1.03 * target for p, target in targets.items())
    assert cost(found.weights.ravel()) <= cost(best.x) + 0.02 * abs(cost(best.x)) + 1e-9


def test_what_is_below_its_target_stays():
    rng = np.random.default_rng(0)
    known = _random_moments(rng)
    before = rng.standard_normal((6, 2))
    found = solve(known, before, {p: 2 * known.power(p, before) for p in (2, 4)})
    np.testing.assert_allclose(found.weights, before, atol=1e-9)
    assert found.multipliers == {2: 0.0, 4: 0.0}
    assert found.change < 1e-15


def test_windows_have_unit_energy():
    for sizes, counts in (((7,), (1, 2)), ((32, 64), (1, 2)), ((2048,), (1, 2, 8)), ((1030, 800), (1, 2, 3))):
        sets = windows_for(sizes)
        assert [tuple(map(len, windows)) for windows in sets] == [(n,) * len(sizes) for n in counts]
        for windows in sets:
            for window, size in zip(windows, sizes, strict=True):
                np.testing.assert_allclose((window**2).sum(1), 1)
                assert window.shape[1] == size
                assert (window[0][: size // len(window)] > 0).all()
                assert (window[-1][-(size // len(window)) :] > 0).all()


@pytest.fixture(scope="module")
def layer():
    """A transposed convolution (k3 s2, 1-D) over smooth positive features, which writes a pattern of period 2."""
    rng = np.random.default_rng(1)
    x = np.cumsum(rng.standard_normal((48, 3, 48)), 2) * 0.2 + 2
    axis = transposed(48, 96, 5, 2, 2, 1)  # k3 enlarged by a tap on each side
    weights = np.zeros((5 * 3 + 1, 2))
    weights[3:12] = rng.standard_normal((9, 2))
    return Scatter((axis,), 3), x, weights


def test_moments_predict_the_output(layer):
    table, x, weights = layer
    y = table.output(x, weights)
    parts = [Calibration(x[:20], y[:20], y[:20]), Calibration(x[20:], y[20:], y[20:])]
    known = moments(table, parts, [2])
    whole = moments(table, [Calibration(x, y, y)], [2])
    np.testing.assert_allclose(known.gram, whole.gram)
    np.testing.assert_allclose(known.lines[2], whole.lines[2], atol=1e-9)
    other = weights + np.random.default_rng(2).standard_normal(weights.shape)
    naive = ((table.output(x, other) - y) ** 2).mean()
    assert known.change(other, weights) == pytest.approx(naive)
    np.testing.assert_allclose(known.cross, known.gram @ weights, atol=1e-9)


def test_a_line_falls_to_where_it_should(layer):
    table, x, weights = layer
    y = table.output(x, weights)
    known = moments(table, [Calibration(x, y)], [2])
    before = line_levels(y, [2])[2].over()
    assert before > 20
    found = solve(known, weights, {2: known.power(2, weights) * 10 ** (-before / 10)})
    repaired = table.output(x, found.weights)
    assert line_levels(repaired, [2])[2].over() < before - 12
    assert ((repaired - y) ** 2).mean() == pytest.approx(found.change, rel=1e-6)
    # the smallest change is no larger than that of smoothing the kernel's phases to their mean
    assert found.change < y.var()


def test_nothing_to_do_without_a_line():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((64, 2, 64))
    axis = transposed(64, 64, 3, 1, 1, 1)  # stride 1 makes no lines
    table = Scatter((axis,), 2)
    weights = rng.standard_normal((7, 1))
    level = line_levels(table.output(x, weights), [2, 4])
    assert abs(level[4].near_db) < 1.5


def test_moments_do_not_depend_on_how_they_are_read(monkeypatch):
    rng = np.random.default_rng(3)
    scatter = Scatter((transposed(9, 18, 4, 2, 1, 1), transposed(8, 16, 4, 2, 1, 1)), 3)
    x, y, other = rng.standard_normal((4, 3, 9, 8)), rng.standard_normal((4, 2, 18, 16)), np.ones((4, 2, 18, 16))
    whole = moments(scatter, [Calibration(x, y, y, other)], [2])
    monkeypatch.setattr("evenly.fix.solve._BLOCK", 4000)  # a few rows of one signal
    parts = moments(
        scatter, [Calibration(x[:1], y[:1], y[:1], other[:1]), Calibration(x[1:], y[1:], y[1:], other[1:])], [2]
    )
    np.testing.assert_allclose(parts.gram, whole.gram, atol=1e-12)
    np.testing.assert_allclose(parts.lines[2], whole.lines[2], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(parts.cross, whole.cross, atol=1e-12)
    np.testing.assert_allclose(parts.kept, whole.kept, atol=1e-12)


def test_what_the_output_was_takes_the_place_of_the_old_weights():
    rng = np.random.default_rng(4)
    known, before = _random_moments(rng), rng.standard_normal((6, 2))
    same = Moments(known.gram, known.lines, None, known.gram @ before)
    targets = {2: 0.1 * known.power(2, before)}
    np.testing.assert_allclose(solve(same, before, targets).weights, solve(known, before, targets).weights, atol=1e-8)


@pytest.mark.filterwarnings("error")
def test_what_no_weights_can_reach_is_approached_and_no_digit_is_lost():
    rng = np.random.default_rng(5)
    known, before = _random_moments(rng), rng.standard_normal((6, 2))
    full = Moments(known.gram, {2: known.gram}, known.cross)  # nothing can be quiet but nothing
    found = solve(full, before, {2: 1e-300})
    assert np.isfinite(found.weights).all()
    assert found.powers[2] < 1e-6 * full.power(2, before)
