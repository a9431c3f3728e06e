"""From the pixels of an image to the cells of a frame in one pass: antialiased, then reduced to one channel."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmkt_data.kernels.compile import kernel

VALUE, LUMINANCE, BLUE = 0, 1, 2
WEIGHT_BITS = 14
"""The weights of a cell that lies inside the image add up to 2**14."""


class AxisPlace(NamedTuple):
    """Where an image lies along one axis of the canvas, in sensor pixels: from `start` on, `span` long, of `canvas`."""

    start: int
    span: int
    canvas: int


# A plain tuple: numba takes several microseconds longer to recognize a named one at each call.
AxisFilter = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]
"""Pixels of each cell along one axis: the first one, shape (cells,); how many, shape (cells,), 0 where the cell lies
outside the image; and their weights in units of 2**-14, shape (cells, most), 0 beyond that number."""


@lru_cache(maxsize=4096)
def axis_filter(extent: float, cells: int, place: AxisPlace | None = None) -> AxisFilter:
    """Return the filter of one axis.

    It composes two resizes, of the image to its place on the canvas and of the canvas to the cells. Each is a triangle
    around the middle of the target, two targets wide and at least two pixels. The canvas is 0 outside the image.

    Args:
        extent: Length of the image in pixels; a fraction where the last pixel is partly covered.
        cells: Number of cells of the canvas.
        place: Where the image lies on the canvas; None where it fills the canvas.

    Example:
        >>> axis_filter(4.0, 2)[2].tolist()
        [[7022, 7021, 2341], [2341, 7021, 7022]]

    Source: the bilinear filter of Pillow's `Image.resize`, with weights of 14 bits instead of 22.
    """
    if place is None:
        return _pack(_triangles(extent, cells))
    on_canvas = _triangles(extent, place.span)[max(0, -place.start) : place.canvas - place.start]
    first = max(0, place.start)
    inside = slice(first, first + len(on_canvas))
    return _pack(_triangles(place.canvas, cells)[:, inside] @ on_canvas)


def _triangles(extent: float, targets: int) -> NDArray[np.float64]:
    """Return the share of each pixel in each target, shape (targets, ceil(extent)); rows add up to 1."""
    step = extent / targets
    reach = max(step, 1.0)
    middles = (np.arange(targets) + 0.5)[:, None] * step
    shares = np.maximum(0.0, 1.0 - np.abs(np.arange(math.ceil(extent)) + 0.5 - middles) / reach)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float64)


def _pack(shares: NDArray[np.float64]) -> AxisFilter:
    # Cumulative sums are rounded, not single weights, so that white stays white over any number of pixels. The small
    # addend makes ties independent of the last bit, which differs between machines.
    sums = np.floor(np.cumsum(shares, axis=1) * 2**WEIGHT_BITS + 0.5 + 2.0**-20).astype(np.int32)
    weights = np.diff(sums, axis=1, prepend=np.int32(0))
    used = weights != 0
    first = used.argmax(axis=1)
    length = np.where(used.any(axis=1), shares.shape[1] - used[:, ::-1].argmax(axis=1) - first, 0)
    taps = np.arange(max(1, int(length.max())))
    columns = np.minimum(first[:, None] + taps, shares.shape[1] - 1)
    weight = np.where(taps < length[:, None], np.take_along_axis(weights, columns, axis=1), 0)
    return first.astype(np.int32), length.astype(np.int32), weight.astype(np.int32)


@kernel
def fill_frame(
    pixels: NDArray[np.uint8],
    rows: AxisFilter,
    columns: AxisFilter,
    channel: int,
    line: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> None:
    """Filter along the rows, then along the columns, round to bytes, and reduce to one channel.

    Args:
        pixels: Shape (h, 3 w), uint8; red, green and blue of the pixels of a row.
        rows: Filter of the rows, for H cells; every pixel below h.
        columns: Filter of the columns, for W cells; every pixel below w.
        channel: `VALUE`, `LUMINANCE` or `BLUE`, see `images.frames.intensity`.
        line: Scratch, shape (3 w,), int32.
        out: Written to: shape (H, W), uint8.
    """
    row_first, row_length, row_weight = rows
    column_first, column_length, column_weight = columns
    width = pixels.shape[1]
    for i in range(out.shape[0]):
        # Of the 14 bits of a weight 7 are kept for the second pass: 8 + 7 + 14 bits fit into 31.
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
