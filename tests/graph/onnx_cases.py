"""Networks for the tests of the ONNX reader: small PyTorch modules, and files in the style of other frameworks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F  # noqa: N812
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

RNG = np.random.default_rng


# ------------------------------------------------------------------------------------------------------ PyTorch nets


class UNet(nn.Module):
    """Down, up, skip: sizes computed from the skip branch."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.LeakyReLU(0.2))
        self.deep = nn.Conv2d(8, 16, 4, stride=2, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1, output_padding=1)
        self.last = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        deep = self.up(self.pool(self.deep(skip)))
        deep = F.interpolate(deep, size=skip.shape[2:], mode="bilinear", align_corners=False)
        return torch.tanh(self.last(torch.cat([deep, skip], 1)))


class Residual(nn.Module):
    """Residual block with reflection padding, as in style transfer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.norm = nn.InstanceNorm2d(8, affine=True)
        self.second = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(8, 8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.norm(self.first(x))))


class Vocoder(nn.Module):
    """1-D: weight-normed transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.pre = nn.utils.parametrizations.weight_norm(nn.Conv1d(8, 16, 7, padding=3))
        self.ups = nn.ModuleList(
            [
                nn.utils.parametrizations.weight_norm(nn.ConvTranspose1d(16, 8, 16, 8, padding=4)),
                nn.utils.parametrizations.weight_norm(nn.ConvTranspose1d(8, 4, 4, 2, padding=1)),
            ]
        )
        self.post = nn.Conv1d(4, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pre(x)
        for up in self.ups:
            x = up(F.leaky_relu(x, 0.1))
        return torch.tanh(self.post(x))


class Tokens(nn.Module):
    """Patches, one attention block, back to pictures: the reshape-permute-reshape idiom."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 4, stride=4)
        self.norm = nn.LayerNorm(16)
        self.qkv = nn.Linear(16, 48)
        self.proj = nn.Linear(16, 16)
        self.head = nn.Linear(16, 48)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        x = self.embed(x)
        h, w = x.shape[2:]
        t = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(t)).reshape(n, h * w, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        a = F.scaled_dot_product_attention(q, k, v)
        t = t + self.proj(a.transpose(1, 2).reshape(n, h * w, 16))
        y = self.head(t).reshape(n, h, w, 4, 4, 3)
        return y.permute(0, 5, 1, 3, 2, 4).reshape(n, 3, 4 * h, 4 * w)


class Blur(nn.Module):
    """Fixed FIR before decimation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("fir", (taps[:, None] * taps / 64).expand(6, 1, 4, 4).clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.conv(x), self.fir, stride=2, padding=1, groups=6)


def torch_nets() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """Small networks and the shapes of their inputs."""
    torch.manual_seed(0)
    return {
        "dcgan": (
            nn.Sequential(
                nn.ConvTranspose2d(8, 16, 4, 1, 0, bias=False), nn.ReLU(), nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Tanh()
            ),
            (1, 8, 5, 5),
        ),
        "odd": (
            nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(8, 3, 3, 2, 1, 1)),
            (1, 3, 8, 8),
        ),
        "resize": (
            nn.Sequential(
                nn.Upsample(scale_factor=2, mode="nearest"),
                nn.Conv2d(3, 8, 3, padding=1),
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
                nn.Conv2d(8, 3, 3, padding=1),
            ),
            (1, 3, 8, 8),
        ),
        "shuffle": (nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2), nn.Sigmoid()), (1, 3, 8, 8)),
        "strided": (
            nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.SiLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.GELU(), nn.AvgPool2d(2)),
            (1, 3, 32, 32),
        ),
        "group": (
            nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Mish(), nn.ConvTranspose2d(8, 3, 4, 2)),
            (1, 3, 9, 9),
        ),
        "dilated": (
            nn.Sequential(
                nn.ConvTranspose2d(4, 4, 3, stride=2, dilation=2, groups=2),
                nn.ELU(),
                nn.Conv2d(4, 4, 3, dilation=2, groups=4),
            ),
            (1, 4, 8, 8),
        ),
        "volume": (
            nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.ConvTranspose3d(4, 1, 2, 2)),
            (1, 1, 4, 6, 8),
        ),
        "unet": (UNet(), (1, 3, 16, 16)),
        "residual": (Residual(), (1, 8, 12, 12)),
        "vocoder": (Vocoder(), (1, 8, 12)),
        "tokens": (Tokens(), (1, 3, 16, 16)),
        "blur": (Blur(), (1, 3, 16, 16)),
    }


# ------------------------------------------------------------------------------------------- files from other places


def weight(name: str, *shape: int, seed: int = 0) -> TensorProto:
    """Random float32 values."""
    return numpy_helper.from_array(RNG(seed + sum(shape)).standard_normal(shape).astype(np.float32), name)


def constant(name: str, values: Any, dtype: type = np.int64) -> TensorProto:
    """A constant of the file."""
    return numpy_helper.from_array(np.asarray(values, dtype=dtype), name)


def model(
    nodes: list[NodeProto],
    inputs: dict[str, list[int | str]],
    outputs: list[str],
    constants: list[TensorProto] | None = None,
    *,
    opset: int = 17,
    functions: list[Any] | None = None,
    domains: tuple[str, ...] = (),
) -> ModelProto:
    """A file with float inputs; outputs declare no shape."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        constants or [],
    )
    if opset < 9:  # initialisers had to be inputs below IR version 4
        graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in constants or [])
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)],
        ir_version=3 if opset < 9 else 8,
        functions=functions or [],
    )


def keras() -> ModelProto:
    """Channels last with transposes around every convolution, SAME padding, TensorFlow's names."""
    node = helper.make_node
    return model(
        [
            node("Transpose", ["x"], ["x_c"], perm=[0, 3, 1, 2], name="model/conv2d/Conv2D__6"),
            node("Conv", ["x_c", "k0", "b0"], ["c"], auto_pad="SAME_UPPER", strides=[2, 2], name="model/conv2d/Conv2D"),
            node("Transpose", ["c"], ["c_l"], perm=[0, 2, 3, 1], name="model/conv2d/Conv2D__7"),
            node("LeakyRelu", ["c_l"], ["r"], alpha=0.3, name="model/leaky_re_lu/LeakyRelu"),
            node("Transpose", ["r"], ["r_c"], perm=[0, 3, 1, 2], name="t2"),
            node(
                "ConvTranspose", ["r_c", "k1"], ["d"], strides=[2, 2], auto_pad="SAME_UPPER",
                name="model/conv2d_transpose/conv2d_transpose",
            ),
            node("Transpose", ["d"], ["d_l"], perm=[0, 2, 3, 1], name="t3"),
            node("Add", ["d_l", "b1"], ["y"], name="model/conv2d_transpose/BiasAdd"),
        ],
        {"x": [1, 12, 12, 3]},
        ["y"],
        [weight("k0", 8, 3, 5, 5), weight("b0", 8), weight("k1", 8, 4, 5, 5), weight("b1", 4)],
    )  # fmt: skip


def paddle() -> ModelProto:
    """PaddlePaddle's style: Resize by computed sizes, depthwise transposed convolution, hard activations."""
    node = helper.make_node
    return model(
        [
            node("Conv", ["x", "conv2d_0.w_0"], ["conv2d_0.tmp_0"], pads=[1, 1, 1, 1], strides=[2, 2]),
            node("BatchNormalization", ["conv2d_0.tmp_0", "s", "b", "m", "v"], ["bn"], epsilon=1e-3),
            node("HardSigmoid", ["bn"], ["gate"], alpha=1 / 6, beta=0.5),
            node("Mul", ["bn", "gate"], ["act"]),
            node("ConvTranspose", ["act", "up.w"], ["up"], kernel_shape=[2, 2], strides=[2, 2], group=8),
            node("Shape", ["x"], ["xs"]),
            node("Slice", ["xs", "two", "four", "zero"], ["hw"]),
            node("Mul", ["hw", "two"], ["hw2"]),
            node("Shape", ["up"], ["us"]),
            node("Slice", ["us", "zero", "two", "zero"], ["nc"]),
            node("Concat", ["nc", "hw2"], ["sizes"], axis=0),
            node("Resize", ["up", "", "", "sizes"], ["y"], mode="linear", coordinate_transformation_mode="half_pixel"),
        ],
        {"x": [1, 3, 8, 10]},
        ["y"],
        [
            weight("conv2d_0.w_0", 8, 3, 3, 3), weight("up.w", 8, 1, 2, 2), weight("s", 8),
            weight("b", 8), weight("m", 8),
            constant("v", np.ones(8), np.float32), constant("zero", [0]), constant("two", [2]), constant("four", [4]),
        ],
    )  # fmt: skip


def opset7() -> ModelProto:
    """Attributes where later opsets have inputs: Upsample, Pad, Slice, Clip, Reshape; initialisers as inputs."""
    node = helper.make_node
    return model(
        [
            node("Upsample", ["x"], ["u"], mode="nearest", scales=[1.0, 1.0, 2.0, 2.0]),
            node("Pad", ["u"], ["p"], mode="reflect", pads=[0, 0, 1, 1, 0, 0, 1, 1]),
            node("Conv", ["p", "w", "b"], ["c"]),
            node("Clip", ["c"], ["k"], min=0.0, max=6.0),
            node("Slice", ["k"], ["s"], axes=[2, 3], starts=[1, 1], ends=[-1, 9223372036854775807]),
            node("Dropout", ["s"], ["d"], ratio=0.5),
            node("ConvTranspose", ["d", "v"], ["y"], strides=[2, 2], pads=[1, 0, 1, 0], output_padding=[1, 0]),
        ],
        {"x": [1, 3, 6, 7]},
        ["y"],
        [weight("w", 8, 3, 3, 3), weight("b", 8), weight("v", 8, 2, 3, 3)],
        opset=7,
    )


def opset9() -> ModelProto:
    """Upsample with scales as an input, space to depth and back."""
    node = helper.make_node
    return model(
        [
            node("Upsample", ["x", "scales"], ["u"], mode="linear"),
            node("SpaceToDepth", ["u"], ["s"], blocksize=2),
            node("Conv", ["s", "w"], ["c"], pads=[1, 1, 1, 1]),
            node("DepthToSpace", ["c"], ["y"], blocksize=2),
        ],
        {"x": [1, 3, 6, 8]},
        ["y"],
        [constant("scales", [1, 1, 2, 2], np.float32), weight("w", 12, 12, 3, 3)],
        opset=9,
    )


def asymmetric() -> ModelProto:
    """Asymmetric padding, output_shape, dilation and groups in transposed convolutions."""
    node = helper.make_node
    return model(
        [
            node("Conv", ["x", "w0"], ["a"], pads=[0, 1, 2, 0], strides=[2, 1]),
            node("ConvTranspose", ["a", "w1"], ["b"], strides=[3, 2], pads=[2, 0, 1, 1], dilations=[1, 2], group=2),
            node("ConvTranspose", ["b", "w2"], ["c"], strides=[2, 2], output_shape=[27, 40], kernel_shape=[4, 5]),
            node("ConvTranspose", ["c", "w3"], ["y"], strides=[2, 2], auto_pad="SAME_LOWER"),
        ],
        {"x": [1, 3, 9, 10]},
        ["y"],
        [weight("w0", 8, 3, 3, 3), weight("w1", 8, 3, 4, 3), weight("w2", 6, 4, 4, 5), weight("w3", 4, 2, 3, 4)],
    )


def quantised() -> ModelProto:
    """QDQ: quantised weights per channel, activations in pairs."""
    node = helper.make_node
    q = RNG(3).integers(-127, 127, (8, 3, 3, 3)).astype(np.int8)
    return model(
        [
            node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
            node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
            node("DequantizeLinear", ["wq", "ws", "wz"], ["w"], axis=0),
            node("Conv", ["xd", "w"], ["c"], pads=[1, 1, 1, 1]),
            node("Relu", ["c"], ["r"]),
            node("DequantizeLinear", ["vq", "vs"], ["v"], axis=1),
            node("ConvTranspose", ["r", "v"], ["y"], strides=[2, 2]),
        ],
        {"x": [1, 3, 8, 8]},
        ["y"],
        [
            constant("xs", 0.02, np.float32), constant("xz", 0, np.int8),
            numpy_helper.from_array(q, "wq"), constant("ws", RNG(4).uniform(0.01, 0.02, 8), np.float32),
            constant("wz", np.zeros(8), np.int8),
            numpy_helper.from_array(q.reshape(8, 3, 3, 3), "vq"), constant("vs", [0.01, 0.02, 0.03], np.float32),
        ],
    )  # fmt: skip


def pooled() -> ModelProto:
    """Pooling with SAME padding, uneven windows, and slices with steps."""
    node = helper.make_node
    return model(
        [
            node("MaxPool", ["x"], ["m"], kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER"),
            node("AveragePool", ["m"], ["a"], kernel_shape=[2, 3], pads=[0, 1, 1, 1], count_include_pad=1),
            node("Slice", ["a", "starts", "ends", "axes", "steps"], ["s"]),
            node("Split", ["s"], ["l", "r"], axis=1),
            node("Sub", ["l", "r"], ["d"]),
            node("ConvTranspose", ["d", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1]),
        ],
        {"x": [1, 4, 24, 24]},
        ["y"],
        [
            constant("starts", [1, 0]), constant("ends", [100, 100]), constant("axes", [2, 3]),
            constant("steps", [1, 2]),
            weight("w", 2, 3, 4, 4),
        ],
        opset=13,
    )  # fmt: skip


def subpixel(mode: str) -> ModelProto:
    """Depth to space in either channel order."""
    node = helper.make_node
    return model(
        [
            node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
            node("DepthToSpace", ["c"], ["d"], blocksize=2, mode=mode),
            node("Conv", ["d", "v"], ["y"], pads=[1, 1, 1, 1]),
        ],
        {"x": [1, 3, 6, 6]},
        ["y"],
        [weight("w", 16, 3, 3, 3), weight("b", 16), weight("v", 2, 4, 3, 3)],
    )


def resized(opset: int = 13, **attributes: Any) -> ModelProto:
    """One Resize with the given attributes; ``scales`` or ``sizes`` among them, for the two last dimensions."""
    sizes, scales = attributes.pop("sizes", None), attributes.pop("scales", None)
    inputs = ["x", "", "", "sizes"] if sizes else ["x", "", "scales"]
    if opset == 10:
        inputs = ["x", "scales"]
    if opset == 11:
        inputs[1] = "roi"  # not optional yet
    constants = [constant("sizes", [1, 3, *sizes])] if sizes else [constant("scales", [1, 1, *scales], np.float32)]
    constants.append(constant("roi", [], np.float32))
    return model(
        [helper.make_node("Resize", inputs, ["y"], **attributes)], {"x": [1, 3, 10, 12]}, ["y"], constants, opset=opset
    )


def local_function() -> ModelProto:
    """A model-local function, called twice."""
    node = helper.make_node
    body = helper.make_function(
        "local",
        "Block",
        ["a", "k"],
        ["z"],
        [node("Conv", ["a", "k"], ["t"], pads=[1, 1, 1, 1]), node("Relu", ["t"], ["z"])],
        [helper.make_opsetid("", 17)],
    )
    return model(
        [node("Block", ["x", "w"], ["h"], domain="local"), node("Block", ["h", "w"], ["y"], domain="local")],
        {"x": [1, 4, 8, 8]},
        ["y"],
        [weight("w", 4, 4, 3, 3)],
        functions=[body],
        domains=("local",),
    )


FOREIGN: dict[str, Callable[[], ModelProto]] = {
    "keras": keras,
    "paddle": paddle,
    "opset7": opset7,
    "opset9": opset9,
    "asymmetric": asymmetric,
    "quantised": quantised,
    "pooled": pooled,
    "subpixel_dcr": lambda: subpixel("DCR"),
    "subpixel_crd": lambda: subpixel("CRD"),
    "local_function": local_function,
}

RESIZES: dict[str, dict[str, Any]] = {
    "opset10 nearest": {"opset": 10, "mode": "nearest", "scales": [2.0, 2.0]},
    "opset10 linear": {"opset": 10, "mode": "linear", "scales": [2.0, 3.0]},
    "opset11 half_pixel nearest": {"opset": 11, "mode": "nearest", "scales": [2.0, 3.0]},
    "floor asymmetric": {
        "mode": "nearest", "scales": [1.5, 2.5], "nearest_mode": "floor",
        "coordinate_transformation_mode": "asymmetric",
    },
    "ceil": {"mode": "nearest", "sizes": [20, 36], "nearest_mode": "ceil"},
    "round_prefer_ceil": {
        "mode": "nearest", "sizes": [15, 18], "nearest_mode": "round_prefer_ceil",
        "coordinate_transformation_mode": "pytorch_half_pixel",
    },
    "align_corners": {"mode": "linear", "sizes": [19, 23], "coordinate_transformation_mode": "align_corners"},
    "linear": {"mode": "linear", "scales": [2.0, 2.0]},
    "linear down": {"mode": "linear", "scales": [0.5, 0.5]},
    "cubic": {"mode": "cubic", "scales": [2.0, 2.0], "cubic_coeff_a": -0.5},
    "cubic asymmetric": {"mode": "cubic", "scales": [2.0, 3.0], "coordinate_transformation_mode": "asymmetric"},
    "antialias": {"opset": 18, "mode": "linear", "sizes": [5, 4], "antialias": 1},
    "antialias cubic": {"opset": 18, "mode": "cubic", "sizes": [5, 6], "antialias": 1},
    "half_pixel_symmetric": {
        "opset": 19, "mode": "linear", "scales": [1.6, 2.3], "coordinate_transformation_mode": "half_pixel_symmetric",
    },
}  # fmt: skip


def random_input(proto: ModelProto, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Random values for the inputs of a file with concrete shapes."""
    names = {t.name for t in proto.graph.initializer}
    return {
        v.name: RNG(seed).standard_normal([d.dim_value for d in v.type.tensor_type.shape.dim]).astype(np.float32)
        for v in proto.graph.input
        if v.name not in names
    }


def save(proto: ModelProto, path: Any) -> Any:
    """Write a file and return its path."""
    onnx.save(proto, str(path))
    return path
