"""The corpus: real architectures, what is known of them by hand, what a simulation measures, what evenly says.

Every network is checked; a reduced run simulates the cases marked ``fast``. ``EVENLY_PROVE=1`` simulates all of them
with more draws and compares the two readers on all that ONNX can hold.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import evenly
from corpus import CASES, Case
from evenly.check.engine import analyse
from evenly.check.facts import Facts
from evenly.check.result import Report
from evenly.graph import ir
from evenly.load import load_module
from evenly.theory.prior import Moments
from simulate import simulate_backward, simulate_forward, simulate_gradient_period, widened

PROVE = bool(os.environ.get("EVENLY_PROVE"))
SEEDS = 16 if PROVE else 8
BUDGET = 3e8 if PROVE else 1e8  # multiply-adds of one forward pass that is simulated
SIMULATED = [name for name, case in CASES.items() if PROVE or case.fast]

pytestmark = [
    # torch.onnx, transformers and diffusers warn about their own insides
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:UserWarning:torch.*"),
]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors: threads cost more than they bring, far more when tests run side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@functools.cache
def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return CASES[name].build(CASES[name].width).eval()


@functools.cache
def report(name: str) -> Report:
    return evenly.check(network(name), *CASES[name].inputs())


@functools.cache
def facts(name: str) -> Facts:
    loaded = load_module(network(name), CASES[name].inputs(), weights="ignored")
    return Facts(loaded.graph, False, True, 0.05)


def per_axis(period: Any, axes: int) -> tuple[int, ...]:
    return (period,) * axes if isinstance(period, int) else tuple(period)


def options(case: Case, which: str) -> tuple[dict[str, Any], tuple[torch.Tensor, ...]]:
    """The simulation's arguments and inputs."""
    known = dict((case.simulate if which == "simulate" else case.simulate_backward) or {})
    inputs = known.pop("inputs", case.inputs)()
    if "start_size" in known:
        known["start_at"] = (case.start, known.pop("start_size"))
    return known, inputs


# ---------------------------------------------------------------- the corpus itself


def test_the_corpus_holds_what_it_promises() -> None:
    assert len(CASES) >= 44
    for case in CASES.values():
        assert len(case.source) > 20, f"{case.name} cites nothing"
        assert len(case.gradient_period) == len(case.inputs()), f"{case.name} says nothing of some inputs"
        assert case.simulate is not None or case.notes, f"{case.name} is not simulated and does not say why"
        assert all(len(reason) > 20 for reason in case.allowed_unknown.values())
    assert len(SIMULATED) >= len(CASES) // 8


@pytest.mark.parametrize("name", CASES)
def test_it_runs(name: str) -> None:
    case = CASES[name]
    with torch.no_grad():
        outputs = network(name)(*case.inputs())
    outputs = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    assert len(outputs) == len(case.period)
    assert all(torch.isfinite(y).all() for y in outputs)


# ---------------------------------------------------------------- evenly against what is known by hand


@pytest.mark.parametrize("name", CASES)
def test_the_report_says_what_is_known(name: str) -> None:
    case, found = CASES[name], report(name)
    unknown = [f.message for f in found.findings if f.code == "EV901"]
    unexplained = [m for m in unknown if not any(operator in m.lower() for operator in case.allowed_unknown)]
    assert not unexplained
    for output, period in zip(found.outputs, case.period, strict=True):
        if period is None:
            continue
        assert output.period == period, output
        if case.prior:
            assert output.unevenness is not None, output.not_computed
            assert 0 <= output.expected_ac_fraction < 1
            assert (output.expected_ac_fraction > 1e-6) == (period != 1)
        if output.certified:
            assert period == 1 or output.response_db is not None
    for value, period in zip(found.inputs, case.gradient_period, strict=True):
        if period is not None:
            assert value.gradient_period == period, value
    codes = {f.code for f in found.findings}
    assert case.rules <= codes, f"missing {sorted(case.rules - codes)}"
    loud = {f.code for f in found.findings if f.severity != "info"}
    assert not loud & case.forbidden
    assert ("EV101" in codes) <= any(layer.unevenness not in (None, 1.0) for layer in found.layers)


# ---------------------------------------------------------------- evenly against simulation


@pytest.mark.parametrize("name", [n for n in SIMULATED if CASES[n].simulate is not None])
def test_simulated_period(name: str) -> None:
    case = CASES[name]
    known, inputs = options(case, "simulate")
    known.pop("head", None)
    for output, period in enumerate(case.period):
        if period is not None:
            seen = simulate_forward(network(name), inputs, [0, 1], colours=2, output=output, **known)
            assert seen.period == per_axis(period, len(seen.period))


@pytest.mark.parametrize(
    "name", [n for n in SIMULATED if CASES[n].simulate_backward is not None and any(CASES[n].gradient_period)]
)
def test_simulated_gradient_period(name: str) -> None:
    case = CASES[name]
    known, inputs = options(case, "simulate_backward")
    for which, period in enumerate(case.gradient_period):
        if period is not None:
            bound = known.get("bound", period if known.get("borders") == "canvas" else None)
            seen = simulate_gradient_period(network(name), inputs, [0], which=which, **known | {"bound": bound})
            assert seen == per_axis(period, len(seen))


def head_of(name: str) -> str | None:
    """The last weight layer, if widening it widens the output: more samples of the output for one network."""
    layers: list[str] = []
    net = network(name)
    kinds = (nn.modules.conv._ConvNd, nn.Linear)
    hooks = [
        module.register_forward_hook(lambda *_, path=path: layers.append(path))
        for path, module in net.named_modules()
        if isinstance(module, kinds)
    ]
    with torch.no_grad():
        net(*CASES[name].inputs())
    for hook in hooks:
        hook.remove()
    try:
        with torch.no_grad():
            widened(net, layers[-1], 2)(*CASES[name].inputs())
    except (RuntimeError, IndexError, ValueError):  # something after it knows the number of channels
        return None
    return layers[-1]


def widening(case: Case, inputs: tuple[torch.Tensor, ...]) -> int:
    """How much wider than in the other tests the network can be: the closed form is that of infinite width."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(case.name)(*inputs)
    return max(f for f in (1, 2, 4) if f == 1 or counter.get_total_flops() * f**2 <= 2 * BUDGET)


def phases_agree(predicted: np.ndarray, seen: np.ndarray, error: np.ndarray) -> None:
    """Mean squares per phase, both relative to their mean, within what the draws' scatter allows."""
    cell = np.lcm(predicted.shape, seen.shape)
    predicted, seen, error = (
        np.tile(m, [c // s for c, s in zip(cell, m.shape, strict=True)]) for m in (predicted, seen, error)
    )
    predicted, error, seen = predicted / predicted.mean(), error / seen.mean(), seen / seen.mean()
    written = predicted > 1e-9
    assert np.all(seen[~written] <= 1e-9), "positions that are never reached are not empty"
    deviation = seen[written] / predicted[written] - 1
    allowed = error[written] / predicted[written]
    assert np.sqrt(np.mean(deviation**2)) < 2 * np.sqrt(np.mean(allowed**2)) + 0.02


@pytest.mark.parametrize("wrong", ["even", "shifted", "a layer less"])
def test_phases_that_do_not_agree_are_found(wrong: str) -> None:
    counts = np.outer([1.0, 2.0], [1.0, 2.0])
    seen = np.random.default_rng(0).normal(np.tile(counts, (2, 2)), 0.1)
    error = np.full_like(seen, 0.1)
    phases_agree(counts, seen, error)
    predicted = {"even": np.ones((2, 2)), "shifted": np.roll(counts, 1, 0), "a layer less": counts**0.5}[wrong]
    with pytest.raises(AssertionError):
        phases_agree(predicted, seen, error)


@pytest.mark.parametrize("name", [n for n in SIMULATED if CASES[n].simulate is not None and CASES[n].prior])
def test_simulated_variance_and_energy(name: str) -> None:
    """Wide enough for the closed form, which is that of infinitely wide layers, and for its error bars."""
    case, known_facts = CASES[name], facts(name)
    known, inputs = options(case, "simulate")
    head = known.pop("head", None) or head_of(name)
    factor = widening(case, inputs)
    wide = case.build(case.width * factor).eval()
    seeds = range(SEEDS if factor > 1 else SEEDS // 2)
    if inputs[0].numel() > 2**20:
        seeds = seeds[:4]  # the phases of a large canvas are many draws by themselves
    for output, period in enumerate(case.period):
        moments = known_facts.expectation.outputs[known_facts.graph.outputs[output]]
        if period in (None, 1):
            continue
        assert isinstance(moments, Moments), moments
        canvas = inputs[0].numel() / case.inputs()[0].numel()  # the simulation may need a larger one than the report
        samples = canvas * float(np.prod(known_facts.graph.output_shapes[output]))
        more = {"head": head, "head_factor": 16 if samples < 50_000 else 2}
        seen = simulate_forward(wide, inputs, seeds, output=output, **more, **known)
        phases_agree(moments.variance(), seen.moments, seen.moments_error)
        expected = report(name).outputs[output].expected_ac_fraction
        assert seen.ac_fraction == pytest.approx(expected, abs=4 * seen.ac_error + 0.2 / (1 + factor))


@pytest.mark.parametrize(
    "name", [n for n in SIMULATED if CASES[n].simulate_backward is not None and any(CASES[n].gradient_period)]
)
def test_simulated_gradient(name: str) -> None:
    case, known_facts = CASES[name], facts(name)
    known, inputs = options(case, "simulate_backward")
    known = {k: v for k, v in known.items() if k not in ("bound", "end")}
    for which, period in enumerate(case.gradient_period):
        predicted = known_facts.gradients[known_facts.graph.inputs[which]].variance
        if period is None or predicted is None:
            continue
        phases = per_axis(period, predicted.ndim)
        seen = simulate_backward(network(name), inputs, range(SEEDS), period=phases, which=which, **known)
        phases_agree(predicted, seen.moments, seen.moments_error)


def strength(predicted: np.ndarray, draws: list[np.ndarray]) -> tuple[float, float]:
    """How much of the predicted pattern the draws show, by regression over all phases, and its standard error."""
    cell = np.lcm(predicted.shape, draws[0].shape)
    predicted, *draws = (
        np.tile(m, [c // s for c, s in zip(cell, m.shape, strict=True)]) / m.mean() for m in (predicted, *draws)
    )
    pattern = predicted - 1
    slopes = [float((draw * pattern).sum() / (pattern**2).sum()) for draw in draws]
    return float(np.mean(slopes)), float(np.std(slopes, ddof=1) / len(slopes) ** 0.5)


def as_uneven_as_predicted(slope: float, error: float) -> None:
    """Networks of finite width may differ by a tenth; an even field (0) is always rejected."""
    assert error <= 1 / 8, "too few draws to tell"
    assert abs(slope - 1) < 0.1 + 3 * error


@pytest.mark.parametrize("wrong", ["even", "shifted", "half"])
def test_patterns_that_are_not_there_are_found(wrong: str) -> None:
    predicted = np.outer([1.0, 1.1], [1.0, 1.1])
    fields = {"even": np.ones((2, 2)), "shifted": np.roll(predicted, 1, 0), "half": predicted**0.5}
    noise = np.random.default_rng(0).normal(1, 0.02, (64, 2, 2))
    as_uneven_as_predicted(*strength(predicted, list(predicted * noise)))
    with pytest.raises(AssertionError):
        as_uneven_as_predicted(*strength(predicted, list(fields[wrong] * noise)))


@pytest.mark.parametrize(
    "name", [n for n in SIMULATED if CASES[n].simulate_backward is not None and any(CASES[n].gradient_period)]
)
def test_simulated_gradient_is_as_uneven_as_predicted(name: str) -> None:
    """All phases together: the scatter of single ones, hundreds at times, would hide a weak pattern."""
    case, known_facts = CASES[name], facts(name)
    known, inputs = options(case, "simulate_backward")
    known = {k: v for k, v in known.items() if k not in ("bound", "end")}
    for which, period in enumerate(case.gradient_period):
        predicted = known_facts.gradients[known_facts.graph.inputs[which]].variance
        if period is None or predicted is None or predicted.max() < 1.05 * predicted.min():
            continue
        phases = np.lcm(per_axis(period, predicted.ndim), predicted.shape).tolist()
        draws: list[np.ndarray] = []
        slope, error = 0.0, np.inf
        while error > 1 / 8 and len(draws) < 128:
            seeds = range(len(draws), max(8, 2 * len(draws)))
            draws += [
                simulate_backward(network(name), inputs, [seed], period=phases, which=which, **known).moments
                for seed in seeds
            ]
            slope, error = strength(predicted, draws)
        as_uneven_as_predicted(slope, error)


# ---------------------------------------------------------------- both readers


@pytest.mark.parametrize("name", [n for n in SIMULATED if CASES[n].onnx])
def test_both_readers_give_the_same_report(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.onnx"
    torch.onnx.export(network(name), CASES[name].inputs(), path, dynamo=True, verbose=False)
    ours, theirs = report(name).to_dict(), evenly.check(path).to_dict()
    if len(numbers(theirs)) < len(numbers(ours)):
        loaded = load_module(network(name), CASES[name].inputs(), weights="actual")
        ours = analyse(shared(loaded.graph), weights=loaded.weights).to_dict()
    for place in ("outputs", "inputs"):
        for a, b in zip(ours[place], theirs[place], strict=True):
            same(a | {"name": 0, "broken_by": 0, "not_computed": 0}, b | {"name": 0, "broken_by": 0, "not_computed": 0})
            assert len(a.get("broken_by", ())) == len(b.get("broken_by", ()))
    assert verdicts(ours) == verdicts(theirs)
    assert unknowns(ours) == unknowns(theirs)
    same(numbers(ours), numbers(theirs))
    assert names(ours) == names(theirs)


def shared(graph: ir.Graph) -> ir.Graph:
    """Equal operations on equal values once, as PyTorch's exporter computes them (it merges equal weights first)."""

    def content(value: Any) -> Any:
        if isinstance(value, ir.Weight):
            return value.shape, value.fixed, value.values().tobytes() if value.known else value.name
        return value

    seen: dict[Any, int] = {}
    number: list[int] = []
    nodes: list[ir.Node] = []
    for node in graph.nodes:
        inputs = tuple(number[i] for i in node.inputs)
        own = isinstance(node.op, ir.Input | ir.Output | ir.Source | ir.Unknown)
        attributes = [content(getattr(node.op, f.name)) for f in fields(node.op)]  # type: ignore[arg-type]
        key = (type(node.op), *attributes, inputs, own and len(nodes))
        number.append(seen.setdefault(key, len(nodes)))
        if number[-1] == len(nodes):
            nodes.append(replace(node, inputs=inputs))
    inputs, outputs = (tuple(number[i] for i in ends) for ends in (graph.inputs, graph.outputs))
    return replace(graph, nodes=tuple(nodes), inputs=inputs, outputs=outputs)


def test_equal_operations_on_equal_values_are_shared() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv1d(2, 2, 3), nn.Conv1d(2, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.mul(self.a(x), self.b(x))

    net = Twice()
    read = functools.partial(load_module, net, (torch.zeros(1, 2, 8),), weights="actual")
    assert len(shared(read().graph).nodes) == len(read().graph.nodes)  # other weights
    net.b.load_state_dict(net.a.state_dict())
    assert len(shared(read().graph).nodes) == len(read().graph.nodes) - 1


def unknowns(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Layers and operators that are not analysed, without the names of the libraries that define them."""
    said = [(f["layer"], f["message"].partition(" ")[0]) for f in found["findings"] if f["code"] == "EV901"]
    return sorted((layer, operator.rpartition(".")[2].lower()) for layer, operator in said)


def verdicts(found: dict[str, Any]) -> list[tuple[Any, ...]]:
    return sorted((f["code"], f["severity"], str(f["period"])) for f in found["findings"])


def numbers(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The layers without their names, less what exporters write in other ways.

    Paddings are added to the convolution that follows, as the exporter's optimiser does. Left out: adaptive pooling to
    the size that the field has already, an average over one position there; rolls, one axis at a time there; slices,
    which it shares.
    """
    left_out = ("name", "note", "removed_by")
    result, pending = [], None
    for layer in found["layers"]:
        if layer["op"] == "pad":
            pending = layer["padding"] if np.sum(pairs(layer["padding"])) else pending
            continue
        if nothing(layer):
            continue
        layer = {k: v for k, v in layer.items() if k not in left_out}
        if pending is not None and layer["padding"] is not None:
            layer["padding"] = (np.array(pairs(pending)) + pairs(layer["padding"])).tolist()
            pending = None
        elif layer["padding"] is not None:
            layer["padding"] = pairs(layer["padding"])
        result.append(layer)
    return result


def nothing(layer: dict[str, Any]) -> bool:
    pooled = layer["op"] == "average_pool" and set(layer["kernel"]) == set(layer["stride"]) == {1}
    return pooled or layer["op"] == "slice"


def pairs(padding: list[Any]) -> list[list[int]]:
    return [list(p) if isinstance(p, list) else [p, p] for p in padding]


def names(found: dict[str, Any]) -> list[str]:
    """Module paths of the layers that have weights or a resampling of their own; a suffix tells operators apart."""
    kinds = ("conv", "conv_transpose", "pixel_shuffle", "interpolate", "max_pool", "average_pool")
    kept = [layer["name"] for layer in found["layers"] if layer["op"] in kinds and not nothing(layer)]
    return [name.partition(":")[0].partition("#")[0] for name in kept]


def same(a: Any, b: Any) -> None:
    """Equal apart from the rounding of weights."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif isinstance(a, float) and isinstance(b, float):
        assert a == pytest.approx(b, rel=1e-3, abs=0.02)
    else:
        assert a == b
