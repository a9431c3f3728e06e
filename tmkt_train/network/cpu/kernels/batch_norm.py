"""Batch normalization: statistics of each time step, and the gradient through them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel

Floats = NDArray[np.floating[Any]]
ROWS = 32
"""Rows that are summed in the precision of the data before their sum is added in float64."""


@kernel
def step_statistics(
    values: Floats, sums: Floats, mean: NDArray[np.float64], squares: NDArray[np.float64], first: int, last: int
) -> None:
    """Compute mean and sum of squared deviations of each time step and channel, in one pass over memory.

    Groups of `ROWS` rows are summed around their own mean, then combined in float64, in order.

    Args:
        values: Shape (T, P, C).
        sums: Scratch, shape (T, 2, C).
        mean: Written: shape (T, C).
        squares: Written: sum of squared deviations, shape (T, C).
        first: First time step.
        last: Time step to stop before.

    Source:
        Chan, Golub, LeVeque, 1979.
    """
    num_rows, num_channels = values.shape[1], values.shape[2]
    for t in range(first, last):
        total, spread = sums[t, 0], sums[t, 1]
        mean[t] = 0.0
        squares[t] = 0.0
        for start in range(0, num_rows, ROWS):
            stop = min(start + ROWS, num_rows)
            count = values.dtype.type(stop - start)
            total[:] = 0
            spread[:] = 0
            for p in range(start, stop):
                for c in range(num_channels):
                    total[c] += values[t, p, c]
            for c in range(num_channels):
                total[c] /= count
            for p in range(start, stop):
                for c in range(num_channels):
                    away = values[t, p, c] - total[c]
                    spread[c] += away * away
            added = np.float64(stop - start)
            share = added / np.float64(stop)
            weight = np.float64(start) * share
            for c in range(num_channels):
                away_64 = np.float64(total[c]) - mean[t, c]
                mean[t, c] += away_64 * share
                squares[t, c] += np.float64(spread[c]) + away_64 * away_64 * weight


@kernel
def finish_gradient(
    grad: Floats, values: Floats, mean: Floats, slope: Floats, tilt: Floats, offset: Floats, first: int, last: int
) -> None:
    """Turn the gradient of the output of a norm into that of its input: slope g + tilt (y - mean) + offset.

    Args:
        grad: Changed: shape (T, P, C).
        values: Input of the norm, y, shape (T, P, C).
        mean: Mean, shape (T, C).
        slope: Factor of the gradient, shape (T, C).
        tilt: Factor of the deviation, shape (T, C).
        offset: Constant, shape (T, C).
        first: First row.
        last: Row to stop before.
    """
    num_time_steps, num_channels = grad.shape[0], grad.shape[2]
    for t in range(num_time_steps):
        for p in range(first, last):
            for c in range(num_channels):
                through = tilt[t, c] * (values[t, p, c] - mean[t, c]) + offset[t, c]
                grad[t, p, c] = slope[t, c] * grad[t, p, c] + through
