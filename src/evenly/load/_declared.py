"""What a user declares of an input: its name, shape and type."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from evenly.errors import InputShapeError

__all__ = ["DTYPES", "INPUT_FORM", "MOST_ELEMENTS", "Declared", "parse_input"]

MOST_ELEMENTS = 2**31
"""Most elements that one declared input may have; a larger one is taken for a mistake before anything is allocated."""

DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool", "complex64")
"""Types that ``--input`` understands."""

_INPUT = re.compile(r"(?:(?P<name>[^=]+)=)?(?P<shape>[^:=]*)(?::(?P<dtype>[^:=]+))?")

INPUT_FORM = "[name=]N,C,H,W[:dtype], for instance 1,8,16,16 or tokens=1,77:int64"


@dataclass(frozen=True)
class Declared:
    """One ``--input``.

    Attributes:
        shape: Tensor shape, batch included.
        name: Name of the input; ``None`` means the next one in order.
        dtype: One of :data:`DTYPES`; ``None`` means the usual one (``float32``).
    """

    shape: tuple[int, ...]
    name: str | None = None
    dtype: str | None = None


def parse_input(text: str) -> Declared:
    """Read ``[name=]1,8,16,16[:int64]``.

    Raises:
        InputShapeError: If it has another form, a size is not positive, or the product is beyond
            :data:`MOST_ELEMENTS`.
    """
    match = _INPUT.fullmatch(text.strip())
    if match is None:
        raise InputShapeError(f"--input (={text!r}) has another form than expected: {INPUT_FORM}")
    pieces = [piece.strip() for piece in match["shape"].split(",")]
    sizes = []
    for piece in pieces:
        if not re.fullmatch(r"[+-]?[0-9]{1,19}", piece):
            raise InputShapeError(f"--input (={text!r}) has the size {piece!r}; expected whole numbers: {INPUT_FORM}")
        sizes.append(int(piece))
    if min(sizes) < 1:
        raise InputShapeError(f"--input (={text!r}) has the size {min(sizes)}; expected sizes of 1 or more")
    if math.prod(sizes) > MOST_ELEMENTS:
        raise InputShapeError(
            f"--input (={text!r}) has {math.prod(sizes)} elements; expected at most {MOST_ELEMENTS}: findings do not "
            "depend on the resolution, so declare a smaller one"
        )
    dtype = match["dtype"]
    if dtype is not None and dtype not in DTYPES:
        raise InputShapeError(f"--input (={text!r}) has the type {dtype!r}; expected one of {', '.join(DTYPES)}")
    name = match["name"]
    return Declared(tuple(sizes), name.strip() if name else None, dtype)
