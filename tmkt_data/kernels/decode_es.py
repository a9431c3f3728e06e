"""Event Stream bytes to event columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel

_RESET, _OVERFLOW = 0xFE, 0xFF
_LONGEST_STEP = 127


@kernel
def count_es(data: NDArray[np.uint8]) -> tuple[int, int]:
    """Count the DVS events in bytes of shape (N,); return it and the bytes of an event that is cut off at the end."""
    at = 0
    count = 0
    while at < data.size:
        if data[at] >= _RESET:
            at += 1
            continue
        if at + 5 > data.size:
            return count, data.size - at
        count += 1
        at += 5
    return count, 0


@kernel
def decode_es(
    data: NDArray[np.uint8],
    height: int,
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.bool_],
    state: NDArray[np.int64],
) -> int:
    """Decode whole DVS events into columns with room for what `count_es` counts; return how many it wrote.

    The others lie below row 0 of the file's sensor, whose rows count from the bottom. `state`, shape (1,), is the time
    that earlier bytes have left, 0 at the start of a file; it is carried on.
    """
    at = 0
    kept = 0
    time = state[0]
    while at + 5 <= data.size or (at < data.size and data[at] >= _RESET):
        first = data[at]
        if first >= _RESET:
            if first == _OVERFLOW:
                time += _LONGEST_STEP
            at += 1
            continue
        time += first >> 1
        row = height - 1 - (np.int64(data[at + 3]) | (np.int64(data[at + 4]) << 8))
        if row >= 0:
            t[kept] = time
            x[kept] = np.int64(data[at + 1]) | (np.int64(data[at + 2]) << 8)
            y[kept] = row
            p[kept] = (first & 1) == 1
            kept += 1
        at += 5
    state[0] = time
    return kept
