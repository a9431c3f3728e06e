"""Events straight into a voxel grid of the target size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel


@kernel
def voxel_grid(
    t: NDArray[np.int64],
    x: NDArray[np.uint16],
    y: NDArray[np.uint16],
    p: NDArray[np.bool_],
    x_start: NDArray[np.int32],
    x_target: NDArray[np.int32],
    x_weight: NDArray[np.float32],
    y_start: NDArray[np.int32],
    y_target: NDArray[np.int32],
    y_weight: NDArray[np.float32],
    x_first: int,
    y_first: int,
    t_first: int,
    span: int,
    out: NDArray[np.float32],
) -> None:
    """Add each event, +1 for ON and -1 for OFF, to the two bins around its time, linearly in time.

    Args:
        t: Times, shape (N,), int64, non-decreasing.
        x: Columns, shape (N,); `x - x_first` indexes the table.
        y: Rows, shape (N,); `y - y_first` indexes the table.
        p: Polarities, shape (N,).
        x_start: Table of the columns, see `kernels.resize.axis_table`.
        x_target: Table of the columns.
        x_weight: Table of the columns.
        y_start: Table of the rows.
        y_target: Table of the rows.
        y_weight: Table of the rows.
        x_first: Left edge of the canvas.
        y_first: Top edge of the canvas.
        t_first: Time of the first event of the recording.
        span: From the first to the last event of the recording.
        out: Added to: shape (T, 1, H, W), float32.

    Source: Zhu et al., CVPR 2019, "Unsupervised Event-based Learning of Optical Flow, Depth, and Egomotion".
    """
    num_bins = out.shape[0]
    for i in range(t.size):
        position = np.float64(t[i] - t_first) * (num_bins - 1) / span if span > 0 else 0.0
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
