"""What is gathered for many taps holds what would be gathered for fewer."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from evenly.fix.geometry import Rows  # noqa: E402
from evenly.fix.known import Known  # noqa: E402
from evenly.fix.solve import Moments  # noqa: E402
from evenly.fix.task import Task  # noqa: E402
from evenly.fix.torch_backend import TorchBackend  # noqa: E402


def last_layer(kind: str, axes: int, groups: int, dilation: int, mode: str) -> nn.Module:
    pick = axes - 1
    if kind == "transposed":
        return (nn.ConvTranspose1d, nn.ConvTranspose2d)[pick](4, 2, 3, 2, dilation, 1, groups, dilation=dilation)
    convolution = (nn.Conv1d, nn.Conv2d)[pick]
    if kind == "plain":
        return convolution(4, 2, 3, padding=dilation, dilation=dilation, groups=groups, padding_mode=mode)
    return nn.Sequential(nn.Conv2d(4, 8, 3, padding=dilation, dilation=dilation, padding_mode=mode), nn.PixelShuffle(2))


def expect_alike(some: Moments, other: Moments) -> None:
    np.testing.assert_allclose(some.gram, other.gram, rtol=1e-9, atol=1e-12)
    assert some.lines.keys() == other.lines.keys()
    for period, total in some.lines.items():
        np.testing.assert_allclose(total, other.lines[period], rtol=1e-7, atol=1e-9 * abs(total).max())
    for first, second in ((some.cross, other.cross), (some.kept, other.kept)):
        assert (first is None) == (second is None)
        if first is not None:
            np.testing.assert_allclose(first, second, rtol=1e-9, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["transposed", "subpixel", "plain"]),
    st.integers(1, 2),
    st.sampled_from([1, 2]),
    st.integers(1, 2),
    st.sampled_from(["zeros", "reflect", "circular"]),
    st.integers(1, 2).flatmap(lambda most: st.tuples(st.integers(0, most), st.just(most))),
    st.booleans(),
)
def test_fewer_taps_are_a_part_of_more(kind, axes, groups, dilation, mode, extra, weighed):
    few, many = extra
    axes = 2 if kind == "subpixel" else axes
    torch.manual_seed(0)
    net = nn.Sequential(nn.Identity(), last_layer(kind, axes, groups, dilation, mode)).double().eval()
    x = torch.randn(12, 4, *(16, 20)[:axes], dtype=torch.float64)
    backend = TorchBackend(net, x[:2])
    with torch.no_grad():
        real = net(x) + 0.1
    periods = (2,) if axes == 2 else (2, 4)
    task = Task.of(
        backend, [x], "noise", reference=real, paired=True, periods=periods, within_db=3.0, max_distortion=0.0
    )
    layer = backend.layers()[-1]
    phases = 2 if kind == "plain" else 1
    weigh = backend if weighed else None
    narrow, wide = (
        Known.gathered(task, backend, "output", Rows.of(layer, taps, phases), weigh) for taps in (few, many)
    )
    assert wide.covers(narrow.rows)
    assert narrow.covers(wide.rows) == (few == many)
    for direct, part in zip(narrow.moments, wide.part(narrow.rows), strict=True):
        expect_alike(direct, part)
        assert part.cross is not None
    again = wide.weighed(backend)  # every signal counts as before
    for direct, part in zip(narrow.moments, again.part(narrow.rows), strict=True):
        expect_alike(direct, part)


def test_other_layers_and_phases_are_not_covered():
    net = nn.Sequential(nn.ConvTranspose2d(2, 2, 4, 2, 1), nn.Conv2d(2, 2, 3, padding=1)).eval()
    x = torch.randn(12, 2, 16, 16)
    backend = TorchBackend(net, x[:2])
    task = Task.of(backend, [x], "noise", periods=(2,), within_db=3.0, max_distortion=0.0)
    up, last = backend.layers()
    known = Known.gathered(task, backend, "output", Rows.of(last, 1, 2))
    assert known.covers(Rows.of(last, 0, 2))
    assert not known.covers(Rows.of(last, 0, 1))
    assert not known.covers(Rows.of(up, 0))
