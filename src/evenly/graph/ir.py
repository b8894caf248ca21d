"""The one small graph that every reader produces and every analysis reads.

A :class:`Node` stands for one value: a *field* of ``channels`` over a *lattice* with one size per axis (time; height,
width; depth, height, width). ``sizes == ()`` means that the value has no lattice (a latent vector, a global average).
Batch dimensions do not appear: the graph describes one sample. Foreign layout (channels last, tokens, patches folded
into channels, frames folded into the batch) is resolved by the reader, so that here an axis is an axis.

Per-axis tuples of an operation have one entry per lattice axis of its *input* field, in order; an operation that acts
on some axes only (a 2-D convolution over the frames of a clip) has kernel 1, stride 1, padding 0 on the others.

Notation follows Dumoulin & Visin, "A guide to convolution arithmetic for deep learning" (arXiv 1603.07285).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evenly.theory.resize import AxisResize

__all__ = [
    "Affine",
    "Attention",
    "AxisResize",
    "Birth",
    "Broadcast",
    "ChannelMix",
    "ChannelPermute",
    "ChannelSlice",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Flatten",
    "Fold",
    "Graph",
    "Input",
    "Join",
    "Linear",
    "Node",
    "Normalize",
    "Op",
    "Output",
    "Pad",
    "PixelShuffle",
    "PixelUnshuffle",
    "Pointwise",
    "Pool",
    "Reduce",
    "Resize",
    "Slice",
    "Source",
    "Unfold",
    "Unknown",
    "Unpool",
    "Warp",
    "Weight",
]

Axes = tuple[int, ...]
Padding = tuple[tuple[int, int], ...]
PadMode = Literal["zeros", "constant", "reflect", "replicate", "circular"]


@dataclass(frozen=True, eq=False)
class Weight:
    """A tensor that a file or a module carries.

    Attributes:
        name: Its name in the file or module (``"main.3.weight"``).
        shape: Its shape.
        fixed: True for a constant of the architecture (a FIR filter kept as a buffer), which is no trained parameter
            and therefore counts as known even before training.
        load: Returns the values as a float array; ``None`` when the values are ignored or unknown (``--no-weights``,
            a weight computed from the input).
        redraw: For a tensor that the network computes from parameters: returns what it computes from other ones, drawn
            at random by a seed (the same seed draws the same parameters for every weight). ``None`` where each entry is
            a parameter of its own, or where the computation is not known.
    """

    name: str
    shape: tuple[int, ...]
    fixed: bool = False
    load: Callable[[], NDArray[np.floating]] | None = field(default=None, repr=False)
    redraw: Callable[[int], NDArray[np.floating]] | None = field(default=None, repr=False)

    @property
    def known(self) -> bool:
        """Whether the values can be read."""
        return self.load is not None

    def values(self) -> NDArray[np.float64]:
        """The values in float64.

        Raises:
            ValueError: If they are not known.
        """
        if self.load is None:
            raise ValueError(f"the values of {self.name!r} are not known; check Weight.known first")
        return np.asarray(self.load(), dtype=np.float64)

    def drawn(self, seed: int) -> NDArray[np.float64] | None:
        """The values for random parameters; those of a fixed tensor are its own; ``None`` where they are not known."""
        if self.fixed and self.load is not None:
            return self.values()
        return None if self.redraw is None or self.fixed else np.asarray(self.redraw(seed), dtype=np.float64)

    def tap_sum(self) -> NDArray[np.float64]:
        """The sum over all axes but the first two (the DC gain of a convolution), without a float64 copy of the rest.

        Raises:
            ValueError: If the values are not known.
        """
        if self.load is None:
            raise ValueError(f"the values of {self.name!r} are not known; check Weight.known first")
        raw = self.load()
        flat = raw.reshape(raw.shape[0] * raw.shape[1], -1)
        return np.asarray(flat @ np.ones(flat.shape[1], flat.dtype), np.float64).reshape(raw.shape[:2])


class Op:
    """Base of the operations: what a node means for a periodic signal."""


@dataclass(frozen=True)
class Input(Op):
    """An input of the network."""


@dataclass(frozen=True, eq=False)
class Source(Op):
    """A value that does not come from an input and varies over its lattice.

    Attributes:
        kind: ``"constant"`` (learned constant that a generator starts from), ``"position"`` (position embedding, added
            to or multiplied with a field), ``"noise"`` (random numbers drawn at every call).
        value: ``(channels, *sizes)`` where known; size 1 on an axis means constant along it.
    """

    kind: Literal["constant", "position", "noise"]
    value: Weight | None = None


@dataclass(frozen=True, eq=False)
class Conv(Op):
    """Convolution (cross-correlation): ``y[n] = sum_t W[t] x[s n + d t - p]``.

    Attributes:
        padding: ``(before, after)`` per axis.
        weight: ``(C_out, C_in / groups, *kernel)``.
        bias: ``(C_out,)``.
    """

    kernel: Axes
    stride: Axes
    padding: Padding
    dilation: Axes
    groups: int
    in_channels: int
    out_channels: int
    pad_mode: PadMode = "zeros"
    weight: Weight | None = None
    bias: Weight | None = None


@dataclass(frozen=True, eq=False)
class ConvTranspose(Op):
    """Transposed convolution: input ``i`` adds ``W[t] x[i]`` to output ``n = s i + d t - p``.

    Attributes:
        padding: What is cut ``(before, after)`` per axis; negative where ``output_padding`` of a foreign format adds.
        output_padding: As declared by the layer, per axis (already reflected in the node's sizes).
        weight: ``(C_in, C_out / groups, *kernel)``.
        bias: ``(C_out,)``.
    """

    kernel: Axes
    stride: Axes
    padding: Padding
    dilation: Axes
    output_padding: Axes
    groups: int
    in_channels: int
    out_channels: int
    weight: Weight | None = None
    bias: Weight | None = None


@dataclass(frozen=True, eq=False)
class Linear(Op):
    """The same linear map of the channels at every position.

    Attributes:
        weight: ``(C_out, C_in)``.
        bias: ``(C_out,)``.
    """

    in_channels: int
    out_channels: int
    weight: Weight | None = None
    bias: Weight | None = None


@dataclass(frozen=True)
class Resize(Op):
    """Interpolation by a fixed filter (nearest, linear, cubic, area, antialiased).

    Attributes:
        axes: One resampler per axis.
        mode: The user's name of it (``"nearest"``, ``"bilinear"``, ...).
    """

    axes: tuple[AxisResize, ...]
    mode: str


@dataclass(frozen=True)
class PixelShuffle(Op):
    """Depth to space: ``y[c, r_0 n_0 + q_0, ...] = x[c * prod(r) + q_0 * r_1 * ... + ..., n]`` (PyTorch's order).

    Attributes:
        factor: Per axis.
        idiom: ``"pixel_shuffle"`` for the operator itself, ``"patch"`` for reshape-permute-reshape.
    """

    factor: Axes
    idiom: Literal["pixel_shuffle", "patch"] = "pixel_shuffle"


@dataclass(frozen=True)
class PixelUnshuffle(Op):
    """Space to depth, the inverse of :class:`PixelShuffle` with the same channel order."""

    factor: Axes


@dataclass(frozen=True)
class ChannelPermute(Op):
    """View the channels as an array of shape ``sizes``, transpose it by ``perm``, flatten it again."""

    sizes: tuple[int, ...]
    perm: tuple[int, ...]


@dataclass(frozen=True)
class ChannelSlice(Op):
    """Channels ``start, start + step, ...`` below ``stop``."""

    start: int
    stop: int
    step: int = 1


@dataclass(frozen=True)
class Pool(Op):
    """Pooling over windows.

    Attributes:
        padding: ``(before, after)`` per axis.
        count_include_pad: For averages, whether padding counts in the divisor.
    """

    kind: Literal["max", "average", "lp"]
    kernel: Axes
    stride: Axes
    padding: Padding
    dilation: Axes
    count_include_pad: bool = True


@dataclass(frozen=True)
class Unpool(Op):
    """Max un-pooling: values go to remembered positions, zeros elsewhere."""

    kernel: Axes
    stride: Axes


@dataclass(frozen=True)
class Reduce(Op):
    """Reduction over whole lattice axes (they disappear) and, if asked, over the channels (they become one).

    Attributes:
        axes: Indices of the input's lattice axes.
        channels: Whether channels are reduced as well.
        kind: ``"mean"``, ``"sum"``, ``"max"``, ...
    """

    axes: Axes
    kind: str
    channels: bool = False


@dataclass(frozen=True)
class Broadcast(Op):
    """A value without lattice, or with fewer axes, spread over new axes: constant along them.

    Attributes:
        axes: Indices of the *output's* lattice axes that are new.
    """

    axes: Axes


@dataclass(frozen=True)
class Birth(Op):
    """Channels become a lattice: the reshape after a linear layer.

    Every position then has weights of its own, which is a source of variation of its own.
    """


@dataclass(frozen=True)
class Flatten(Op):
    """The lattice becomes channels (``flatten`` before a dense layer): every position then has its own weights.

    Attributes:
        axes: Indices of the input's lattice axes that become channels.
    """

    axes: Axes


@dataclass(frozen=True)
class Pad(Op):
    """Padding ``(before, after)`` per axis; a negative amount crops."""

    padding: Padding
    mode: PadMode
    value: float = 0.0


@dataclass(frozen=True)
class Slice(Op):
    """Positions ``start + step * n`` per axis."""

    start: Axes
    step: Axes


@dataclass(frozen=True)
class Concat(Op):
    """Concatenation of the inputs' channels, in order."""


@dataclass(frozen=True)
class Join(Op):
    """Elementwise operation of two fields; an input with fewer lattice axes or one channel is broadcast."""

    kind: Literal["add", "sub", "mul", "div", "max", "min", "pow"]


@dataclass(frozen=True, eq=False)
class Affine(Op):
    """``scale * x + shift`` per channel: batch normalisation in eval mode, or arithmetic with constants.

    Attributes:
        scale: ``(C,)``, a number, or ``None`` for 1.
        shift: ``(C,)``, a number, or ``None`` for 0.
        kind: ``"batch_norm"`` or ``"arithmetic"``.
    """

    scale: Weight | float | None = None
    shift: Weight | float | None = None
    kind: Literal["batch_norm", "arithmetic"] = "arithmetic"


@dataclass(frozen=True, eq=False)
class Pointwise(Op):
    """The same scalar function at every position.

    Attributes:
        function: Name in :data:`evenly.theory.activations.ACTIVATIONS` (``"relu"``, ``"gelu"``, ...).
        parameters: Scalars of the function, in its order (``(0.2,)`` for ``leaky_relu``).
        weight: Per-channel parameter (``prelu``).
    """

    function: str
    parameters: tuple[float, ...] = ()
    weight: Weight | None = None


@dataclass(frozen=True, eq=False)
class Normalize(Op):
    """Normalisation by statistics of the field itself.

    ``batch`` (training mode only) uses the statistics of the batch; ``instance`` of each channel over the lattice;
    ``group`` of each group of channels over the lattice; ``layer`` of the channels at each position, mean removed;
    ``rms`` of the channels at each position, mean kept; ``l2`` like ``rms`` but divided by the norm;
    ``softmax`` over the channels at each position.

    Attributes:
        groups: Groups of consecutive channels with statistics of their own (all kinds but batch and instance).
        eps: Added to the variance (mean square).
        weight: ``(C,)`` scale.
        bias: ``(C,)`` shift.
    """

    kind: Literal["batch", "instance", "group", "layer", "rms", "l2", "softmax"]
    groups: int = 1
    eps: float = 1e-5
    weight: Weight | None = None
    bias: Weight | None = None


@dataclass(frozen=True)
class Attention(Op):
    """Softmax attention over all positions; inputs are query, key, value.

    Attributes:
        heads: The channels are ``heads`` consecutive groups.
        scale: Factor of the scores.
        biased: Whether a mask or a position bias is added to the scores.
        windowed: Whether positions attend inside blocks only (windows, rows, neighbourhoods).
        window: Size of those blocks per axis where they are contiguous, else empty.
        cross: Whether keys and values live on another lattice than the queries.
    """

    heads: int
    scale: float
    biased: bool = False
    windowed: bool = False
    window: Axes = ()
    cross: bool = False


@dataclass(frozen=True)
class ChannelMix(Op):
    """Mixing whose coefficients come from the data but are the same at every position (dynamic filters of size 1)."""


@dataclass(frozen=True)
class Fold(Op):
    """col2im: channels ``(C, *kernel)`` are written to overlapping blocks and summed."""

    kernel: Axes
    stride: Axes
    padding: Padding
    dilation: Axes


@dataclass(frozen=True)
class Unfold(Op):
    """im2col: the blocks of every output position become channels ``(C, *kernel)``."""

    kernel: Axes
    stride: Axes
    padding: Padding
    dilation: Axes


@dataclass(frozen=True)
class Warp(Op):
    """``grid_sample`` and its kin: positions read come from the data. Constants stay constant."""

    mode: str


@dataclass(frozen=True)
class Unknown(Op):
    """An operator without an entry.

    Attributes:
        operator: Its foreign name (``"aten.fft_rfft2"``, ``"com.microsoft::Foo"``).
        reason: What is missing, in words for the user.
        hides: What it may hide.
        spatial: False when it provably cannot mix positions (no lattice at its inputs and outputs).
    """

    operator: str
    reason: str
    hides: str = "it may create, move or remove periodic artifacts"
    spatial: bool = True


@dataclass(frozen=True)
class Output(Op):
    """An output of the network."""


@dataclass(frozen=True, eq=False)
class Node:
    """One value of the network.

    Attributes:
        name: The module path or node name that the user knows (``"main.3"``).
        op: What it means.
        inputs: Indices of the nodes it reads, all smaller than its own.
        channels: Number of channels.
        sizes: Size of each lattice axis for the declared inputs.
    """

    name: str
    op: Op
    inputs: tuple[int, ...]
    channels: int
    sizes: tuple[int, ...]

    @property
    def fields(self) -> tuple[int, ...]:
        """The inputs that it reads as fields: a layer's weights may come from another value, which is none."""
        return self.inputs[:1] if isinstance(self.op, Conv | ConvTranspose | Linear) else self.inputs


@dataclass(frozen=True, eq=False)
class Graph:
    """A network.

    Attributes:
        source: Where it came from, for people (a path, a module's class).
        nodes: In an order in which every node follows its inputs.
        inputs: Indices of :class:`Input` nodes with the tensor's declared shape and dtype.
        outputs: Indices of :class:`Output` nodes.
        input_shapes: Declared tensor shape per input, batch included.
        output_shapes: Tensor shape per output, batch included.
        dtypes: Per input, as numpy names (``"float32"``, ``"int64"``).
        training: Whether it was read in training mode.
    """

    source: str
    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    input_shapes: tuple[tuple[int, ...], ...]
    output_shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    training: bool = False

    def consumers(self) -> tuple[tuple[int, ...], ...]:
        """For every node the nodes that read it, in order."""
        readers: list[list[int]] = [[] for _ in self.nodes]
        for index, node in enumerate(self.nodes):
            for source in dict.fromkeys(node.inputs):
                readers[source].append(index)
        return tuple(tuple(r) for r in readers)
