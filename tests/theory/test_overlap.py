"""Overlap counts against naive loops."""

from __future__ import annotations

from itertools import product
from math import gcd, inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evenly.errors import ParameterError
from evenly.theory.overlap import overlap_counts, overlap_map, ratio, read_counts, read_map, unevenness
from reference import interior_counts, readers, writers

K, S, D = st.integers(1, 13), st.integers(1, 9), st.integers(1, 7)


@given(K, S, D)
def test_counts_like_a_written_canvas(k: int, s: int, d: int) -> None:
    want = interior_counts((k,), (s,), (d,))
    assert np.array_equal(overlap_counts(k, s, d), want)
    assert np.array_equal(read_counts(k, s, d), want)
    assert want.sum() == k


@given(st.integers(1, 12), K, S, st.integers(0, 12), D, st.integers(0, 6))
def test_map_at_every_position(size: int, k: int, s: int, p: int, d: int, a: int) -> None:
    if s * (size - 1) + d * (k - 1) + 1 + a - 2 * p < 1:
        with pytest.raises(ParameterError, match="smaller padding"):
            overlap_map(size, k, s, p, d, a)
        return
    assert overlap_map(size, k, s, p, d, a).tolist() == writers(size, k, s, p, d, a)


@given(st.integers(1, 40), K, S, st.integers(0, 12), D)
def test_read_map_at_every_position(size: int, k: int, s: int, p: int, d: int) -> None:
    if size + 2 * p < d * (k - 1) + 1:
        with pytest.raises(ParameterError, match="larger input"):
            read_map(size, k, s, p, d)
        return
    assert read_map(size, k, s, p, d).tolist() == readers(size, k, s, p, d)


@pytest.mark.parametrize("axes", [1, 2, 3])
@given(data=st.data())
def test_unevenness_in_space(axes: int, data: st.DataObject) -> None:
    small = st.integers(1, 5 if axes < 3 else 4)
    k, s, d = (data.draw(st.tuples(*[small] * axes)) for _ in range(3))
    if axes == 3:
        s = tuple(min(x, 3) for x in s)
        d = tuple(min(x, 2) for x in d)
    counts = interior_counts(k, s, d)
    assert unevenness(k, s, d) == (inf if counts.min() == 0 else counts.max() / counts.min())


@given(K, S, D)
def test_even_iff_the_stride_divides_the_kernel(k: int, s: int, d: int) -> None:
    counts = overlap_counts(k, s, d)
    if gcd(d, s) == 1:
        assert (ratio(counts) == 1) == (k % s == 0)
    else:
        assert np.count_nonzero(counts) <= s // gcd(d, s)
        assert ratio(counts) == inf


@pytest.mark.parametrize(
    ("k", "s", "d", "axes", "want"),
    [
        (3, 2, 1, 1, [2, 1]),
        (3, 2, 1, 2, [4, 2, 2, 1]),
        (2, 3, 1, 1, [1, 1, 0]),
        (4, 2, 1, 2, [4, 4, 4, 4]),
        (7, 2, 1, 2, [16, 12, 12, 9]),
        (11, 4, 1, 1, [3, 3, 3, 2]),
        (1, 2, 1, 2, [1, 0, 0, 0]),
        (4, 2, 2, 1, [4, 0]),
        (6, 4, 2, 1, [3, 0, 3, 0]),
    ],
)
def test_figures_of_the_theory(k: int, s: int, d: int, axes: int, want: list[int]) -> None:
    counts = overlap_counts(k, s, d)
    outer = [int(np.prod(c)) for c in product(counts.tolist(), repeat=axes)]
    assert sorted(outer, reverse=True) == sorted(want, reverse=True)
    if axes == 1:
        assert counts.tolist() == want


def test_unevenness_of_the_article() -> None:
    assert unevenness((3,), (2,)) == 2
    assert unevenness((3, 3), (2, 2)) == 4
    assert unevenness((3, 3, 3), (2, 2, 2)) == 8
    assert unevenness((2,), (3,)) == inf
    assert unevenness((4, 4), (2, 2), (2, 1)) == inf


def test_ratio_of_nothing_is_even() -> None:
    assert ratio(np.zeros(3)) == 1.0


@pytest.mark.parametrize(
    "call", [lambda: overlap_counts(0, 2), lambda: overlap_map(3, 3, 0), lambda: read_map(0, 1, 1)]
)
def test_parameters_below_one_are_refused(call: object) -> None:
    with pytest.raises(ParameterError, match="must be at least 1"):
        call()  # type: ignore[operator]


def test_negative_padding_is_refused() -> None:
    with pytest.raises(ParameterError, match="must not be negative"):
        overlap_map(3, 3, 2, -1)
    with pytest.raises(ParameterError, match="does not fit"):
        read_map(9, 3, 2, -1)
