"""ATIS bytes straight into count frames: no columns in between."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel


@kernel
def find_ends(data: NDArray[np.uint8], width: int, height: int) -> tuple[int, int]:
    """Return the times of the first and the last event on the sensor, in file order; (-1, -1) where there is none.

    Args:
        data: Whole events of 5 bytes, shape (5 N,).
        width: Width of the sensor, at most 256.
        height: Height of the sensor, at most 240.
    """
    first, last = -1, -1
    for at in range(0, data.size, 5):
        if data[at] < width and data[at + 1] < height:
            first = ((data[at + 2] & 0x7F) << 16) | (data[at + 3] << 8) | data[at + 4]
            break
    for at in range(data.size - 5, -1, -5):
        if data[at] < width and data[at + 1] < height:
            last = ((data[at + 2] & 0x7F) << 16) | (data[at + 3] << 8) | data[at + 4]
            break
    return first, last


@kernel
def mark_seen(
    data: NDArray[np.uint8], width: int, height: int, seen_x: NDArray[np.bool_], seen_y: NDArray[np.bool_]
) -> None:
    """Mark the columns and rows with an event on the sensor, each of shape (256,); arguments as above."""
    for at in range(0, data.size, 5):
        x, y = data[at], data[at + 1]
        if x < width and y < height:
            seen_x[x] = True
            seen_y[y] = True


@kernel
def count_atis(
    data: NDArray[np.uint8],
    width: int,
    height: int,
    edges: NDArray[np.int64],
    place: NDArray[np.int64],
    start: NDArray[np.int64],
    out: NDArray[np.uint32],
) -> tuple[int, int, int]:
    """Count the events on the sensor per bin, polarity and target cell.

    Args:
        data: Whole events of 5 bytes, shape (5 N,).
        width: Width of the sensor.
        height: Height of the sensor.
        edges: Bin edges, shape (T + 1,), int64, non-decreasing.
        place: Column of the frame of each column of the sensor, shape (256,).
        start: Where its row of the frame begins, of each row of the sensor, shape (256,).
        out: Added to: shape (T * 2 * H * W,), uint32, with OFF before ON in each bin.

    Returns:
        Events counted, events on the sensor, and neighbors among these whose time steps back. Where one does, the
        counts mean nothing.
    """
    num_bins = edges.size - 1
    cells = out.size // (2 * num_bins)
    counted = 0
    kept = 0
    inversions = 0
    k = 0
    previous = np.int64(0)
    begin = edges[0]
    until = edges[1]
    # Unsigned indices need no look at whether they count from the end.
    for i in range(np.uint64(data.size // 5)):
        at = np.uint64(5) * np.uint64(i)
        x, y, high = data[at], data[at + np.uint64(1)], data[at + np.uint64(2)]
        if x >= width or y >= height:
            continue
        low = (np.int64(data[at + np.uint64(3)]) << 8) | np.int64(data[at + np.uint64(4)])
        t = (np.int64(high & 0x7F) << 16) | low
        kept += 1
        if t < previous:
            inversions += 1
        previous = t
        while t >= until and k < num_bins:
            k += 1
            until = edges[k + 1] if k < num_bins else until
        if k == num_bins or t < begin:
            continue
        out[np.uint64((k * 2 + (high >> 7)) * cells + start[y] + place[x])] += np.uint32(1)
        counted += 1
    return counted, kept, inversions
