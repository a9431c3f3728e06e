"""Plain JPEGs decoded in one call that leaves the interpreter lock alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import simplejpeg
from numpy.typing import NDArray

_START = b"\xff\xd8\xff"
_COLORS = ("YCbCr", "Gray")
_SCALES = (8, 4, 2, 1)


def decode_plain_jpeg(
    data: bytes | NDArray[np.uint8], smallest: Callable[[int, int], tuple[int, int]] | None, max_pixels: int
) -> tuple[NDArray[np.uint8], int, int, int] | None:
    """Decode a JPEG without fault; whatever else it is, is left to a decoder that finds words for it.

    Both this and Pillow call libjpeg-turbo, with the same settings: their pixels are equal.

    Args:
        data: Bytes of a file, or an array of them, uint8.
        smallest: As of `images.decode_scaled`.
        max_pixels: Larger images are left alone.

    Returns:
        Pixels, shape (ceil(height / scale), ceil(width / scale), 3), height, width and scale. None for what is no JPEG
        in gray or YCbCr, or one that libjpeg warns of.
    """
    if bytes(data[:3]) != _START:
        return None
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
        if colors not in _COLORS or not 0 < width * height <= max_pixels:
            return None
        scale = 1 if smallest is None else _scale_of(width, height, smallest(width, height))
        least = (height // scale, width // scale) if scale > 1 else (0, 0)
        pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=least[0], min_width=least[1])
    except ValueError:
        return None
    if pixels.shape != (-(-height // scale), -(-width // scale), 3):
        return None
    return pixels, height, width, scale


def _scale_of(width: int, height: int, least: tuple[int, int]) -> int:
    """Return the largest scale that leaves the least width and height, as Pillow's `Image.draft` does."""
    room = min(width // least[0], height // least[1])
    return next((scale for scale in _SCALES if scale <= room), 1)
