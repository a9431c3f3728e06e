"""Image files to RGB arrays, and the IDX files of MNIST."""

from __future__ import annotations

import io
import math
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tmkt_data.errors import ImageError, warnings_ignored
from tmkt_data.files import read_bytes
from tmkt_data.images.as_seen import SIDEWAYS, is_deep, may_be_turned, orientation_of, rgb_as_seen

MAX_PIXELS = 64_000_000
"""Larger images are refused; the largest one of Caltech-101 has 11.2 million pixels."""
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
_BYTE_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
# What Pillow's decoders raise on damaged files, found by mutating files of each format.
_DAMAGE = (
    *(OSError, ValueError, SyntaxError, EOFError, NotImplementedError, RuntimeError, TypeError, AttributeError),
    Image.DecompressionBombError,
)
_IDX_MAGIC = {1: 0x0801, 3: 0x0803}
_JPEG_START = b"\xff\xd8\xff"
_START_BYTES = 1 << 16
"""Where the EXIF block of a JPEG lies."""
_JPEG_COLORS = ("YCbCr", "Gray")
_JPEG_SCALES = (8, 4, 2, 1)
_JPEG_FORMATS = ("JPEG", "MPO")

SmallestPixels = Callable[[int, int], tuple[int, int]]
"""Gives the smallest width and height to decode an image to, from its width and height."""


class DecodedImage(NamedTuple):
    """An image, possibly decoded at reduced size.

    Attributes:
        pixels: Shape (ceil(height / scale), ceil(width / scale), 3), uint8; red, green and blue.
        height: Rows of the image at full size.
        width: Columns of the image at full size.
        scale: Pixels of the full size along each side of a pixel here: 1, 2, 4 or 8.
    """

    pixels: NDArray[np.uint8]
    height: int
    width: int
    scale: int = 1

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> DecodedImage:
        """Return an image of full size from its pixels, shape (H, W) or (H, W, 3), uint8."""
        rgb = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
        return cls(rgb, *rgb.shape[:2])

    @property
    def extent(self) -> tuple[float, float]:
        """Height and width of the image in decoded pixels; fractions where the last one is partly covered."""
        return self.height / self.scale, self.width / self.scale


def decode_image(data: bytes, *, place: str = "image bytes") -> NDArray[np.uint8]:
    """Decode an image file to RGB as a viewer shows it.

    Gray and palette images are converted, the EXIF orientation is applied, and transparent parts are laid over white
    (see `rgb_as_seen`).

    Args:
        data: Bytes of an image in one of `FORMATS`, 8 bits a channel or fewer.
        place: Prefix of error messages.

    Returns:
        Shape (H, W, 3), uint8; read it only.

    Raises:
        ImageError: No image, a truncated one, one of more than `MAX_PIXELS`, or one of more than 8 bits a channel.
    """
    return decode_scaled(data, None, place=place).pixels


def decode_scaled(
    data: bytes | NDArray[np.uint8], smallest: SmallestPixels | None, *, place: str = "image bytes"
) -> DecodedImage:
    """Decode an image file to RGB; a JPEG that is far larger than needed is decoded at 1/2, 1/4 or 1/8 of its size.

    Args:
        data: Bytes of an image in one of `FORMATS`, 8 bits a channel or fewer; or an array of them, uint8.
        smallest: See `SmallestPixels`; None decodes at full size.
        place: Prefix of error messages.

    Raises:
        ImageError: No image, a truncated one, one of more than `MAX_PIXELS`, or one of more than 8 bits a channel.
    """
    return decode_plain_jpeg(data, smallest) or decode_by_pillow(data, smallest, place)


def decode_plain_jpeg(
    data: bytes | NDArray[np.uint8], smallest: SmallestPixels | None, max_pixels: int = MAX_PIXELS
) -> DecodedImage | None:
    """Decode a valid JPEG in one call that releases the interpreter lock, or leave it to `decode_by_pillow`.

    simplejpeg and Pillow both call libjpeg-turbo with the same settings, so their pixels are equal. Pillow also turns
    images.

    Args:
        data: As in `decode_scaled`.
        smallest: As in `decode_scaled`.
        max_pixels: Limit of the size of the image.

    Returns:
        The image; None for other formats, other colors than gray and YCbCr, images to turn, larger images, and files
        that libjpeg warns about.
    """
    if bytes(data[:3]) != _JPEG_START or may_be_turned(data):
        return None
    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
        if colors not in _JPEG_COLORS or not 0 < width * height <= max_pixels:
            return None
        scale = 1 if smallest is None else _scale_of(width, height, smallest(width, height))
        least = (height // scale, width // scale) if scale > 1 else (0, 0)
        pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=least[0], min_width=least[1])
    except ValueError:
        return None
    if pixels.shape != (-(-height // scale), -(-width // scale), 3):
        return None
    return DecodedImage(pixels, height, width, scale)


def _scale_of(width: int, height: int, least: tuple[int, int]) -> int:
    """Return the largest scale with at least this width and height, as Pillow's `Image.draft` chooses it."""
    room = min(width // least[0], height // least[1])
    return next((scale for scale in _JPEG_SCALES if scale <= room), 1)


def decode_by_pillow(data: bytes | NDArray[np.uint8], smallest: SmallestPixels | None, place: str) -> DecodedImage:
    """Decode an image with Pillow, whose errors say what is wrong with it; otherwise as `decode_scaled`."""
    try:
        with warnings_ignored, Image.open(io.BytesIO(bytes(data)), formats=FORMATS) as image:
            _require_readable(image, place)
            width, height = _size_as_seen(image)
            scale = 1 if smallest is None else _draft(image, smallest(width, height))
            image.load()
            pixels = rgb_as_seen(image)
            if scale == 1:
                # A PNG may state its orientation after its pixels.
                height, width = pixels.shape[:2]
            return DecodedImage(pixels, height, width, scale)
    except UnidentifiedImageError as unknown:
        raise ImageError(f"{place}: no image that Pillow can read ({len(data)} bytes); fetch it again") from unknown
    except Image.DecompressionBombError as large:
        # The size is known to Pillow's message alone.
        found = re.search(r"[0-9]+", str(large))
        size = f"{found[0]} pixels" if found else "far too many pixels"
        raise ImageError(f"{place}: {size}, expected at most {MAX_PIXELS}; scale it down") from large
    except _DAMAGE as broken:
        raise ImageError(f"{place}: damaged image ({broken}); fetch it again") from broken


def _require_readable(image: Image.Image, place: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ImageError(f"{place}: {width} x {height} pixels, expected at most {MAX_PIXELS}; scale it down")
    if image.mode not in _BYTE_MODES:
        raise ImageError(f"{place}: pixels of type {image.mode}, expected 8 bits a channel; convert it")
    if is_deep(image):
        raise ImageError(f"{place}: more than 8 bits a channel, expected at most 8; convert it")


def _size_as_seen(image: Image.Image) -> tuple[int, int]:
    return image.size[::-1] if orientation_of(image) in SIDEWAYS else image.size


def _draft(image: Image.Image, least: tuple[int, int]) -> int:
    """Have a JPEG decoded at a reduced size of at least this width and height as seen, and return its scale.

    Only JPEG has a draft mode, which computes fewer pixels from each block of coefficients.
    """
    if image.format not in _JPEG_FORMATS:
        return 1
    orientation = orientation_of(image)
    width, height = image.size
    scale = _scale_of(width, height, least[::-1] if orientation in SIDEWAYS else least)
    if orientation != 1:
        # A last pixel that is covered in part lies at the right and the bottom only while the image is not turned.
        scale = next(step for step in _JPEG_SCALES if step <= scale and width % step == height % step == 0)
    if scale > 1:
        image.draft(None, (width // scale, height // scale))
    return scale


def is_seen_otherwise(path: Path) -> bool:
    """Return whether the start of an image file says that its pixels as stored are not what a viewer shows.

    That is so where they are turned, may be transparent, or have more than 8 bits a channel. False for a damaged image.

    Raises:
        ImageError: The file cannot be read.
    """
    start = read_bytes(path, error=ImageError, limit=_START_BYTES)
    if start.startswith(_JPEG_START):
        return may_be_turned(start)
    try:
        with warnings_ignored, Image.open(path, formats=FORMATS) as image:
            return orientation_of(image) != 1 or image.has_transparency_data or is_deep(image)
    except (UnidentifiedImageError, *_DAMAGE):
        return False


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read an image file to RGB, shape (H, W, 3), uint8; errors as `decode_image`."""
    path = Path(path)
    return decode_image(read_bytes(path, error=ImageError), place=path.name)


def read_idx(path: Path, num_dims: int) -> NDArray[np.uint8]:
    """Read an IDX file of MNIST: images (3 dimensions) or labels (1), gzipped or not.

    Returns:
        Shape (n, rows, columns) or (n,), uint8.

    Raises:
        ImageError: No IDX file, another number of dimensions, or another size than the header states.

    Source: Y. LeCun, "The MNIST database", file formats; all numbers big-endian.
    """
    data = read_bytes(path, error=ImageError)
    header = 4 * (1 + num_dims)
    if data[:2] == b"\x1f\x8b":
        data = _gunzip(data, header, path.name)
    if len(data) < header or int.from_bytes(data[:4], "big") != _IDX_MAGIC[num_dims]:
        raise ImageError(
            f"{path.name}: starts with {data[:4].hex(' ') or 'nothing'}, expected {_IDX_MAGIC[num_dims]:08x} "
            f"(IDX, uint8, {num_dims} dimensions); fetch it again"
        )
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", num_dims, 4))
    expected = header + math.prod(shape)
    if len(data) != expected:
        raise ImageError(f"{path.name}: {len(data)} bytes, the header states {expected}; fetch it again")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _gunzip(data: bytes, header: int, place: str) -> bytes:
    """Unpack an IDX file, at most one byte more than its header states."""
    stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        start = stream.decompress(data, header)
        sides = np.frombuffer(start, ">u4", max(len(start) // 4 - 1, 0), min(4, len(start))).tolist()
        rest = stream.decompress(stream.unconsumed_tail, math.prod(sides) + 1)
    except (zlib.error, OverflowError) as broken:
        raise ImageError(f"{place}: damaged gzip file ({broken}); fetch it again") from broken
    if not stream.eof and not stream.unconsumed_tail:
        raise ImageError(f"{place}: damaged gzip file (it is cut off); fetch it again")
    return start + rest
