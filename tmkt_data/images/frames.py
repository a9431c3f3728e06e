"""Images to frames of intensity, on the canvas of the recordings."""

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
"""Pixels that a JPEG decoded at reduced size has for each cell, at least, in each direction."""


class Placement(NamedTuple):
    """Where images lie on the sensor: scaled, aspect kept, to fit `width` x `height` at (`x_first`, `y_first`).

    All values are sensor pixels. The placement makes pixel (i, j) the same place on both sides of a pair. An image that
    begins left of the sensor or above it was cropped when it was recorded, alike on all sides.
    """

    x_first: int
    y_first: int
    width: int
    height: int

    def box_of(self, image_width: float, image_height: float) -> tuple[int, int, int, int]:
        """Return the box of an image of this size as `(left, top, right, bottom)`, right and bottom exclusive.

        Example:
            >>> Placement(3, 3, 227, 167).box_of(290, 334)
            (3, 3, 148, 170)
        """
        scale = min(self.width / image_width, self.height / image_height)
        width = max(1, round(image_width * scale))
        height = max(1, round(image_height * scale))
        return self.x_first, self.y_first, self.x_first + width, self.y_first + height


class ImageTarget(NamedTuple):
    """The frame that images are resized to, and where they lie on it.

    Attributes:
        height: Rows of a frame, H.
        width: Columns of a frame, W.
        sensor_size: Canvas of the recordings; None stretches every image over the whole frame (canvas `tight`).
        placement: Where images lie on the sensor; beside them the frame is 0, and what overhangs is cut off.
    """

    height: int
    width: int
    sensor_size: SensorSize | None = None
    placement: Placement | None = None

    def smallest_pixels(self, image_width: int, image_height: int) -> tuple[int, int]:
        """Return the smallest width and height to decode an image to: `OVERSAMPLING` pixels for each cell it covers.

        Args:
            image_width: Columns of the image.
            image_height: Rows of the image.

        Example:
            >>> ImageTarget(48, 48).smallest_pixels(300, 200)
            (96, 96)
        """
        if self.sensor_size is None or self.placement is None:
            return OVERSAMPLING * self.width, OVERSAMPLING * self.height
        left, top, right, bottom = self.placement.box_of(image_width, image_height)
        columns = OVERSAMPLING * (right - left) * self.width / self.sensor_size.width
        rows = OVERSAMPLING * (bottom - top) * self.height / self.sensor_size.height
        return math.ceil(columns), math.ceil(rows)

    def box_of(self, image_width: float, image_height: float) -> tuple[int, int, int, int] | None:
        """Return the box of an image on the sensor, see `Placement.box_of`; None where it fills the frame.

        Raises:
            SpecError: The box lies outside the sensor.
        """
        sensor = self.sensor_size
        if sensor is None or self.placement is None:
            return None
        left, top, right, bottom = self.placement.box_of(image_width, image_height)
        if not (right > 0 and bottom > 0 and left < sensor.width and top < sensor.height):
            raise SpecError(
                f"placement: starts at ({left}, {top}), expected a pixel of the {sensor.width} x {sensor.height} sensor"
            )
        return left, top, right, bottom


def intensity(rgb: NDArray[np.uint8], channel: ImageChannel) -> NDArray[np.uint8]:
    """Reduce a color image to one channel.

    Args:
        rgb: Shape (H, W, 3), uint8.
        channel: `value`: largest of R, G, B (V of HSV); `luminance`: (19595 R + 38470 G + 7471 B + 2**15) >> 16,
            ITU-R 601; `blue`: B, which the KT reference uses when HSV is switched off.

    Returns:
        Intensity, shape (H, W), uint8, 0 to 255.

    Raises:
        SpecError: An unknown channel, or no RGB image.

    Example:
        >>> pixel = np.array([[[200, 100, 50]]], np.uint8)
        >>> [int(intensity(pixel, channel)[0, 0]) for channel in ("value", "luminance", "blue")]
        [200, 124, 50]
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise SpecError(f"image: found {rgb.dtype} of shape {rgb.shape}, expected uint8 of shape (h, w, 3)")
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
    """Resize with Pillow's antialiased bilinear filter, without regard to the aspect.

    Args:
        rgb: Shape (h, w, 3), uint8.
        height: Rows of the result.
        width: Columns of the result.

    Returns:
        Shape (height, width, 3), uint8; the input itself where it already has this size.
    """
    if rgb.shape[:2] == (height, width):
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BILINEAR), np.uint8)


def image_frame(rgb: NDArray[np.uint8], target: ImageTarget, channel: ImageChannel) -> NDArray[np.uint8]:
    """Resize an image to a frame, and reduce it to one channel.

    Args:
        rgb: Shape (h, w, 3), uint8.
        target: The frame, and where the image lies on it.
        channel: See `intensity`; taken after the resize, as the KT protocol does for Caltech-101.

    Returns:
        Intensity, shape (H, W), uint8.

    Raises:
        SpecError: No RGB image, no cells, or a placement outside the sensor.
    """
    _require_frame(rgb, target)
    box = target.box_of(rgb.shape[1], rgb.shape[0])
    if box is None or target.sensor_size is None:
        return intensity(resize_rgb(rgb, target.height, target.width), channel)
    left, top, right, bottom = box
    canvas = np.zeros((target.sensor_size.height, target.sensor_size.width, 3), np.uint8)
    inside = canvas[max(0, top) : bottom, max(0, left) : right]
    shown = resize_rgb(rgb, bottom - top, right - left)[max(0, -top) :, max(0, -left) :]
    inside[...] = shown[: inside.shape[0], : inside.shape[1]]
    return intensity(resize_rgb(canvas, target.height, target.width), channel)


def frame_of_pixels(
    pixels: NDArray[np.uint8], extent: tuple[float, float], target: ImageTarget, channel: ImageChannel
) -> NDArray[np.uint8]:
    """Resize an image to a frame as `image_frame`, but in one pass from pixels to cells.

    The filters are those of `image_frame`, rounded once at the end; cells of the same pixels differ by at most 2.

    Args:
        pixels: Shape (h, w, 3), uint8; the image, possibly decoded at reduced size.
        extent: Height and width of the image in these pixels; fractions where the last pixel is partly covered.
        target: As in `image_frame`.
        channel: As in `image_frame`.

    Returns:
        Intensity, shape (H, W), uint8.

    Raises:
        SpecError: As `image_frame`, or an extent that does not match the pixels.
    """
    from tmkt_data.kernels.image import BLUE, LUMINANCE, VALUE, AxisPlace, axis_filter, fill_frame

    _require_frame(pixels, target)
    if (math.ceil(extent[0]), math.ceil(extent[1])) != pixels.shape[:2]:
        raise SpecError(f"extent: found {extent} of pixels of shape {pixels.shape}, expected their height and width")
    rows = columns = None
    box = target.box_of(extent[1], extent[0])
    if box is not None and target.sensor_size is not None:
        left, top, right, bottom = box
        rows = AxisPlace(top, bottom - top, target.sensor_size.height)
        columns = AxisPlace(left, right - left, target.sensor_size.width)
    codes: dict[str, int] = {"value": VALUE, "luminance": LUMINANCE, "blue": BLUE}
    lines = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    lines.flags.writeable = False
    out = np.empty((target.height, target.width), np.uint8)
    fill_frame(
        lines,
        axis_filter(extent[0], target.height, rows),
        axis_filter(extent[1], target.width, columns),
        codes[channel],
        np.empty(lines.shape[1], np.int32),
        out,
    )
    return out


def _require_frame(rgb: NDArray[np.uint8], target: ImageTarget) -> None:
    is_image = rgb.ndim == 3 and rgb.shape[2] == 3 and rgb.dtype == np.uint8 and rgb.size
    if not is_image or min(target.height, target.width) < 1:
        raise SpecError(
            f"image: found {rgb.dtype} of shape {rgb.shape} for a frame of {target.height} x {target.width}, "
            "expected uint8 of shape (h, w, 3) and a frame of one cell or more"
        )
