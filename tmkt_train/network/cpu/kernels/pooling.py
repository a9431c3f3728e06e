"""Average pooling over 2 x 2 pixels; an odd last row or column is dropped."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel

Floats = NDArray[np.floating[Any]]


@kernel
def pool(frames: Floats, out: Floats, first: int, last: int) -> None:
    """Average frames (F, H, W, C) over 2 x 2 pixels.

    Args:
        frames: Shape (F, H, W, C).
        out: Written: shape (F, H // 2, W // 2, C).
        first: First row f (H // 2) + i.
        last: Row to stop before.
    """
    height, width, num_channels = out.shape[1], out.shape[2], out.shape[3]
    quarter = frames.dtype.type(0.25)
    for row in range(first, last):
        f, i = row // height, row % height
        for j in range(width):
            a, b = frames[f, 2 * i, 2 * j], frames[f, 2 * i, 2 * j + 1]
            c, d = frames[f, 2 * i + 1, 2 * j], frames[f, 2 * i + 1, 2 * j + 1]
            mean = out[f, i, j]
            for k in range(num_channels):
                mean[k] = (a[k] + b[k] + c[k] + d[k]) * quarter


@kernel
def unpool(grad: Floats, place: NDArray[np.int64], out: Floats, first: int, last: int) -> None:
    """Spread the gradient of `pool` over its frames.

    Args:
        grad: Gradient of the averages, shape (F, H // 2, W // 2, C).
        place: Index in `out` of each frame, shape (F,).
        out: Written in those frames: shape (F', H, W, C).
        first: First row f H + i.
        last: Row to stop before.
    """
    height, width, num_channels = out.shape[1], out.shape[2], out.shape[3]
    quarter = grad.dtype.type(0.25)
    for row in range(first, last):
        f, i = row // height, row % height
        for j in range(width):
            into = out[place[f], i, j]
            if i // 2 == grad.shape[1] or j // 2 == grad.shape[2]:
                into[:] = 0
                continue
            mean = grad[f, i // 2, j // 2]
            for k in range(num_channels):
                into[k] = mean[k] * quarter
