"""Draw contact sheets: a page of groups, each a stack of strips, with a label and one column for each time step."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from tmkt_data.preview.colors import BOTH, OFF, ON, Color
from tmkt_data.sample_ids import evenly_spaced

PAPER, INK, SOFT, RULE = (255, 255, 255), (27, 29, 32), (99, 104, 110), (226, 228, 230)
IMAGE_EDGE, EVENT_EDGE = (230, 159, 0), (126, 75, 178)
TITLE, NAME, TEXT, FACT, NOTE, TIME = (32, INK), (19, INK), (15, INK), (13, INK), (13, SOFT), (12, SOFT)
LEGEND: dict[str, dict[str, Any]] = {
    "ON events": {"fill": ON},
    "OFF events": {"fill": OFF},
    "both": {"fill": BOTH},
    "image step": {"outline": IMAGE_EDGE, "width": 2},
    "event step": {"outline": EVENT_EDGE, "width": 2},
    "replacement point t*, the first event step": {},
}
MAX_WIDTH, MARGIN, GUTTER, GROUP_GAP, LINE = 2016, 36, 64, 24, 19
LABEL_WIDTH, MIN_GRID, PICTURE, EDGE, ROW_GAP, BARS = 112, 512, 144, 2, 12, 30
MIN_CELL, MAX_FILL, MAX_COLUMNS = 56, 112, 30
"""Minimum cell size, the maximum that cells grow to if there are few steps, and the maximum number of steps shown."""


class Row(NamedTuple):
    """A labeled row: colors of all steps, shape (T, H, W, 3), uint8, and t* of a mixed sequence, 1 to T + 1."""

    label: str
    details: Sequence[str]
    cells: NDArray[np.uint8]
    point: int | None = None


class Grid:
    """Draw the strips of a group, all of one width.

    Args:
        num_time_bins: Number of time steps, T; `MAX_COLUMNS` of them are shown at most, evenly chosen.
        frame: Width of a frame. A cell is an integer multiple of it if that fits the width of a page.
        steps: Those of the steps that are shown; None: chosen as above.
        fill: Width that cells grow to; None: what gives a group the width of its labels.
    """

    def __init__(
        self, num_time_bins: int, frame: int, *, steps: NDArray[np.int64] | None = None, fill: int | None = None
    ) -> None:
        self.steps = evenly_spaced(num_time_bins, MAX_COLUMNS) if steps is None else steps
        num_cells = len(self.steps)
        gap = 6 if num_cells <= 20 else 5
        room = (MAX_WIDTH - 2 * MARGIN - LABEL_WIDTH) // num_cells - gap
        fill = min(MAX_FILL, MIN_GRID // num_cells - gap) if fill is None else fill
        self.cell = min(max(-(-MIN_CELL // frame), fill // frame), room // frame) * frame or room
        self.pitch = self.cell + gap
        self.width = LABEL_WIDTH + max(num_cells * self.pitch, MIN_GRID)

    def intro(
        self, name: str, facts: Sequence[tuple[str, str]], picture: Row | None, room: int = PICTURE
    ) -> Image.Image:
        """Draw a picture, the first cell of its row, at most `room` wide, and on its right a name and facts."""
        height, left = 28 + LINE * len(facts), 0
        shown = None
        if picture is not None:
            frame = picture.cells.shape[2]
            shown = framed_cell(picture.cells[0], room // frame * frame or room, RULE)
            left = LABEL_WIDTH + max(shown.width - 2 * EDGE, PICTURE) + 24
        strip = Image.new("RGB", (self.width, max(height, shown.height if shown else 0)), PAPER)
        if picture is not None and shown is not None:
            _label(strip, 0, picture.label, picture.details)
            strip.paste(shown, (LABEL_WIDTH, 0))
        write_lines(strip, (left, 0), [name], NAME, self.width - left)
        write_lines(strip, (left, 28), [label for label, _ in facts], NOTE, 56)
        write_lines(strip, (left + 56, 28), [value for _, value in facts], FACT, self.width - left - 56)
        return strip

    def heading(self, times_ms: NDArray[np.float64], activity: NDArray[np.float64], extent: str) -> Image.Image:
        """Draw the number and start of each step, and bars of its OFF and ON events, `activity` of shape (2, T).

        `{}` in `extent` is replaced by the value of the largest bar.
        """
        shown, middle = activity[:, self.steps].T, EDGE + self.cell // 2
        largest, bar = float(activity.max()), max(3, min(14, self.cell // 7))
        bars = np.full((BARS + 1, len(shown), self.pitch, 3), PAPER, np.uint8)
        for column, (off, on) in enumerate(np.rint(shown / (largest or 1.0) * BARS).astype(int)):
            bars[BARS - on : BARS, column, middle - 1 - bar : middle - 1] = ON
            bars[BARS - off : BARS, column, middle + 1 : middle + 1 + bar] = OFF
        bars[BARS] = RULE
        strip = Image.new("RGB", (self.width, 96), PAPER)
        strip.paste(Image.fromarray(bars.reshape(BARS + 1, -1, 3)), (LABEL_WIDTH, 60))
        texts, unit = time_labels(times_ms[self.steps])
        _label(strip, 12, "time step", [f"{unit}, from"])
        write_lines(strip, (0, 58), ["events per step", extent.format(f"{largest:,.0f}")], NOTE, LABEL_WIDTH)
        for column, (step, text) in enumerate(zip(self.steps, texts, strict=True)):
            x = LABEL_WIDTH + column * self.pitch + middle
            write_lines(strip, (x, 12), [str(step + 1)], TEXT, self.pitch, "ma")
            write_lines(strip, (x, 32), [text], TIME, self.pitch, "ma")
        return strip

    def row(self, row: Row) -> Image.Image:
        """Draw a row of cells, those of a mixed sequence in the colors of their sides, with a marker at t*."""
        height, width = row.cells.shape[1:3]
        bottom = ROW_GAP + round(self.cell * height / width) + 2 * EDGE
        strip = Image.new("RGB", (self.width, bottom + (0 if row.point is None else 22)), PAPER)
        _label(strip, ROW_GAP, row.label, row.details)
        for column, step in enumerate(self.steps):
            edge = RULE if row.point is None else EVENT_EDGE if step + 1 >= row.point else IMAGE_EDGE
            strip.paste(framed_cell(row.cells[step], self.cell, edge), (LABEL_WIDTH + column * self.pitch, ROW_GAP))
        if row.point is not None:
            x = LABEL_WIDTH + int(np.searchsorted(self.steps + 1, row.point)) * self.pitch - 2
            draw_marker(strip, (x, 2), bottom + 2)
            text = f"t* = {row.point}" if row.point <= len(row.cells) else "no event step"
            write_lines(strip, (min(x, self.width - 48), bottom + 5), [text], FACT, self.width, "ma")
        return strip


def draw_group(strips: Sequence[Image.Image]) -> Image.Image:
    """Stack strips of one width into a group."""
    return Image.fromarray(np.vstack([np.asarray(strip) for strip in strips]))


def draw_page(
    texts: Sequence[str], keys: Sequence[str], groups: Sequence[Image.Image], notes: Sequence[str]
) -> Image.Image:
    """Draw a page: title and further texts, legend, groups of one width side by side if they fit, notes.

    There are at most as many columns of groups as rows. `keys` are those of `LEGEND`.
    """
    pitch = groups[0].width + GUTTER
    columns = max(1, min((MAX_WIDTH - 2 * MARGIN + GUTTER) // pitch, math.ceil(math.sqrt(len(groups)))))
    lines = [groups[at : at + columns] for at in range(0, len(groups), columns)]
    head = MARGIN + 40 + LINE * len(texts)
    rule = head + LINE * math.ceil(len(keys) / 3) + 16
    tops = list(accumulate((max(group.height for group in line) + GROUP_GAP for line in lines), initial=rule + 24))
    size = (columns * pitch - GUTTER + 2 * MARGIN, tops[-1] + LINE * len(notes) + MARGIN)
    page, room = Image.new("RGB", size, PAPER), size[0] - 2 * MARGIN
    write_lines(page, (MARGIN, MARGIN), texts[:1], TITLE, room)
    write_lines(page, (MARGIN, MARGIN + 46), texts[1:2], TEXT, room)
    write_lines(page, (MARGIN, MARGIN + 46 + LINE), texts[2:], NOTE, room)
    for at, key in enumerate(LEGEND):
        if key not in keys:
            continue
        left, top = MARGIN + LABEL_WIDTH * (at % 3), head + LINE * (at // 3)
        if LEGEND[key]:
            ImageDraw.Draw(page).rectangle((left, top + 1, left + 13, top + 14), **LEGEND[key])
        else:
            draw_marker(page, (left + 6, top + 1), top + 14)
        write_lines(page, (left + 22, top), [key], FACT, size[0] - MARGIN - left - 22)
    ImageDraw.Draw(page).line((MARGIN, rule, MARGIN + room - 1, rule), RULE)
    for top, line in zip(tops, lines, strict=False):
        for at, group in enumerate(line):
            page.paste(group, (MARGIN + at * pitch, top))
    write_lines(page, (MARGIN, tops[-1]), notes, NOTE, room)
    return page


def time_labels(times_ms: NDArray[np.float64]) -> tuple[list[str], str]:
    """Format times in one unit, with as few digits as keep them distinct; return them and the unit.

    Example:
        >>> time_labels(np.array([0.0, 30.8, 61.6]))
        (['0', '31', '62'], 'ms')
    """
    divisor, unit = (1000, "s") if times_ms[-1] >= 10_000 else (1, "ms")
    shortest = np.diff(times_ms, append=np.inf).min() / divisor
    digits = 0 if shortest >= 3 else 1 if shortest >= 0.3 else 2
    return [f"{time / divisor:.{digits}f}" for time in times_ms], unit


def framed_cell(colors: NDArray[np.uint8], width: int, edge: Color) -> Image.Image:
    """Enlarge a frame to a width, without smoothing for integer factors, and add a border."""
    method = Image.Resampling.NEAREST if width % colors.shape[1] == 0 else Image.Resampling.BOX
    size = (width, max(1, round(width * colors.shape[0] / colors.shape[1])))
    return ImageOps.expand(Image.fromarray(colors).resize(size, method), EDGE, edge)


def draw_marker(page: Image.Image, corner: tuple[int, int], bottom: int) -> None:
    """Draw a line with a head, from a corner down: the place of t*."""
    (x, top), draw = corner, ImageDraw.Draw(page)
    draw.rectangle((x, top, x + 1, bottom), fill=INK)
    draw.polygon([(x - 4, top), (x + 5, top), (x + 1, top + 5), (x, top + 5)], fill=INK)


def _label(strip: Image.Image, top: int, label: str, details: Sequence[str]) -> None:
    write_lines(strip, (0, top), [label], TEXT, LABEL_WIDTH - 4)
    write_lines(strip, (0, top + 20), details, NOTE, LABEL_WIDTH - 4)


def write_lines(
    page: Any, at: tuple[int, int], lines: Sequence[str], style: Any, room: int, anchor: str = "la"
) -> None:
    """Write lines of text, each shortened in the middle to fit `room` pixels: the end of an id names the sample."""
    size, color = style
    for line, text in enumerate(map(_plain, lines)):
        shown = text
        for kept in range(len(text) - 1, -1, -1):
            if _font(size).getlength(shown) <= room:
                break
            shown = f"{text[: kept // 2]}…{text[len(text) - (kept + 1) // 2 :]}"
        place = (at[0], at[1] + LINE * line)
        ImageDraw.Draw(page).text(place, shown, fill=color, font=_font(size), anchor=anchor)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _plain(text: str) -> str:
    """Return a text in characters of the built-in font: accents are dropped, others become question marks."""
    letters = (char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return "".join(char if char == "·" or (char.isascii() and char.isprintable()) else "?" for char in letters)
