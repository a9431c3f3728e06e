"""Compose pictures of tiles with whole-pixel layout: text, enlarged frames, rows and columns."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tmkt_data.preview.colors import Color

PAPER: Color = (255, 255, 255)
INK: Color = (27, 29, 32)
SOFT: Color = (99, 104, 110)
RULE: Color = (214, 217, 221)
TITLE, NAME, TEXT, SMALL, TINY = 32, 19, 15, 13, 12
EDGE = 2
SEPARATOR = "  ·  "


def paper(width: int, height: int) -> Image.Image:
    """Return an empty tile."""
    return Image.new("RGB", (width, height), PAPER)


def beside(tiles: Sequence[Image.Image], gap: int = 0) -> Image.Image:
    """Put tiles side by side, their tops aligned."""
    joined = paper(sum(tile.width + gap for tile in tiles) - gap, max(tile.height for tile in tiles))
    left = 0
    for tile in tiles:
        joined.paste(tile, (left, 0))
        left += tile.width + gap
    return joined


def below(tiles: Sequence[Image.Image], gap: int = 0) -> Image.Image:
    """Put tiles below each other, their left sides aligned."""
    joined = paper(max(tile.width for tile in tiles), sum(tile.height + gap for tile in tiles) - gap)
    top = 0
    for tile in tiles:
        joined.paste(tile, (0, top))
        top += tile.height + gap
    return joined


def line_of(text: str, size: int, room: int, *, color: Color = INK, centered: bool = False) -> Image.Image:
    """Draw one line of text, shortened in the middle to fit `room` pixels."""
    tile = paper(room, round(size * 1.4))
    where = (room // 2 if centered else 0, size)
    text = fitted(text, size, room)
    ImageDraw.Draw(tile).text(where, text, fill=color, font=_font(size), anchor="ms" if centered else "ls")
    return tile


def fitted(text: str, size: int, room: int) -> str:
    """Shorten a text in the middle until it fits: the end of an id identifies the sample."""
    text = _plain(text)
    if text_width(text, size) <= room:
        return text
    for kept in range(len(text) - 1, 0, -1):
        tail = (kept + 1) // 2
        short = f"{text[: kept - tail]}…{text[len(text) - tail :]}"
        if text_width(short, size) <= room:
            return short
    return "…" if text_width("…", size) <= room else ""


def wrapped(parts: Sequence[str], size: int, room: int) -> list[str]:
    """Join parts into lines, breaking between parts to fit `room` pixels."""
    lines: list[str] = []
    for part in parts:
        longer = f"{lines[-1]}{SEPARATOR}{part}" if lines else part
        if lines and text_width(longer, size) <= room:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def text_width(text: str, size: int) -> int:
    """Return the width of a line in pixels."""
    return math.ceil(_font(size).getlength(_plain(text)))


def framed(colors: NDArray[np.uint8], side: int, edge: Color | None = None) -> Image.Image:
    """Enlarge a frame to `side` pixels, without smoothing for integer factors, and add a border.

    Args:
        colors: Shape (H, W, 3), square.
        side: Width and height in the picture, without the border of `EDGE` pixels on each side.
        edge: Color of the border; None draws a hairline.
    """
    method = Image.Resampling.NEAREST if side % colors.shape[0] == 0 else Image.Resampling.BOX
    tile = paper(side + 2 * EDGE, side + 2 * EDGE)
    inset = 0 if edge else EDGE - 1
    corners = (inset, inset, tile.width - 1 - inset, tile.height - 1 - inset)
    ImageDraw.Draw(tile).rectangle(corners, outline=edge or RULE, width=EDGE - inset)
    tile.paste(Image.fromarray(colors).resize((side, side), method), (EDGE, EDGE))
    return tile


def draw_marker(tile: Image.Image, x: int, top: int, bottom: int) -> None:
    """Draw the marker of a replacement point: a vertical line of two pixels that ends at `x`, with a head."""
    draw = ImageDraw.Draw(tile)
    draw.rectangle((x - 1, top, x, bottom), fill=INK)
    draw.polygon([(x - 5, top), (x + 4, top), (x, top + 5), (x - 1, top + 5)], fill=INK)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _plain(text: str) -> str:
    """Return a text in characters of the built-in font: accents are dropped, others become question marks."""
    kept = (
        char if char in "·…" else unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode() or "?"
        for char in unicodedata.normalize("NFC", text)
    )
    return "".join(char if char.isprintable() else "?" for char in "".join(kept))
