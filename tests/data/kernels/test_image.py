"""Antialiasing filters against exact fractions."""

from __future__ import annotations

import math

import naive
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.kernels.image import AxisPlace, axis_filter


@st.composite
def places(draw):
    canvas = draw(st.integers(1, 14))
    start = draw(st.integers(0, canvas - 1))
    return AxisPlace(start, draw(st.integers(1, 16)), canvas)


class TestFilter:
    @settings(deadline=None, max_examples=150)
    @given(
        extent=st.integers(1, 120).map(lambda eighths: eighths / 8),
        cells=st.integers(1, 9),
        place=st.none() | places(),
    )
    def test_equals_naive(self, extent, cells, place):
        first, length, weight = axis_filter(extent, cells, place)
        found = np.zeros((cells, math.ceil(extent)), int)
        for cell in range(cells):
            found[cell, first[cell] : first[cell] + length[cell]] = weight[cell, : length[cell]]
            assert not weight[cell, length[cell] :].any()
        assert found.tolist() == naive.axis_weights(extent, cells, place)

    @settings(deadline=None, max_examples=100)
    @given(extent=st.integers(1, 5000), cells=st.integers(1, 100))
    def test_the_weights_of_a_cell_add_up_to_one(self, extent, cells):
        assert (axis_filter(float(extent), cells)[2].sum(axis=1) == 2**14).all()

    def test_an_image_on_its_own_pixels_is_left_as_it_is(self):
        first, length, weight = axis_filter(28.0, 34, AxisPlace(3, 28, 34))
        assert first[3:31].tolist() == list(range(28))
        assert length.tolist() == [0] * 3 + [1] * 28 + [0] * 3
        assert (weight[3:31] == 2**14).all()
