"""Counts on the sampled pixels into target cells, by weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel


@kernel
def spread(
    grid: NDArray[np.uint32],
    x_start: NDArray[np.int32],
    x_place: NDArray[np.int32],
    x_weight: NDArray[np.float32],
    y_start: NDArray[np.int32],
    y_place: NDArray[np.int32],
    y_weight: NDArray[np.float32],
    row: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Weigh the counts of one bin into target cells, first along y, then along x, in the order of the taps.

    Args:
        grid: Counts, shape (2, Y, X), uint32, each below 2**31.
        x_start: Taps of the columns, see `kernels.resize.Taps`; each lies below X.
        x_place: Taps of the columns.
        x_weight: Taps of the columns.
        y_start: Taps of the rows; each lies below Y.
        y_place: Taps of the rows.
        y_weight: Taps of the rows.
        row: Room for one row, shape (X,), float32.
        out: Written to: shape (2, H, W), float32.
    """
    # One index into all counts, and no signs to look at, let the inner loop run in vectors.
    flat = grid.reshape(-1)
    width = np.uint64(row.size)
    for channel in range(grid.shape[0]):
        for i in range(out.shape[1]):
            for s in range(width):
                row[s] = 0
            for b in range(y_start[i], y_start[i + 1]):
                weight = y_weight[b]
                base = np.uint64((channel * grid.shape[1] + y_place[b]) * grid.shape[2])
                for s in range(width):
                    row[s] += weight * np.float32(np.int32(flat[base + s]))
            for j in range(out.shape[2]):
                total = np.float32(0)
                for a in range(np.uint64(x_start[j]), np.uint64(x_start[j + 1])):
                    total += x_weight[a] * row[np.uint64(x_place[a])]
                out[channel, i, j] = total
