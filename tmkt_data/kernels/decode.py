"""Byte streams to event columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel


@kernel
def decode_atis(
    data: NDArray[np.uint8],
    width: int,
    height: int,
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.bool_],
) -> tuple[int, int, int]:
    """Decode 5-byte ATIS events; keep those inside `width` x `height`, in file order.

    Args:
        data: Bytes, shape (5 * N,), uint8; a whole number of events.
        width: Columns at or beyond it are invalid.
        height: Rows at or beyond it are invalid.
        t: Out: microseconds, room for N.
        x: Out: columns, room for N.
        y: Out: rows, room for N.
        p: Out: polarities, room for N.

    Returns:
        Events kept, events with an invalid coordinate, and steps back in time among the kept ones.

    Source: a 40-bit big-endian word: x 8 bits, y 8 bits, polarity 1 bit, time 23 bits (Orchard et al. 2015).
    """
    kept = 0
    inversions = 0
    previous = np.int64(-1)
    for i in range(data.size // 5):
        at = 5 * i
        column = data[at]
        row = data[at + 1]
        if column >= width or row >= height:
            continue
        high = np.int64(data[at + 2])
        time = ((high & 0x7F) << 16) | (np.int64(data[at + 3]) << 8) | np.int64(data[at + 4])
        t[kept] = time
        x[kept] = column
        y[kept] = row
        p[kept] = high >= 128
        if time < previous:
            inversions += 1
        previous = time
        kept += 1
    return kept, data.size // 5 - kept, inversions
