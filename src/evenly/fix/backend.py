"""What a repair needs of a model, whether it is a PyTorch module or an ONNX file: look at it, run it, edit it.

The methods of repair are written once, in numpy, against this. A backend never changes the model it was given: edits
give a new backend.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Backend", "Edit", "Layer", "Run"]

Floats = NDArray[np.floating]
Kind = Literal["transposed", "subpixel", "convolution"]


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution-like layer of a model, one to three axes.

    Attributes:
        name: Of the module or node, as ``evenly check`` names it.
        kind: ``transposed`` convolution; ``subpixel``: convolution of stride 1 whose only reader is a pixel shuffle
            (order of PyTorch's, or depth-column-row, as the backend normalises it); ``convolution``: any other.
        kernel, stride, dilation: Per axis.
        padding: ``(before, after)`` per axis; of a transposed convolution what is cut.
        output_padding: Per axis, of transposed convolutions.
        factor: Of the pixel shuffle behind it, per axis; ones otherwise.
        groups: Groups of channels.
        pad_mode: ``zeros``, ``reflect``, ``replicate``, ``circular``.
        weight: In PyTorch's order: ``(C_out, C_in / groups, *kernel)``, transposed ``(C_in, C_out / groups, *kernel)``;
            of a sub-pixel convolution the output channels are ordered ``(C, *phases)`` as PyTorch's pixel shuffle reads
            them.
        bias: ``(C_out,)`` or ``None``.
        fixed: Why its weights cannot be rewritten, in one line (shared with another layer, used twice, quantised,
            computed, frozen), or ``None``.
        note: What to know before they are rewritten, in one line (frozen in training, parametrized), or ``None``.
    """

    name: str
    kind: Kind
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    output_padding: tuple[int, ...]
    factor: tuple[int, ...]
    groups: int
    pad_mode: str
    weight: Floats = field(repr=False)
    bias: Floats | None = field(repr=False)
    fixed: str | None = None
    note: str | None = None

    @property
    def upsampling(self) -> tuple[int, ...]:
        """By how much it up-samples, per axis; ones if it does not."""
        return {"transposed": self.stride, "subpixel": self.factor}.get(self.kind, (1,) * len(self.kernel))


@dataclass(frozen=True, eq=False)
class Edit:
    """New weights, and where they need it new geometry, for a layer; everything else of it stays.

    Attributes:
        name: The layer's.
        weight, bias: In the order of :class:`Layer`. A bias where there was none adds one.
        kernel, padding, output_padding: As in :class:`Layer`; of the new layer, whose output has the same size.
        phases: More than 1 on an axis: a convolution of stride 1 becomes one whose weights differ by the phase of its
            output, ``n mod P`` per axis; its weight then is ``(*phases, C_out, C_in / groups, *kernel)`` and its bias
            ``(*phases, C_out)``.
    """

    name: str
    weight: Floats = field(repr=False)
    bias: Floats | None = field(repr=False)
    kernel: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    output_padding: tuple[int, ...]
    phases: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Run:
    """What running a model on one batch gave.

    Attributes:
        outputs: By the outputs' names, as arrays.
        inputs: Of the layers that were asked for, by name: ``(N, C_in, *sizes)``, before padding.
        results: Of the layers that were asked for, by name: ``(N, C_out, *sizes)``, after the pixel shuffle of a
            sub-pixel convolution.
    """

    outputs: Mapping[str, Floats]
    inputs: Mapping[str, Floats]
    results: Mapping[str, Floats]


class Backend(Protocol):
    """A model that can be looked at, run, and edited."""

    def layers(self) -> Sequence[Layer]:
        """All convolution-like layers, in the order in which the model runs them."""
        ...

    def run(self, batch: Any, record: Iterable[str] = ()) -> Run:
        """Run one batch of inputs in inference mode.

        Args:
            batch: What the model takes: an array, or a sequence of arrays, or a mapping by the names of inputs.
            record: Layers whose inputs and results are wanted.

        Raises:
            UsageError: If the batch does not fit the model, or a layer does not exist or runs more than once.
        """
        ...

    def edited(self, edits: Sequence[Edit]) -> Self:
        """A new model with these edits; this one stays as it is.

        Raises:
            UsageError: If a layer cannot be edited.
        """
        ...

    @property
    def model(self) -> Any:
        """The ``nn.Module`` or the ``onnx.ModelProto``."""
        ...
