"""Drawing of contact sheets: cells enlarged without smoothing, hairlines, and text that stays in its place."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tmkt_data.preview.colors import OFF, ON, Color
from tmkt_data.preview.sheet import (
    ACTIVITY_HEIGHT,
    EVENT_EDGE,
    GROUP_GAP,
    HEADING_HEIGHT,
    IMAGE_EDGE,
    LABEL_WIDTH,
    LINE_HEIGHT,
    MARGIN,
    Box,
    Key,
    Sheet,
    SheetGroup,
    SheetLayout,
    SheetRow,
    lay_out,
)

PAPER: Color = (255, 255, 255)
INK: Color = (27, 29, 32)
SOFT: Color = (99, 104, 110)
RULE: Color = (214, 217, 221)
TITLE_SIZE, NAME_SIZE, TEXT_SIZE, SMALL_SIZE, TINY_SIZE = 32, 19, 15, 13, 12
SWATCH = 14
EDGE = 2
FACT_INDENT = 56
HEAD_GAP = 28
SEPARATOR = "  ·  "

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_sheet(sheet: Sheet) -> Image.Image:
    """Draw a contact sheet as an RGB picture; equal sheets give equal pixels."""
    layout = lay_out(sheet)
    head = head_height(sheet, layout)
    notes = list(_wrapped(sheet.notes, layout.width - 2 * MARGIN, SMALL_SIZE))
    below = head + layout.height + GROUP_GAP
    canvas = Image.new("RGB", (layout.width, below + len(notes) * LINE_HEIGHT + MARGIN // 2), PAPER)
    draw = ImageDraw.Draw(canvas)
    _draw_head(draw, sheet, layout)
    for at, group in enumerate(sheet.groups):
        _Group(canvas, draw, layout, head, at, group).draw()
    for number, line in enumerate(notes):
        _text(draw, (MARGIN, below + 8 + number * LINE_HEIGHT), line, SMALL_SIZE, SOFT)
    return canvas


def head_height(sheet: Sheet, layout: SheetLayout) -> int:
    """Return the height above the first group: title, facts and legend, wrapped to the width of the sheet."""
    room = layout.width - 2 * MARGIN
    num_lines = sum(len(list(_wrapped(line, room, TEXT_SIZE))) for line in sheet.facts)
    num_key_lines = len(_key_lines(sheet.keys, room))
    return MARGIN + 44 + num_lines * 22 + 12 + num_key_lines * 24 + 2 * HEAD_GAP


def _draw_head(draw: ImageDraw.ImageDraw, sheet: Sheet, layout: SheetLayout) -> None:
    room = layout.width - 2 * MARGIN
    _text(draw, (MARGIN, MARGIN + 26), _fitted(sheet.title, TITLE_SIZE, room), TITLE_SIZE, INK)
    baseline = MARGIN + 44 + 14
    for number, line in enumerate(sheet.facts):
        for text in _wrapped(line, room, TEXT_SIZE):
            _text(draw, (MARGIN, baseline), text, TEXT_SIZE, SOFT if number else INK)
            baseline += 22
    baseline += 12
    for keys in _key_lines(sheet.keys, room):
        left = MARGIN
        for key in keys:
            left = _draw_key(draw, key, left, baseline)
        baseline += 24
    y = baseline - 14 + HEAD_GAP - 8
    draw.line([(MARGIN, y), (layout.width - MARGIN - 1, y)], RULE)


def _draw_key(draw: ImageDraw.ImageDraw, key: Key, left: int, baseline: int) -> int:
    """Draw one entry of the legend and return where the next begins."""
    top, bottom = baseline - SWATCH + 2, baseline + 1
    right = left + SWATCH - 1
    match key.kind:
        case "fill":
            draw.rectangle([left, top, right, bottom], fill=key.color)
        case "edge":
            draw.rectangle([left, top, right, bottom], outline=key.color, width=EDGE)
        case "marker":
            _draw_marker(draw, left + SWATCH // 2, top, bottom, key.color)
    _text(draw, (left + SWATCH + 8, baseline), key.text, SMALL_SIZE, INK)
    return left + _key_width(key)


def _key_width(key: Key) -> int:
    return SWATCH + 8 + _width(key.text, SMALL_SIZE) + 26


def _key_lines(keys: Sequence[Key], room: int) -> list[list[Key]]:
    lines: list[list[Key]] = [[]]
    for key in keys:
        if lines[-1] and sum(map(_key_width, [*lines[-1], key])) - 26 > room:
            lines.append([])
        lines[-1].append(key)
    return lines


def _draw_marker(draw: ImageDraw.ImageDraw, x: int, top: int, bottom: int, color: Color) -> None:
    draw.rectangle([x - 1, top, x, bottom], fill=color)
    draw.polygon([(x - 5, top), (x + 4, top), (x, top + 5), (x - 1, top + 5)], fill=color)


class _Group:
    """One pair on the canvas."""

    def __init__(
        self,
        canvas: Image.Image,
        draw: ImageDraw.ImageDraw,
        layout: SheetLayout,
        head: int,
        at: int,
        group: SheetGroup,
    ) -> None:
        self.canvas, self.paint, self.layout, self.head, self.at, self.group = canvas, draw, layout, head, at, group
        self.left, self.top = layout.group_corner(at)[0], layout.group_corner(at)[1] + head
        self.body = self.left + LABEL_WIDTH

    def draw(self) -> None:
        """Draw everything of the pair."""
        self._draw_intro()
        self._draw_heading()
        self._draw_activity()
        for number, row in enumerate(self.group.rows):
            self._draw_row(number, row)

    def _draw_intro(self) -> None:
        text_left = self.left
        if self.group.picture is not None:
            box = _moved(self.layout.picture_box(self.at), self.head)
            name, *details = self.group.picture_label
            self._label(name, tuple(details), self.top)
            self._paste(self.group.picture, box)
            text_left = box[2] + 22
        room = self.body + self.layout.body_width - text_left
        _text(self.paint, (text_left, self.top + 15), _fitted(self.group.name, NAME_SIZE, room), NAME_SIZE, INK)
        for number, (label, value) in enumerate(self.group.facts):
            baseline = self.top + 44 + number * LINE_HEIGHT
            _text(self.paint, (text_left, baseline), label, SMALL_SIZE, SOFT)
            shown = _fitted(value, SMALL_SIZE, room - FACT_INDENT)
            _text(self.paint, (text_left + FACT_INDENT, baseline), shown, SMALL_SIZE, INK)

    def _draw_heading(self) -> None:
        top = self.layout.heading_top(self.at) + self.head
        times, unit = time_labels(self.group.times_ms, self.layout.cell + self.layout.gap - 4)
        _text(self.paint, (self.left, top + 12), "time step", TEXT_SIZE, INK)
        _text(self.paint, (self.left, top + 29), unit, SMALL_SIZE, SOFT)
        for column, (step, time) in enumerate(zip(self.group.steps, times, strict=True)):
            box = self.layout.cell_box(self.at, 0, column)
            middle = (box[0] + box[2]) // 2
            _text(self.paint, (middle, top + 12), str(step), TEXT_SIZE, INK, "ms")
            _text(self.paint, (middle, top + 29), time, TINY_SIZE, SOFT, "ms")

    def _draw_activity(self) -> None:
        """Draw bars of the ON and OFF events of each step, all groups to their own largest step."""
        top = self.layout.heading_top(self.at) + self.head + HEADING_HEIGHT
        base = top + ACTIVITY_HEIGHT - 14
        on, off = self.group.activity
        largest = float(max(on.max(), off.max()))
        _text(self.paint, (self.left, base - 17), "events a step", SMALL_SIZE, SOFT)
        extent = f"up to {largest:,.0f}" if self.group.counts_events else "relative"
        _text(self.paint, (self.left, base - 2), extent, SMALL_SIZE, SOFT)
        width = max(3, min(14, self.layout.cell // 7))
        right = self.body + self.layout.grid_width - 1
        for column in range(self.layout.num_cells):
            box = self.layout.cell_box(self.at, 0, column)
            middle = (box[0] + box[2]) // 2
            for counts, color, x in ((on, ON, middle - 1 - width), (off, OFF, middle + 1)):
                height = round(float(counts[column]) / (largest or 1.0) * (base - top - 2))
                if height:
                    self.paint.rectangle([x, base - height, x + width - 1, base - 1], fill=color)
        self.paint.line([(self.body, base), (right, base)], RULE)

    def _draw_row(self, number: int, row: SheetRow) -> None:
        first = _moved(self.layout.cell_box(self.at, number, 0), self.head)
        self._label(row.label, row.details, first[1])
        for column, cell in enumerate(row.cells):
            box = _moved(self.layout.cell_box(self.at, number, column), self.head)
            edge = None if row.is_event is None else EVENT_EDGE if row.is_event[column] else IMAGE_EDGE
            self._paste(cell, box, edge)
        if row.marker is not None:
            self._draw_point(row, first)

    def _draw_point(self, row: SheetRow, first: Box) -> None:
        pitch, gap = self.layout.cell + self.layout.gap, self.layout.gap
        x = first[0] + (row.marker or 0) * pitch - gap // 2
        _draw_marker(self.paint, x, first[1] - 10, first[3] + 6, INK)
        half = (_width(row.marker_text, SMALL_SIZE) + 1) // 2
        middle = max(self.body + half, min(x, self.body + self.layout.body_width - half))
        _text(self.paint, (middle, first[3] + 20), row.marker_text, SMALL_SIZE, INK, "ms")

    def _label(self, label: str, details: tuple[str, ...], top: int) -> None:
        _text(self.paint, (self.left, top + 14), label, TEXT_SIZE, INK)
        for number, detail in enumerate(details):
            _text(self.paint, (self.left, top + 31 + number * 15), detail, SMALL_SIZE, SOFT)

    def _paste(self, cell: NDArray[np.uint8], box: Box, edge: Color | None = None) -> None:
        side = box[2] - box[0]
        method = Image.Resampling.NEAREST if side % cell.shape[0] == 0 else Image.Resampling.BOX
        width = EDGE if edge else 1
        outline = [box[0] - width, box[1] - width, box[2] + width - 1, box[3] + width - 1]
        self.paint.rectangle(outline, outline=edge or RULE, width=width)
        self.canvas.paste(Image.fromarray(cell).resize((side, side), method), box[:2])


def time_labels(times_ms: Sequence[tuple[float, float]], room: int) -> tuple[list[str], str]:
    """Write the times of steps as short as they stay distinct, in one unit.

    Args:
        times_ms: From when to when each step lasts, milliseconds; equal where it is a point in time.
        room: Pixels that one label may take; where ranges do not fit, only their beginnings are written.

    Returns:
        One label a step, and the name of the unit.

    Example:
        >>> time_labels([(0.0, 30.8), (30.8, 61.6)], 60)
        (['0-31', '31-62'], 'ms')
    """
    last = max(end for _, end in times_ms)
    divisor, unit = (1000.0, "s") if last >= 10_000 else (1.0, "ms")
    shortest = min((end - start for start, end in times_ms if end > start), default=last) / divisor
    digits = 0 if shortest >= 3 else 1 if shortest >= 0.3 else 2
    starts = [f"{start / divisor:.{digits}f}" for start, _ in times_ms]
    ends = [f"{end / divisor:.{digits}f}" for _, end in times_ms]
    ranges = [a if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True)]
    if max(_width(text, TINY_SIZE) for text in ranges) <= room:
        return ranges, unit
    return starts, f"{unit}, from"


def _moved(box: Box, down: int) -> Box:
    return box[0], box[1] + down, box[2], box[3] + down


@cache
def _font(size: int) -> Font:
    return ImageFont.load_default(size=size)


def _plain(text: str) -> str:
    """Return what the built-in font can write: accents go, other signs become question marks."""
    kept = (
        sign if sign in "·…" else unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode() or "?"
        for sign in unicodedata.normalize("NFC", text)
    )
    return "".join(sign if sign.isprintable() else "?" for sign in "".join(kept))


def _width(text: str, size: int) -> int:
    return int(np.ceil(_font(size).getlength(_plain(text))))


def _text(
    draw: ImageDraw.ImageDraw, where: tuple[int, int], text: str, size: int, color: Color, anchor: str = "ls"
) -> None:
    draw.text(where, _plain(text), fill=color, font=_font(size), anchor=anchor)


def _fitted(text: str, size: int, room: int) -> str:
    """Shorten a text in its middle until it fits; the end of an id tells samples apart."""
    if _width(text, size) <= room:
        return text
    for kept in range(len(text) - 1, 0, -1):
        tail = (kept + 1) // 2
        short = f"{text[: kept - tail]}…{text[len(text) - tail :]}"
        if _width(short, size) <= room:
            return short
    return "…"


def _wrapped(parts: Sequence[str], room: int, size: int) -> Iterator[str]:
    """Join the parts of a line, breaking between them where it would grow too wide."""
    line = ""
    for part in parts:
        longer = f"{line}{SEPARATOR}{part}" if line else part
        if line and _width(longer, size) > room:
            yield line
            longer = part
        line = longer
    yield _fitted(line, size, room)
