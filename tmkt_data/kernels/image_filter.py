"""Which pixels of an image make a cell of a frame, and with what weight: antialiasing as tables of whole numbers."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WEIGHT_BITS = 14
"""The weights of a cell that lies inside the image add up to 2**14."""


class AxisFilter(NamedTuple):
    """Pixels of each cell along one axis.

    Attributes:
        first: Shape (cells,), int32; first pixel of the cell, 0 where it has none.
        length: Shape (cells,), int32; neighboring pixels from there on, 0 where the cell lies outside the image.
        weight: Shape (cells, longest), int32; units of 2**-14, 0 beyond `length`.
    """

    first: NDArray[np.int32]
    length: NDArray[np.int32]
    weight: NDArray[np.int32]


class AxisPlace(NamedTuple):
    """Where an image lies along one axis of the canvas, in sensor pixels: from `start` on, `span` long, of `canvas`."""

    start: int
    span: int
    canvas: int


@lru_cache(maxsize=4096)
def axis_filter(extent: float, cells: int, place: AxisPlace | None = None) -> AxisFilter:
    """Build the filter of one axis.

    An image is resized to its place on the canvas and the canvas to the cells, both in one here. Each time a triangle
    lies about the middle of the target, as wide as two targets, two pixels or more. Beside the image the canvas is 0.

    Args:
        extent: Pixels that the image is long; a fraction where the last pixel is covered in part.
        cells: Cells that the canvas is divided into.
        place: Where the image lies on the canvas; None: it fills it.

    Example:
        >>> axis_filter(4.0, 2).weight.tolist()
        [[7022, 7021, 2341], [2341, 7021, 7022]]

    Source: the bilinear filter of Pillow's `Image.resize`, with weights of 14 bits instead of 22.
    """
    if place is None:
        return _packed(_triangles(extent, cells))
    on_canvas = _triangles(extent, place.span)[: place.canvas - place.start]
    inside = slice(place.start, place.start + len(on_canvas))
    return _packed(_triangles(place.canvas, cells)[:, inside] @ on_canvas)


def _triangles(extent: float, targets: int) -> NDArray[np.float64]:
    """Return the share of each pixel in each target, shape (targets, ceil(extent)); rows add up to 1."""
    step = extent / targets
    reach = max(step, 1.0)
    middles = (np.arange(targets) + 0.5)[:, None] * step
    shares = np.maximum(0.0, 1.0 - np.abs(np.arange(math.ceil(extent)) + 0.5 - middles) / reach)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float64)


def _packed(shares: NDArray[np.float64]) -> AxisFilter:
    # The sums are rounded, not the weights, so that white stays white over however many pixels. The small addend
    # keeps halves from depending on the last bit, which differs between machines.
    sums = np.floor(np.cumsum(shares, axis=1) * 2**WEIGHT_BITS + 0.5 + 2.0**-20).astype(np.int32)
    weights = np.diff(sums, axis=1, prepend=np.int32(0))
    used = weights != 0
    first = used.argmax(axis=1)
    length = np.where(used.any(axis=1), shares.shape[1] - used[:, ::-1].argmax(axis=1) - first, 0)
    taps = np.arange(max(1, int(length.max())))
    columns = np.minimum(first[:, None] + taps, shares.shape[1] - 1)
    weight = np.where(taps < length[:, None], np.take_along_axis(weights, columns, axis=1), 0)
    return AxisFilter(first.astype(np.int32), length.astype(np.int32), weight.astype(np.int32))
