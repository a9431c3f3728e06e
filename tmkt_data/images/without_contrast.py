"""Images without contrast, known by the checksums of their frames alone: a frame of one gray value is one of 256."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tmkt_data.files import checksum
from tmkt_data.images.frames import ImageTarget
from tmkt_data.spec import ImageDecode

Box = tuple[int, int, int, int]


def are_without_contrast(
    checksums: NDArray[np.uint64], sizes: NDArray[np.int64], target: ImageTarget, decode: ImageDecode
) -> NDArray[np.bool_]:
    """Return which images have one gray value all over. No frame is read.

    An image of one color that is reduced to `luminance`, and placed so that its border covers parts of cells, may be
    missed: these cells are rounded by channel.

    Args:
        checksums: XXH3-64 of the frame of each image, shape (N,), uint64.
        sizes: Height and width of each image, in its own pixels, shape (N, 2).
        target: What the images were resized to.
        decode: How they were decoded.

    Returns:
        Shape (N,), bool.
    """
    if target.sensor_size is None:
        return _is_one_of(checksums, _checksums(target, None, decode))
    found = np.zeros(len(checksums), bool)
    # Sizes as single numbers: rows of two take ten times as long to tell apart.
    distinct, which = np.unique(sizes[:, 0].astype(np.int64) << 32 | sizes[:, 1], return_inverse=True)
    numbers: dict[Box | None, int] = {}
    boxes = [target.box_of(size & 0xFFFFFFFF, size >> 32) for size in distinct.tolist()]
    box_of_size = np.array([numbers.setdefault(box, len(numbers)) for box in boxes], np.int64)
    box_of_image = box_of_size[which]
    for box, number in numbers.items():
        rows = np.flatnonzero(box_of_image == number)
        found[rows] = _is_one_of(checksums[rows], _checksums(target, box, decode))
    return found


def _is_one_of(values: NDArray[np.uint64], few: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return what `np.isin` does, which sorts the values."""
    few = np.sort(few)
    return np.asarray(few[np.minimum(np.searchsorted(few, values), len(few) - 1)] == values)


def _checksums(target: ImageTarget, box: Box | None, decode: ImageDecode) -> NDArray[np.uint64]:
    return np.array([checksum(frame) for frame in _frames(target, box, decode)], np.uint64)


def _frames(target: ImageTarget, box: Box | None, decode: ImageDecode) -> Iterator[NDArray[np.uint8]]:
    """Yield the frame of an image of each gray value, 0 to 255."""
    sensor = target.sensor_size
    if box is None or sensor is None:
        yield from (np.full((target.height, target.width), gray, np.uint8) for gray in range(256))
        return
    left, top, right, bottom = box
    grays = np.arange(256, dtype=np.uint8)
    if decode == "full":
        # Pillow resizes along the rows, rounds to bytes, then along the columns.
        canvas = np.zeros((256, sensor.width), np.uint8)
        canvas[:, max(0, left) : right] = grays[:, None]
        of_columns = np.asarray(Image.fromarray(canvas).resize((target.width, 256), Image.Resampling.BILINEAR))
        canvas = np.zeros((sensor.height, 256), np.uint8)
        canvas[max(0, top) : bottom] = grays
        of_rows = np.asarray(Image.fromarray(canvas).resize((256, target.height), Image.Resampling.BILINEAR))
        yield from (of_rows.take(of_columns[gray], axis=1) for gray in range(256))
        return
    from tmkt_data.kernels.image import WEIGHT_BITS, AxisPlace, axis_filter

    # Of an image of one pixel, each cell has one weight: its share of the image. Rounded as by `fill_frame`.
    rows = axis_filter(1.0, target.height, AxisPlace(top, bottom - top, sensor.height))[2]
    columns = axis_filter(1.0, target.width, AxisPlace(left, right - left, sensor.width))[2]
    half = WEIGHT_BITS // 2
    for gray in range(256):
        lines = (rows * np.int32(gray) + np.int32(1 << half - 1)) >> half
        last = WEIGHT_BITS + half
        yield ((lines * columns[:, 0] + np.int32(1 << last - 1)) >> last).astype(np.uint8)
