"""Events straight into frames of the target size: counts, weighted counts and voxel grids."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel
from tmkt_data.kernels.event_columns import EventColumns
from tmkt_data.kernels.resize import Weights

Cells = tuple[NDArray[np.int32], NDArray[np.int32]]
"""Target column of each source column and target row of each source row, both counted from the origin."""
Room = tuple[NDArray[np.uint32], NDArray[np.float32]]
"""Counts of one bin on the sampled pixels, shape (2, Y, X), whose last row and column take what is not sampled; and
scratch for one row of it, shape (X,)."""


@kernel
def count_frames(
    events: EventColumns, edges: NDArray[np.int64], cells: Cells, origin: tuple[int, int], out: NDArray[np.uint32]
) -> int:
    """Count events per bin, polarity and target cell.

    Args:
        events: In non-decreasing time.
        edges: Bin edges, shape (T + 1,), int64, non-decreasing.
        cells: See `Cells`.
        origin: First column and row of the canvas.
        out: Added to: shape (T, 2, H, W), uint32; OFF in channel 0, ON in channel 1.

    Returns:
        Number of counted events; the others lie before the first or after the last edge.
    """
    t, x, y, p = events
    column, row = cells
    x_first, y_first = origin
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
    events: EventColumns,
    edges: NDArray[np.int64],
    cells: Cells,
    origin: tuple[int, int],
    taps: tuple[Weights, Weights],
    k: int,
    room: Room,
    out: NDArray[np.float32],
) -> tuple[int, int]:
    """Count events per bin on the sampled pixels; when a bin ends, resample its counts to the target cells.

    Args:
        events: As in `count_frames`.
        edges: As in `count_frames`.
        cells: As in `count_frames`, with columns and rows of the sampled pixels as targets.
        origin: As in `count_frames`.
        taps: Taps of the columns and of the rows, see `kernels.resize.Taps`.
        k: Bin whose counts so far are in `room`; 0 with counts of zero at first.
        room: See `Room`; carried from call to call.
        out: Written to: shape (T, 2, H, W), float32.

    Returns:
        Number of events in a bin, sampled or not, and the bin whose counts are in `room` now.
    """
    t, x, y, p = events
    column, row = cells
    x_first, y_first = origin
    grid, _ = room
    num_bins = edges.size - 1
    counted = 0
    for i in range(t.size):
        time = t[i]
        while k < num_bins and time >= edges[k + 1]:
            resample(room, taps, out[k])
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


@kernel
def resample(room: Room, taps: tuple[Weights, Weights], out: NDArray[np.float32]) -> None:
    """Sum weighted counts of one bin into target cells, first along y, then along x, in the order of the taps.

    Args:
        room: See `Room`; each count is below 2**31.
        taps: Taps of the columns, each below X, and of the rows, each below Y; see `kernels.resize.Taps`.
        out: Written to: shape (2, H, W), float32.
    """
    grid, line = room
    x_start, x_place, x_weight = taps[0]
    y_start, y_place, y_weight = taps[1]
    # One flat unsigned index lets LLVM vectorize the inner loop.
    flat = grid.reshape(-1)
    width = np.uint64(line.size)
    for channel in range(grid.shape[0]):
        for i in range(out.shape[1]):
            for s in range(width):
                line[s] = 0
            for b in range(y_start[i], y_start[i + 1]):
                weight = y_weight[b]
                base = np.uint64((channel * grid.shape[1] + y_place[b]) * grid.shape[2])
                for s in range(width):
                    line[s] += weight * np.float32(np.int32(flat[base + s]))
            for j in range(out.shape[2]):
                total = np.float32(0)
                for a in range(np.uint64(x_start[j]), np.uint64(x_start[j + 1])):
                    total += x_weight[a] * line[np.uint64(x_place[a])]
                out[channel, i, j] = total


@kernel
def voxel_grid(
    events: EventColumns,
    tables: tuple[Weights, Weights],
    origin: tuple[int, int],
    span: tuple[int, int],
    out: NDArray[np.float32],
) -> None:
    """Add each event, +1 for ON and -1 for OFF, to the two bins around its time, linearly in time.

    Args:
        events: In non-decreasing time.
        tables: Tables of the columns and of the rows, see `kernels.resize.axis_table`.
        origin: First column and row of the canvas.
        span: Time of the first event of the recording, and from there to the last event.
        out: Added to: shape (T, 1, H, W), float32.

    Source: Zhu et al., CVPR 2019, "Unsupervised Event-based Learning of Optical Flow, Depth, and Egomotion".
    """
    t, x, y, p = events
    x_start, x_target, x_weight = tables[0]
    y_start, y_target, y_weight = tables[1]
    x_first, y_first = origin
    t_first, duration = span
    num_bins = out.shape[0]
    for i in range(t.size):
        position = np.float64(t[i] - t_first) * (num_bins - 1) / duration if duration > 0 else 0.0
        low = int(position)
        late = np.float32(position - low)
        sign = np.float32(1.0) if p[i] else np.float32(-1.0)
        source_x = np.int64(x[i]) - x_first
        source_y = np.int64(y[i]) - y_first
        for b in range(y_start[source_y], y_start[source_y + 1]):
            for a in range(x_start[source_x], x_start[source_x + 1]):
                value = sign * y_weight[b] * x_weight[a]
                out[low, 0, y_target[b], x_target[a]] += value * (np.float32(1.0) - late)
                if low + 1 < num_bins:
                    out[low + 1, 0, y_target[b], x_target[a]] += value * late
