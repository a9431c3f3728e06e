"""Images as a viewer shows them: turned as their camera was held, and with nothing behind what is transparent."""

from __future__ import annotations

import re
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDEWAYS = range(5, 9)
"""EXIF orientations that swap width and height."""
_ORIENTATION, _SHORT = 0x0112, 3
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF = b"Exif\x00\x00"
_DEEP = re.compile(r";16[BLNS]$")


def exif_orientation(exif: bytes) -> int:
    """Return the orientation in an EXIF block, 1 to 8; 1, upright, where it states none or is damaged.

    Source: TIFF 6.0, section 2 (image file directory); Exif 2.32, tag 274.
    """
    block = exif.removeprefix(_EXIF)
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8:
        return 1
    start = struct.unpack_from(order + "I", block, 4)[0]
    entries = block[
        start + 2 : start + 2 + 12 * struct.unpack(order + "H", block[start : start + 2].rjust(2, b"\0"))[0]
    ]
    for at in range(0, len(entries) - 11, 12):
        tag, kind, count, value = struct.unpack_from(order + "HHIH", entries, at)
        if (tag, kind, count) == (_ORIENTATION, _SHORT, 1):
            return value if value in _TURNS else 1
    return 1


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened image, 1 to 8; a TIFF is turned by Pillow, so it is upright."""
    exif = image.info.get("exif", b"")
    return 1 if image.format == "TIFF" or not isinstance(exif, bytes) else exif_orientation(exif)


def may_be_turned(data: bytes | NDArray[np.uint8]) -> bool:
    """Return whether the bytes of a JPEG hold an EXIF block with another orientation than upright, wherever it is."""
    whole = bytes(data)
    at = whole.find(_EXIF)
    while at >= 0:
        if exif_orientation(whole[at : at + 65536]) != 1:
            return True
        at = whole.find(_EXIF, at + 1)
    return False


def is_deep(image: Image.Image) -> bool:
    """Return whether the file of an opened image has more than 8 bits a channel; Pillow drops the others."""
    return any(_deep_args(args if isinstance(args, tuple) else (args,)) for *_, args in getattr(image, "tile", ()))


def _deep_args(args: tuple[Any, ...]) -> bool:
    # A raw mode such as RGB;16B, or the largest value of a PPM after its mode.
    is_wide = isinstance(args[0], str) and _DEEP.search(args[0]) is not None
    return is_wide or (len(args) == 2 and isinstance(args[1], int) and args[1] > 255)


def rgb_as_seen(image: Image.Image) -> NDArray[np.uint8]:
    """Return a loaded image as RGB, turned to its EXIF orientation and laid over a background where it is transparent.

    Args:
        image: The image, of 8 bits a channel.

    Returns:
        Shape (H, W, 3), uint8; read it only. Transparent parts are laid over white, as most viewers do; over black, if
        over white nothing would be left to see.
    """
    turn = _TURNS.get(orientation_of(image))
    upright = image if turn is None else image.transpose(turn)
    if not upright.has_transparency_data:
        return np.asarray(upright if upright.mode == "RGB" else upright.convert("RGB"), np.uint8)
    straight = upright.convert("LA") if upright.mode == "La" else upright
    rgba = straight if straight.mode == "RGBA" else straight.convert("RGBA")
    if np.asarray(rgba.getchannel("A")).min() == 255:
        return np.asarray(upright.convert("RGB"), np.uint8)
    over_white = _laid_over("white", rgba)
    has_contrast = np.ptp(over_white, axis=(0, 1)).any()
    return over_white if has_contrast else _laid_over("black", rgba)


def _laid_over(color: str, rgba: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(Image.alpha_composite(Image.new("RGBA", rgba.size, color), rgba).convert("RGB"), np.uint8)
