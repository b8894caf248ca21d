"""Small PyTorch networks for the tests of the reader: each is compared with what its graph says, run on numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from evenly.nn import SubpixelConv1d, SubpixelConv3d

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """A function of a tensor and of some modules.

    Attributes:
        act: The function.
        modules: Its modules.
        shape: Shape of the input.
        margin: What is left out at borders, where interpolation replicates samples in another way.
        ops: Classes of the nodes that are expected, inputs and outputs left out; ``None``: not stated.
    """

    act: Callable[..., Any]
    modules: tuple[nn.Module, ...] = ()
    shape: Shape = (1, 6, 12, 12)
    margin: int = 0
    ops: tuple[str, ...] | None = None


class Net(nn.Module):
    """Calls a function with an input and with modules."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.act = case.act
        self.parts = nn.ModuleList(case.modules)

    def forward(self, x: Tensor) -> Any:
        return self.act(x, *self.parts)


def call(x: Tensor, m: nn.Module) -> Any:
    return m(x)


def layer(m: nn.Module, *, shape: Shape = (1, 6, 12, 12), margin: int = 0, ops: str | None = None) -> Case:
    return Case(call, (m,), shape, margin, None if ops is None else tuple(ops.split()))


def then_conv(act: Callable[[Tensor], Tensor], channels: int = 6, *, shape: Shape = (1, 6, 12, 12)) -> Case:
    """An arrangement followed by a convolution, which asks for its form."""
    return Case(lambda x, m: m(act(x)), (nn.Conv2d(channels, 4, 3),), shape)


def after_conv(act: Callable[[Tensor], Tensor], ops: str) -> Case:
    return Case(lambda x, m: act(m(x)), (nn.Conv2d(6, 4, 3),), ops=("Conv", *ops.split()))


CASES: dict[str, Case] = {}


def _add(name: str, case: Case) -> None:
    assert name not in CASES, name
    CASES[name] = case


# layers

_LAYERS = {
    "conv stride dilation": layer(nn.Conv2d(6, 4, 3, 2, 1, 2), ops="Conv"),
    "conv same": layer(nn.Conv2d(6, 4, 4, padding="same", dilation=2), ops="Conv"),
    "conv valid": layer(nn.Conv2d(6, 4, 4, padding="valid"), ops="Conv"),
    "conv groups": layer(nn.Conv2d(6, 4, 3, groups=2, bias=False), ops="Conv"),
    "conv 1d": layer(nn.Conv1d(6, 4, 3, 2), shape=(1, 6, 20), ops="Conv"),
    "conv 3d": layer(nn.Conv3d(6, 4, (3, 1, 2)), shape=(1, 6, 5, 6, 7), ops="Conv"),
    "conv transpose": layer(nn.ConvTranspose2d(6, 4, 3, 2, 1, 1, groups=2, dilation=2), ops="ConvTranspose"),
    "conv transpose 1d": layer(nn.ConvTranspose1d(6, 4, 16, 8, 4), shape=(1, 6, 9), ops="ConvTranspose"),
    "conv transpose 3d": layer(nn.ConvTranspose3d(6, 4, 3, 2, 1, 1), shape=(1, 6, 4, 5, 6), ops="ConvTranspose"),
    **{
        f"conv {mode}": layer(nn.Conv2d(6, 4, 3, padding=1, padding_mode=mode), ops="Pad Conv")  # type: ignore[arg-type]
        for mode in ("reflect", "replicate", "circular")
    },
    "pixel shuffle": layer(nn.PixelShuffle(2), shape=(1, 8, 3, 4), ops="PixelShuffle"),
    "sub-pixel convolution 1d, cropped": Case(
        lambda x, m: m(x)[..., 1:-2], (SubpixelConv1d(6, 4, 3, 2),), (1, 6, 9), ops=("Conv", "PixelShuffle", "Slice")
    ),
    "sub-pixel convolution 3d, cropped": Case(
        lambda x, m: m(x)[:, :, 1:, :, :-1], (SubpixelConv3d(6, 4, 3, 2),), (1, 6, 3, 4, 5)
    ),
    "pixel unshuffle": layer(nn.PixelUnshuffle(2), ops="PixelUnshuffle"),
    "max pool": layer(nn.MaxPool2d(3, 2, 1, 2, ceil_mode=True), ops="Pool"),
    "max pool 1d": layer(nn.MaxPool1d(2), shape=(1, 6, 12), ops="Pool"),
    "max pool 3d": layer(nn.MaxPool3d(2), shape=(1, 6, 4, 4, 4), ops="Pool"),
    "average pool": layer(nn.AvgPool2d(3, 2, 1), ops="Pool"),
    "average pool without padding": layer(nn.AvgPool2d(3, 2, 1, count_include_pad=False, ceil_mode=True), margin=1),
    "average pool with a divisor": layer(nn.AvgPool2d(3, 2, 1, divisor_override=5), ops="Pool Affine"),
    "average pool 1d": layer(nn.AvgPool1d(3, 2, 1), shape=(1, 6, 12), ops="Pool"),
    "average pool 3d": layer(nn.AvgPool3d(2), shape=(1, 6, 4, 4, 4), ops="Pool"),
    "global average": layer(nn.AdaptiveAvgPool2d(1), ops="Reduce"),
    "adaptive average": layer(nn.AdaptiveAvgPool2d((3, 4)), ops="Pool"),
    "adaptive average of uneven windows": layer(nn.AdaptiveAvgPool2d((5, 7)), ops="Resize"),
    "adaptive average of one axis": layer(nn.AdaptiveAvgPool2d((1, None)), ops="Pool"),
    "adaptive max": layer(nn.AdaptiveMaxPool2d((3, 4)), ops="Pool"),
    "global max": layer(nn.AdaptiveMaxPool2d(1), ops="Reduce"),
    "lp pool": layer(nn.LPPool2d(2, 2)),
    "reflection pad": layer(nn.ReflectionPad2d((1, 2, 3, 0)), ops="Pad"),
    "replication pad": layer(nn.ReplicationPad2d((1, 2, 3, 0)), ops="Pad"),
    "zero pad and crop": layer(nn.ZeroPad2d((1, 2, 3, -2)), ops="Pad"),
    "circular pad": layer(nn.CircularPad2d((1, 2, 3, 0)), ops="Pad"),
    "batch norm": layer(nn.BatchNorm2d(6), ops="Affine"),
    "batch norm without affine": layer(nn.BatchNorm2d(6, affine=False), ops="Affine"),
    "batch norm 1d": layer(nn.BatchNorm1d(6), shape=(1, 6, 9), ops="Affine"),
    "instance norm": layer(nn.InstanceNorm2d(6, affine=True), ops="Normalize"),
    "instance norm of running statistics": layer(nn.InstanceNorm2d(6, track_running_stats=True), ops="Affine"),
    "group norm": layer(nn.GroupNorm(3, 6), ops="Normalize"),
    "group norm of one group": layer(nn.GroupNorm(1, 6), ops="Normalize"),
    "local response norm": layer(nn.LocalResponseNorm(3)),
    "dropout": layer(nn.Dropout(), ops=""),
    "identity": layer(nn.Identity(), ops=""),
    "softmax": layer(nn.Softmax(1), ops="Normalize"),
    "log softmax": layer(nn.LogSoftmax(1), ops="Normalize Pointwise"),
    "softmin": layer(nn.Softmin(1), ops="Affine Normalize"),
    "glu": layer(nn.GLU(1)),
    "channel shuffle": then_conv(lambda x: F.channel_shuffle(x, 3)),
    "unbatched": Case(lambda x, m: m(x[0])[None], (nn.Conv2d(6, 4, 3),), ops=("Conv",)),
    "channels last": Case(lambda x, m: m(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), (nn.LayerNorm(6),)),
    "rms norm": Case(lambda x, m: m(x.movedim(1, -1)).movedim(-1, 1), (nn.RMSNorm(6, eps=0.1),)),
    "linear of channels": Case(lambda x, m: m(x.movedim(1, -1)).movedim(-1, 1), (nn.Linear(6, 5),), ops=("Linear",)),
}
for _name, _case in _LAYERS.items():
    _add(_name, _case)

# interpolation

_KINDS = {"nearest": 0, "nearest-exact": 0, "bilinear": 2, "bicubic": 3, "area": 0}
for _mode, _edge in _KINDS.items():
    for _scale in (2, 3, 1.5, 0.5):
        _margin = _edge * int(_scale) if _scale > 1 else min(_edge, 1)
        _add(
            f"interpolate {_mode} x{_scale}",
            Case(
                lambda x, mode=_mode, scale=_scale: F.interpolate(x, scale_factor=scale, mode=mode),
                margin=_margin,
                ops=("Pool",) if _mode == "area" and _scale < 1 else ("Resize",),
            ),
        )
for _mode in ("bilinear", "bicubic"):
    for _size in (9, 24, 31):
        _add(
            f"interpolate {_mode} antialias to {_size}",
            Case(
                lambda x, mode=_mode, size=_size: F.interpolate(x, size=size, mode=mode, antialias=True),
                shape=(1, 6, 18, 18),
                margin=4,
            ),
        )
    _add(
        f"interpolate {_mode} align_corners",
        Case(
            lambda x, mode=_mode: F.interpolate(x, size=(23, 34), mode=mode, align_corners=True),
            margin=7,
            ops=("Resize",),
        ),
    )
_add("interpolate 1d", Case(lambda x: F.interpolate(x, scale_factor=3, mode="linear"), shape=(1, 6, 20), margin=3))
_add("interpolate 3d", Case(lambda x: F.interpolate(x, size=8, mode="trilinear"), shape=(1, 6, 4, 4, 4), margin=2))
_add("interpolate to itself", Case(lambda x: F.interpolate(x, size=12, mode="bilinear"), ops=()))
_add(
    "interpolate with a rounded size",
    Case(lambda x: F.interpolate(x, scale_factor=1.3, mode="bilinear"), margin=3, ops=("Resize",)),
)

# pointwise functions: module, name, parameters

ACTIVATIONS: tuple[tuple[nn.Module, str, tuple[float, ...]], ...] = (
    (nn.ReLU(), "relu", ()),
    (nn.ReLU(inplace=True), "relu", ()),
    (nn.LeakyReLU(0.2), "leaky_relu", (0.2,)),
    (nn.PReLU(), "prelu", ()),
    (nn.PReLU(4), "prelu", ()),
    (nn.RReLU(0.1, 0.3), "leaky_relu", (0.2,)),
    (nn.GELU(), "gelu", ()),
    (nn.GELU("tanh"), "gelu", (1.0,)),
    (nn.SiLU(), "silu", ()),
    (nn.Mish(), "mish", ()),
    (nn.ELU(), "elu", ()),
    (nn.ELU(0.7), "elu", (0.7,)),
    (nn.SELU(), "selu", ()),
    (nn.CELU(0.7), "celu", (0.7,)),
    (nn.Softplus(), "softplus", ()),
    (nn.Sigmoid(), "sigmoid", ()),
    (nn.Tanh(), "tanh", ()),
    (nn.Hardtanh(-0.5, 0.7), "clamp", (-0.5, 0.7)),
    (nn.ReLU6(), "relu6", ()),
    (nn.Hardswish(), "hardswish", ()),
    (nn.Hardsigmoid(), "hardsigmoid", ()),
    (nn.Softsign(), "softsign", ()),
    (nn.Tanhshrink(), "tanhshrink", ()),
    (nn.Softshrink(0.3), "softshrink", (0.3,)),
    (nn.Hardshrink(0.3), "hardshrink", (0.3,)),
    (nn.LogSigmoid(), "log_sigmoid", ()),
    (nn.Threshold(0.1, 0.0), "thresholded_relu", (0.1,)),
)

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "addcmul": lambda x: torch.addcmul(x, x, x, value=2),
    "ceil": torch.ceil,
    "clamp above": lambda x: x.clamp(max=0.1),
    "clamp below": lambda x: x.clamp(min=0.1),
    "cos": torch.cos,
    "divide": lambda x: x / 0.3,
    "divide and floor": lambda x: torch.div(x, 0.3, rounding_mode="floor"),
    "erf": torch.erf,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "expm1": torch.expm1,
    "floor": torch.floor,
    "lerp": lambda x: torch.lerp(x, x * x, 0.3),
    "log": lambda x: (x * x + 1).log(),
    "log2": lambda x: (x * x + 1).log2(),
    "maximum": lambda x: torch.maximum(x, x * x),
    "minus": lambda x: 1 - x,
    "negative": torch.neg,
    "power": lambda x: x**3,
    "power of two": lambda x: 2**x,
    "reciprocal": lambda x: 1 / (x * x + 1),
    "round": torch.round,
    "rsqrt": lambda x: (x * x + 1).rsqrt(),
    "sign": torch.sign,
    "sin": torch.sin,
    "sqrt": lambda x: (x * x + 1).sqrt(),
    "square": torch.square,
    "whole numbers": lambda x: (3 * x).to(torch.int32).to(x.dtype),
    "whole quotients": lambda x: torch.div(x, 0.3, rounding_mode="trunc"),
    "subtract a multiple": lambda x: torch.sub(x, x * x, alpha=2),
}
for _name, _act in FUNCTIONS.items():
    _add(f"function {_name}", Case(_act))

TABLE = torch.arange(30.0).reshape(5, 6).sin()

# arrangement


def _written(x: Tensor) -> Tensor:
    y = x * 1
    y[:, :2] *= 2
    return y


def _shared(x: Tensor) -> Tensor:
    y = x * 2
    same = y
    y += 1
    return same * y


def _after_dropout(x: Tensor) -> Tensor:
    y = x * 2
    z = F.dropout(y, training=False)
    z += 1
    return y * z


_ARRANGED = {
    "slice": Case(lambda x: x[:, 1:5:2, 2:-1, ::3]),
    "chunks": Case(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)),
    "split": Case(lambda x: torch.cat([p * i for i, p in enumerate(x.split((1, 2, 3), 1), 1)], 1)),
    "tensor split": Case(lambda x: x.tensor_split(4, 1)[1]),
    "narrow": Case(lambda x: x.narrow(2, 3, 4)),
    "index": Case(lambda x: x[:, [3, 0, 5, 5]]),
    "index with a step": Case(lambda x: x[:, [0, 2, 4]], ops=("ChannelSlice",)),
    "index select backwards": Case(lambda x: x.index_select(2, torch.arange(11, -1, -1))),
    "unbind and stack": Case(lambda x: torch.stack([p * 2 for p in x.unbind(1)], 1)),
    "flip": Case(lambda x: x.flip(2, 3)),
    "flatten and unflatten": Case(
        lambda x, m: m(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, (12, 12)), (nn.Linear(6, 5),)
    ),
    "repeat channels": Case(lambda x: x.repeat(1, 2, 1, 1)),
    "repeat a vector": then_conv(lambda x: x.mean((2, 3), keepdim=True).repeat(1, 1, 4, 4)),
    "repeat interleave": then_conv(lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, 3)),
    "expand and reshape": then_conv(
        lambda x: x[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 3).reshape(1, 6, 24, 36)
    ),
    "index nearest": then_conv(lambda x: x[:, :, torch.arange(24) // 2][..., torch.arange(24) // 2]),
    "index outer product": then_conv(lambda x: x[:, :, torch.arange(24)[:, None] // 2, torch.arange(24) // 2]),
    "stack copies": then_conv(lambda x: torch.stack([x, x], -1).flatten(-2)),
    "zeros between samples": then_conv(
        lambda x: F.pad(x[:, :, :, None, :, None], (0, 1, 0, 0, 0, 1)).reshape(1, 6, 24, 24)
    ),
    "pad channels": Case(lambda x: F.pad(x, (0, 0, 0, 0, 1, 2))),
    "written through a view": Case(_written),
    "written in place": Case(_shared),
    "written after dropout": Case(_after_dropout),
    "masked": Case(lambda x: x.masked_fill(torch.ones(12, 12).triu().bool(), 0.0)),
    "chosen by a mask": Case(lambda x: torch.where(torch.ones(12, 12).triu().bool(), x, x * x)),
    "chosen altogether": Case(lambda x: torch.where(torch.tensor(True), x, x * 2), ops=()),
    "mean": Case(lambda x: x.mean((2, 3)), ops=("Reduce",)),
    "max over channels": Case(lambda x: x.max(1, keepdim=True)[0] * x),
    "sum over channels": Case(lambda x: x.sum(1, keepdim=True)),
    "norm over channels": Case(lambda x: x.norm(dim=1, keepdim=True)),
    "variance over channels": Case(lambda x: x.var(1, keepdim=True)),
    "distances to a table": Case(lambda x: torch.cdist(x.flatten(2).mT, TABLE.to(x.dtype)).mT.unflatten(2, (12, 12))),
    "broadcast tensors": Case(lambda x: torch.add(*torch.broadcast_tensors(x, x[:, :1]))),
    "mean squared difference": Case(
        lambda x: F.mse_loss(x, x * 3).reshape(1, 1), ops=("Affine", "Join", "Pointwise", "Reduce")
    ),
    "number times a vector of one": Case(lambda x: (x.mean() * torch.ones(1, dtype=x.dtype)).reshape(1, 1)),
    "mean of blocks": Case(lambda x: x.reshape(1, 6, 6, 2, 6, 2).mean((3, 5)), ops=("Pool",)),
    "windows without overlap": Case(lambda x: x.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2)), ops=("Pool",)),
    "constant matrix": Case(lambda x: (torch.ones(5, 6, dtype=x.dtype) @ x.flatten(2)).reshape(1, 5, 12, 12)),
    "einsum": Case(lambda x: torch.einsum("nchw,cd->ndhw", x, torch.ones(6, 5, dtype=x.dtype))),
    "patches": Case(
        lambda x, m: torch.einsum(
            "nhwpqc->nchpwq", m(x.flatten(2).transpose(1, 2)).reshape(1, 12, 12, 2, 2, 3)
        ).reshape(1, 3, 24, 24),
        (nn.Linear(6, 12),),
    ),
}
for _name, _case in _ARRANGED.items():
    _add(_name, _case)

# what is spelled out


def _gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x**3)))


def _layer_norm(x: Tensor) -> Tensor:
    u = x.mean(1, keepdim=True)
    s = (x - u).pow(2).mean(1, keepdim=True)
    return (x - u) / torch.sqrt(s + 1e-3)


_IDIOMS = {
    "spelled silu": after_conv(lambda x: x * torch.sigmoid(x), "Pointwise"),
    "spelled gelu": after_conv(_gelu, "Pointwise"),
    "spelled erf gelu": after_conv(lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)), "Pointwise"),
    "spelled leaky relu": after_conv(lambda x: torch.where(x > 0, x, 0.2 * x), "Pointwise"),
    "spelled leaky relu by max": after_conv(lambda x: torch.max(x, 0.2 * x), "Pointwise"),
    "spelled hardswish": after_conv(lambda x: x * F.relu6(x + 3) / 6, "Pointwise"),
    "spelled mish": after_conv(lambda x: x * torch.tanh(F.softplus(x)), "Pointwise"),
    "residual is no function": after_conv(lambda x: x + F.relu(x) * 3, "Pointwise Affine Join"),
    "l2 norm": Case(lambda x: F.normalize(x, dim=1), ops=("Normalize",)),
    "pixel norm": Case(lambda x: x / torch.sqrt(torch.mean(x**2, dim=1, keepdim=True) + 1e-8), ops=("Normalize",)),
    "spelled rms norm": Case(lambda x: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 0.1), ops=("Normalize",)),
    "spelled layer norm": Case(_layer_norm, ops=("Normalize",)),
    "spelled layer norm of a variance": Case(
        lambda x: (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, unbiased=False, keepdim=True) + 0.1),
        ops=("Normalize",),
    ),
    "layer norm of an unbiased variance": Case(
        lambda x: (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, keepdim=True) + 0.1)
    ),
    "spelled instance norm": Case(
        lambda x: (x - x.mean((2, 3), keepdim=True)) / torch.sqrt(x.var((2, 3), unbiased=False, keepdim=True) + 0.1),
        ops=("Normalize",),
    ),
}
for _name, _case in _IDIOMS.items():
    _add(_name, _case)

# attention


class _SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, t: Tensor) -> Tensor:
        y: Tensor = self.inner(t, t, t, need_weights=False)[0]
        return y


def _tokens(act: Callable[[Tensor, nn.Module], Tensor]) -> Callable[[Tensor, nn.Module], Tensor]:
    return lambda x, m: act(x.flatten(2).transpose(1, 2), m).transpose(1, 2).reshape(x.shape)


def _fused(t: Tensor, m: nn.Module) -> Tensor:
    q, k, v = m(t).view(1, -1, 3, 2, 3).permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(t.shape)


def _spelled(t: Tensor, m: nn.Module) -> Tensor:
    q, k, v = m(t).chunk(3, -1)
    return (q @ k.transpose(1, 2) * 0.3).softmax(-1) @ v


_ATTENTION = {
    "attention module": Case(_tokens(call), (_SelfAttention(),), (1, 6, 4, 4)),
    "attention operator": Case(_tokens(_fused), (nn.Linear(6, 18),), (1, 6, 4, 4)),
    "attention spelled": Case(_tokens(_spelled), (nn.Linear(6, 18),), (1, 6, 4, 4)),
    "transformer layer": Case(_tokens(call), (nn.TransformerEncoderLayer(6, 2, 12, batch_first=True),), (1, 6, 4, 4)),
}
for _name, _case in _ATTENTION.items():
    _add(_name, _case)

# operators of higher order


def _checkpointed(x: Tensor, m: nn.Module) -> Tensor:
    y: Tensor = torch.utils.checkpoint.checkpoint(m, x, use_reentrant=False)
    return y


def _with_gradient(x: Tensor, m: nn.Module) -> Tensor:
    with torch.enable_grad():
        y: Tensor = m(x)
    return y * 2


_add("checkpoint", Case(_checkpointed, (nn.Conv2d(6, 4, 3),), ops=("Conv",)))
_add("gradient mode", Case(_with_gradient, (nn.Conv2d(6, 4, 3),), ops=("Conv", "Affine")))
