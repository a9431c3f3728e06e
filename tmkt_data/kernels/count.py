"""Events straight into count frames of the target size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel


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
    x_start: NDArray[np.int32],
    x_target: NDArray[np.int32],
    x_weight: NDArray[np.float32],
    y_start: NDArray[np.int32],
    y_target: NDArray[np.int32],
    y_weight: NDArray[np.float32],
    x_first: int,
    y_first: int,
    out: NDArray[np.float32],
) -> int:
    """Count events per bin, polarity and target cell, each spread by the tables of `kernels.resize.axis_table`.

    Arguments as in `count_frames`, with a table instead of an index per axis; `out` is float32. Returns the events
    that lie in a bin, whether or not a target cell samples them.
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
        counted += 1
        source_x = np.int64(x[i]) - x_first
        source_y = np.int64(y[i]) - y_first
        for b in range(y_start[source_y], y_start[source_y + 1]):
            for a in range(x_start[source_x], x_start[source_x + 1]):
                out[k, channel, y_target[b], x_target[a]] += y_weight[b] * x_weight[a]
    return counted
