"""Filters over the events of one recording, in order of time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel

_NEVER = np.int64(-(2**62))


@kernel
def mark_refractory(
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    width: int,
    height: int,
    period: int,
    keep: NDArray[np.bool_],
) -> int:
    """Mark the events that come at least a period after the last marked one of their pixel, of either polarity.

    Args:
        t: Times, shape (N,), non-decreasing.
        x: Columns, below `width`.
        y: Rows, below `height`.
        width: Width of the sensor.
        height: Height of the sensor.
        period: In the unit of `t`.
        keep: Written: shape (N,).

    Returns:
        Events that are not marked.
    """
    last = np.full((height, width), _NEVER, np.int64)
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
    width: int,
    height: int,
    window: int,
    keep: NDArray[np.bool_],
) -> int:
    """Mark the events with an earlier one in the eight pixels around, at most `window` before; arguments as above.

    Every event supports its neighbors, marked or not; its own pixel does not support it.

    Source: Delbruck, "Frame-free dynamic digital vision", 2008.
    """
    # A margin of one pixel, so that no neighbor has to be looked for beyond the edge.
    last = np.full((height + 2, width + 2), _NEVER, np.int64)
    dropped = 0
    for i in range(t.size):
        row, column = np.int64(y[i]), np.int64(x[i])
        latest = _NEVER
        for b in range(3):
            for a in range(3):
                if a != 1 or b != 1:
                    latest = max(latest, last[row + b, column + a])
        keep[i] = t[i] - latest <= window
        if not keep[i]:
            dropped += 1
        last[row + 1, column + 1] = t[i]
    return dropped
