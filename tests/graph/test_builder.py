"""The layout domain: whatever a network does to the dimensions of its tensors, the graph computes what it computes.

Networks are read, the graph is run by a small interpreter on random numbers, and the result is compared with the
network's own output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from tests.graph.onnx_interpret import _node as plain_node
from torch import Tensor, nn

import corpus
from evenly.graph import ir
from evenly.graph.builder import Builder
from evenly.graph.layout import BATCH, CHANNEL, SPREAD, Digit, Dim, LayoutError, joined, refined, regrouped
from evenly.graph.torch import read_module

if TYPE_CHECKING:
    from collections.abc import Callable


# The reader hands out views of the module's own weights, which nobody may write to.
pytestmark = pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")

# ---------------------------------------------------------------------------------------------------- the interpreter


def _grouped(op: ir.Normalize, x: Any) -> Any:
    """Normalisation of channels in groups at every position."""
    g = x.reshape(op.groups, -1, *x.shape[1:])
    if op.kind == "softmax":
        e = np.exp(g - g.max(1, keepdims=True))
        return (e / e.sum(1, keepdims=True)).reshape(x.shape)
    centred = g - g.mean(1, keepdims=True) if op.kind == "layer" else g
    y = (centred / np.sqrt(np.square(centred).mean(1, keepdims=True) + op.eps)).reshape(x.shape)
    tail = (1,) * (x.ndim - 1)
    y = y if op.weight is None else y * op.weight.values().reshape(-1, *tail)
    return y if op.bias is None else y + op.bias.values().reshape(-1, *tail)


def _patches(op: Any, x: Any) -> Any:
    tensor = torch.from_numpy(np.ascontiguousarray(x))[None]
    padding = tuple(lo for lo, _ in op.padding)
    return F.unfold(tensor, op.kernel, op.dilation, padding, op.stride)[0].numpy()


def run(graph: ir.Graph, inputs: dict[str, Any]) -> list[Any]:
    """Values of the outputs, ``(channels, *sizes)``."""
    values: list[Any] = []
    for node in graph.nodes:
        xs = [values[i] for i in node.inputs]
        shape = (node.channels, *node.sizes)
        match node.op:
            case ir.Flatten(axes):
                rest = [1 + a for a in range(xs[0].ndim - 1) if a not in axes]
                y = xs[0].transpose(0, *(1 + a for a in axes), *rest).reshape(shape)
            case ir.Birth():
                y = xs[0].reshape(shape)
            case ir.Join():
                rank = max(x.ndim for x in xs)
                y = plain_node(node, [x.reshape(*x.shape, *(1,) * (rank - x.ndim)) for x in xs], inputs)
            case ir.Concat():
                y = np.concatenate(
                    [
                        np.broadcast_to(x.reshape(*x.shape, *(1,) * (len(shape) - x.ndim)), (len(x), *node.sizes))
                        for x in xs
                    ]
                )
            case ir.Normalize(kind="layer" | "rms" | "softmax", groups=groups) if groups > 1:
                y = _grouped(node.op, xs[0])
            case ir.Attention():
                q, k, v = (x.reshape(node.op.heads, x.shape[0] // node.op.heads, -1) for x in xs)
                s = node.op.scale * np.einsum("hci,hcj->hij", q, k)
                p = np.exp(s - s.max(-1, keepdims=True))
                y = np.einsum("hij,hcj->hci", p / p.sum(-1, keepdims=True), v).reshape(shape)
            case ir.ChannelMix():
                a = xs[0].reshape(-1, xs[1].shape[0])
                y = np.tensordot(a, xs[1], 1).reshape(shape)
            case ir.Unfold():
                y = _patches(node.op, xs[0]).reshape(shape)
            case ir.Fold():
                x = torch.from_numpy(np.ascontiguousarray(xs[0].reshape(len(xs[0]), -1)))[None]
                padding = tuple(lo for lo, _ in node.op.padding)
                y = F.fold(x, node.sizes, node.op.kernel, node.op.dilation, padding, node.op.stride)[0].numpy()
            case ir.Pad(padding, "circular"):  # first around, then cut: a shift has both
                y = np.pad(xs[0], [(0, 0), *((max(lo, 0), max(hi, 0)) for lo, hi in padding)], mode="wrap")
                y = y[
                    (
                        slice(None),
                        *(
                            slice(max(-lo, 0), m - max(-hi, 0))
                            for (lo, hi), m in zip(padding, y.shape[1:], strict=True)
                        ),
                    )
                ]
            case ir.Reduce(kind="var"):
                y = xs[0].var(axis=tuple(1 + a for a in node.op.axes), ddof=1)
            case _:
                y = plain_node(node, xs, inputs)
        assert y.shape == shape, (node.name, node.op, y.shape, shape)
        values.append(np.array(y))
    return [values[i] for i in graph.outputs]


class Net(nn.Module):
    """A function with some layers."""

    def __init__(self, forward: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.function = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *x: Tensor) -> Any:
        return self.function(self, *x)


def unknowns(graph: ir.Graph) -> list[str]:
    return [f"{n.name}: {n.op.operator}: {n.op.reason}" for n in graph.nodes if isinstance(n.op, ir.Unknown)]


def as_input(graph: ir.Graph, position: int, x: Tensor) -> Any:
    """A tensor as the field that the graph takes it for: the sizes tell which dimension is the channels."""
    node = graph.nodes[graph.inputs[position]]
    a = x.detach().double().numpy()
    if len(node.sizes) == a.ndim:  # no batch, no channels
        return a[None]
    a = a[0] if a.ndim > 1 else a
    if len(node.sizes) == a.ndim:
        return a[None]
    for place in range(a.ndim):
        rest = [n for i, n in enumerate(a.shape) if i != place]
        if a.shape[place] == node.channels and tuple(rest) == node.sizes:
            return np.moveaxis(a, place, 0)
    raise AssertionError((a.shape, node.channels, node.sizes))


def check(net: nn.Module, *x: Tensor, back: Callable[[Any], Any] | None = None, margin: int = 0) -> ir.Graph:
    """Read, run and compare; ``back`` maps the network's output to ``(channels, *sizes)``."""
    net = net.double().eval()
    xs = [t.double() if t.is_floating_point() else t for t in x]
    with torch.no_grad():
        want = net(*xs)
    graph = read_module(net, tuple(xs))
    assert not unknowns(graph), unknowns(graph)
    names = {graph.nodes[i].name: as_input(graph, p, t) for p, (i, t) in enumerate(zip(graph.inputs, xs, strict=True))}
    got = run(graph, names)[0]
    expected = want.numpy()
    expected = back(expected) if back else expected[0]
    cut = (slice(None), *(slice(margin, n - margin) for n in got.shape[1:]))
    assert got.shape == expected.shape
    np.testing.assert_allclose(got[cut], expected[cut], atol=1e-6)
    return graph


def ops(graph: ir.Graph, kind: type[ir.Op]) -> list[Any]:
    return [n.op for n in graph.nodes if isinstance(n.op, kind)]


def rand(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


# ------------------------------------------------------------------------------------------- channels and positions


def test_shuffle_by_hand_is_pixel_shuffle() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = x.reshape(n, c // 6, 2, 3, h, w).permute(0, 1, 4, 2, 5, 3)
        return m.conv(y.reshape(n, c // 6, 2 * h, 3 * w))

    graph = check(Net(forward, conv=nn.Conv2d(2, 3, 3)), rand(1, 12, 4, 5))
    assert [o.factor for o in ops(graph, ir.PixelShuffle)] == [(2, 3)]
    assert not ops(graph, ir.ChannelPermute)


def test_depth_to_space_with_blocks_first() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = x.reshape(n, 2, 2, c // 4, h, w).permute(0, 3, 4, 1, 5, 2)
        return y.reshape(n, c // 4, 2 * h, 2 * w)

    graph = check(Net(forward), rand(1, 12, 4, 5))
    assert [o.factor for o in ops(graph, ir.PixelShuffle)] == [(2, 2)]
    assert [o.perm for o in ops(graph, ir.ChannelPermute)] == [(1, 0)] or len(ops(graph, ir.ChannelPermute)) == 1


@pytest.mark.parametrize("order", ["CRD", "DCR"])
def test_builder_pixel_shuffle(order: Any) -> None:
    b = Builder("test")
    x = b.input("x", (1, 12, 3, 4), "float32")
    b.output("y", b.pixel_shuffle(x, (2, 2), order, name="up"))
    a = np.random.default_rng(0).standard_normal((12, 3, 4))
    view = a.reshape(3, 2, 2, 3, 4) if order == "CRD" else a.reshape(2, 2, 3, 3, 4).transpose(2, 0, 1, 3, 4)
    want = view.transpose(0, 3, 1, 4, 2).reshape(3, 6, 8)
    graph = b.build()
    assert np.array_equal(run(graph, {"x": a})[0], want)
    assert ops(graph, ir.PixelShuffle)[0].idiom == "pixel_shuffle"


def test_patchify_and_back() -> None:
    """A vision transformer's way in and out: linear layers on patches."""

    def forward(m: Any, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        t = x.reshape(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(n, (h // 4) * (w // 4), 16 * c)
        t = m.head(F.gelu(m.embed(t) + m.position))
        y = t.reshape(n, h // 4, w // 4, 4, 4, c)
        return y.permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)

    net = Net(forward, embed=nn.Linear(48, 8), head=nn.Linear(8, 48))
    net.position = nn.Parameter(rand(1, 6, 8))
    graph = check(net, rand(1, 3, 8, 12))
    assert [o.factor for o in ops(graph, ir.PixelUnshuffle)] == [(4, 4)]
    (shuffle,) = ops(graph, ir.PixelShuffle)
    assert shuffle.factor == (4, 4)
    assert shuffle.idiom == "patch"
    (position,) = ops(graph, ir.Source)
    assert position.kind == "position"
    assert position.value.shape == (8, 2, 3)


def test_class_token_comes_and_goes() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        t = m.embed(x).flatten(2).transpose(1, 2)
        t = torch.cat([m.cls.expand(len(x), -1, -1), t], 1) + m.position
        t = m.norm(t)
        t = t[:, 1:]
        return t.transpose(1, 2).reshape(len(x), 8, 3, 4)

    net = Net(forward, embed=nn.Conv2d(3, 8, 2, 2), norm=nn.LayerNorm(8))
    net.cls, net.position = nn.Parameter(rand(1, 1, 8)), nn.Parameter(rand(1, 13, 8))
    check(net, rand(1, 3, 6, 8))


def test_class_token_read_off_has_no_lattice() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        t = m.embed(x).flatten(2).transpose(1, 2)
        t = torch.cat([m.cls.expand(len(x), -1, -1), t], 1)
        q, k, v = m.qkv(t).chunk(3, -1)
        t = t + F.scaled_dot_product_attention(q, k, v)
        return m.head(t[:, 0])

    net = Net(forward, embed=nn.Conv2d(3, 8, 2, 2), qkv=nn.Linear(8, 24), head=nn.Linear(8, 5))
    net.cls = nn.Parameter(rand(1, 1, 8))
    graph = read_module(net, (rand(1, 3, 6, 8),))
    assert not unknowns(graph)
    assert graph.nodes[graph.outputs[0]].sizes == ()


def test_channels_last() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return F.pad(m.linear(y), (0, 0, 1, 2, 0, 1))

    net = Net(forward, conv=nn.Conv2d(3, 8, 3, 2, 1), linear=nn.Linear(8, 5))
    graph = check(net, rand(1, 8, 12, 3), back=lambda y: y[0].transpose(2, 0, 1))
    assert graph.nodes[graph.inputs[0]].sizes == (8, 12)


def test_frames_in_the_batch() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        n, c, t, h, w = x.shape
        y = m.conv(x.transpose(1, 2).reshape(n * t, c, h, w))
        y = y.reshape(n, t, *y.shape[1:]).permute(0, 2, 1, 3, 4)
        return m.temporal(y)

    net = Net(forward, conv=nn.Conv2d(3, 4, 3, 2, 1), temporal=nn.Conv3d(4, 2, (3, 1, 1), padding=(1, 0, 0)))
    graph = check(net, rand(1, 3, 5, 8, 6))
    first = ops(graph, ir.Conv)[0]
    assert first.kernel == (1, 3, 3)
    assert first.stride == (1, 2, 2)


def test_windows_are_the_same_field() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        n, h, w, c = x.shape
        x = torch.roll(x, (-1, -2), (1, 2))
        t = x.view(n, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        t = m.linear(t)
        y = t.view(n, h // 4, w // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
        return torch.roll(y, (1, 2), (1, 2)).permute(0, 3, 1, 2)

    graph = check(Net(forward, linear=nn.Linear(6, 6)), rand(1, 6, 8, 12))
    assert {type(n.op) for n in graph.nodes} == {ir.Input, ir.Pad, ir.Linear, ir.Output}


def test_window_attention_is_windowed() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        t = x.view(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
        q, k, v = m.qkv(t).reshape(-1, 16, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        a = ((q @ k.transpose(-2, -1)) * 0.5 + m.bias).softmax(-1) @ v
        t = a.transpose(1, 2).reshape(-1, 16, c)
        return t.view(n, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)

    net = Net(forward, qkv=nn.Linear(6, 18))
    net.bias = nn.Parameter(rand(2, 16, 16))
    graph = read_module(net, (rand(1, 6, 8, 12),))
    assert not unknowns(graph)
    (attention,) = ops(graph, ir.Attention)
    assert (attention.heads, attention.scale, attention.biased, attention.windowed) == (2, 0.5, True, True)
    assert graph.nodes[graph.outputs[0]].sizes == (8, 12)


@pytest.mark.parametrize("batch_first", [True, False])
def test_multi_head_attention(batch_first: bool) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        t = x.flatten(2).transpose(1, 2)
        t = t if batch_first else t.transpose(0, 1)
        y = t + m.attention(t, t, t, need_weights=False)[0]
        y = y if batch_first else y.transpose(0, 1)
        return y.transpose(1, 2).reshape(x.shape)

    net = Net(forward, attention=nn.MultiheadAttention(8, 2, batch_first=batch_first))
    graph = check(net, rand(1, 8, 3, 4))
    assert [o.heads for o in ops(graph, ir.Attention)] == [2]
    assert not ops(graph, ir.Attention)[0].windowed


def test_products_of_a_few_vectors_with_a_field_mix_channels() -> None:
    """The mask decoder of SAM: filters that come from tokens."""

    def forward(m: Any, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        pooled = x.mean((2, 3))
        filters = torch.stack([m.a(pooled), m.b(pooled)], 1)
        return (filters @ x.reshape(n, c, h * w)).reshape(n, 2, h, w)

    graph = check(Net(forward, a=nn.Linear(6, 6), b=nn.Linear(6, 6)), rand(1, 6, 4, 5))
    assert len(ops(graph, ir.ChannelMix)) == 1


@pytest.mark.parametrize("equation", ["bchw,oc->bohw", "bchw,oc->bhwo", "oc,bchw->bohw"])
def test_einsum_with_a_weight_is_linear(equation: str) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        operands = (m.weight, x) if equation.startswith("oc") else (x, m.weight)
        return torch.einsum(equation, *operands)

    net = Net(forward)
    net.weight = nn.Parameter(rand(5, 6))
    last = equation.endswith("bhwo")
    graph = check(net, rand(1, 6, 4, 3), back=(lambda y: y[0].transpose(2, 0, 1)) if last else None)
    assert len(ops(graph, ir.Linear)) == 1


def test_swin_patch_merging() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return m.reduction(m.norm(torch.cat(parts, -1))).permute(0, 3, 1, 2)

    net = Net(forward, norm=nn.LayerNorm(12), reduction=nn.Linear(12, 6, bias=False))
    graph = check(net, rand(1, 3, 6, 8))
    assert {o.step for o in ops(graph, ir.Slice)} <= {(2, 2), (2, 1), (1, 2)}
    assert graph.nodes[graph.outputs[0]].sizes == (3, 4)


def test_repeating_positions_is_nearest_interpolation() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = x[:, :, :, None, :, None].expand(n, c, h, 2, w, 3).reshape(n, c, 2 * h, 3 * w)
        return m.conv(y)

    graph = check(Net(forward, conv=nn.Conv2d(3, 4, 3)), rand(1, 3, 4, 5))
    assert {r.mode for r in ops(graph, ir.Resize)} == {"nearest"}


def test_zero_insertion_with_a_depthwise_filter_in_the_batch() -> None:
    """How upfirdn2d is written without a kernel of its own."""

    def forward(m: Any, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = F.pad(x.reshape(n, c, h, 1, w, 1), (0, 1, 0, 0, 0, 1)).reshape(n, c, 2 * h, 2 * w)
        y = F.conv2d(F.pad(y, (2, 1, 2, 1)).reshape(n * c, 1, 2 * h + 3, 2 * w + 3), m.fir)
        return y.reshape(n, c, 2 * h, 2 * w)

    net = Net(forward)
    net.register_buffer("fir", rand(1, 1, 4, 4))
    graph = check(net, rand(1, 3, 4, 5))
    (conv,) = ops(graph, ir.Conv)
    assert conv.groups == 3
    assert conv.weight.fixed


def test_reduction_over_blocks_is_pooling() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return m.conv(x.reshape(n, c, h // 2, 2, w // 3, 3).mean((3, 5)))

    graph = check(Net(forward, conv=nn.Conv2d(3, 4, 1)), rand(1, 3, 6, 9))
    assert [(o.kind, o.kernel) for o in ops(graph, ir.Pool)] == [("average", (2, 3))]


# --------------------------------------------------------------------------------------------------------- births, ends


def test_dense_layer_gives_birth_to_a_lattice() -> None:
    def forward(m: Any, z: Tensor) -> Tensor:
        return m.up(torch.relu(m.dense(z)).view(-1, 6, 3, 4))

    graph = check(Net(forward, dense=nn.Linear(5, 72), up=nn.ConvTranspose2d(6, 2, 4, 2, 1)), rand(1, 5))
    births = [n for n in graph.nodes if isinstance(n.op, ir.Birth)]
    assert [n.sizes for n in births] == [(3, 4)]


def test_latent_of_one_pixel_keeps_its_lattice() -> None:
    net = nn.Sequential(nn.ConvTranspose2d(5, 6, 4), nn.ReLU(), nn.ConvTranspose2d(6, 2, 4, 2, 1))
    graph = check(net, rand(1, 5, 1, 1))
    assert graph.nodes[graph.inputs[0]].sizes == (1, 1)
    assert [type(n.op) for n in graph.nodes[1:2]] == [ir.ConvTranspose]


def test_flatten_before_a_dense_layer() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 2 * 3, 5))
    graph = check(net, rand(1, 3, 4, 5))
    assert [o.axes for o in ops(graph, ir.Flatten)] == [(0, 1)]


def test_flatten_of_channels_last_permutes() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.dense(m.conv(x).permute(0, 2, 3, 1).flatten(1))

    check(Net(forward, conv=nn.Conv2d(3, 4, 3), dense=nn.Linear(24, 5)), rand(1, 3, 4, 5))


def test_image_from_a_dense_layer_as_output() -> None:
    graph = check(Net(lambda m, z: m.dense(z).view(-1, 3, 4, 5), dense=nn.Linear(6, 60)), rand(1, 6))
    assert len(ops(graph, ir.Birth)) == 1


def test_squeeze_and_excitation() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        s = F.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(m.b(F.silu(m.a(s))))

    graph = check(Net(forward, a=nn.Conv2d(6, 2, 1), b=nn.Conv2d(2, 6, 1)), rand(1, 6, 4, 5))
    (join,) = [n for n in graph.nodes if isinstance(n.op, ir.Join)]
    assert [graph.nodes[i].sizes for i in join.inputs] == [(4, 5), ()]


def test_global_context_is_broadcast() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        pooled = F.interpolate(m.pool(x.mean((2, 3), keepdim=True)), size=x.shape[2:], mode="bilinear")
        return m.conv(torch.cat([x, pooled], 1))

    check(Net(forward, pool=nn.Conv2d(6, 2, 1), conv=nn.Conv2d(8, 3, 3)), rand(1, 6, 5, 6))


def test_vector_spread_over_a_lattice_for_a_convolution() -> None:
    def forward(m: Any, z: Tensor) -> Tensor:
        return m.conv(z[:, :, None, None].expand(-1, -1, 5, 6))

    graph = check(Net(forward, conv=nn.Conv2d(4, 3, 3)), rand(1, 4))
    assert len(ops(graph, ir.Broadcast)) == 1


def test_audio_without_channels() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.conv(x.unsqueeze(1)).squeeze(1)

    graph = check(Net(forward, conv=nn.Conv1d(1, 1, 5, padding=2)), rand(1, 20), back=lambda y: y)
    assert graph.nodes[graph.inputs[0]].sizes == (20,)


def test_spectrogram_as_picture() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.conv(x.unsqueeze(1))

    graph = check(Net(forward, conv=nn.Conv2d(1, 2, 3)), rand(1, 9, 12))
    assert graph.nodes[graph.inputs[0]].sizes == (9, 12)


def test_tokens_as_input() -> None:
    graph = check(nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 4)), rand(1, 9, 6), back=lambda y: y[0].T)
    assert graph.nodes[graph.inputs[0]].sizes == (9,)


def test_embedding_of_ids() -> None:
    def forward(m: Any, ids: Tensor) -> Tensor:
        return m.linear(m.table(ids))

    net = Net(forward, table=nn.Embedding(10, 4), linear=nn.Linear(4, 3))
    graph = read_module(net, (torch.zeros(1, 7, dtype=torch.long),))
    assert not unknowns(graph)
    assert graph.nodes[graph.inputs[0]].sizes == (7,)
    assert graph.nodes[graph.outputs[0]].sizes == (7,)


# -------------------------------------------------------------------------------------------------- constants, joins


def test_affine_constants() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = (x - m.mean) / m.std * 2 + 1
        y = (1 - y) * m.number
        return 3 / (y * y + 2) - y**3

    net = Net(forward)
    net.register_buffer("mean", rand(3, 1, 1))
    net.register_buffer("std", rand(1, 3, 1, 1).abs() + 0.5)
    net.number = nn.Parameter(rand(1))
    check(net, rand(1, 3, 4, 5))


def test_position_along_one_axis() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return x + m.rows

    net = Net(forward)
    net.rows = nn.Parameter(rand(1, 1, 4, 1))
    graph = check(net, rand(1, 3, 4, 5))
    assert ops(graph, ir.Source)[0].value.shape == (1, 4, 1)


def test_coordinates_as_channels() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        grid = torch.linspace(-1, 1, x.shape[3], dtype=x.dtype).expand(1, 1, x.shape[2], x.shape[3])
        return m.conv(torch.cat([x, grid], 1))

    graph = check(Net(forward, conv=nn.Conv2d(4, 2, 3)), rand(1, 3, 4, 5))
    assert len(ops(graph, ir.Source)) == 1


def test_learned_constant_as_start() -> None:
    def forward(m: Any, z: Tensor) -> Tensor:
        return m.conv(m.start.expand(len(z), -1, -1, -1)) * m.style(z)[:, :, None, None]

    net = Net(forward, conv=nn.Conv2d(4, 4, 3, padding=1), style=nn.Linear(5, 4))
    net.start = nn.Parameter(rand(1, 4, 3, 3))
    graph = check(net, rand(1, 5))
    assert [o.kind for o in ops(graph, ir.Source)] == ["constant"]


def test_per_head_numbers_are_repeated_over_channels() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        heads = x.reshape(n, 3, c // 3, h, w)
        return (heads * m.weight + heads.mean(2, keepdim=True)).reshape(x.shape)

    net = Net(forward)
    net.weight = nn.Parameter(rand(3, 1, 1, 1))
    check(net, rand(1, 6, 4, 5))


def test_sums_of_transposed_layouts() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        a = m.linear(x.flatten(2).transpose(1, 2))
        return a + m.conv(x).permute(0, 2, 3, 1).reshape(a.shape)

    net = Net(forward, linear=nn.Linear(3, 6), conv=nn.Conv2d(3, 6, 1))
    check(net, rand(1, 3, 4, 5), back=lambda y: y[0].T.reshape(6, 4, 5))


def test_shuffled_channels() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return m.conv(x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)) + x.flip(1)

    graph = check(Net(forward, conv=nn.Conv2d(6, 6, 1)), rand(1, 6, 4, 5))
    assert [(o.sizes, o.perm) for o in ops(graph, ir.ChannelPermute)] == [((2, 3), (1, 0))]


@pytest.mark.parametrize("mode", ["circular", "zeros", "replicate"])
def test_padding_written_as_concatenation(mode: str) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        if mode == "circular":
            y = torch.cat([x[..., -2:], x, x[..., :1]], -1)
        elif mode == "zeros":
            y = torch.cat([torch.zeros(1, 3, 4, 2, dtype=x.dtype), x], -1)
        else:
            y = torch.cat([x[..., :1].expand(-1, -1, -1, 3), x], -1)
        return m.conv(y)

    graph = check(Net(forward, conv=nn.Conv2d(3, 2, 3)), rand(1, 3, 4, 5))
    assert [o.mode for o in ops(graph, ir.Pad)] == [mode]


def test_modulated_convolution() -> None:
    def forward(m: Any, x: Tensor, style: Tensor) -> Tensor:
        n, c, h, w = x.shape
        weight = m.weight[None] * m.affine(style)[:, None, :, None, None]
        y = F.conv2d(x.reshape(1, n * c, h, w), weight.reshape(n * 5, c, 3, 3), padding=1, groups=n)
        return y.reshape(n, 5, h, w)

    net = Net(forward, affine=nn.Linear(6, 4))
    net.weight = nn.Parameter(rand(5, 4, 3, 3))
    for n in (1, 3):
        graph = read_module(net, (rand(n, 4, 5, 6), rand(n, 6)))
        (conv,) = ops(graph, ir.Conv)
        assert (conv.groups, conv.in_channels, conv.out_channels) == (1, 4, 5)
        assert not conv.weight.known
        assert graph.nodes[graph.outputs[0]].sizes == (5, 6)


def test_group_normalisation_by_reshaping() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = F.instance_norm(x.reshape(n, 2, -1)).reshape(n, c, h, w)
        return y * m.weight[:, None, None]

    net = Net(forward)
    net.weight = nn.Parameter(rand(6))
    graph = check(net, rand(1, 6, 4, 5))
    assert [(o.kind, o.groups) for o in ops(graph, ir.Normalize)] == [("group", 2)]


@pytest.mark.parametrize(
    ("norm", "kind"),
    [
        (nn.GroupNorm(3, 6), "group"),
        (nn.InstanceNorm2d(6, affine=True), "instance"),
        (nn.LayerNorm([6, 4, 5]), "group"),
    ],
)
def test_normalisations(norm: nn.Module, kind: str) -> None:
    for parameter in norm.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    graph = check(norm, rand(1, 6, 4, 5))
    assert [o.kind for o in ops(graph, ir.Normalize)] == [kind]


def test_query_key_normalisation_of_heads() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        t = x.flatten(2).transpose(1, 2)
        q = m.norm(m.q(t).unflatten(-1, (2, 4)))
        return q.flatten(2).transpose(1, 2).reshape(1, 8, 3, 4)

    graph = check(Net(forward, q=nn.Linear(6, 8), norm=nn.LayerNorm(4)), rand(1, 6, 3, 4))
    assert [o.groups for o in ops(graph, ir.Normalize)] == [2]


def test_fold_and_unfold() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.linear(F.unfold(x, 3, padding=1, stride=2).transpose(1, 2)).transpose(1, 2)
        return F.fold(y, x.shape[2:], 4, padding=1, stride=2)

    check(Net(forward, linear=nn.Linear(27, 32)), rand(1, 3, 8, 6))


def test_batches_do_not_matter() -> None:
    net = Net(
        lambda m, x: m.up(m.norm(m.conv(x))), conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), up=nn.PixelShuffle(2)
    )
    shapes = [[(n.channels, n.sizes) for n in read_module(net.eval(), (rand(b, 3, 6, 7),)).nodes] for b in (1, 4)]
    assert shapes[0] == shapes[1]


# -------------------------------------------------------------------------------------------------- what is not known


def test_token_mixing_is_named() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.mix(m.conv(x).flatten(2)).view(1, 3, 4, 5)

    graph = read_module(Net(forward, conv=nn.Conv2d(3, 3, 1), mix=nn.Linear(20, 20)), (rand(1, 3, 4, 5),))
    (unknown,) = [n.op for n in graph.nodes if isinstance(n.op, ir.Unknown)]
    assert unknown.operator == "linear"
    assert "mixes positions" in unknown.reason


def test_unknown_keeps_the_shape() -> None:
    b = Builder("test")
    x = b.input("x", (2, 3, 8, 8), "float32")
    y = b.unknown("custom.op", [x], (2, 5, 4, 4), "no entry", name="strange")
    b.output("y", y)
    graph = b.build()
    assert [(n.name, n.channels, n.sizes) for n in graph.nodes[1:]] == [("strange", 5, (4, 4)), ("y", 5, (4, 4))]
    assert graph.nodes[1].op.spatial


def test_fields_side_by_side_are_not_guessed() -> None:
    net = Net(lambda m, x: torch.cat([m.a(x), m.b(x)], 3), a=nn.Conv2d(3, 3, 1), b=nn.Conv2d(3, 3, 1))
    graph = read_module(net, (rand(1, 3, 4, 5),))
    assert unknowns(graph)
    assert graph.nodes[graph.outputs[0]].sizes == (4, 10)


def test_repeated_names_are_numbered() -> None:
    b = Builder("test")
    x = b.input("x", (1, 3, 8), "float32")
    for _ in range(3):
        x = b.pointwise(x, "relu", name="act")
    b.output("x", x)
    assert [n.name for n in b.build().nodes] == ["x", "act", "act#2", "act#3", "x"]


def test_weights_are_hidden_when_they_do_not_count() -> None:
    b = Builder("test", use_weights=False)
    x = b.input("x", (1, 1, 8), "float32")
    free = ir.Weight("w", (1, 1, 3), False, lambda: np.ones((1, 1, 3)))
    fixed = ir.Weight("f", (1, 1, 3), True, lambda: np.ones((1, 1, 3)))
    for w in (free, fixed):
        x = b.conv(x, w, None, stride=(1,), padding=((1, 1),), dilation=(1,), groups=1, name="conv")
    b.output("y", x)
    assert [n.op.weight.known for n in b.build().nodes if isinstance(n.op, ir.Conv)] == [False, True]


# ------------------------------------------------------------------------------------------------- real architectures

COMPUTED = (
    "hifigan_v3", "vqgan_decoder", "sd_vae_decoder", "resnet18_blurpool", "convnext_tiny", "dpt_head", "segformer_head",
    "dcgan_generator", "progan_generator", "sngan_resnet_generator", "pix2pix_unet256", "espcn_x3", "unet_bilinear",
    "stylegan2_discriminator", "unet_3d", "video_decoder", "wavegan_generator", "parallel_wavegan_upsampler",
    "vocos_backbone", "edsr_x2", "deeplab_v3_plus",
)  # fmt: skip


@pytest.mark.parametrize("name", COMPUTED)
def test_graph_computes_what_the_architecture_computes(name: str) -> None:
    case = corpus.CASES[name]
    torch.manual_seed(0)
    net = case.build(case.width).double().eval()
    for layer in net.modules():
        if isinstance(getattr(layer, "running_var", None), Tensor):
            layer.running_var.uniform_(0.5, 2)
            layer.running_mean.normal_()
    x = tuple(torch.randn_like(t, dtype=torch.float64) for t in case.inputs())
    with torch.no_grad():
        made = net(*x)
    want = (made if isinstance(made, Tensor) else next(iter(made))).numpy()[0]
    graph = read_module(net, x)
    names = {graph.nodes[i].name: as_input(graph, p, t) for p, (i, t) in enumerate(zip(graph.inputs, x, strict=True))}
    got = run(graph, names)[0]
    if got.shape != want.shape and sorted(got.shape) == sorted(want.shape):
        want = want.T  # tokens
    np.testing.assert_allclose(got, want.reshape(got.shape), atol=1e-9 * float(np.abs(want).max()))


# ----------------------------------------------------------------------------------------------- arithmetic of digits


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.data())
def test_reshape_is_row_major(sizes: list[int], data: Any) -> None:
    """Digits say which index every entry has, after any reshape that they allow."""
    dims = [Dim(joined([Digit(axis, n)])) for axis, n in enumerate(sizes)]
    total = int(np.prod(sizes))
    shape = []
    left = total
    while left > 1:
        n = data.draw(st.sampled_from([d for d in range(2, left + 1) if left % d == 0]))
        shape.append(n)
        left //= n
    try:
        new = regrouped(dims, shape)
    except LayoutError:
        return
    assert tuple(d.size for d in new) == tuple(shape)
    indices = np.indices(sizes).reshape(len(sizes), -1)  # per axis, row-major
    got = np.zeros_like(indices)
    grids = np.indices([d.size for dim in new for d in dim.digits] or [1]).reshape(-1, total)
    for grid, digit in zip(grids, [d for dim in new for d in dim.digits], strict=False):
        got[digit.kind] += grid * digit.stride
    assert np.array_equal(got, indices)


def test_refinement() -> None:
    a = (Digit(0, 4, 1), Digit(1, 6, 1))
    b = (Digit(SPREAD, 24),)
    left, right = refined([a, b])
    assert [d.size for d in left] == [d.size for d in right] == [4, 6]
    with pytest.raises(LayoutError):
        refined([(Digit(0, 4), Digit(1, 6)), (Digit(0, 3), Digit(1, 8))])


def test_joining_digits() -> None:
    assert joined([Digit(0, 2, 6), Digit(0, 3, 2), Digit(0, 2, 1)]) == (Digit(0, 12, 1),)
    assert joined([Digit(0, 3, 1), Digit(0, 2, 3)]) == (Digit(0, 3, 1), Digit(0, 2, 3))
    assert joined([Digit(BATCH, 1), Digit(CHANNEL, 5)]) == (Digit(CHANNEL, 5),)
