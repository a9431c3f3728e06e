"""Statistics of a report: intervals, tests, the distribution of t* and the chance levels that follow from it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]


def wilson_interval(num_hits: int, num_trials: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share: lower and upper end, in [0, 1].

    Example:
        >>> [round(end, 4) for end in wilson_interval(8, 10)]
        [0.4902, 0.9433]

    Source: Wilson 1927, J. Am. Stat. Assoc. 22, 209-212.
    """
    # By hand, as is the test below: importing scipy.stats takes a fifth of the time of a report.
    share, z = num_hits / num_trials, statistics.NormalDist().inv_cdf(0.975)
    center = share + z * z / (2 * num_trials)
    reach = z * math.sqrt(share * (1 - share) / num_trials + (z / (2 * num_trials)) ** 2)
    low, high = ((center + side) / (1 + z * z / num_trials) for side in (-reach, reach))
    return (0.0 if num_hits == 0 else low), (1.0 if num_hits == num_trials else high)


class Spread(NamedTuple):
    """Number n, mean (None if n = 0) and standard deviation with divisor n - 1 (None if n < 2) of some values."""

    num: int
    mean: float | None
    sd: float | None

    @property
    def text(self) -> str | None:
        """Mean ± standard deviation, as far as they exist."""
        return None if self.mean is None else f"{self.mean:.2f}" + ("" if self.sd is None else f" ± {self.sd:.2f}")

    def in_percent(self, mark: str = "") -> str | None:
        """Mean ± standard deviation of shares as percent, as far as they exist; `mark` follows the mean."""
        if self.mean is None:
            return None
        return f"{100 * self.mean:.1f}{mark}" + ("" if self.sd is None else f" ± {100 * self.sd:.1f}")


def spread(values: Sequence[float]) -> Spread:
    """Return number, mean and standard deviation.

    Example:
        >>> spread([1.0, 2.0, 3.0]), spread([])
        (Spread(num=3, mean=2.0, sd=1.0), Spread(num=0, mean=None, sd=None))
    """
    mean = statistics.fmean(values) if values else None
    return Spread(len(values), mean, statistics.stdev(values) if len(values) > 1 else None)


def point_distribution(probability: float, num_time_steps: int, *, renormalised: bool = False) -> Float64Array:
    """Return the distribution of the replacement point: P(t* = 1), ..., P(t* = T), P(never).

    Args:
        probability: Probability of the switch at each step, in [0, 1].
        num_time_steps: Number of time steps, T.
        renormalised: Whether to condition on a switch within the T steps.

    Returns:
        Probabilities, shape (T + 1,), float64, sum 1.

    Example:
        >>> point_distribution(0.5, 2).tolist(), point_distribution(0.5, 2, renormalised=True).round(3).tolist()
        ([0.5, 0.25, 0.25], [0.667, 0.333, 0.0])
    """
    never = (1 - probability) ** num_time_steps
    if renormalised and never == 1:
        return np.append(np.full(num_time_steps, 1 / num_time_steps), 0.0)
    points = probability * (1 - probability) ** np.arange(num_time_steps)
    return np.append(points / (1 - never), 0.0) if renormalised else np.append(points, never)


def best_modality_guess(distribution: Float64Array) -> float:
    """Return the accuracy in [0.5, 1] of guessing the modality from the step; distribution of t*: shape (T + 1,).

    Example:
        >>> best_modality_guess(np.array([0.5, 0.25, 0.25]))
        0.625
    """
    event_share = np.cumsum(distribution[:-1])
    return float(np.maximum(event_share, 1 - event_share).mean())


def best_ratio_error(distribution: Float64Array) -> float:
    """Return the mean absolute error of always guessing the median ratio; distribution of t*: shape (T + 1,).

    Example:
        >>> best_ratio_error(np.array([0.5, 0.25, 0.25]))
        0.375
    """
    ratios = np.arange(len(distribution) - 1, -1, -1) / (len(distribution) - 1)
    return min(float(distribution @ np.abs(ratios - guess)) for guess in ratios)


def chi_square(counts: Float64Array, expected: Float64Array) -> tuple[float, int, float] | None:
    """Test counts against a distribution with Pearson's χ² test.

    Returns:
        Statistic, degrees of freedom and p-value; None if an expected count is below five.

    Example:
        >>> chi_square(np.array([12.0, 8.0]), np.array([10.0, 10.0]))
        (0.8, 1, 0.3710...)
    """
    from scipy.special import chdtrc

    used = expected > 0
    if used.sum() < 2 or expected[used].min() < 5 or counts[~used].any():
        return None
    statistic, degrees = float((np.square(counts - expected)[used] / expected[used]).sum()), int(used.sum()) - 1
    return statistic, degrees, float(chdtrc(degrees, statistic))
