"""Places that stand for many samples."""

from __future__ import annotations

import numpy as np
import pytest

from tmkt_data.sample_ids import evenly_spaced


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [(9, 3, [0, 4, 8]), (2, 3, [0, 1]), (10, 4, [0, 3, 6, 9]), (5, 1, [0]), (0, 3, []), (7, 7, [0, 1, 2, 3, 4, 5, 6])],
)
def test_evenly_spaced_places(count, most, expected):
    found = evenly_spaced(count, most)
    assert found.tolist() == expected
    assert found.dtype == np.int64


@pytest.mark.parametrize(("count", "most"), [(9, 3), (650, 48), (7, 7), (2, 5), (1, 1), (0, 3)])
def test_nearest_places_are_those_that_fits_and_diagnostics_chose_before(count, most):
    before = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))
    np.testing.assert_array_equal(evenly_spaced(count, most, nearest=True), before)
