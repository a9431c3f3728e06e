"""Images to intensities on the canvas of the recordings."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tmkt_data.errors import SpecError
from tmkt_data.events.events import SensorSize
from tmkt_data.spec import ImageChannel

OVERSAMPLING = 2
"""Pixels a cell, in each direction, that are left when a JPEG is decoded at a part of its size."""


class Placement(NamedTuple):
    """Where an image lies on the sensor: scaled, aspect kept, to fit `width` x `height` at (`x_first`, `y_first`).

    All values are sensor pixels. It is what makes pixel (i, j) the same place on both sides of a pair.
    """

    x_first: int
    y_first: int
    width: int
    height: int

    def box_of(self, image_width: float, image_height: float) -> tuple[int, int, int, int]:
        """Return the box of one image as `(left, top, right, bottom)`, right and bottom exclusive.

        Example:
            >>> Placement(3, 3, 227, 167).box_of(290, 334)
            (3, 3, 148, 170)
        """
        scale = min(self.width / image_width, self.height / image_height)
        width = max(1, round(image_width * scale))
        height = max(1, round(image_height * scale))
        return self.x_first, self.y_first, self.x_first + width, self.y_first + height


def intensity(rgb: NDArray[np.uint8], channel: ImageChannel) -> NDArray[np.uint8]:
    """Reduce a color image to one channel.

    Args:
        rgb: Shape (H, W, 3), uint8.
        channel: `value`: largest of R, G, B (V of HSV); `luminance`: (19595 R + 38470 G + 7471 B + 2**15) >> 16,
            ITU-R 601; `blue`: B, what the KT reference feeds when told not to use HSV.

    Returns:
        Intensity, shape (H, W), uint8, 0 to 255.

    Raises:
        SpecError: An unknown channel.

    Example:
        >>> pixel = np.array([[[200, 100, 50]]], np.uint8)
        >>> [int(intensity(pixel, channel)[0, 0]) for channel in ("value", "luminance", "blue")]
        [200, 124, 50]
    """
    match channel:
        case "value":
            return np.maximum(np.maximum(rgb[:, :, 0], rgb[:, :, 1]), rgb[:, :, 2])
        case "luminance":
            weighted = rgb.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
            return ((weighted + np.uint32(1 << 15)) >> np.uint32(16)).astype(np.uint8)
        case "blue":
            return np.ascontiguousarray(rgb[:, :, 2])
    raise SpecError(f"image channel: found {channel!r}, expected value, luminance or blue")


def resize_rgb(rgb: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize with Pillow's antialiased bilinear filter; aspect is the caller's concern.

    Args:
        rgb: Shape (h, w, 3), uint8.
        height: Rows of the result.
        width: Columns of the result.

    Returns:
        Shape (height, width, 3), uint8; the input itself where the size is right already.
    """
    if rgb.shape[:2] == (height, width):
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR), np.uint8)


def image_frame(
    rgb: NDArray[np.uint8],
    *,
    height: int,
    width: int,
    channel: ImageChannel,
    sensor_size: SensorSize | None = None,
    placement: Placement | None = None,
) -> NDArray[np.uint8]:
    """Bring one image onto the frame, as one intensity channel.

    Args:
        rgb: Shape (h, w, 3), uint8.
        height: Rows of a frame, H.
        width: Columns of a frame, W.
        channel: See `intensity`; taken after the resize, as the KT protocol does for Caltech-101.
        sensor_size: The canvas of the recordings; None stretches the image over the whole frame (canvas `tight`).
        placement: Where the image lies on the sensor; outside it the frame is 0, and what overhangs is cut off.

    Returns:
        Intensity, shape (H, W), uint8.

    Raises:
        SpecError: No RGB image, no cells, or a placement that starts outside the sensor.
    """
    _require_frame(rgb, height, width)
    if sensor_size is None or placement is None:
        return intensity(resize_rgb(rgb, height, width), channel)
    left, top, right, bottom = _box_on(sensor_size, placement, rgb.shape[1], rgb.shape[0])
    canvas = np.zeros((sensor_size.height, sensor_size.width, 3), np.uint8)
    inside = canvas[top:bottom, left:right]
    inside[...] = resize_rgb(rgb, bottom - top, right - left)[: inside.shape[0], : inside.shape[1]]
    return intensity(resize_rgb(canvas, height, width), channel)


def frame_of_pixels(
    pixels: NDArray[np.uint8],
    extent: tuple[float, float],
    *,
    height: int,
    width: int,
    channel: ImageChannel,
    sensor_size: SensorSize | None = None,
    placement: Placement | None = None,
) -> NDArray[np.uint8]:
    """Bring one image onto the frame as `image_frame` does, in one pass from pixels to cells.

    The filters are those of `image_frame`, rounded once at the end; of the same pixels, cells differ by at most 2.

    Args:
        pixels: Shape (h, w, 3), uint8; the image, perhaps decoded at a part of its size.
        extent: Height and width of the image in these pixels; fractions where the last pixel is covered in part.
        height: Rows of a frame, H.
        width: Columns of a frame, W.
        channel: As of `image_frame`.
        sensor_size: As of `image_frame`.
        placement: As of `image_frame`.

    Returns:
        Intensity, shape (H, W), uint8.

    Raises:
        SpecError: As `image_frame`, or an extent that is not that of the pixels.
    """
    from tmkt_data.kernels.image import BLUE, LUMINANCE, VALUE, AxisPlace, axis_filter, fill_frame

    _require_frame(pixels, height, width)
    if (math.ceil(extent[0]), math.ceil(extent[1])) != pixels.shape[:2]:
        raise SpecError(f"extent: found {extent} of pixels of shape {pixels.shape}, expected their height and width")
    rows = columns = None
    if sensor_size is not None and placement is not None:
        left, top, right, bottom = _box_on(sensor_size, placement, *extent[::-1])
        rows = AxisPlace(top, bottom - top, sensor_size.height)
        columns = AxisPlace(left, right - left, sensor_size.width)
    codes: dict[str, int] = {"value": VALUE, "luminance": LUMINANCE, "blue": BLUE}
    lines = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    lines.flags.writeable = False
    out = np.empty((height, width), np.uint8)
    fill_frame(
        lines,
        axis_filter(extent[0], height, rows),
        axis_filter(extent[1], width, columns),
        codes[channel],
        np.empty(lines.shape[1], np.int32),
        out,
    )
    return out


def smallest_pixels(
    image_width: int,
    image_height: int,
    *,
    height: int,
    width: int,
    sensor_size: SensorSize | None = None,
    placement: Placement | None = None,
) -> tuple[int, int]:
    """Return the least width and height to decode an image to: `OVERSAMPLING` pixels a cell that it covers.

    Args:
        image_width: Columns of the image.
        image_height: Rows of the image.
        height: As of `image_frame`.
        width: As of `image_frame`.
        sensor_size: As of `image_frame`.
        placement: As of `image_frame`.

    Example:
        >>> smallest_pixels(300, 200, height=48, width=48)
        (96, 96)
    """
    if sensor_size is None or placement is None:
        return OVERSAMPLING * width, OVERSAMPLING * height
    left, top, right, bottom = placement.box_of(image_width, image_height)
    columns = OVERSAMPLING * (right - left) * width / sensor_size.width
    rows = OVERSAMPLING * (bottom - top) * height / sensor_size.height
    return math.ceil(columns), math.ceil(rows)


def _require_frame(rgb: NDArray[np.uint8], height: int, width: int) -> None:
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size or min(height, width) < 1:
        raise SpecError(
            f"image: found {rgb.dtype} of shape {rgb.shape} for a frame of {height} x {width}, "
            "expected uint8 of shape (h, w, 3) and a frame of one cell or more"
        )


def _box_on(sensor: SensorSize, placement: Placement, width: float, height: float) -> tuple[int, int, int, int]:
    """Return the box of an image of that shape, see `Placement.box_of`."""
    left, top, right, bottom = placement.box_of(width, height)
    if not 0 <= left < sensor.width or not 0 <= top < sensor.height:
        raise SpecError(
            f"placement: starts at ({left}, {top}), expected a pixel of the {sensor.width} x {sensor.height} sensor"
        )
    return left, top, right, bottom
