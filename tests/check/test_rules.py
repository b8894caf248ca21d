"""Every rule: a minimal network on which it fires, and the remedy on which it does not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from graphs import Net

from evenly.check.engine import analyse
from evenly.check.result import Finding, Report
from evenly.check.rules import RULES
from evenly.graph import ir


def report(
    build: Callable[[Net], object], *, sizes: tuple[int, ...] = (8, 8), channels: int = 4, **more: object
) -> Report:
    net = Net(channels, sizes)
    build(net)
    return analyse(net.graph(), **more)  # type: ignore[arg-type]


def codes(found: Report) -> set[str]:
    return {f.code for f in found.findings}


def only(found: Report, code: str) -> Finding:
    (finding,) = [f for f in found.findings if f.code == code]
    return finding


def steps(*calls: Callable[[Net], object]) -> Callable[[Net], object]:
    return lambda net: [call(net) for call in calls]


def lattice_of_slices(net: Net) -> None:
    """Space to depth by hand: the slices together read every position."""
    parts = [net.slice(a, 2, source=0) for a in (0, 1)]
    net.concat(*parts)


def resize_conv(pad_mode: ir.PadMode) -> Callable[[Net], object]:
    return steps(lambda n: n.resize(), lambda n: n.conv(4, 3, pad_mode=pad_mode, name="layer"))


def icnr(net: Net) -> None:
    net.conv(16, 3, values=np.repeat(np.random.default_rng(0).standard_normal((4, 4, 3, 3)), 4, 0))
    net.shuffle(name="layer")


def blur(*taps: float, s: int = 1) -> Callable[[Net], object]:
    """A fixed filter along both axes."""
    values = np.broadcast_to(np.outer(taps, taps) / sum(taps) ** 2, (4, 1, len(taps), len(taps)))
    return lambda n: n.conv(4, len(taps), s, groups=4, values=values, fixed=True, name="layer" if s > 1 else None)


# code: (fires, severity, remedy, severity on the remedy or None for silence)
Build = Callable[[Net], object]
PAIRS: dict[str, list[tuple[str, Build, str, Build]]] = {
    "EV101": [
        ("k3s2", lambda n: n.deconv(4, 3, name="layer"), "error", lambda n: n.deconv(4, 4, name="layer")),
        (
            "fold",
            steps(lambda n: n.conv(36, 1), lambda n: n.fold(3, 2, name="layer")),
            "error",
            steps(lambda n: n.conv(64, 1), lambda n: n.fold(4, 2, name="layer")),
        ),
    ],
    "EV102": [
        ("k2s3", lambda n: n.deconv(4, 2, 3, name="layer"), "error", lambda n: n.deconv(4, 3, 3, name="layer")),
        ("d2s2", lambda n: n.deconv(4, 4, 2, d=2, name="layer"), "error", lambda n: n.deconv(4, 4, 2, name="layer")),
    ],
    "EV103": [
        ("k4s2", lambda n: n.deconv(4, 4, name="layer"), "warning", resize_conv("replicate")),
        ("k2s2", lambda n: n.deconv(4, 2, name="layer"), "warning", lambda n: n.deconv(4, 2, 1, name="layer")),
    ],
    "EV104": [("random", lambda n: n.deconv(4, 4, name="layer"), "error", lambda n: n.balanced(4, 4, name="layer"))],
    "EV105": [
        (
            "shuffle",
            steps(lambda n: n.conv(16, 3), lambda n: n.shuffle(name="layer")),
            "warning",
            steps(lambda n: n.conv(16, 3), lambda n: n.shuffle(idiom="patch", name="layer")),
        )
    ],
    "EV106": [
        (
            "early",
            steps(lambda n: n.deconv(4, 4, name="layer"), lambda n: n.resize(), lambda n: n.conv(3, 3)),
            "warning",
            steps(lambda n: n.resize(), lambda n: n.conv(3, 3), lambda n: n.deconv(4, 4, name="layer")),
        )
    ],
    "EV107": [
        (
            "patch",
            steps(lambda n: n.conv(64, 1), lambda n: n.shuffle(4, "patch", name="layer")),
            "warning",
            steps(lambda n: n.conv(64, 1), lambda n: n.shuffle(4, name="layer")),
        ),
        (
            "tiles",
            steps(lambda n: n.conv(64, 1), lambda n: n.fold(4, 4, name="layer")),
            "warning",
            steps(lambda n: n.conv(64, 1), lambda n: n.fold(4, 2, name="layer")),
        ),
    ],
    "EV201": [
        ("k3s2", lambda n: n.conv(4, 3, 2, name="layer"), "warning", lambda n: n.conv(4, 4, 2, 1, name="layer")),
        ("7x7", lambda n: n.conv(4, 7, 2, name="layer"), "warning", lambda n: n.conv(4, 7, name="layer")),
        (
            "filtered",
            lambda n: n.conv(4, 3, 2, name="layer"),
            "warning",
            steps(blur(1, 3, 3, 1), lambda n: n.conv(4, 3, 2)),
        ),
        ("real taps", blur(1, 2, 1, s=2), "warning", blur(1, 3, 4, 3, 1, s=2)),
        (
            "filter in vain",
            steps(blur(1, 2, 1), lambda n: n.conv(4, 3, 2, name="layer")),
            "warning",
            steps(blur(1, 3, 4, 3, 1), lambda n: n.conv(4, 3, 2, name="layer")),
        ),
    ],
    "EV202": [
        ("1x1s2", lambda n: n.conv(4, 1, 2, name="layer"), "error", lambda n: n.conv(4, 2, 2, 0, name="layer")),
        ("slice", lambda n: n.slice(0, 2, name="layer"), "error", lambda n: n.slice(0, 1)),
        ("filtered", lambda n: n.conv(4, 1, 2, name="layer"), "error", steps(blur(1, 1), lambda n: n.conv(4, 1, 2))),
    ],
    "EV203": [
        ("max 3/2", lambda n: n.pool("max", 3, 2, name="layer"), "warning", lambda n: n.pool("average", 2, 2)),
        ("max 2/2", lambda n: n.pool("max", 2, 2, name="layer"), "warning", lambda n: n.pool("max", 2, 1)),
        ("average 3/2", lambda n: n.pool("average", 3, 2, name="layer"), "warning", lambda n: n.pool("average", 4, 2)),
    ],
    "EV301": [("zeros", resize_conv("zeros"), "warning", resize_conv("reflect"))],
    "EV901": [
        (
            "unknown",
            lambda n: n.same(ir.Unknown("aten.fft_rfft2", "it has no entry"), name="layer"),
            "warning",
            lambda n: n.relu(),
        )
    ],
}
CASES = [pytest.param(code, *case[1:], id=f"{code} {case[0]}") for code, cases in PAIRS.items() for case in cases]


def test_every_rule_has_a_pair() -> None:
    assert set(PAIRS) == set(RULES)


@pytest.mark.parametrize(("code", "fires", "severity", "remedy"), CASES)
def test_fires_and_is_silenced_by_its_remedy(code: str, fires: Build, severity: str, remedy: Build) -> None:
    finding = only(report(fires), code)
    assert (finding.layer, finding.severity) == ("layer", severity)
    assert finding.message
    assert finding.fix
    after = [f for f in report(remedy).findings if f.code == code]
    assert not after or {f.severity for f in after} == {"info"}


@pytest.mark.parametrize(
    "build",
    [
        resize_conv("replicate"),
        steps(*[lambda n: n.resize(), lambda n: n.conv(4, 3), lambda n: n.relu()] * 3),
        steps(lambda n: n.resize(2, "linear"), lambda n: n.conv(4, 5), lambda n: n.same(ir.Affine(2.0, 1.0))),
        steps(lambda n: n.conv(4, 4, 2, 1), lambda n: n.pool("average", 2, 2), lambda n: n.resize(4)),
        steps(lambda n: n.conv(4, 3, d=2), lambda n: n.same(ir.Normalize("batch")), lambda n: n.relu()),
    ],
)
def test_clean_networks_are_silent(build: Build) -> None:
    found = report(build)
    assert found.findings == ()
    assert found.worst() is None


def test_findings_are_sorted_and_say_where() -> None:
    net = Net(4, (32, 32))
    net.conv(4, 3, 2, name="down")
    net.deconv(4, 4, name="even")
    net.deconv(4, 3, name="uneven")
    found = analyse(net.graph())
    ranks = [("error", "warning", "info").index(f.severity) for f in found.findings]
    assert ranks == sorted(ranks)
    uneven = only(found, "EV101")
    assert uneven.layer == "uneven"
    assert uneven.period == 2
    assert "4 times" in uneven.message
    assert "period 2 px in the output" in uneven.message
    assert "kernel_size=4" in uneven.fix
    assert only(found, "EV201").period == 2
    early = only(found, "EV106")
    assert (early.layer, early.period) == ("even", 4)
    assert "2 times" in early.message


def test_one_dimension_speaks_of_samples() -> None:
    found = report(lambda n: n.deconv(4, 7, 4), sizes=(16,))
    assert "samples in the output" in only(found, "EV101").message


# ---------------------------------------------------------------- severities


def test_a_later_box_lowers_to_info_and_is_named() -> None:
    """An all-ones convolution of size 2 removes period 2 with actual weights (claim C4), not before training."""
    build = steps(lambda n: n.deconv(4, 3, name="layer"), lambda n: n.conv(4, 2, p=0, values=1.0, name="box"))
    finding = only(report(build), "EV101")
    assert finding.severity == "info"
    assert "box provably removes it" in finding.message
    found = report(build)
    assert found.layers[0].removed_by == "box"
    assert found.outputs[0].certified is True
    blind = only(report(build, weights="ignored"), "EV101")
    assert blind.severity == "error"
    assert "box" not in blind.message


def test_a_box_of_three_does_not_remove_period_two() -> None:
    build = steps(lambda n: n.deconv(4, 3, name="layer"), lambda n: n.conv(4, 3, values=1.0, name="box"))
    assert only(report(build), "EV101").severity == "error"


def test_a_fixed_box_counts_without_weights() -> None:
    box = {"groups": 4, "values": 0.25, "fixed": True, "p": 0}
    build = steps(lambda n: n.deconv(4, 3, name="layer"), lambda n: n.conv(4, 2, name="blur", **box))
    finding = only(report(build, weights="none"), "EV101")
    assert finding.severity == "info"
    assert "blur provably removes it" in finding.message


@pytest.mark.parametrize(("k", "code"), [(3, "EV101"), (4, "EV103")])
def test_balanced_weights_are_info(k: int, code: str) -> None:
    finding = only(report(lambda n: n.balanced(4, k)), code)
    assert finding.severity == "info"
    assert "nothing keeps it so in training" in finding.message
    assert "EV104" not in codes(report(lambda n: n.balanced(4, k)))
    assert only(report(lambda n: n.balanced(4, k), weights="ignored"), code).severity != "info"


def test_a_fixed_filter_keeps_its_balance_in_training() -> None:
    def build(fixed: bool, taps: list[float]) -> Callable[[Net], object]:
        fir = np.multiply.outer(taps, taps)[None, None] / 16
        return lambda n: n.deconv(4, len(taps), groups=4, values=np.repeat(fir, 4, 0), fixed=fixed)

    for weights in ("actual", "none"):
        assert not {"EV101", "EV103"} & codes(report(build(True, [1.0, 3, 3, 1]), weights=weights))
        assert "EV103" in codes(report(build(True, [1.0, 3, 3, 2]), weights=weights))
        finding = only(report(build(True, [1.0, 2, 1]), weights=weights), "EV101")
        assert finding.severity == "info"
        assert "training keeps it so" in finding.message
    assert only(report(build(False, [1.0, 3, 3, 1])), "EV103").severity == "info"


def test_ripple_tolerance() -> None:
    build = lambda n: n.deconv(4, 4, name="layer")  # noqa: E731
    ripple = report(build).layers[0].ripple
    assert ripple is not None
    assert "EV104" in codes(report(build, ripple_tolerance=ripple * 0.99))
    assert "EV104" not in codes(report(build, ripple_tolerance=ripple * 1.01))


def test_equal_phases_of_a_shuffle_are_info() -> None:
    finding = only(report(icnr), "EV105")
    assert finding.severity == "info"
    assert "nothing keeps it so in training" in finding.message


def shortcut(net: Net) -> None:
    """A residual block with stride: the 1x1 shortcut skips positions that the 3x3 branch reads."""
    main = net.conv(4, 3, 2, 1, source=0, name="main")
    net.join("add", main, net.conv(4, 1, 2, source=0, name="shortcut"))


def test_dead_positions_on_a_branch_are_info() -> None:
    finding = only(report(shortcut), "EV202")
    assert finding.severity == "info"
    assert finding.layer == "shortcut"
    assert "other branches read them" in finding.message
    alone = only(report(lambda n: n.conv(4, 1, 2)), "EV202")
    assert alone.severity == "error"
    assert "of the network's own input" in alone.message


def test_slices_that_together_read_everything_are_silent() -> None:
    def blocks(net: Net) -> None:
        starts = [(rows, columns) for rows in (0, 1) for columns in (0, 1)]
        parts = [net.add(ir.Slice(start, (2, 2)), 4, (4, 4), (0,)) for start in starts]
        net.concat(*parts)

    assert "EV202" not in codes(report(blocks))
    assert "EV202" in codes(report(lattice_of_slices))  # the diagonal alone is not everything


def test_gradient_rules_need_no_backward_pass() -> None:
    found = report(lambda n: n.conv(4, 3, 2), backward=False)
    assert found.inputs == ()
    assert "EV201" in codes(found)
