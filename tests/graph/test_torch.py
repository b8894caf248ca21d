"""The PyTorch reader: operators against the module itself, names, folded weights, and a module left as it was."""

from __future__ import annotations

import importlib
import sys
import time
import warnings
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from tests.graph import torch_cases as cases
from tests.graph.onnx_interpret import interpret
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from evenly.check.response import _RULES, _Work
from evenly.errors import ExportError, FormatError, MissingDependencyError, WeightsError
from evenly.graph import ir
from evenly.graph._aten import TABLE
from evenly.graph._aten_views import UNREADABLE
from evenly.graph._folding import FOLD_LIMIT
from evenly.graph.torch import read_module, read_program

# The interpreter hands weights to PyTorch, which remarks that it must not write to them; it does not.
pytestmark = pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")


def prepared(module: nn.Module, seed: int = 0) -> nn.Module:
    """In float64 and eval mode, with parameters and statistics that no default hides."""
    torch.manual_seed(seed)
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._NormBase) and part.running_mean is not None:
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2.0)
    return module


def unknowns(graph: ir.Graph) -> list[tuple[str, str, str]]:
    return [(n.name, n.op.operator, n.op.reason) for n in graph.nodes if isinstance(n.op, ir.Unknown)]


def kinds(graph: ir.Graph) -> list[str]:
    return [type(n.op).__name__ for n in graph.nodes if not isinstance(n.op, ir.Input | ir.Output)]


def names(graph: ir.Graph) -> list[str]:
    return [n.name for n in graph.nodes if not isinstance(n.op, ir.Input | ir.Output)]


def named(graph: ir.Graph, name: str) -> Any:
    return next(n.op for n in graph.nodes if n.name == name)


# ------------------------------------------------------------------------------------------------- against the module


@pytest.mark.parametrize("name", cases.CASES)
def test_graphs_compute_what_modules_compute(name):
    case = cases.CASES[name]
    net = prepared(cases.Net(case))
    x = torch.randn(case.shape, dtype=torch.float64)
    graph = read_module(net, (x,))
    assert not unknowns(graph)
    if case.ops is not None:
        assert kinds(graph) == list(case.ops)
    with torch.no_grad():
        expected = net(x.clone())[0].numpy()
    assert graph.output_shapes == ((1, *expected.shape),)
    (found,) = interpret(graph, {"x": x[0].numpy()})
    found = found.reshape(expected.shape)  # a lattice averaged away keeps dimensions of size 1
    if case.margin:
        inside = (slice(None), *(slice(case.margin, -case.margin),) * (expected.ndim - 1))
        found, expected = found[inside], expected[inside]
    assert expected.size
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(("module", "function", "parameters"), cases.ACTIVATIONS, ids=lambda v: str(v))
def test_pointwise_functions_have_their_names(module, function, parameters):
    net = prepared(nn.Sequential(nn.Conv2d(6, 4, 3), module))
    slopes = [p.detach().numpy() for p in module.parameters()]
    x = torch.randn(1, 6, 5, 5, dtype=torch.float64)
    graph = read_module(net, (x,))
    assert kinds(graph) == ["Conv", "Pointwise"]
    assert names(graph) == ["0", "1"]
    op = named(graph, "1")
    assert op.function == function
    np.testing.assert_allclose(op.parameters, parameters)
    if slopes:
        np.testing.assert_array_equal(op.weight.values(), slopes[0])
    with torch.no_grad():
        expected = net(x)[0].numpy()
    if not (slopes and slopes[0].size == 1):  # one slope for all channels: the interpreter wants one each
        np.testing.assert_allclose(interpret(graph, {"input": x[0].numpy()})[0], expected, rtol=1e-7, atol=1e-9)


# ------------------------------------------------------------------------------------ constants, away from the borders


def periodic(graph: ir.Graph, colour: np.ndarray) -> np.ndarray:
    """The output for a constant input, on the period cell: ``(channels, *cell)``."""
    values: list[Any] = []
    for node in graph.nodes:
        if isinstance(node.op, ir.Input):
            values.append(colour.reshape(1, -1, *(1,) * len(node.sizes)))
        else:
            values.append(_RULES[type(node.op)](node, [values[i] for i in node.inputs], _Work()))
    return np.asarray(values[graph.outputs[0]][0])


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.leaky_relu(self.norm(self.conv(x)), 0.2)


class Skipping(nn.Module):
    """Down by strides, up by an uneven and an even overlap, skips added and concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 6, 3, 2, 1)
        self.up = nn.ConvTranspose2d(6, 4, 3, 2, 1, 1)
        self.out = nn.Conv2d(7, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.cat([x, F.silu(self.up(torch.tanh(self.down(x))))], 1))


NETWORKS = {
    "uneven overlap": lambda: nn.Sequential(nn.ConvTranspose2d(3, 5, 3, 2, 1, 1), nn.ReLU(), Residual(5)),
    "two layers": lambda: nn.Sequential(
        nn.ConvTranspose2d(3, 5, 4, 2, 1), nn.GELU(), nn.ConvTranspose2d(5, 2, 5, 3, groups=1), nn.Tanh()
    ),
    "pixel shuffle": lambda: nn.Sequential(nn.Conv2d(3, 16, 3), nn.PixelShuffle(2), nn.SiLU(), nn.Conv2d(4, 2, 3)),
    "dilated": lambda: nn.Sequential(nn.ConvTranspose2d(3, 5, 3, 2, 1, dilation=2), nn.Conv2d(5, 3, 3, dilation=2)),
    "resize": lambda: nn.Sequential(
        nn.ConvTranspose2d(3, 4, 2, 2), nn.Upsample(scale_factor=1.5, mode="bilinear"), nn.Conv2d(4, 3, 3)
    ),
    "pooled": lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 4, 3), nn.MaxPool2d(2), nn.AvgPool2d(3, 2, 1)),
    "unshuffled": lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3, 3), nn.PixelUnshuffle(2), nn.Conv2d(16, 2, 1)),
    "skips": Skipping,
    "weight norm": lambda: nn.Sequential(
        parametrizations.weight_norm(nn.ConvTranspose2d(3, 5, 4, 2, 1)),
        parametrizations.spectral_norm(nn.Conv2d(5, 2, 3)),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_period_cell_is_what_a_large_canvas_shows(name):
    net = prepared(NETWORKS[name](), seed=3)
    colour = np.random.default_rng(1).standard_normal(3)
    canvas = torch.from_numpy(colour).reshape(1, 3, 1, 1).expand(1, 3, 48, 48)
    graph = read_module(net, (canvas,))
    cell = periodic(graph, colour)
    with torch.no_grad():
        whole = net(canvas)[0].numpy()
    assert cell.shape[0] == whole.shape[0]
    lo, hi = whole.shape[1] // 3, 2 * whole.shape[1] // 3
    places = [np.arange(lo, hi) % n for n in cell.shape[1:]]
    np.testing.assert_allclose(cell[:, places[0]][:, :, places[1]], whole[:, lo:hi, lo:hi], rtol=1e-5, atol=1e-9)


# -------------------------------------------------------------------------------------------------------------- names


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x + self.act(self.conv(x)), scale_factor=2)


class Shuffle(nn.Module):
    """A leaf of the user's own, with one operation."""

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(x, 2)


class Filtered(nn.Module):
    """A leaf of the user's own, with a filter and two operations."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.ones(1, 1, 3, 3) / 9)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.kernel)


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.Conv2d(3, 4, 3), Block(), Shuffle(), Filtered())

    def forward(self, picture: Tensor) -> Tensor:
        return torch.sigmoid(self.main(picture)) * 2


def test_names_are_module_paths():
    graph = read_module(Whole(), (torch.zeros(1, 3, 8, 8),))
    assert graph.source == "Whole"
    assert [graph.nodes[i].name for i in graph.inputs] == ["picture"]
    assert [graph.nodes[i].name for i in graph.outputs] == ["output"]
    assert names(graph) == [
        "main.0", "main.1.conv", "main.1.act", "main.1:add", "main.1:interpolate", "main.2", "main.3:pad", "main.3",
        "sigmoid", "mul",
    ]  # fmt: skip


def test_a_layer_used_again_gets_a_number():
    conv = nn.Conv2d(3, 3, 3)
    graph = read_module(nn.Sequential(OrderedDict(a=conv, b=nn.ReLU(), c=conv)), (torch.zeros(1, 3, 8, 8),))
    assert names(graph) == ["a", "b", "c"]
    weights = [n.op.weight.name for n in graph.nodes if isinstance(n.op, ir.Conv)]
    assert weights == ["a.weight", "a.weight"]


class Pair(NamedTuple):
    mean: Tensor
    spread: Tensor


class Returning(nn.Module):
    def __init__(self, form: Any) -> None:
        super().__init__()
        self.form = form

    def forward(self, x: Tensor, scale: Tensor, *, shift: Tensor | None = None) -> Any:
        y = x * scale
        return self.form(y if shift is None else y + shift)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (lambda y: y, ["output"]),
        (lambda y: (y, y * 2), ["output_0", "output_1"]),
        (lambda y: [y], ["output_0"]),
        (lambda y: {"coarse": y, "fine": (y * 2, None, 3, y * 3)}, ["coarse", "fine_0", "fine_3"]),
        (lambda y: Pair(y, y * 2), ["mean", "spread"]),
    ],
)
def test_outputs_are_named_as_they_are_returned(form, expected):
    x = torch.zeros(1, 3, 4, 4)
    graph = read_module(Returning(form), (x, torch.zeros(1)), {"shift": x})
    assert [graph.nodes[i].name for i in graph.outputs] == expected
    assert [graph.nodes[i].name for i in graph.inputs] == ["x", "scale", "shift"]
    assert graph.input_shapes == ((1, 3, 4, 4), (1,), (1, 3, 4, 4))
    assert graph.output_shapes == ((1, 3, 4, 4),) * len(expected)


def test_types_of_inputs():
    class Ids(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(10, 4)

        def forward(self, ids: Tensor, flag: bool, x: Tensor) -> Tensor:
            return self.table(ids).transpose(1, 2) + (x if flag else 0)

    graph = read_module(Ids(), (torch.zeros(1, 5, dtype=torch.int64), True, torch.zeros(1, 4, 5, dtype=torch.bfloat16)))
    assert graph.dtypes == ("int64", "bfloat16")
    assert [graph.nodes[i].name for i in graph.inputs] == ["ids", "x"]


# ------------------------------------------------------------------------------------------------------------ weights


class Equalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.bias = nn.Parameter(torch.randn(4))
        self.scale = (2 / 27) ** 0.5

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias * 0.1)


class Doubled(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return w * 2


def old_weight_norm(module: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nn.utils.weight_norm(module)


def doubled(module: nn.Module) -> nn.Module:
    parametrize.register_parametrization(module, "weight", Doubled())
    return module


FOLDED = {
    "plain": lambda: nn.Conv2d(3, 4, 3),
    "weight norm": lambda: parametrizations.weight_norm(nn.Conv2d(3, 4, 3)),
    "old weight norm": lambda: old_weight_norm(nn.Conv2d(3, 4, 3)),
    "spectral norm": lambda: parametrizations.spectral_norm(nn.Conv2d(3, 4, 3)),
    "old spectral norm": lambda: torch.nn.utils.spectral_norm(nn.Conv2d(3, 4, 3)),
    "parametrized": lambda: doubled(nn.Conv2d(3, 4, 3)),
    "equalised": Equalised,
}


@pytest.mark.parametrize("name", FOLDED)
def test_weights_are_evaluated_as_weights(name):
    layer = FOLDED[name]()
    net = nn.Sequential(OrderedDict(first=layer)).eval()
    graph = read_module(net, (torch.zeros(1, 3, 8, 8),))
    assert kinds(graph) == ["Conv"]
    assert names(graph) == ["first"]
    op = named(graph, "first")
    assert (op.weight.name, op.bias.name) == ("first.weight", "first.bias")
    assert not op.weight.fixed
    basis = torch.eye(27).reshape(27, 3, 3, 3)
    with torch.no_grad():
        answer = net(basis) - net(torch.zeros(1, 3, 3, 3))  # (27, 4, 1, 1)
        shift = net(torch.zeros(1, 3, 3, 3)).reshape(4)
    np.testing.assert_allclose(op.weight.values().reshape(4, 27), answer.reshape(27, 4).T.numpy(), atol=1e-5)
    np.testing.assert_allclose(op.bias.values(), shift.numpy(), atol=1e-6)


def test_a_folded_weight_is_computed_once_and_stored_ones_are_not_copied():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), parametrizations.weight_norm(nn.Conv2d(4, 4, 3)))
    graph = read_module(net, (torch.zeros(1, 3, 8, 8),))
    stored, made = (named(graph, name).weight for name in ("0", "1"))
    assert made.load() is made.load()
    assert np.shares_memory(stored.load(), net[0].weight.detach().numpy())
    with pytest.raises(ValueError, match="read-only"):
        stored.load()[0] = 1


def test_buffers_and_literals_are_fixed():
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("taps", torch.tensor([1.0, 2.0, 1.0]))
            self.gain = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            kernel = (self.taps[:, None] * self.taps[None]) / self.taps.sum() ** 2
            y = F.conv2d(x, kernel.expand(3, 1, 3, 3), groups=3)
            y = F.conv2d(y, torch.full((3, 1, 2, 2), 0.25), groups=3)
            return F.conv2d(y, kernel.expand(3, 1, 3, 3) * self.gain, groups=3)

    x = torch.zeros(1, 3, 12, 12)
    for use_weights in (True, False):
        convs = [n.op for n in read_module(Fixed(), (x,), use_weights=use_weights).nodes if isinstance(n.op, ir.Conv)]
        assert [c.weight.fixed for c in convs] == [True, True, False]
        assert [c.weight.known for c in convs] == [True, True, use_weights]
    taps = np.outer([1, 2, 1], [1, 2, 1]) / 16
    np.testing.assert_allclose(convs[0].weight.values(), np.broadcast_to(taps, (3, 1, 3, 3)))


def test_running_statistics_are_no_part_of_the_architecture():
    net = nn.Sequential(nn.BatchNorm2d(3, affine=False))
    assert named(read_module(net, (torch.zeros(1, 3, 4, 4),)), "0").scale.known
    assert not named(read_module(net, (torch.zeros(1, 3, 4, 4),), use_weights=False), "0").scale.known


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_float32(dtype):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), parametrizations.weight_norm(nn.Conv2d(4, 4, 3))).to(dtype)
    graph = read_module(net, (torch.zeros(1, 3, 8, 8, dtype=dtype),))
    assert graph.dtypes == (str(dtype).removeprefix("torch."),)
    for name, part in (("0", net[0]), ("1", net[1])):
        raw = named(graph, name).weight.load()
        assert raw.dtype == np.float32
        np.testing.assert_allclose(raw, part.weight.detach().float().numpy(), rtol=0.02, atol=0.02)


def test_parameters_without_values():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), parametrizations.weight_norm(nn.Conv2d(4, 4, 3))).to("meta")
    graph = read_module(net, (torch.zeros(1, 3, 8, 8, device="meta"),))
    assert kinds(graph) == ["Conv", "Conv"]
    assert not any(n.op.weight.known for n in graph.nodes if isinstance(n.op, ir.Conv))


def test_what_is_computed_from_literals_is_bounded():
    class Large(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.ones(3, FOLD_LIMIT // 4, 1)

    side = FOLD_LIMIT // 4
    graph = read_module(Large(), (torch.zeros(1, 3, 1, 1).expand(1, 3, side, 1),))
    sources = [n.op.value for n in graph.nodes if isinstance(n.op, ir.Source) and n.op.value is not None]
    sources += [n.op.shift for n in graph.nodes if isinstance(n.op, ir.Affine) and isinstance(n.op.shift, ir.Weight)]
    assert sources
    assert not any(s.known for s in sources)


def test_parameters_that_cannot_be_combined_say_so():
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(4, 3, 3, 3))

        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, torch.linalg.cholesky(self.weight.reshape(-1)[:9].reshape(3, 3))[None, :, None, :])

    graph = read_module(Broken(), (torch.zeros(1, 3, 8, 8),))
    with pytest.raises(WeightsError, match="cholesky"):
        next(n.op for n in graph.nodes if isinstance(n.op, ir.Conv)).weight.values()


def test_a_generator_that_starts_from_a_constant_keeps_its_layers():
    class FromConstant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start = nn.Parameter(torch.randn(1, 6, 4, 4))
            self.conv = nn.Conv2d(6, 5, 3, padding=1)
            self.up = nn.ConvTranspose2d(5, 4, 4, 2, 1)
            self.style = nn.Linear(8, 4)

        def forward(self, z: Tensor) -> Tensor:
            x = self.conv(F.interpolate(self.start, scale_factor=2))
            return self.up(torch.relu(x)) * self.style(z)[:, :, None, None]

    graph = read_module(FromConstant(), (torch.zeros(1, 8),))
    assert not unknowns(graph)
    assert names(graph) == ["start", "interpolate", "conv", "relu", "up", "style", "mul"]
    assert kinds(graph) == ["Source", "Resize", "Conv", "Pointwise", "ConvTranspose", "Linear", "Join"]


def test_a_position_embedding_that_is_interpolated_is_one_constant():
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place = nn.Parameter(torch.randn(1, 3, 4, 4))

        def forward(self, x: Tensor) -> Tensor:
            return x + F.interpolate(self.place, size=x.shape[2:], mode="bicubic")

    net = Embedded()
    graph = read_module(net, (torch.zeros(1, 3, 8, 8),))
    assert kinds(graph) == ["Source", "Join"]
    (source,) = (n.op for n in graph.nodes if isinstance(n.op, ir.Source))
    assert (source.kind, source.value.name) == ("position", "place")
    expected = F.interpolate(net.place.detach(), size=8, mode="bicubic")[0].numpy()
    np.testing.assert_allclose(source.value.values().reshape(3, 8, 8), expected, rtol=1e-6)


def test_a_weight_that_depends_on_an_input_is_not_known():
    class Modulated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
            self.style = nn.Linear(8, 3)

        def forward(self, x: Tensor, z: Tensor) -> Tensor:
            return F.conv2d(x, self.weight * self.style(z)[0][None, :, None, None])

    graph = read_module(Modulated(), (torch.zeros(1, 3, 8, 8), torch.zeros(1, 8)))
    (op,) = (n.op for n in graph.nodes if isinstance(n.op, ir.Conv))
    assert op.kernel == (3, 3)
    assert not op.weight.known


# -------------------------------------------------------------------------------------------------- the module itself


class Remembering(nn.Module):
    """Writes to itself when it runs, and has a ``train`` of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = old_weight_norm(nn.Conv2d(3, 3, 3))
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout()
        self.calls = 0
        self.last: Tensor | None = None

    def train(self, mode: bool = True) -> Remembering:
        raise AssertionError("modes are set without it")

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = self.drop(self.norm(self.conv(x)))
        return self.last


def fingerprint(module: nn.Module) -> Any:
    return (
        [(name, part.training, sorted(part.__dict__)) for name, part in module.named_modules()],
        [(name, id(t), t.clone(), t.requires_grad) for name, t in module.state_dict(keep_vars=True).items()],
    )


def assert_same(a: Any, b: Any) -> None:
    assert a[0] == b[0]
    for (name, place, value, grad), (name_b, place_b, value_b, grad_b) in zip(a[1], b[1], strict=True):
        assert (name, place, grad) == (name_b, place_b, grad_b)
        assert torch.equal(value, value_b)


@pytest.mark.parametrize("training", [False, True])
def test_the_module_is_left_as_it_was(training):
    net = Remembering()
    net.norm.training = False
    x = torch.randn(1, 3, 8, 8)
    before, kept = fingerprint(net), x.clone()
    fast = torch.backends.mha.get_fastpath_enabled()
    graph = read_module(net, (x,), training=training)
    assert_same(before, fingerprint(net))
    assert (net.calls, net.last) == (0, None)
    assert torch.equal(x, kept)
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert graph.training is training
    assert [type(n.op) for n in graph.nodes][2] is (ir.Normalize if training else ir.Affine)


def test_the_module_is_left_as_it_was_when_the_export_fails():
    class Deciding(Remembering):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            return y * 2 if y.sum() > 0 else y

    net = Deciding()
    before = fingerprint(net)
    with pytest.raises(ExportError):
        read_module(net, (torch.randn(1, 3, 8, 8),))
    assert_same(before, fingerprint(net))
    assert (net.calls, net.last) == (0, None)


def test_reading_needs_no_memory_of_a_forward_pass():
    """Activations of this network would take 2 TiB."""
    net = nn.Sequential(nn.Conv2d(3, 8192, 1), nn.ReLU(), nn.Upsample(scale_factor=8), nn.Conv2d(8192, 3, 1))
    graph = read_module(net, (torch.zeros(1, 3, 1, 1).expand(1, 3, 1024, 1024),))
    assert graph.output_shapes == ((1, 3, 8192, 8192),)


# ------------------------------------------------------------------------------------------------------ not analysed


class Calling(nn.Module):
    def __init__(self, act: Any) -> None:
        super().__init__()
        self.act = act

    def forward(self, x: Tensor) -> Any:
        return self.act(x)


@pytest.mark.parametrize(
    ("act", "operator", "reason"),
    [
        (lambda x: torch.fft.rfft2(x).abs(), "aten.fft_rfft2", "frequency domain"),
        (lambda x: x.cumsum(2), "aten.cumsum", "sums along an axis"),
        (lambda x: x.sort(-1)[0], "aten.sort", "sorts positions"),
        (lambda x: torch.where(x > 0, x, x.exp()), "aten.gt", "test of values"),
        (lambda x: x * (x > 0.5), "aten.gt", "test of values"),
        (
            lambda x: x.gather(1, torch.zeros(1, 2, 8, 8, dtype=torch.int64)),
            "aten.gather",
            "reads positions one by one",
        ),
        (lambda x: x.to(torch.bool).float(), "aten.to", "test of values"),
        (lambda x: torch.special.bessel_j0(x), "aten.special_bessel_j0", "no entry"),
        (lambda x: x.unfold(2, 3, 1).mean(-1), "aten.unfold", "overlapping windows"),
    ],
)
def test_what_has_no_entry_is_named(act, operator, reason):
    graph = read_module(Calling(act), (torch.zeros(1, 3, 8, 8),))
    found = unknowns(graph)
    assert found
    assert (found[0][1], reason in found[0][2]) == (operator, True)


@pytest.mark.parametrize("batch_first", [False, True])
def test_recurrent_layers_keep_positions_apart(batch_first):
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(4, 5, 2, batch_first=batch_first)
            self.out = nn.Conv1d(5, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            order = (0, 2, 1) if batch_first else (2, 0, 1)
            back = (0, 2, 1) if batch_first else (1, 2, 0)
            return self.out(self.rnn(x.permute(order))[0].permute(back))

    graph = read_module(Recurrent(), (torch.zeros(1, 4, 16),))
    assert [(n, o) for n, o, _ in unknowns(graph)] == [("rnn", "aten.lstm")]
    assert [(n.channels, n.sizes) for n in graph.nodes] == [(4, (16,)), (5, (16,)), (2, (14,)), (2, (14,))]


def test_an_operator_of_others_is_named_in_full():
    @torch.library.custom_op("evenlytest::strange", mutates_args=())
    def strange(x: Tensor) -> Tensor:
        return x.clone()

    @strange.register_fake
    def _(x: Tensor) -> Tensor:
        return torch.empty_like(x)

    found = unknowns(read_module(Calling(strange), (torch.zeros(1, 3, 8, 8),)))
    assert [(o, r) for _, o, r in found] == [("evenlytest.strange", "the operator has no entry")]


def test_random_numbers_are_noise():
    graph = read_module(Calling(lambda x: x + torch.randn_like(x[:, :1]) * 0.1), (torch.zeros(1, 3, 8, 8),))
    assert [n.op.kind for n in graph.nodes if isinstance(n.op, ir.Source)] == ["noise"]
    assert not unknowns(graph)


def test_unpooling_knows_its_windows():
    class Segnet(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y, places = F.max_pool2d(x, 3, 2, return_indices=True)
            return F.max_unpool2d(y.relu(), places, 3, 2)

    graph = read_module(Segnet(), (torch.zeros(1, 3, 9, 9),))
    assert kinds(graph) == ["Pool", "Pointwise", "Unpool"]
    assert named(graph, "max_unpool") == ir.Unpool((3, 3), (2, 2))


def test_fold_unfold_and_sampling():
    graph = read_module(
        Calling(lambda x: F.fold(F.unfold(x, (3, 2), stride=2, padding=1), (12, 12), (3, 2), stride=2, padding=1)),
        (torch.zeros(1, 3, 12, 12),),
    )
    numbers = ((3, 2), (2, 2), ((1, 1), (1, 1)), (1, 1))
    assert [n.op for n in graph.nodes][1:3] == [ir.Unfold(*numbers), ir.Fold(*numbers)]

    flow = nn.Conv2d(6, 2, 3, padding=1)
    graph = read_module(
        Calling(lambda x: F.grid_sample(x, flow(x).permute(0, 2, 3, 1), mode="nearest", align_corners=False)),
        (torch.zeros(1, 6, 8, 8),),
    )
    assert not unknowns(graph)
    assert [(n.op.mode, n.sizes) for n in graph.nodes if isinstance(n.op, ir.Warp)] == [("nearest", (8, 8))]


# ------------------------------------------------------------------------------------------------------------- errors


def failing(act: Any, x: Tensor) -> str:
    with pytest.raises(ExportError) as caught:
        read_module(Calling(act), (x,), source="package:Network")
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("package:Network: ")
    return text


def test_control_flow_by_values_is_refused_in_one_line():
    text = failing(lambda x: x * 2 if x.sum() > 0 else x, torch.zeros(1, 3, 8, 8))
    assert "control flow" in text
    assert "ONNX" in text


def test_a_module_that_does_not_run_is_refused_in_one_line():
    conv = nn.Conv2d(4, 4, 3)
    text = failing(lambda x: conv(x), torch.zeros(1, 3, 8, 8))
    assert "expected input" in text
    assert "runs on inputs of these shapes" in text


def test_missing_torch_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "evenly.graph.torch")
    with pytest.raises(MissingDependencyError, match=r"evenly\[torch\]"):
        importlib.import_module("evenly.graph.torch")


# ----------------------------------------------------------------------------------------------------------- programs


def summary(graph: ir.Graph) -> list[tuple[Any, ...]]:
    return [(n.name, type(n.op), n.inputs, n.channels, n.sizes) for n in graph.nodes]


def test_a_saved_program_is_the_same_network(tmp_path):
    net = Whole().eval()
    x = torch.zeros(1, 3, 8, 8)
    path = tmp_path / "whole.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(net, (x,))
        torch.export.save(program, path)
    graph = read_program(path)
    assert graph.source == str(path)
    expected = read_module(net, (x,))
    assert summary(graph) == summary(expected) == summary(read_program(program))
    for a, b in zip(graph.nodes, expected.nodes, strict=True):
        if isinstance(a.op, ir.Conv):
            assert a.op.weight.name == b.op.weight.name
            np.testing.assert_array_equal(a.op.weight.values(), b.op.weight.values())


def test_a_decomposed_program_is_the_same_network():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Hardswish(), nn.ConvTranspose2d(4, 4, 3, 2), nn.GroupNorm(2, 4),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    ).eval()  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(net, (torch.zeros(1, 3, 8, 8),)).run_decompositions()
    graph = read_program(program)
    assert not unknowns(graph)
    assert set(kinds(read_module(net, (torch.zeros(1, 3, 8, 8),)))) <= set(kinds(graph))
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        expected = net(x)[0].numpy()
    found = interpret(graph, {graph.nodes[0].name: x[0].numpy()})[0]
    np.testing.assert_allclose(found.reshape(-1), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("content", [b"", b"no zip archive", b"PK\x05\x06" + bytes(18)])
def test_a_damaged_program_is_refused_in_one_line(content, tmp_path):
    path = tmp_path / "broken.pt2"
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        read_program(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------ real networks


def test_the_decoder_of_a_latent_diffusion_model():
    vae = pytest.importorskip("diffusers.models.autoencoders.vae")
    with torch.device("meta"):
        decoder = vae.Decoder(
            in_channels=4,
            out_channels=3,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            act_fn="silu",
        )
    started = time.perf_counter()
    graph = read_module(decoder, (torch.zeros(1, 4, 64, 64, device="meta"),))
    assert time.perf_counter() - started < 20
    assert not unknowns(graph)
    assert [n.sizes for n in graph.nodes if isinstance(n.op, ir.Resize)] == [(128, 128), (256, 256), (512, 512)]
    assert "up_blocks.0.upsamplers.0:interpolate" in names(graph)


# --------------------------------------------------------------------------------------------------------- the table


def test_entries_are_operators_of_pytorch():
    every = [name.split("::") for name in torch._C._dispatch_get_all_op_names()]
    known = {name.split(".")[0] for space, name in every if space == "aten"}
    bases = known | {name.removesuffix("_") for name in known}
    assert not sorted(name for name in TABLE if name not in bases)
    assert not set(TABLE) & set(UNREADABLE)


def test_a_size_with_more_phases_than_can_be_listed_is_unknown() -> None:
    class Stretched(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.interpolate(x, size=200_003, mode="linear")

    graph = read_module(Stretched(), (torch.zeros(1, 2, 1009),))
    (unknown,) = [n.op for n in graph.nodes if isinstance(n.op, ir.Unknown)]
    assert "interpolating 1009 samples to 200003 has 200003 phases" in unknown.reason
