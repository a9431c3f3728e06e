"""Image files to RGB arrays, and the MNIST IDX format."""

from __future__ import annotations

import io
import math
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tmkt_data.errors import ImageError
from tmkt_data.files import read_bytes
from tmkt_data.images.jpeg import decode_plain_jpeg

MAX_PIXELS = 64_000_000
"""Larger images are refused; the largest of Caltech-101 has 11.2 million pixels."""
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
_BYTE_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
# What Pillow's decoders raise on damaged files, seen by mutating files of each format.
_DAMAGE = (
    *(OSError, ValueError, SyntaxError, EOFError, NotImplementedError, RuntimeError, TypeError, AttributeError),
    Image.DecompressionBombError,
)
_IDX_MAGIC = {1: 0x0801, 3: 0x0803}


class DecodedImage(NamedTuple):
    """An image, perhaps decoded at a part of its size.

    Attributes:
        pixels: Shape (ceil(height / scale), ceil(width / scale), 3), uint8; red, green and blue.
        height: Rows of the image in its file.
        width: Columns of the image in its file.
        scale: 1, 2, 4 or 8: sides of the square of the file that is one pixel here.
    """

    pixels: NDArray[np.uint8]
    height: int
    width: int
    scale: int = 1

    @property
    def extent(self) -> tuple[float, float]:
        """Height and width of the image in decoded pixels; fractions where the last is covered in part."""
        return self.height / self.scale, self.width / self.scale


def decode_image(data: bytes, *, place: str = "image bytes") -> NDArray[np.uint8]:
    """Decode an image file to RGB; grey and palette images are converted.

    Args:
        data: Bytes of an image in one of `FORMATS`, 8 bits a channel or fewer.
        place: What the message of an error starts with.

    Returns:
        Shape (H, W, 3), uint8; read it only.

    Raises:
        ImageError: No image, a truncated one, one of more than `MAX_PIXELS`, or one of 16 bits a channel.
    """
    return decode_scaled(data, None, place=place).pixels


def decode_scaled(
    data: bytes | NDArray[np.uint8],
    smallest: Callable[[int, int], tuple[int, int]] | None,
    *,
    place: str = "image bytes",
) -> DecodedImage:
    """Decode an image file to RGB; a JPEG that is far larger than needed, at 1/2, 1/4 or 1/8 of its size.

    Args:
        data: Bytes of an image in one of `FORMATS`, 8 bits a channel or fewer; or an array of them, uint8.
        smallest: Gives the least width and height to decode to from width and height of the image; None: full size.
        place: What the message of an error starts with.

    Raises:
        ImageError: No image, a truncated one, one of more than `MAX_PIXELS`, or one of 16 bits a channel.
    """
    plain = decode_plain_jpeg(data, smallest, MAX_PIXELS)
    return decode_by_pillow(data, smallest, place) if plain is None else DecodedImage(*plain)


def decode_by_pillow(
    data: bytes | NDArray[np.uint8], smallest: Callable[[int, int], tuple[int, int]] | None, place: str
) -> DecodedImage:
    """Decode an image step by step, as `decode_scaled`; what is wrong with it is said in Pillow's words."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(bytes(data)), formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise ImageError(
                        f"{place}: {width} x {height} pixels, expected at most {MAX_PIXELS}; scale it down"
                    )
                if image.mode not in _BYTE_MODES:
                    raise ImageError(f"{place}: pixels of type {image.mode}, expected 8 bits a channel; convert it")
                # Only JPEG has a draft: fewer of the coefficients of each block are turned into pixels.
                drafted = None if smallest is None else image.draft(None, smallest(width, height))
                scale = 1 if drafted is None else round(width / drafted[1][2])
                image.load()
                rgb = image if image.mode == "RGB" else image.convert("RGB")
                return DecodedImage(np.asarray(rgb, np.uint8), height, width, scale)
    except UnidentifiedImageError as unknown:
        raise ImageError(f"{place}: no image that Pillow can read ({len(data)} bytes); fetch it again") from unknown
    except _DAMAGE as broken:
        raise ImageError(f"{place}: damaged image ({broken}); fetch it again") from broken


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read an image file to RGB, shape (H, W, 3), uint8; errors as `decode_image`."""
    path = Path(path)
    return decode_image(read_bytes(path, error=ImageError), place=path.name)


def read_idx(path: Path, num_dims: int) -> NDArray[np.uint8]:
    """Read an IDX file of MNIST: images (3 dimensions) or labels (1), gzipped or not.

    Returns:
        Shape (n, rows, columns) or (n,), uint8.

    Raises:
        ImageError: No IDX file, another number of dimensions, or a size that the header does not state.

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
    """Unpack an IDX file, and no more bytes than one beyond what its own header states."""
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
