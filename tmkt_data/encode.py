"""Images to intensities on the canvas of the recordings, and intensities to spike frames."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tmkt_data.errors import SpecError
from tmkt_data.events import SensorSize
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
    from tmkt_data.kernels.image import BLUE, LUMINANCE, VALUE, fill_frame
    from tmkt_data.kernels.image_filter import AxisPlace, axis_filter

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
        *axis_filter(extent[0], height, rows),
        *axis_filter(extent[1], width, columns),
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


def repeat_frames(intensities: NDArray[np.uint8], num_steps: int, num_channels: int = 2) -> NDArray[np.float32]:
    """Repeat an intensity over all time steps and channels, as a read-only view.

    Args:
        intensities: Shape (..., H, W), uint8.
        num_steps: Time steps, T.
        num_channels: Channels, C.

    Returns:
        Shape (..., T, C, H, W), float32, 0 to 1. A view of one (..., H, W) array: copy it before writing to it.

    Example:
        >>> repeat_frames(np.full((2, 2), 51, np.uint8), 3).shape
        (3, 2, 2, 2)
    """
    scaled = np.asarray(intensities, np.float32) / np.float32(255)
    lead = intensities.shape[:-2]
    spread = scaled.reshape(*lead, 1, 1, *intensities.shape[-2:])
    return np.broadcast_to(spread, (*lead, num_steps, num_channels, *intensities.shape[-2:]))


def poisson_frames(
    intensities: NDArray[np.uint8],
    num_steps: int,
    num_channels: int = 2,
    *,
    key: int | np.uint64 | NDArray[np.uint64],
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Draw spike frames with probability intensity / 255, independent over samples, steps, channels and pixels.

    The probability is met within 2**-17, and exactly for 0 and 255.

    Args:
        intensities: Shape (H, W), or (B, H, W) for several samples at once; uint8.
        num_steps: Time steps, T.
        num_channels: Channels, C.
        key: 64-bit key of the sample, see `random_keys.draw_key`; the same key gives the same spikes. For several
            samples their keys, shape (B,), uint64.
        out: Contiguous array of the result's shape to write into; None makes one.

    Returns:
        Shape (T, C, H, W) or (B, T, C, H, W), float32, 0 or 1. Owned by the caller.

    Raises:
        SpecError: Intensities that are not uint8, a key outside 64 bits, another number of keys than of samples, or an
            `out` of another shape or layout.

    Example:
        >>> two = np.stack([np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8)])
        >>> poisson_frames(two, 3, key=np.array([1, 2], np.uint64)).mean(axis=(1, 2, 3, 4)).tolist()
        [1.0, 0.0]
    """
    from tmkt_data.kernels.poisson import poisson_spikes

    if intensities.dtype != np.uint8:
        raise SpecError(f"intensities: found {intensities.dtype}, expected uint8, 0 to 255; scale and convert them")
    if num_steps < 1 or num_channels < 1:
        raise SpecError(f"frames: found {num_steps} steps of {num_channels} channels, expected 1 or more of each")
    lead = intensities.shape[:-2]
    keys = _keys(key, lead)
    shape = (*lead, num_steps, num_channels, *intensities.shape[-2:])
    if out is None:
        out = np.empty(shape, np.float32)
    elif out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous or not out.flags.writeable:
        raise SpecError(f"out: found {out.dtype} of shape {out.shape}, expected contiguous float32 of shape {shape}")
    num_pixels = intensities.shape[-2] * intensities.shape[-1]
    flat = np.ascontiguousarray(intensities).reshape(len(keys), num_pixels)
    frames = out.reshape(len(keys), num_steps * num_channels, num_pixels)
    poisson_spikes(flat, keys, np.empty(num_pixels, np.uint32), frames)
    return out


def _keys(key: int | np.uint64 | NDArray[np.uint64], lead: tuple[int, ...]) -> NDArray[np.uint64]:
    if isinstance(key, np.ndarray) and key.ndim:
        if key.shape != lead or key.dtype != np.uint64 or key.ndim != 1:
            raise SpecError(
                f"key: found {key.dtype} of shape {key.shape}, expected uint64 of shape {lead}, one a sample"
            )
        return np.ascontiguousarray(key)
    if lead:
        raise SpecError(f"key: found one for samples of shape {lead}, expected an array, one a sample")
    if not 0 <= int(key) < 2**64:
        raise SpecError(f"key: found {key}, expected 0 to 2**64 - 1")
    return np.array([int(key)], np.uint64)
