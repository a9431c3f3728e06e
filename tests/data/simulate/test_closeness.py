"""Rows brought to mean 0 and norm 1, in either type."""

from __future__ import annotations

import numpy as np
import pytest

from tmkt_data.simulate.closeness import standardized


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dot_products_are_correlations(dtype):
    stack = np.random.default_rng(0).normal(3, 2, (4, 2, 5, 6)).astype(dtype)
    before = stack.copy()
    rows = standardized(stack)
    assert rows.dtype == dtype
    assert rows.shape == (4, 60)
    np.testing.assert_allclose(rows @ rows.T, np.corrcoef(stack.reshape(4, -1)), atol=1e-5)
    np.testing.assert_array_equal(stack, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_rows_become_zero(dtype):
    assert not standardized(np.full((2, 9), 7, dtype)).any()
