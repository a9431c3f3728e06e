"""Event filters over one recording, in order of time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel

NEVER = -(2**62)
"""Value of `last` for a pixel without an event so far."""


@kernel
def mark_refractory(
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    last: NDArray[np.int64],
    period: int,
    keep: NDArray[np.bool_],
) -> int:
    """Keep an event where the last kept one of its pixel, of either polarity, is at least a period before it.

    Args:
        t: Times, shape (N,), non-decreasing.
        x: Columns of the sensor.
        y: Rows of the sensor.
        last: Time of the last kept event of each pixel, shape (height, width), `NEVER` at first; updated.
        period: In the unit of `t`.
        keep: Written to: shape (N,).

    Returns:
        Number of dropped events.
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
    """Keep an event where one of the eight neighboring pixels has an event at most `window` before it.

    Arguments as of `mark_refractory`, but `last` is the time of the last event, kept or not, with a margin of one pixel
    on each side, shape (height + 2, width + 2). The own pixel of an event does not count.

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
