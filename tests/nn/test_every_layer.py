"""Every layer but ResizeConv, which has a file of its own, lives through what `layer_checks` asks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
import torch
from layer_checks import CHECKS, SLOW_CHECKS, Case, data_parallel, says_what_it_is, state, trains_as_it_infers

from evenly import nn as en

PROVE = os.environ.get("EVENLY_PROVE") == "1"
CASES = {
    "sub-pixel 1d": Case(lambda **o: en.SubpixelConv1d(2, 3, 3, **o), (2, 2, 6)),
    "sub-pixel 2d": Case(lambda **o: en.SubpixelConv2d(2, 3, 3, **o), (2, 2, 5, 4), onnx=("Conv", "DepthToSpace")),
    "sub-pixel 3d": Case(lambda **o: en.SubpixelConv3d(2, 2, 3, **o), (2, 2, 3, 4, 3)),
    "sub-pixel 2d balanced": Case(lambda **o: en.SubpixelConv2d(2, 3, 3, balanced=True, **o), (2, 2, 5, 4)),
    "balanced 1d": Case(lambda **o: en.BalancedConvTranspose1d(2, 3, 4, 2, 1, **o), (2, 2, 6)),
    "balanced 2d": Case(lambda **o: en.BalancedConvTranspose2d(2, 3, 4, 2, 1, **o), (2, 2, 5, 4)),
    "balanced 2d order 2": Case(lambda **o: en.BalancedConvTranspose2d(2, 3, 5, 2, 2, order=2, **o), (2, 2, 5, 4)),
    "balanced 3d": Case(lambda **o: en.BalancedConvTranspose3d(2, 2, 4, 2, 1, **o), (2, 2, 3, 4, 3)),
    "FIR 1d": Case(lambda **o: en.FIRUpsample1d(2, **o), (2, 2, 6)),
    "FIR 2d": Case(lambda **o: en.FIRUpsample2d(2, **o), (2, 2, 5, 4)),
    "FIR 3d": Case(lambda **o: en.FIRUpsample3d(2, **o), (2, 2, 3, 4, 3)),
    "blur 1d": Case(lambda **o: en.BlurPool1d(**o), (2, 2, 8), tiny_shape=(1, 2, 5)),
    "blur 2d": Case(lambda **o: en.BlurPool2d(**o), (2, 2, 7, 6), tiny_shape=(1, 2, 4, 5)),
    "blur 3d": Case(lambda **o: en.BlurPool3d(**o), (2, 2, 5, 6, 4), tiny_shape=(1, 2, 4, 3, 3)),
    "anti-aliased 1d": Case(lambda **o: en.AntialiasedConv1d(2, 3, 3, padding=1, **o), (2, 2, 8), tiny_shape=(1, 2, 5)),
    "anti-aliased 2d": Case(
        lambda **o: en.AntialiasedConv2d(2, 3, 3, padding=1, **o), (2, 2, 7, 6), tiny_shape=(1, 2, 4, 5)
    ),
    "anti-aliased 2d even": Case(
        lambda **o: en.AntialiasedConv2d(2, 3, 3, padding=1, taps="even", **o), (2, 2, 7, 6), tiny_shape=(1, 2, 4, 5)
    ),
    "anti-aliased 3d": Case(
        lambda **o: en.AntialiasedConv3d(2, 2, 3, padding=1, **o), (2, 2, 5, 6, 4), tiny_shape=(1, 2, 4, 3, 3)
    ),
    "max 1d": Case(lambda **o: en.AntialiasedMaxPool1d(2, **o), (2, 2, 8), tiny_shape=(1, 2, 5)),
    "max 2d": Case(lambda **o: en.AntialiasedMaxPool2d(2, **o), (2, 2, 7, 6), tiny_shape=(1, 2, 4, 5)),
    "max 3d": Case(lambda **o: en.AntialiasedMaxPool3d(2, **o), (2, 2, 5, 6, 4), tiny_shape=(1, 2, 4, 4, 4)),
}


PLAIN = [name for name in CASES if not list(CASES[name].layer().parameters())]
# What does not apply: layers without parameters are not trained and have no state; some say more than their arguments.
NOT = {trains_as_it_infers: PLAIN, state: PLAIN, data_parallel: PLAIN}
NOT[says_what_it_is] = [n for n in CASES if n.startswith(("balanced", "blur", "anti", "max")) or n.endswith("balanced")]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors: a second thread only waits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("check", "name"),
    [pytest.param(c, n, id=f"{n}-{c.__name__}") for c in CHECKS for n in CASES if n not in NOT.get(c, ())],
)
def test_every_day(name: str, check: Callable[[Case], None]) -> None:
    check(CASES[name])


@pytest.mark.parametrize(
    ("check", "name"),
    [
        pytest.param(c, n, id=f"{n}-{c.__name__}")
        for c in (SLOW_CHECKS if PROVE else SLOW_CHECKS[:-1])
        for n in CASES
        if (PROVE or "2d" in n) and n not in NOT.get(c, ())
    ],
)
def test_compiled_and_exported(name: str, check: Callable[[Case], None]) -> None:
    check(CASES[name])
