"""The engine on hand-made graphs: responses by brute force, certificates, periods, births, notes, errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from graphs import Net, brute_decibels
from hypothesis import given, settings
from hypothesis import strategies as st

from evenly.check.engine import analyse
from evenly.check.response import PROBES
from evenly.check.result import OutputResult
from evenly.errors import WeightsError
from evenly.graph import ir


def output(net: Net, **more: object) -> OutputResult:
    return analyse(net.graph(), **more).outputs[0]  # type: ignore[arg-type]


# ---------------------------------------------------------------- the exact response


def skip_net(net: Net) -> None:
    """Two branches of different stride, joined: periods 2 and 3."""
    a = net.deconv(3, 4, 6, 0, bias=True)
    net.deconv(3, 5, 2, 1, source=0)
    net.join("add", a, net.resize(3))


def gated(net: Net) -> None:
    a = net.deconv(3, 3, 2, 1, bias=True)
    net.conv(3, 3)
    net.join("mul", a, net.same(ir.Pointwise("sigmoid")))


def chain(*calls: Callable[[Net], object]) -> Callable[[Net], object]:
    return lambda net: [call(net) for call in calls]


NETS: dict[str, tuple[Callable[[Net], object], tuple[int, ...], tuple[int, ...]]] = {
    # name: (layers, canvas, period of the output)
    "k3s2": (lambda n: n.deconv(3, 3, 2, 1, bias=True), (9, 9), (2, 2)),
    "two layers and ReLU": (
        chain(lambda n: n.deconv(6, 4, 2, 1, bias=True), lambda n: n.relu(), lambda n: n.deconv(3, 3, 2)),
        (12, 12),
        (4, 4),
    ),
    "deconv, bilinear, conv": (
        chain(
            lambda n: n.deconv(5, 4, 2, 1), lambda n: n.relu(), lambda n: n.resize(2, "linear"), lambda n: n.conv(3, 3)
        ),
        (12, 12),
        (4, 4),
    ),
    "sub-pixel": (
        chain(lambda n: n.conv(12, 3, bias=True), lambda n: n.shuffle(2), lambda n: n.conv(3, 3)),
        (9, 9),
        (2, 2),
    ),
    "down again": (
        chain(lambda n: n.deconv(5, 3, 3, bias=True), lambda n: n.relu(), lambda n: n.conv(3, 3, 2)),
        (16, 16),
        (3, 3),
    ),
    "pooling": (
        chain(lambda n: n.deconv(5, 5, 4, bias=True), lambda n: n.relu(), lambda n: n.pool("max", 3, 2)),
        (10, 10),
        (2, 2),
    ),
    "dilation and groups in 1-D": (
        chain(lambda n: n.deconv(4, 5, 3, 2, d=2, groups=2), lambda n: n.relu(), lambda n: n.deconv(2, 7, 2, groups=2)),
        (40,),
        (6,),
    ),
    "skip": (skip_net, (12,), (6,)),
    "gate": (gated, (12, 12), (2, 2)),
    "3-D": (chain(lambda n: n.deconv(2, 3, 2, 1, bias=True)), (5, 5, 5), (2, 2, 2)),
}


@pytest.mark.parametrize("name", NETS)
def test_response_like_a_large_canvas(name: str) -> None:
    build, canvas, period = NETS[name]
    net = Net(4, canvas)
    build(net)
    graph = net.graph()
    found = analyse(graph).outputs[0]
    assert found.response_db is not None
    assert found.probes == PROBES
    want = brute_decibels(graph, canvas, period)
    assert {int(p) for p, level in found.response_db.items() if level > -200} == {
        p for p, x in want.items() if x > -200
    }
    for p, level in want.items():
        if level > -200:
            assert found.response_db[str(p)] == pytest.approx(level, abs=1e-6)


@settings(max_examples=10)
@given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2), st.integers(0, 2**32 - 1))
def test_response_of_drawn_layers(k: int, s: int, p: int, d: int, seed: int) -> None:
    net = Net(3, (24,), seed=seed)
    net.deconv(4, k, s, p, d, bias=True)
    net.relu()
    net.conv(3, 3, bias=True)
    graph = net.graph()
    found = analyse(graph).outputs[0]
    assert found.response_db is not None
    if s > 1:
        for period, level in brute_decibels(graph, (24,), (s,)).items():
            assert found.response_db[str(period)] == pytest.approx(level, abs=1e-6)
    else:
        assert found.response_db == {}


# ---------------------------------------------------------------- certificates


def test_certified_true_false_none() -> None:
    good, bad, blind = Net(), Net(), Net()
    good.resize()
    good.conv(3, 3)
    assert output(good).certified is True
    assert output(good).broken_by == ()
    bad.deconv(3, 4, name="up")
    found = output(bad)
    assert found.certified is False
    assert found.broken_by == ("up",)
    blind.same(ir.Unknown("aten.fft_rfft2", "it has no entry"), name="fft")
    found = output(blind)
    assert found.certified is None
    assert found.period is None
    assert found.expected_ac_fraction is None
    assert found.response_db is None
    assert any("fft" in reason for reason in found.not_computed)


def test_balanced_weights_are_certified_although_their_structure_is_not() -> None:
    net = Net()
    net.balanced(3, 5, 2, name="first")
    net.relu()
    net.balanced(3, 3, 2)
    found = output(net)
    assert found.certified is True
    assert found.period == 4
    assert found.response_db is not None
    assert all(level < -200 for level in found.response_db.values())
    blind = output(net, weights="ignored")
    assert (blind.certified, blind.response_db, blind.probes) == (None, None, 0)


def test_sources_void_the_certificate() -> None:
    net = Net()
    noise = net.add(ir.Source("noise"), 4, (8, 8), (), "noise")
    net.join("add", 0, noise)
    report = analyse(net.graph())
    assert report.outputs[0].certified is False
    assert report.outputs[0].broken_by == ("noise",)
    assert report.outputs[0].period == 1
    assert any(note.startswith("noise vary") for note in report.notes)


def test_without_weights_nothing_is_claimed() -> None:
    net = Net(known=False)
    net.deconv(3, 3, name="up")
    report = analyse(net.graph(), weights="none")
    (found,) = report.outputs
    assert found.certified is None
    assert found.response_db is None
    assert found.probes == 0
    assert "certificate and response: no weights" in found.not_computed
    assert found.period == 2
    assert found.expected_ac_fraction == pytest.approx(0.75)
    assert found.unevenness == pytest.approx(4)
    assert report.layers[0].ripple is None
    assert report.model.weights == "none"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(value: float) -> None:
    net = Net()
    broken = np.ones((4, 3, 3, 3))
    broken[1, 2, 0, 0] = value
    net.deconv(3, 3, values=broken, name="up.0")
    with pytest.raises(WeightsError, match=r"layer 'up\.0' holds 1 values that are not finite.*--no-weights"):
        analyse(net.graph())
    assert analyse(net.graph(), weights="ignored").outputs[0].certified is None


# ---------------------------------------------------------------- periods, births, roles


def test_period_of_joined_branches_is_the_lcm() -> None:
    net = Net(4, (12,))
    a = net.deconv(4, 4, 2)
    three = net.resize(3)
    b = net.deconv(4, 3, 3, source=0)
    six = net.resize(2)
    net.join("add", three, six)
    found = analyse(net.graph())
    assert found.outputs[0].period == 6
    assert found.outputs[0].broken_by == (net.nodes[a].name, net.nodes[b].name)


def test_different_axes_have_their_own_periods() -> None:
    net = Net(4, (8, 8))
    weight = net.weight((4, 4, 4, 3))
    op = ir.ConvTranspose((4, 3), (2, 1), ((1, 1), (1, 1)), (1, 1), (0, 0), 1, 4, 4, weight)
    net.add(op, 4, (16, 8))
    assert output(net).period == (2, 1)


def test_gradient_of_inputs() -> None:
    net = Net(4, (32, 32))
    net.conv(4, 3, 2)
    found = analyse(net.graph()).inputs[0]
    assert (found.gradient_period, found.gradient_unevenness, found.dead_fraction) == (2, pytest.approx(4), 0)
    net = Net(4, (32, 32))
    net.conv(4, 1, 2)
    found = analyse(net.graph()).inputs[0]
    assert (found.gradient_unevenness, found.dead_fraction) == (float("inf"), 0.75)


def modulated(net: Net, field: int, style: int) -> int:
    """A 3x3 convolution of ``field`` whose weights are a parameter times a style without lattice."""
    taps = net.add(ir.Source("position"), 4, (4, 3, 3), (), "kernel")
    spread = net.add(ir.Broadcast((0, 1, 2)), 4, (4, 3, 3), (style,))
    weights = net.join("mul", taps, spread)
    unknown = ir.Weight("computed", (4, 4, 3, 3))
    op = ir.Conv((3, 3), (1, 1), ((1, 1),) * 2, (1, 1), 1, 4, 4, "replicate", unknown)
    return net.add(op, 4, net.nodes[field].sizes, (field, weights), "modulated")


def test_the_gradient_through_computed_weights_is_not_computed() -> None:
    net = Net(4, ())
    modulated(net, net.add(ir.Source("constant"), 4, (8, 8), (), "start"), 0)
    found = analyse(net.graph()).inputs[0]
    assert found.gradient_period == 1, "a value without lattice has no period"
    assert found.gradient_unevenness is None
    assert found.dead_fraction is None
    assert found.not_computed == (
        "the size of the gradient, which has no positions to be uneven over (modulated: no law for the gradient "
        "through weights that are computed from the input)",
    )


@pytest.mark.parametrize("direct", [False, True])
def test_what_is_not_computed_taints_all_that_comes_before(direct: bool) -> None:
    """A style from a picture, with or without a second way that is understood."""
    net = Net(4, (16, 16))
    net.conv(4, 3, 2)
    style = net.add(ir.Reduce((0, 1), "mean"), 4, ())
    other = net.input(4, (16, 16))
    field = net.join("add", 0, other) if direct else other
    modulated(net, field, style)
    first, second = analyse(net.graph()).inputs
    assert first.gradient_period == 2, "the mean's gradient is even, the strided convolution before it is not"
    assert first.gradient_unevenness is None
    assert first.dead_fraction is None
    assert any("weights that are computed from the input" in reason for reason in first.not_computed)
    assert (second.gradient_period, second.gradient_unevenness, second.not_computed) == (1, 1, ())


def test_nothing_flows_back_from_nowhere() -> None:
    net = Net(4, (8, 8))
    net.input(4, (8, 8))
    net.conv(4, 3)
    unused = analyse(net.graph()).inputs[0]
    assert (unused.gradient_period, unused.gradient_unevenness) == (1, None)
    assert unused.not_computed == ("no output depends on it through anything differentiable",)


def test_scores_of_attention_count_only_where_nothing_else_flows() -> None:
    net = Net(4, (8, 8))
    value = net.input(4, (8, 8))
    net.add(ir.Attention(1, 0.5), 4, (8, 8), (0, 0, value), "attention")
    query, kept = analyse(net.graph()).inputs
    assert (query.gradient_period, query.gradient_unevenness) == (1, None)
    assert query.not_computed == ("attention: no law for the gradient through the scores of attention",)
    assert (kept.gradient_period, kept.gradient_unevenness, kept.not_computed) == (1, 1, ())
    net = Net(4, (8, 8))
    net.add(ir.Attention(1, 0.5), 4, (8, 8), (0, 0, 0), "attention")
    (found,) = analyse(net.graph()).inputs
    assert (found.gradient_period, found.gradient_unevenness, found.not_computed) == (1, 1, ())


def test_queries_and_values_after_which_the_gradient_is_uneven() -> None:
    """A query's gradient is that of its position, a value's is collected from all positions."""
    net = Net(4, (8, 8))
    value = net.input(4, (8, 8))
    net.add(ir.Attention(1, 0.5), 4, (8, 8), (0, value, value), "attention")
    net.conv(4, 3, 2)
    query, kept = analyse(net.graph()).inputs
    assert (query.gradient_period, query.gradient_unevenness) == (2, None)
    assert (kept.gradient_period, kept.gradient_unevenness) == (1, 1)


def test_integers_have_no_gradient() -> None:
    net = Net(4, ())
    modulated(net, net.add(ir.Source("constant"), 4, (8, 8), (), "start"), 0)
    found = analyse(replace(net.graph(), dtypes=("int64",))).inputs[0]
    assert found.not_computed == ("no output depends on it through anything differentiable",)


def test_positions_that_are_read_carry_a_gradient_unless_they_are_rounded() -> None:
    for mode, reason in (("bilinear", "positions that it reads"), ("nearest", "no output depends on it")):
        net = Net(4, (8, 8))
        grid = net.input(2, (8, 8))
        net.add(ir.Warp(mode), 4, (8, 8), (0, grid), "warp")
        assert reason in analyse(net.graph()).inputs[1].not_computed[0]


def test_taps_of_a_kernel_are_no_source() -> None:
    """What only becomes weights varies over taps, not over the lattice; the same values added to a field do vary."""
    net = Net(4, ())
    made = modulated(net, net.add(ir.Source("constant"), 4, (8, 8), (), "start"), 0)
    report = analyse(net.graph())
    assert [layer.name for layer in report.layers] == ["start", "modulated"]
    assert not any("vary over the lattice" in note for note in report.notes)
    net = Net(4, ())
    made = modulated(net, net.add(ir.Source("constant"), 4, (8, 8), (), "start"), 0)
    embedding = net.add(ir.Source("position"), 4, (8, 8), (), "embedding")
    net.join("add", made, embedding)
    report = analyse(net.graph())
    assert [layer.name for layer in report.layers] == ["start", "modulated", "embedding"]
    assert any(note.startswith("embedding vary over the lattice") for note in report.notes)


def test_a_latent_begins_its_lattice_at_the_first_layer() -> None:
    net = Net(16, (1, 1))
    first = net.deconv(8, 4, 4, name="first")
    net.deconv(3, 4, name="second")
    report = analyse(net.graph())
    assert report.outputs[0].period == 2, "the first layer writes positions with weights of their own"
    assert report.outputs[0].broken_by == ("second",)
    assert net.nodes[first].sizes == (4, 4)
    assert any("begins at first" in note for note in report.notes)
    layer = report.layers[0]
    assert (layer.unevenness, layer.period) == (None, 1)
    assert layer.note is not None
    assert "the lattice begins here" in layer.note


def test_a_reshape_begins_a_lattice() -> None:
    net = Net(16, ())
    net.add(ir.Linear(16, 128, net.weight((128, 16)), net.weight((128,))), 128, ())
    net.add(ir.Birth(), 8, (4, 4), name="reshape")
    net.resize()
    net.conv(3, 3)
    report = analyse(net.graph())
    assert report.outputs[0].period == 1
    assert report.outputs[0].certified is True
    assert any("begins at reshape" in note for note in report.notes)


def test_normalisation_notes() -> None:
    net = Net()
    net.deconv(4, 4)
    net.same(ir.Normalize("instance"), name="norm")
    net.conv(3, 3)
    report = analyse(net.graph())
    assert any("Instance normalisation removes a constant input exactly" in note for note in report.notes)
    assert next(x for x in report.layers if x.name == "norm").op == "instance_norm"
    net = Net()
    net.same(ir.Normalize("group", 2))
    assert any("Group normalisation" in note for note in analyse(net.graph()).notes)
    net = Net()
    net.conv(3, 3)
    assert analyse(net.graph()).notes == ()


def test_roles() -> None:
    net = Net(4, (8, 8))
    net.conv(4, 3, name="stem")
    net.resize()
    net.deconv(4, 4, name="up")
    net.resize()
    net.conv(4, 3, name="mix")
    net.conv(4, 4, p=0, values=1.0, name="box")
    roles = {layer.name: layer.role for layer in analyse(net.graph()).layers}
    resizes = [role for name, role in roles.items() if name.startswith("resize")]
    assert resizes == ["immune", "scales"]
    assert roles["stem"] == "passes"
    assert roles["up"] == "creates"
    assert roles["mix"] == "attenuates"
    assert roles["box"] == "removes"


def test_image_rejection_only_in_one_dimension() -> None:
    net = Net(4, (32,))
    net.deconv(2, 8, 4)
    rejection = analyse(net.graph()).layers[0].image_rejection_db
    assert rejection is not None
    assert len(rejection["frequency"]) == len(rejection["rejection_db"]) == 33
    assert analyse(net.graph(), weights="ignored").layers[0].image_rejection_db is None
    net = Net()
    net.deconv(2, 4)
    assert analyse(net.graph()).layers[0].image_rejection_db is None


def test_several_outputs() -> None:
    net = Net()
    net.conv(4, 3)
    clean = net.output()
    net.deconv(3, 4, source=clean - 1, name="up")
    net.output()
    first, second = analyse(net.graph()).outputs
    assert (first.certified, second.certified) == (True, False)
    assert (first.period, second.period) == (1, 2)


def test_reports_are_json() -> None:
    net = Net()
    net.deconv(3, 2, 3)
    net.conv(3, 1, 2)
    data = analyse(net.graph()).to_json()
    assert '"inf"' in data
    assert "Infinity" not in data
