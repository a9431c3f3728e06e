"""Filters over the events of one recording, in order of time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel

NEVER = -(2**62)
"""What `last` holds where a pixel has had no event."""


@kernel
def mark_refractory(
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    last: NDArray[np.int64],
    period: int,
    keep: NDArray[np.bool_],
) -> int:
    """Mark the events that come at least a period after the last marked one of their pixel, of either polarity.

    Args:
        t: Times, shape (N,), non-decreasing.
        x: Columns of the sensor.
        y: Rows of the sensor.
        last: Time of the last marked event of each pixel, shape (height, width), `NEVER` at first; carried on.
        period: In the unit of `t`.
        keep: Written: shape (N,).

    Returns:
        Events that are not marked.
    """
    dropped = 0
    for i in range(t.size):
        keep[i] = t[i] - last[y[i], x[i]] >= period
        if keep[i]:
            last[y[i], x[i]] = t[i]
        else:
            dropped += 1
    return dropped


@kernel
def mark_supported(
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    last: NDArray[np.int64],
    window: int,
    keep: NDArray[np.bool_],
) -> int:
    """Mark the events with an earlier one in the eight pixels around, at most `window` before; arguments as above.

    `last` has a margin of one pixel, shape (height + 2, width + 2), so that no neighbor lies beyond the edge. Every
    event supports its neighbors, marked or not; its own pixel does not support it.

    Source: Delbruck, "Frame-free dynamic digital vision", 2008.
    """
    dropped = 0
    for i in range(t.size):
        row, column = np.int64(y[i]), np.int64(x[i])
        latest = np.int64(NEVER)
        for b in range(3):
            for a in range(3):
                if a != 1 or b != 1:
                    latest = max(latest, last[row + b, column + a])
        keep[i] = t[i] - latest <= window
        if not keep[i]:
            dropped += 1
        last[row + 1, column + 1] = t[i]
    return dropped
