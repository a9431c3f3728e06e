"""From the pixels of an image to the cells of a frame in one pass: filtered, then reduced to one channel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel

VALUE, LUMINANCE, BLUE = 0, 1, 2


@kernel
def fill_frame(
    pixels: NDArray[np.uint8],
    row_first: NDArray[np.int32],
    row_length: NDArray[np.int32],
    row_weight: NDArray[np.int32],
    column_first: NDArray[np.int32],
    column_length: NDArray[np.int32],
    column_weight: NDArray[np.int32],
    channel: int,
    line: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> None:
    """Fill a frame: rows are filtered first, then columns, then the channel is taken of what is rounded to a byte.

    Args:
        pixels: Shape (h, 3 w), uint8; red, green and blue of the pixels of a row.
        row_first: Of the `AxisFilter` of the rows, for H cells; every pixel below h.
        row_length: Of the same.
        row_weight: Of the same.
        column_first: Of the `AxisFilter` of the columns, for W cells; every pixel below w.
        column_length: Of the same.
        column_weight: Of the same.
        channel: `VALUE`, `LUMINANCE` or `BLUE`, see `image_frames.intensity`.
        line: Shape (3 w,), int32; scratch.
        out: Shape (H, W), uint8; overwritten.
    """
    width = pixels.shape[1]
    for i in range(out.shape[0]):
        # 14 bits of weight, of which 7 are kept for the second pass: 8 + 7 + 14 bits fit into 31.
        for j in range(width):
            line[j] = 1 << 6
        for tap in range(row_length[i]):
            weight = row_weight[i, tap]
            row = pixels[row_first[i] + tap]
            for j in range(width):
                line[j] += weight * np.int32(row[j])
        for j in range(width):
            line[j] >>= 7
        for j in range(out.shape[1]):
            red = np.int32(1 << 20)
            green = np.int32(1 << 20)
            blue = np.int32(1 << 20)
            at = 3 * column_first[j]
            for tap in range(column_length[j]):
                weight = column_weight[j, tap]
                red += weight * line[at]
                green += weight * line[at + 1]
                blue += weight * line[at + 2]
                at += 3
            red, green, blue = red >> 21, green >> 21, blue >> 21
            luminance = (19595 * red + 38470 * green + 7471 * blue + (1 << 15)) >> 16
            brightest = max(red, green, blue)
            out[i, j] = brightest if channel == 0 else (luminance if channel == 1 else blue)
