from __future__ import annotations

import naive
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tmkt_data.errors import SpecError
from tmkt_data.kernels.resize import axis_table

RULES = ("sum", "area", "bilinear")
LENGTH = st.integers(1, 70)


def matrix_of(table, source, target):
    matrix = np.zeros((target, source))
    for s in range(source):
        for entry in range(table.start[s], table.start[s + 1]):
            matrix[table.target[entry], s] += table.weight[entry]
    return matrix


def resize(frames, height, width, rule):
    rows = matrix_of(axis_table(frames.shape[-2], height, rule), frames.shape[-2], height)
    columns = matrix_of(axis_table(frames.shape[-1], width, rule), frames.shape[-1], width)
    return np.einsum("hr,...rs,ws->...hw", rows, frames, columns)


@pytest.mark.parametrize("rule", RULES)
@settings(deadline=None, max_examples=80)
@given(source=LENGTH, target=LENGTH)
def test_tables_equal_their_definition(rule, source, target):
    table = axis_table(source, target, rule)
    np.testing.assert_allclose(matrix_of(table, source, target), naive.axis_matrix(source, target, rule), atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
@settings(deadline=None, max_examples=80)
@given(source=st.integers(1, 700), target=st.integers(1, 300))
def test_tables_never_point_outside(rule, source, target):
    table = axis_table(source, target, rule)
    assert table.start.shape == (source + 1,)
    assert table.start[0] == 0
    assert (np.diff(table.start) >= 0).all()
    assert table.start[-1] == len(table.target) == len(table.weight)
    assert table.target.min() >= 0
    assert table.target.max() < target
    assert (table.start.dtype, table.target.dtype, table.weight.dtype) == (np.int32, np.int32, np.float32)
    assert (table.weight > 0).all()


@settings(deadline=None, max_examples=80)
@given(source=LENGTH, target=LENGTH)
def test_sum_sends_every_source_to_one_target_with_weight_one(source, target):
    table = axis_table(source, target, "sum")
    assert table.start.tolist() == list(range(source + 1))
    assert (table.weight == 1).all()
    assert (np.diff(table.target) >= 0).all()


@pytest.mark.parametrize("rule", ["area", "bilinear"])
@settings(deadline=None, max_examples=80)
@given(source=LENGTH, target=LENGTH)
def test_a_flat_frame_stays_flat(rule, source, target):
    matrix = matrix_of(axis_table(source, target, rule), source, target)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_equal_sizes_change_nothing(rule):
    np.testing.assert_array_equal(matrix_of(axis_table(13, 13, rule), 13, 13), np.eye(13))


GEOMETRY = [(180, 240, 48, 48), (173, 151, 48, 48), (34, 34, 28, 28), (5, 7, 12, 9), (1, 9, 4, 4), (8, 1, 3, 1)]


@pytest.mark.parametrize(("height", "width", "to_height", "to_width"), GEOMETRY)
def test_bilinear_is_that_of_torch_with_aligned_corners(height, width, to_height, to_width):
    frames = np.random.default_rng(0).poisson(1.3, (3, 2, height, width)).astype(np.float64)
    expected = functional.interpolate(
        torch.from_numpy(frames), (to_height, to_width), mode="bilinear", align_corners=True
    )
    np.testing.assert_allclose(resize(frames, to_height, to_width, "bilinear"), expected.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("height", "width", "to_height", "to_width"), GEOMETRY)
def test_area_is_that_of_torch(height, width, to_height, to_width):
    frames = np.random.default_rng(1).poisson(1.3, (3, 2, height, width)).astype(np.float64)
    expected = functional.interpolate(torch.from_numpy(frames), (to_height, to_width), mode="area")
    np.testing.assert_allclose(resize(frames, to_height, to_width, "area"), expected.numpy(), rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 40), width=st.integers(1, 40), to_height=st.integers(1, 40), to_width=st.integers(1, 40))
def test_both_equal_torch_at_any_size(height, width, to_height, to_width):
    frames = np.random.default_rng(2).poisson(2.0, (1, 1, height, width)).astype(np.float64)
    size = (to_height, to_width)
    tensor = torch.from_numpy(frames)
    area = functional.interpolate(tensor, size, mode="area").numpy()
    bilinear = functional.interpolate(tensor, size, mode="bilinear", align_corners=True).numpy()
    np.testing.assert_allclose(resize(frames, *size, "area"), area, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(resize(frames, *size, "bilinear"), bilinear, rtol=1e-5, atol=1e-5)


def test_bilinear_ignores_four_fifths_of_a_240_by_180_sensor():
    # From 240 x 180 to 48 x 48, 39 % of the columns times 52 % of the rows have non-zero weight.
    columns = np.diff(axis_table(240, 48, "bilinear").start) > 0
    rows = np.diff(axis_table(180, 48, "bilinear").start) > 0
    assert columns.mean() == pytest.approx(0.39, abs=0.005)
    assert rows.mean() == pytest.approx(0.52, abs=0.005)
    assert columns.mean() * rows.mean() == pytest.approx(0.20, abs=0.005)


def test_bilinear_keeps_the_corners():
    matrix = matrix_of(axis_table(240, 48, "bilinear"), 240, 48)
    assert matrix[0, 0] == 1.0
    assert matrix[47, 239] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((0, 4, "sum"), "found 0 pixels for 4 cells"),
        ((4, 0, "area"), "found 4 pixels for 0 cells"),
        ((4, 2, "max"), "found 'max', expected one of sum, bilinear, area"),
    ],
)
def test_an_axis_without_cells_and_an_unknown_rule_are_one_line(given, message):
    with pytest.raises(SpecError, match=f"^resize: {message}"):
        axis_table(*given)
