import numpy as np
import pytest

from tmkt_train.network.cpu.memory import fold, fold_factor


@pytest.mark.parametrize(
    ("num_channels", "row_counts", "factor"),
    [(15, (900,), 20), (15, (900, 1800), 20), (40, (121,), 1), (40, (121 * 8,), 8), (63, (7,), 1), (64, (900,), 1)],
)
def test_fold_factor_divides_all_row_counts(num_channels, row_counts, factor):
    assert fold_factor(num_channels, *row_counts) == factor
    assert all(count % factor == 0 for count in row_counts)


def test_fold_factor_of_no_first_row_is_that_of_the_others():
    assert fold_factor(15, 900, 0, 1800) == fold_factor(15, 900)


def test_fold_is_a_view_that_keeps_the_channels_of_a_row_together():
    rows = np.arange(2 * 6 * 3).reshape(2, 6, 3)
    folded = fold(rows, 2)
    assert np.shares_memory(rows, folded)
    assert folded.shape == (2, 3, 6)
    np.testing.assert_array_equal(folded[1, 2], np.concatenate([rows[1, 4], rows[1, 5]]))
    assert fold(rows[:0], 2).shape == (0, 3, 6)
