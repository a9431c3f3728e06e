"""Changes of log intensity: along a path that an image moves on, and from cell to cell.

Every step is one product, sum or difference of float32 numbers, so that machines and devices give the same bits.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel

CHANGES_PER_UNIT = 2048
"""Steps of a change: a change of log intensity by 1 is this."""
MAX_CHANGE = 8 * CHANGES_PER_UNIT
"""Largest change; what exceeds it is written as this."""

_ZERO = np.float32(0)
_HALF = np.float32(0.5)
_PER_UNIT = np.float32(CHANGES_PER_UNIT)

Values = NDArray[np.float32] | NDArray[np.int16] | NDArray[np.uint8]
Scratch = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
"""Working memory of one sample: `padded`, shape (H + 2 M, W + 2 M); `lines`, (H + 1, W); `seen`, `start` and
`brighter`, (H W,)."""


@kernel
def pad_levels(
    image: NDArray[np.uint8], levels: NDArray[np.float32], box: NDArray[np.int32], padded: NDArray[np.float32]
) -> None:
    """Write the levels of an image into the middle of a larger array, and those of the edges of `box` around it.

    Args:
        image: Shape (H, W), uint8.
        levels: Log intensity of each gray value, shape (256,), float32.
        box: Rows and columns that the image covers: top, bottom, left, right, int32; bottom and right exclusive.
        padded: Written to: shape (H + 2 M, W + 2 M), float32.
    """
    margin = (padded.shape[0] - image.shape[0]) // 2
    for row in range(padded.shape[0]):
        source = image[min(max(row - margin, box[0]), box[1] - 1)]
        for column in range(padded.shape[1]):
            padded[row, column] = levels[source[min(max(column - margin, box[2]), box[3] - 1)]]


@kernel
def _between_columns(line: NDArray[np.float32], share: np.float32, out: NDArray[np.float32]) -> None:
    for column in range(out.size):
        out[column] = line[column] + share * (line[column + 1] - line[column])


@kernel
def _see(
    above: NDArray[np.float32],
    below: NDArray[np.float32],
    share: np.float32,
    seen: NDArray[np.float32],
    brighter: NDArray[np.float32],
) -> None:
    """Interpolate between two rows, and add to `brighter` by how much that exceeds what was seen before."""
    for i in range(seen.size):
        level = above[i] + share * (below[i] - above[i])
        change = level - seen[i]
        seen[i] = level
        brighter[i] += change if change > _ZERO else _ZERO


@kernel
def move_levels(
    padded: NDArray[np.float32],
    step: NDArray[np.float32],
    lines: NDArray[np.float32],
    seen: NDArray[np.float32],
    brighter: NDArray[np.float32],
) -> None:
    """Move an image by fractions of a cell, bilinear, and add what brightens in each cell.

    Args:
        padded: See `pad_levels`; M cells of margin.
        step: Displacement to the right and down, shape (2,), float32, in cells; less than M - 1.
        lines: Scratch, shape (H + 1, W), float32.
        seen: What the cells saw before; written to with what they see now: shape (H W,), float32.
        brighter: Added to where the level increases, shape (H W,), float32.
    """
    height, width = lines.shape[0] - 1, lines.shape[1]
    margin = (padded.shape[0] - height) // 2
    column, row = math.floor(-step[0]), math.floor(-step[1])
    across, along = np.float32(-step[0] - np.float32(column)), np.float32(-step[1] - np.float32(row))
    first, last = margin + column, margin + column + width + 1
    for i in range(height + 1):
        _between_columns(padded[margin + row + i, first:last], across, lines[i])
    above, below = lines[:height].reshape(seen.size), lines[1:].reshape(seen.size)
    _see(above, below, along, seen, brighter)


@kernel
def _respond(changes: NDArray[np.float32], zero: int, response: Values, out: Values) -> None:
    """Look up the value for each change of log intensity; shape (P,)."""
    last, middle = np.float32(response.size - 1), np.float32(zero) + _HALF
    for i in range(changes.size):
        at = changes[i] * _PER_UNIT + middle
        at = at if at > _ZERO else _ZERO
        changes[i] = at if at < last else last
    # A loop of its own, so that the one above is vectorized.
    for i in range(changes.size):
        out[i] = response[np.uint32(np.int32(changes[i]))]


@kernel
def _blank(frame: Values, window: NDArray[np.int32], value: np.float32 | np.int16 | np.uint8) -> None:
    """Write a value to all cells outside a box."""
    top, bottom, left, right = window
    frame[:top] = value
    frame[bottom:] = value
    frame[top:bottom, :left] = value
    frame[top:bottom, right:] = value


@kernel
def path_frames(
    images: NDArray[np.uint8],
    levels: NDArray[np.float32],
    places: tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]],
    response: Values,
    scratch: Scratch,
    out: Values,
) -> None:
    """Write how the log intensity changes in each time bin while an image moves along its path.

    Within a bin, changes between two positions are summed, those to darker and those to brighter apart. Two channels
    are what darkened (OFF) and what brightened (ON); one channel is their difference.

    Args:
        images: Shape (B, H, W), uint8.
        levels: Log intensity of each gray value, shape (256,), float32.
        places: Path of each image, shape (B, T S + 1, 2), float32, see `move_levels`; its box, shape (B, 4), int32,
            see `pad_levels`; and the box outside of which frames are zero, shape (B, 4), int32.
        response: Value for each change, shape (K,): of changes 0 to K - 1 for two channels, of -(K - 1) / 2 to
            (K - 1) / 2 for one, in 1 / `CHANGES_PER_UNIT`; the outermost ones stand for all beyond.
        scratch: Working memory.
        out: Written to: shape (B, T, C, H, W), of the type of `response`.
    """
    paths, boxes, windows = places
    padded, lines, seen, start, brighter = scratch
    num_bins, num_channels = out.shape[1], out.shape[2]
    per_bin = (paths.shape[1] - 1) // num_bins
    zero = 0 if num_channels == 2 else (response.size - 1) // 2
    for sample in range(images.shape[0]):
        pad_levels(images[sample], levels, boxes[sample], padded)
        seen[:] = 0
        move_levels(padded, paths[sample, 0], lines, seen, brighter)
        for time_bin in range(num_bins):
            start[:] = seen
            brighter[:] = 0
            for part in range(per_bin):
                move_levels(padded, paths[sample, time_bin * per_bin + part + 1], lines, seen, brighter)
            for i in range(seen.size):
                start[i] = seen[i] - start[i]
            frames = out[sample, time_bin]
            if num_channels == 1:
                _respond(start, zero, response, frames[0].reshape(seen.size))
            else:
                for i in range(seen.size):
                    start[i] = brighter[i] - start[i]
                _respond(start, zero, response, frames[0].reshape(seen.size))
                _respond(brighter, zero, response, frames[1].reshape(seen.size))
            for channel in range(num_channels):
                _blank(frames[channel], windows[sample], response[zero])


@kernel
def gradient_frames(
    images: NDArray[np.uint8],
    levels: NDArray[np.float32],
    places: tuple[NDArray[np.int32], NDArray[np.int32]],
    response: Values,
    scratch: tuple[NDArray[np.float32], NDArray[np.float64]],
    out: Values,
) -> None:
    """Write a value for the gradient magnitude of log intensity, smoothed by a 3 x 3 binomial filter.

    Args:
        images: Shape (B, H, W), uint8.
        levels: Log intensity of each gray value, shape (256,), float32.
        places: Box of each image, shape (B, 4), see `pad_levels`; and the box outside of which it is zero, shape
            (B, 4); int32.
        response: Value for each gradient, shape (K,), in 1 / `CHANGES_PER_UNIT` per cell; the last one stands for all
            beyond.
        scratch: `padded`, shape (H + 4, W + 4), float32; and `smooth`, shape (H + 2, W + 2), float64.
        out: Written to: shape (B, H, W), of the type of `response`.
    """
    boxes, windows = places
    padded, smooth = scratch
    last = response.size - 1
    for sample in range(images.shape[0]):
        pad_levels(images[sample], levels, boxes[sample], padded)
        for row in range(smooth.shape[0]):
            for column in range(smooth.shape[1]):
                total = 0.0
                for i in range(3):
                    for j in range(3):
                        total += (1 + (i & 1)) * (1 + (j & 1)) * float(padded[row + i, column + j])
                smooth[row, column] = total / 16
        for row in range(out.shape[1]):
            for column in range(out.shape[2]):
                across = (smooth[row + 1, column + 2] - smooth[row + 1, column]) / 2
                along = (smooth[row + 2, column + 1] - smooth[row, column + 1]) / 2
                size = math.sqrt(across * across + along * along)
                out[sample, row, column] = response[min(math.floor(size * CHANGES_PER_UNIT + 0.5), last)]
        _blank(out[sample], windows[sample], response[0])
