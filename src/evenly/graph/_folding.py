"""Tensors that no input decides: parameters, buffers, literals, and whatever a network computes from them.

Nothing is evaluated while a network is read: a :class:`Const` knows its shape, and its values are computed when an
analysis asks for them. So weight normalisation, spectral normalisation, parametrisations and equalised learning rates
are weights like any other. The same computation runs on parameters drawn at random (:class:`Draw`), which tells what a
weight is whatever training makes of its parameters.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from evenly.errors import WeightsError
from evenly.graph.ir import Weight

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["FOLD_LIMIT", "Const", "NotConstantError", "folded", "weight_name"]

FOLD_LIMIT = 64 * 2**20
"""Largest result in bytes that is computed from literals alone; what comes from weights may be as large as they."""

_KEPT = 2**20  # intermediate results up to this size are kept, larger ones are computed again
# Parametrisations keep what they start from below the module; weight_norm and spectral_norm of old add a suffix.
_PARAMETRISED = re.compile(r"\.parametrizations\.(\w+)\.original\d*$")
_SUFFIXED = re.compile(r"(?<=weight)_(g|v|orig)$")
# Tensors without values: zeros stand for them, so that what is written to them decides.
_EMPTY = ("aten::empty", "aten::empty_like", "aten::new_empty", "aten::empty_permuted", "aten::empty_strided")


class NotConstantError(Exception):
    """A parameter of an operator is not known when the network is read."""


class Draw:
    """Random values in place of all parameters: independent, normal, of mean 0 and variance 1.

    Args:
        seed: The same seed gives a parameter the same values, whichever tensor is computed from it.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.made: dict[Const, Any] = {}

    def parameter(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """The values of one parameter."""
        if not (dtype.is_floating_point or dtype.is_complex):
            raise NotConstantError(f"{name} holds whole numbers, which training does not change by gradients")
        source = torch.Generator().manual_seed(zlib.crc32(f"{self.seed} {name}".encode()))
        wide = dtype if dtype in (torch.float32, torch.float64) or dtype.is_complex else torch.float32
        return torch.randn(tuple(shape), generator=source, dtype=wide)


@dataclass(eq=False)
class Const:
    """A tensor that no input decides.

    Attributes:
        name: Its name in the module (``"main.3.weight"``), or where it is computed.
        shape: Its shape.
        dtype: Its type.
        make: Computes it on the CPU, if asked from a draw of the parameters; ``None`` when that is impossible
            (parameters without values) or too large.
        roots: Names of the parameters and buffers that it is computed from.
        trained: Whether a parameter is among them.
        whole: Whether it is stored as such, so that nothing needs to be kept.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[Draw | None], Tensor] | None
    roots: tuple[str, ...] = ()
    trained: bool = False
    whole: bool = False
    _kept: Tensor | None = field(default=None, repr=False)
    _weight: Weight | None = field(default=None, repr=False)

    @property
    def size(self) -> int:
        """Number of entries."""
        return prod(self.shape)

    def tensor(self, draw: Draw | None = None) -> Tensor:
        """The values, or those that it would have with other parameters.

        Raises:
            NotConstantError: If they cannot be known.
            WeightsError: If computing them fails.
        """
        if draw is not None and self.trained:
            return self._drawn(draw)
        if self._kept is not None:
            return self._kept
        if self.make is None:
            raise NotConstantError(f"the values of {self.name} are not known")
        value = self.make(None)
        if not self.whole and value.nbytes <= _KEPT:
            self._kept = value
        return value

    def _drawn(self, draw: Draw) -> Tensor:
        if self.make is None:
            raise NotConstantError(f"the values of {self.name} are not known")
        if self not in draw.made:
            draw.made[self] = self.make(draw)
        value: Tensor = draw.made[self]
        return value

    def array(self, draw: Draw | None = None) -> NDArray[Any]:
        """The values as numpy reads them; half precision becomes float32."""
        return _numpy(self.tensor(draw))

    def number(self) -> float | None:
        """The value of a single entry that is no parameter, else ``None``."""
        if self.size != 1 or self.trained or self.make is None or self.dtype.is_complex:
            return None
        return float(self.array().reshape(-1)[0])

    def weight(self) -> Weight:
        """The tensor as a weight of the graph: computed once, when it is asked for."""
        if self._weight is None:
            known = self.make is not None and not self.dtype.is_complex
            fixed = not self.trained
            redraw = (lambda seed: self.array(Draw(seed))) if known and self.trained and not self.whole else None
            self._weight = Weight(self.name, self.shape, fixed, self._load() if known else None, redraw)
        return self._weight

    def _load(self) -> Callable[[], NDArray[np.floating[Any]]]:
        kept: list[NDArray[np.floating[Any]]] = []

        def load() -> NDArray[np.floating[Any]]:
            if kept:
                return kept[0]
            array = self.array()
            if array.dtype.kind != "f":
                array = array.astype(np.float64)
            if not self.whole:
                kept.append(array)
            return array

        return load


def stored(name: str, tensor: Tensor, trained: bool) -> Const:
    """A parameter or buffer as the module holds it."""
    shape = tuple(int(n) for n in tensor.shape)
    known = tensor.device.type != "meta" and not _is_fake(tensor)

    def make(draw: Draw | None) -> Tensor:
        return tensor.detach() if draw is None else draw.parameter(name, shape, tensor.dtype)

    return Const(weight_name(name), shape, tensor.dtype, make if known else None, (name,), trained, whole=True)


def weight_name(name: str) -> str:
    """The weight that a stored tensor belongs to: ``"a.weight"`` for ``"a.parametrizations.weight.original0"``."""
    return _SUFFIXED.sub("", _PARAMETRISED.sub(r".\1", name))


def folded(name: str, target: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], results: Any) -> Any:
    """What an operator makes of constants.

    Args:
        name: Where in the network it stands.
        target: The operator.
        args: Its arguments, with :class:`Const` for tensors.
        kwargs: The same.
        results: A tensor or a sequence of tensors with the shapes and types of the results.

    Returns:
        The results in the same structure, as constants.
    """
    sources = [leaf for leaf in pytree.tree_leaves((list(args), dict(kwargs))) if isinstance(leaf, Const)]
    roots = tuple(dict.fromkeys(root for s in sources for root in s.roots))
    trained = any(s.trained for s in sources)
    stored_bytes = sum(s.size * s.dtype.itemsize for s in sources if s.trained)
    own = next((s.name for s in sources if s.trained), None) or next((s.name for s in sources if s.roots), name)
    limit = max(FOLD_LIMIT, 2 * stored_bytes)
    known = all(s.make is not None for s in sources)
    listed = isinstance(results, list | tuple)
    leaves = list(results) if listed else [results]

    def run(draw: Draw | None) -> Any:
        return _run(name, target, args, kwargs, draw)

    def made(place: int, meta: Tensor) -> Const:
        shape = tuple(int(n) for n in meta.shape)
        fits = known and prod(shape) * meta.dtype.itemsize <= limit
        make = (lambda draw: run(draw)[place]) if listed else run
        return Const(own, shape, meta.dtype, make if fits else None, roots, trained)

    consts = [made(i, m) if isinstance(m, torch.Tensor) else m for i, m in enumerate(leaves)]
    return consts if listed else consts[0]


def _run(
    name: str, target: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], draw: Draw | None
) -> Any:
    """Run an operator on the real values, or on drawn ones, on the CPU and without touching them."""
    schema = getattr(target, "_schema", None)
    operator = "" if schema is None else schema.name
    ready: list[Any] = pytree.tree_map(lambda value: _ready(value, draw), list(args))
    named: dict[str, Any] = pytree.tree_map(lambda value: _ready(value, draw), dict(kwargs))
    if "device" in named:
        named["device"] = torch.device("cpu")
    named.pop("pin_memory", None)
    if schema is not None and schema.is_mutable:
        ready = [v.clone() if isinstance(v, torch.Tensor) else v for v in ready]
    try:
        with torch.no_grad():
            result = target(*ready, **named)
    except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"{name}: computing {operator or 'a constant'} from the network's parameters failed: {line}; check that "
            "they have usual values, or ignore weights (--no-weights)"
        ) from error
    return result.zero_() if operator in _EMPTY else result


def _ready(value: Any, draw: Draw | None) -> Any:
    if isinstance(value, Const):
        tensor = value.tensor(draw).cpu()
        return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
    return torch.device("cpu") if isinstance(value, torch.device) else value


def _numpy(tensor: Tensor) -> NDArray[Any]:
    tensor = tensor.detach()
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.dtype.is_floating_point and tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.float()
    array: NDArray[Any] = tensor.cpu().resolve_conj().resolve_neg().numpy()
    view = array.view()
    view.setflags(write=False)  # the module's own memory
    return view


def _is_fake(tensor: Tensor) -> bool:
    from torch._subclasses.fake_tensor import FakeTensor

    return isinstance(tensor, FakeTensor)
