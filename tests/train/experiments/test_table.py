import math
import random

import pytest
from scipy import stats

from tmkt_train.experiments.compare_report import short_labels
from tmkt_train.experiments.table import paired_difference, t_interval
from tmkt_train.report.statistics import spread


@pytest.mark.parametrize(
    ("degrees", "expected"),
    # The usual table of Student's t, two-sided 95 %.
    [(2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (30, 2.042), (120, 1.980)],
)
def test_half_width_is_the_quantile_of_the_table_times_the_standard_error(degrees, expected):
    values = [float(k) for k in range(degrees + 1)]
    low, high = t_interval(values)
    standard_error = spread(values).sd / math.sqrt(len(values))
    assert (high - low) / 2 / standard_error == pytest.approx(expected, abs=5e-4)
    assert (high + low) / 2 == pytest.approx(degrees / 2)


def test_interval_of_three_values_by_hand():
    # Mean 2, sd 1, standard error 1/sqrt(3) = 0.57735; times 4.3027 is 2.4841.
    low, high = t_interval([1.0, 2.0, 3.0])
    assert (low, high) == (pytest.approx(-0.4841, abs=1e-4), pytest.approx(4.4841, abs=1e-4))


def test_interval_of_four_differences_by_hand():
    # Differences 1, 3, 2, 2: mean 2, sum of squares 2, sd sqrt(2/3) = 0.8165, over 2 is 0.40825, times 3.1824.
    difference = paired_difference({1: 5.0, 2: 6.0, 3: 4.0, 4: 7.0}, {4: 5.0, 3: 2.0, 2: 3.0, 1: 4.0})
    assert difference.by_seed == {1: 1.0, 2: 3.0, 3: 2.0, 4: 2.0}
    assert difference.mean == 2.0
    assert difference.interval == (pytest.approx(2 - 1.29924, abs=1e-4), pytest.approx(2 + 1.29924, abs=1e-4))


def test_the_pairs_decide_and_not_the_spread_of_the_seeds():
    # Seeds differ by 10, every pair by 1: the paired interval has no width, an unpaired one would be wide.
    baseline = {seed: 10.0 * seed for seed in range(3)}
    difference = paired_difference({seed: value + 1 for seed, value in baseline.items()}, baseline)
    assert difference.interval == (1.0, 1.0)


def test_seeds_that_only_one_has_are_left_out():
    difference = paired_difference({1: 0.5, 2: 0.7}, {2: 0.4, 3: 0.9})
    assert list(difference.by_seed) == [2]
    assert difference.mean == pytest.approx(0.3)
    assert difference.interval is None
    assert paired_difference({1: 0.5}, {2: 0.5}) == ({}, None, None)


def test_few_values_have_no_spread():
    assert spread([]) == (0, None, None)
    assert spread([0.5]) == (1, 0.5, None)
    assert spread([0.25, 0.75]) == (2, 0.5, pytest.approx(math.sqrt(0.125)))
    assert t_interval([0.5]) is None


def test_interval_agrees_with_scipy_and_covers():
    numbers = random.Random(0)
    hits = 0
    for _ in range(400):
        values = [numbers.gauss(3.0, 2.0) for _ in range(4)]
        interval = t_interval(values)
        assert interval == pytest.approx(stats.ttest_1samp(values, 0.0).confidence_interval(0.95))
        hits += interval[0] <= 3.0 <= interval[1]
    # 380 are expected; the standard deviation of the count is 4.4.
    assert 362 <= hits <= 398


def test_labels_are_short_and_different():
    assert short_labels(["s_x", "s_y"], ["tmkt", "tmkt"]) == ["x", "y"]
    assert short_labels(["one"], ["tmkt"]) == ["tmkt"]
    assert short_labels(["a", "b_c"], ["kt", "kt"]) == ["a", "b_c"]
    assert short_labels(["a_b", "a_b_c", "a_b_d"], ["kt", "kt", "tmkt"]) == ["a_b", "c", "d"]


def test_two_values_have_no_interval():
    # Student's t of one degree of freedom is 12.7: the interval would span more than all accuracies.
    assert t_interval([0.5, 0.7]) is None
    assert paired_difference({1: 0.5, 2: 0.7}, {1: 0.4, 2: 0.5}).interval is None
