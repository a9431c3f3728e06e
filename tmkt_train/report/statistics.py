"""The few formulas a report needs: intervals, spreads, the law of the replacement point, chance levels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]


def wilson_interval(num_hits: float, num_trials: float, z: float = 1.959964) -> tuple[float, float]:
    """Give the Wilson score interval of a share.

    Args:
        num_hits: Hits, 0 to `num_trials`.
        num_trials: Trials, 1 or more.
        z: Width in standard deviations; the default gives 95 %.

    Returns:
        Lower and upper end, in [0, 1].

    Example:
        >>> [round(end, 4) for end in wilson_interval(8, 10)]
        [0.4902, 0.9433]

    Source: Wilson 1927, J. Am. Stat. Assoc. 22, 209-212.
    """
    share, square = num_hits / num_trials, z * z
    center = share + square / (2 * num_trials)
    half = z * math.sqrt(share * (1 - share) / num_trials + square / (4 * num_trials**2))
    scale = 1 + square / num_trials
    return max(0.0, (center - half) / scale), min(1.0, (center + half) / scale)


def mean_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Give the mean, and the standard deviation over n - 1 where there are two values or more."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def point_law(probability: float, num_steps: int, *, renormalised: bool = False) -> Float64Array:
    """Give the law of the replacement point: P(t* = 1), ..., P(t* = T), P(never).

    Args:
        probability: Chance of the switch at each step, in [0, 1].
        num_steps: T.
        renormalised: Condition on a switch inside the T steps.

    Returns:
        Probabilities, shape (T + 1,), float64, sum 1.

    Example:
        >>> point_law(0.5, 2).tolist(), point_law(0.5, 2, renormalised=True).round(3).tolist()
        ([0.5, 0.25, 0.25], [0.667, 0.333, 0.0])
    """
    never = (1 - probability) ** num_steps
    if renormalised and never == 1:
        return np.append(np.full(num_steps, 1 / num_steps), 0.0)
    law = probability * (1 - probability) ** np.arange(num_steps)
    return np.append(law / (1 - never), 0.0) if renormalised else np.append(law, never)


def best_modality_guess(law: Float64Array) -> float:
    """Give the accuracy of guessing image or event from the step index alone.

    Args:
        law: Law of the replacement point, shape (T + 1,).

    Returns:
        Mean over steps of the larger share, in [0.5, 1].

    Example:
        >>> best_modality_guess(np.array([0.5, 0.25, 0.25]))
        0.625
    """
    event_share = np.cumsum(law[:-1])
    return float(np.maximum(event_share, 1 - event_share).mean())


def ratio_spread(law: Float64Array) -> float:
    """Give the mean absolute error of always guessing the median mix ratio.

    Args:
        law: Law of the replacement point, shape (T + 1,).

    Returns:
        Error in [0, 0.5].

    Example:
        >>> ratio_spread(np.array([0.5, 0.25, 0.25]))
        0.375
    """
    ratios = np.arange(len(law) - 1, -1, -1) / (len(law) - 1)
    return min(float(law @ np.abs(ratios - guess)) for guess in ratios)


def chi_square(counts: Float64Array, expected: Float64Array) -> tuple[float, int] | None:
    """Give Pearson's statistic and its degrees of freedom; None where a cell expects fewer than five.

    Example:
        >>> chi_square(np.array([12.0, 8.0]), np.array([10.0, 10.0]))
        (0.8, 1)
    """
    used = expected > 0
    if used.sum() < 2 or expected[used].min() < 5 or counts[~used].any():
        return None
    return float(((counts[used] - expected[used]) ** 2 / expected[used]).sum()), int(used.sum()) - 1


def worst_confusions(confusion: NDArray[np.int64], limit: int) -> list[tuple[int, int, int]]:
    """List the most frequent confusions as (true, predicted, count), the worst first; ties in class order."""
    errors = confusion.copy()
    np.fill_diagonal(errors, 0)
    order = np.argsort(-errors, axis=None, kind="stable")[:limit]
    pairs = [divmod(int(i), confusion.shape[1]) for i in order]
    return [(true, predicted, int(errors[true, predicted])) for true, predicted in pairs if errors[true, predicted]]
