"""How deep lines are aimed: what other data say of a period moves this period, and no other."""

from __future__ import annotations

from collections.abc import Mapping
from math import log10
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

from hypothesis import given
from hypothesis import strategies as st

from evenly.fix.levels import Level
from evenly.fix.result import LayerRepair
from evenly.fix.search import DEEPEST, GAMMAS, HARMFUL_DB, MISSED, NEARLY, PARTS, STEP, WELL_DB, Search, Tried
from evenly.fix.solved import AIM_DB
from evenly.fix.task import Judgement

WITHIN = 3.0


class Attempt:
    """Lines end as far over their aim as other data differ."""

    output = "output"

    def __init__(self, differs: Mapping[int, float], paired: bool = False) -> None:
        self.differs, self.paired = differs, paired
        self.asked: list[tuple[dict[int, float], float]] = []
        self.restarts = 0

    def restart(self) -> None:
        self.restarts += 1

    def tried(self, moved: Mapping[int, float], gamma: float) -> Tried:
        self.asked.append((dict(moved), gamma))
        levels = {p: WITHIN - AIM_DB + by + self.differs[p] for p, by in moved.items()}
        found = Judgement({p: Level(value, value, 8) for p, value in levels.items()}, 1e-6, 0.0)
        return Tried("tried", None, (), {"output": found})  # type: ignore[arg-type]


def search(periods: tuple[int, ...]) -> Search:
    made = object.__new__(Search)
    made.task = SimpleNamespace(  # type: ignore[assignment]
        periods={"output": periods},
        wanted={"output": {}},
        within_db=WITHIN,
        max_distortion=38.0,
        psnr=lambda found: 50.0,
    )
    made.before = Tried("as it is", None, (), {})  # type: ignore[arg-type]
    return made


@given(st.dictionaries(st.sampled_from((2, 3, 4, 8)), st.floats(-3, MISSED), min_size=1))
def test_only_periods_that_miss_are_aimed_lower(differs):
    attempt = Attempt(differs)
    done = search(tuple(differs))._accepted_of(attempt)  # type: ignore[arg-type]
    moved = attempt.asked[-1][0]
    for period, off in differs.items():
        assert -DEEPEST <= moved[period] <= 0
        if off <= AIM_DB - WELL_DB:
            assert moved[period] == 0
    for (first, _), (second, _) in zip(attempt.asked, attempt.asked[1:], strict=False):
        assert all(first[p] - second[p] <= STEP + 1e-9 for p in differs)
    assert done is not None
    over = {p: value - WITHIN for p, value in done.found["output"].over({}).items()}
    assert all(
        value <= NEARLY - WELL_DB + 1e-9 or (moved[p] == -DEEPEST and value <= -AIM_DB + 1e-9)
        for p, value in over.items()
    )


def test_data_that_differ_too_much_end_it():
    attempt = Attempt({2: MISSED + 0.1, 4: 0.0})
    assert search((2, 4))._accepted_of(attempt) is None  # type: ignore[arg-type]
    assert len(attempt.asked) == 1


def test_freedom_is_spent_at_the_depth_that_will_do():
    attempt = Attempt({2: 1.0}, paired=True)
    assert search((2,))._accepted_of(attempt) is not None  # type: ignore[arg-type]
    depths, gammas = zip(*((moved[2], gamma) for moved, gamma in attempt.asked), strict=True)
    assert depths == pytest.approx((0.0, -STEP, AIM_DB - WELL_DB - 1.0, AIM_DB - WELL_DB - 1.0))
    assert gammas == (*GAMMAS[:1] * 3, GAMMAS[1])


def test_what_will_do_is_kept_where_well_costs_too_much():
    attempt = Attempt({2: 0.0})
    found = search((2,))
    found.task.psnr = lambda judged: 50.0 if judged["output"].levels[2].near_db > 1.9 else 30.0  # type: ignore[method-assign]
    assert found._accepted_of(attempt) is not None  # type: ignore[arg-type]
    assert [moved[2] for moved, _ in attempt.asked] == [0.0, pytest.approx(AIM_DB - WELL_DB)]


def outcome(lines: float, psnr: float, loss: float | None = None, cost: float = 1.0, **given: object) -> Tried:
    """A repair of a network whose values span 1."""
    judged = Judgement({2: Level(lines, lines, 8)}, 10 ** (-psnr / 10), 0.0)
    return Tried(
        "tried", None, (LayerRepair("up", "solve", "", "", 1.0),), {"output": judged}, loss, cost=cost, **given
    )  # type: ignore[arg-type]


def asked_of(psnr: float) -> Search:
    made = search((2,))
    made.tried, made.before = [], outcome(12.0, 300.0, 1.0)
    made.task.max_distortion = psnr  # type: ignore[misc]
    made.task.psnr = lambda found: found["output"].psnr(1.0)  # type: ignore[method-assign]
    return made


@pytest.mark.parametrize(
    ("tried", "best"),
    [
        ([(9.0, 40.0, 1.0), (8.0, 37.0, 1.0)], 0),  # the other changes too much
        ([(12.0 - NEARLY / 2, 40.0, 1.0)], None),  # hardly anything gained
        ([(12.0 - HARMFUL_DB / 2, 40.0, 1.1)], None),  # less gained than lost
        ([(7.0, 40.0, 1.1)], 0),
        ([(7.0, 40.0, 1.1), (10.0, 40.0, 1.0)], 1),  # no harm comes first
        ([(7.0, 40.0, 1.0, 1.4), (7.1, 40.0, 1.0, 1.1)], 1),  # so near, the cheaper one
        ([(2.5, 40.0, 1.3), (2.9, 40.0, 1.2), (7.0, 40.0, 1.0)], 1),  # where the limit is reached, the least harm
    ],
)
def test_the_best_of_what_may_be_had(tried, best):
    found = asked_of(38.0)
    all_of_them = [outcome(*each) for each in tried]
    chosen = found._best(found.before, "output", all_of_them)
    assert chosen is (found.before if best is None else all_of_them[best])


@given(st.lists(st.tuples(st.floats(-5, 11), st.floats(20, 37)), min_size=1, max_size=8))
def test_parts_are_taken_of_what_should_leave_least(changes):
    """Amplitudes of lines, and errors, are proportional here: the best of all parts is found, within the distortion."""
    found, parts = asked_of(38.0), []

    def lines(full: float, strength: float) -> float:
        return 20 * log10((1 - strength) * 10 ** (12 / 20) + strength * 10 ** (full / 20))

    def judged(method: str, backend: tuple[float, float, float], repairs: object, **given: object) -> Tried:
        full, psnr, strength = backend
        parts.append(outcome(lines(full, strength), psnr - 20 * log10(strength)))
        return parts[-1]

    found.judged = judged  # type: ignore[method-assign, assignment]
    among = [outcome(full, psnr, partly=lambda part, of=(full, psnr): (*of, part)) for full, psnr in changes]
    found._weakened(found.before, "output", among)
    assert len(parts) == min(len(changes), PARTS)
    assert all(38.0 <= found.task.psnr(part.found) < 38.2 for part in parts)
    possible = [lines(full, 10 ** ((psnr - 38.05) / 20)) for full, psnr in changes]
    assert min(part.found["output"].levels[2].near_db for part in parts) == pytest.approx(min(possible))


def test_less_is_asked_until_that_may_be_had():
    attempt = Attempt({2: 0.0})
    found = search((2,))
    found.task.psnr = lambda judged: 39.0 if judged["output"].levels[2].near_db > 9 else 30.0  # type: ignore[method-assign]
    found._risen(attempt)  # type: ignore[arg-type]
    assert [moved[2] for moved, _ in attempt.asked] == [8.0, 4.0, 6.0, 7.0]
    assert attempt.restarts == 4
