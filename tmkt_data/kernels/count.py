"""Events straight into count frames of the target size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel
from tmkt_data.kernels.spread import spread


@kernel
def count_frames(
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.bool_],
    edges: NDArray[np.int64],
    column: NDArray[np.int32],
    row: NDArray[np.int32],
    x_first: int,
    y_first: int,
    out: NDArray[np.uint32],
) -> int:
    """Count events per bin, polarity and target cell.

    Args:
        t: Times, shape (N,), int64, non-decreasing.
        x: Columns, shape (N,); `x - x_first` indexes `column`.
        y: Rows, shape (N,); `y - y_first` indexes `row`.
        p: Polarities, shape (N,).
        edges: Bin edges, shape (T + 1,), int64, non-decreasing.
        column: Target column of each source column, int32.
        row: Target row of each source row, int32.
        x_first: Left edge of the canvas.
        y_first: Top edge of the canvas.
        out: Added to: shape (T, 2, H, W), uint32; OFF in channel 0, ON in channel 1.

    Returns:
        Events counted; the others lie before the first or after the last edge.
    """
    num_bins = edges.size - 1
    k = 0
    counted = 0
    for i in range(t.size):
        time = t[i]
        while k < num_bins and time >= edges[k + 1]:
            k += 1
        if k == num_bins:
            break
        if time < edges[0]:
            continue
        channel = 1 if p[i] else 0
        out[k, channel, row[np.int64(y[i]) - y_first], column[np.int64(x[i]) - x_first]] += np.uint32(1)
        counted += 1
    return counted


@kernel
def count_frames_weighted(
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.bool_],
    edges: NDArray[np.int64],
    column: NDArray[np.int32],
    row: NDArray[np.int32],
    x_first: int,
    y_first: int,
    x_start: NDArray[np.int32],
    x_place: NDArray[np.int32],
    x_weight: NDArray[np.float32],
    y_start: NDArray[np.int32],
    y_place: NDArray[np.int32],
    y_weight: NDArray[np.float32],
    k: int,
    grid: NDArray[np.uint32],
    line: NDArray[np.float32],
    out: NDArray[np.float32],
) -> tuple[int, int]:
    """Count events per bin on the sampled pixels, and weigh the counts of each bin that ends into target cells.

    Args:
        t: As in `count_frames`.
        x: As in `count_frames`.
        y: As in `count_frames`.
        p: As in `count_frames`.
        edges: As in `count_frames`.
        column: Column of the grid of each source column, int32.
        row: Row of the grid of each source row, int32.
        x_first: Left edge of the canvas.
        y_first: Top edge of the canvas.
        x_start: Taps of the columns, see `kernels.resize.Taps`.
        x_place: Taps of the columns.
        x_weight: Taps of the columns.
        y_start: Taps of the rows.
        y_place: Taps of the rows.
        y_weight: Taps of the rows.
        k: Bin whose counts so far are on the grid; 0 with a grid of zeros at first.
        grid: Counts of one bin, shape (2, Y, X), uint32; the last row and column take what is not sampled.
        line: Room for one row of the grid, shape (X,), float32.
        out: Written to: shape (T, 2, H, W), float32.

    Returns:
        Events in a bin, sampled or not, and the bin whose counts are on the grid now.
    """
    num_bins = edges.size - 1
    counted = 0
    for i in range(t.size):
        time = t[i]
        while k < num_bins and time >= edges[k + 1]:
            spread(grid, x_start, x_place, x_weight, y_start, y_place, y_weight, line, out[k])
            grid[:] = 0
            k += 1
        if k == num_bins:
            break
        if time < edges[0]:
            continue
        channel = 1 if p[i] else 0
        grid[channel, row[np.int64(y[i]) - y_first], column[np.int64(x[i]) - x_first]] += np.uint32(1)
        counted += 1
    return counted, k
