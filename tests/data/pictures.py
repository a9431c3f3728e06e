"""Pictures for tests: noise, smooth blobs as in photographs, and their files."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_file(width, height, *, depth=8, color=2, rows=b"", extra=b""):
    """A PNG of any header and rows, with chunks after its pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + extra + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def photograph(height, width, seed=0):
    """Smooth blobs with one hard edge, as in photographs."""
    coarse = Image.fromarray(noise(6, 7, seed)).resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.asarray(coarse).copy()
    pixels[height // 3 : 2 * height // 3, width // 2 :] //= 3
    return Image.fromarray(pixels)


def turned(pixels, orientation):
    """Pixels as seen with an EXIF orientation, by the table of Exif 2.32, tag 274: where row 0 and column 0 lie."""
    upside = {1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1]}
    return upside[orientation] if orientation < 5 else upside[{5: 1, 6: 4, 7: 3, 8: 2}[orientation]].swapaxes(0, 1)
