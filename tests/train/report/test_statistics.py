import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare

from tmkt_train.data.sampling import DrawKeys
from tmkt_train.method.mixing import expected_ratio, replacement_points, replacement_probability
from tmkt_train.report.statistics import (
    Spread,
    best_modality_guess,
    best_ratio_error,
    chi_square,
    point_distribution,
    spread,
    wilson_interval,
)


def test_numbers_at_their_limits():
    assert (spread([1.0, 3.0]).sd, spread([1.0]).sd) == (pytest.approx(2**0.5), None)
    shares = Spread(2, 0.5, 0.1), Spread(1, 0.5, None), Spread(0, None, None)
    assert [share.in_percent("*") for share in shares] == ["50.0* ± 10.0", "50.0*", None]
    assert point_distribution(0.0, 4).tolist() == [0, 0, 0, 0, 1]
    assert point_distribution(0.0, 4, renormalised=True).tolist() == [0.25, 0.25, 0.25, 0.25, 0]
    assert chi_square(np.array([5.0, 5.0]), np.array([5.0, 5.0])) == (0.0, 1, 1.0)
    for counts, expected in (([6.0, 4.0], [5.01, 4.99]), ([10.0], [10.0]), ([10.0, 9.0, 1.0], [10.0, 9.5, 0.5])):
        assert chi_square(np.array(counts), np.array(expected)) is None


@given(st.floats(0.0, 1.0), st.integers(1, 16))
def test_distribution_sums_to_one_and_has_the_expected_ratio(probability, num_steps):
    distribution = point_distribution(probability, num_steps)
    ratios = np.arange(num_steps, -1, -1) / num_steps
    assert distribution.sum() == pytest.approx(1)
    assert distribution @ ratios == pytest.approx(expected_ratio(probability, num_steps), abs=1e-9)
    assert 0 <= best_ratio_error(distribution) <= 0.5
    assert 0.5 <= best_modality_guess(distribution) <= 1


def test_distribution_is_that_of_the_draws():
    probability, n = replacement_probability(0.5, 10), 20000
    uids = np.arange(n, dtype=np.uint64)
    points = replacement_points(DrawKeys(7, 0, uids, np.zeros(n, np.int64)), probability, 10)
    counts = np.bincount(points - 1, minlength=11).astype(np.float64)
    distribution = point_distribution(probability, 10)
    assert np.abs(counts / n - distribution).max() < 5 * np.sqrt(0.25 / n)
    statistic, degrees, chance = chi_square(counts, n * distribution)
    assert degrees == 10
    # The 0.1 % quantile of chi-square with 10 degrees of freedom, from the usual table.
    assert statistic < 29.588
    assert chance > 0.001


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share(hits):
    low, high = wilson_interval(*hits)
    interval = binomtest(*hits).proportion_ci(0.95, "wilson")
    assert (low, high) == (pytest.approx(interval.low, abs=1e-12), pytest.approx(interval.high, abs=1e-12))
    assert 0 <= low <= hits[0] / hits[1] + 1e-12
    assert hits[0] / hits[1] - 1e-12 <= high <= 1
    assert low < high


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    # By the formula of Wilson with z = 1.959964: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n).
    [(0, 10, 0.0, 0.277533), (5, 10, 0.236593, 0.763407), (170, 179, 0.907219, 0.973325), (1, 1, 0.206549, 1.0)],
)
def test_wilson_interval_against_hand_values(hits, trials, low, high):
    assert wilson_interval(hits, trials) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))


def test_mean_and_standard_deviation_by_hand():
    # Deviations -1, 0, 1: sum of squares 2, over n - 1 = 2.
    assert spread([1.0, 2.0, 3.0]) == (3, 2.0, 1.0)
    assert (spread([0.5]), spread([0.5]).text, spread([]).text) == ((1, 0.5, None), "0.50", None)


def test_chi_square_by_hand_and_where_it_does_not_hold():
    # 3^2/20 + 1^2/20 + 4^2/20 = 1.3; the chance of more with 2 degrees of freedom is exp(-0.65).
    statistic, degrees, chance = chi_square(np.array([23.0, 21.0, 16.0]), np.array([20.0, 20.0, 20.0]))
    assert (statistic, degrees) == (pytest.approx(1.3), 2)
    assert chance == pytest.approx(np.exp(-0.65))
    found = chi_square(np.array([23.0, 21.0, 7.0, 49.0]), np.array([20.0, 20.5, 9.5, 50.0]))
    test = chisquare([23.0, 21.0, 7.0, 49.0], [20.0, 20.5, 9.5, 50.0])
    assert found == (pytest.approx(test.statistic, rel=1e-12), 3, pytest.approx(test.pvalue, rel=1e-12))
    # Cells that expect nothing and hold nothing do not count.
    assert chi_square(np.array([12.0, 8.0, 0.0]), np.array([10.0, 10.0, 0.0]))[1] == 1
    # Fewer than five expected, or events where none can be.
    assert chi_square(np.array([2.0, 18.0]), np.array([4.0, 16.0])) is None
    assert chi_square(np.array([10.0, 8.0, 2.0]), np.array([10.0, 10.0, 0.0])) is None
