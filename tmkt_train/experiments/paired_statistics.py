"""Means over seeds, and differences of two recipes seed by seed with their t intervals; pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scipy.special import stdtrit

from tmkt_train.report.statistics import mean_sd


class Spread(NamedTuple):
    """Some values in short.

    Attributes:
        num: How many there are, n.
        mean: Their mean; None of nothing.
        sd: Standard deviation over n - 1; None of fewer than two.
    """

    num: int
    mean: float | None
    sd: float | None


class Difference(NamedTuple):
    """What one recipe gives over another, seed by seed.

    Attributes:
        by_seed: The difference of each seed that both have, in the order of the seeds.
        mean: Mean of the differences; None where no seed is common.
        interval: 95 % t interval of the mean; None of fewer than two differences.
    """

    by_seed: dict[int, float]
    mean: float | None
    interval: tuple[float, float] | None


def spread(values: Sequence[float]) -> Spread:
    """Give number, mean and standard deviation.

    Example:
        >>> spread([1.0, 2.0, 3.0]), spread([])
        (Spread(num=3, mean=2.0, sd=1.0), Spread(num=0, mean=None, sd=None))
    """
    return Spread(len(values), *mean_sd(values)) if values else Spread(0, None, None)


def t_quantile(probability: float, degrees: int) -> float:
    """Give the quantile of Student's t.

    Args:
        probability: In (0, 1).
        degrees: Degrees of freedom, 1 or more.

    Example:
        >>> round(t_quantile(0.975, 2), 4)
        4.3027
    """
    return float(stdtrit(degrees, probability))


def t_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """Give the t interval of the mean of normal values; None of fewer than two.

    Args:
        values: The values.
        level: Chance that the interval holds the mean.

    Returns:
        Lower and upper end: mean ± t((1 + level) / 2, n - 1) * sd / sqrt(n).

    Example:
        >>> [round(end, 3) for end in t_interval([1.0, 2.0, 3.0])]
        [-0.484, 4.484]

    Source: Student 1908, Biometrika 6, 1-25.
    """
    num, mean, sd = spread(values)
    if mean is None or sd is None:
        return None
    half = t_quantile((1 + level) / 2, num - 1) * sd / math.sqrt(num)
    return mean - half, mean + half


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference:
    """Give the differences of two recipes on the seeds that both have.

    Args:
        values: Value of each seed.
        baseline: The same of what is subtracted.

    Example:
        >>> paired_difference({1: 0.5, 2: 0.75, 3: 1.0}, {1: 0.25, 2: 0.25})
        Difference(by_seed={1: 0.25, 2: 0.5}, mean=0.375, interval=(-1.2132..., 1.9632...))
    """
    by_seed = {seed: value - baseline[seed] for seed, value in sorted(values.items()) if seed in baseline}
    known = list(by_seed.values())
    return Difference(by_seed, spread(known).mean, t_interval(known))
