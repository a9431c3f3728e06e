"""Lay out contact sheets: groups of rows of cells, with labels and legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tmkt_data.preview.colors import OFF, ON, Color
from tmkt_data.preview.drawing import (
    EDGE,
    INK,
    NAME,
    RULE,
    SMALL,
    SOFT,
    TEXT,
    TINY,
    TITLE,
    below,
    beside,
    draw_marker,
    framed,
    line_of,
    paper,
    text_width,
    wrapped,
)
from tmkt_data.spec import MarkKind

IMAGE_EDGE: Color = (230, 159, 0)
EVENT_EDGE: Color = (126, 75, 178)
MAX_WIDTH, MARGIN, GUTTER, GROUP_GAP = 2016, 36, 64, 36
LABEL_WIDTH = 112
MIN_CELL, MAX_FILL = 56, 112
"""Minimum cell size, and the maximum that cells grow to if there are few steps."""
MIN_GRID = 424
PICTURE = 144
ROW_GAP = 12
BARS = 34
SWATCH = 14


class Key(NamedTuple):
    """One entry of the legend: a filled or outlined square, or the marker of a replacement point."""

    kind: MarkKind
    color: Color
    text: str


class SheetRow(NamedTuple):
    """One row of cells.

    Attributes:
        label: Label of the row.
        details: Further lines in smaller type.
        cells: Colors, shape (columns, H, W, 3), uint8.
        is_event: Whether each cell comes from the event side; None draws no colored borders.
        marker: Number of columns before the replacement point; None draws no marker.
        marker_text: Text next to the marker.
    """

    label: str
    details: tuple[str, ...]
    cells: NDArray[np.uint8]
    is_event: tuple[bool, ...] | None = None
    marker: int | None = None
    marker_text: str = ""


class SheetGroup(NamedTuple):
    """One pair.

    Attributes:
        name: Id of the recording.
        facts: Label and value of each line next to the picture.
        picture: Colors of the image, shape (H, W, 3), uint8; None without one.
        steps: Number of each step shown, from 1.
        times_ms: Start and end of each step.
        activity: ON and OFF events of each step, each of shape (columns,).
        counts_events: Whether `activity` holds event counts, not sums weighted by a resize.
        rows: Rows of cells, top to bottom.
        picture_label: Label lines of the picture.
    """

    name: str
    facts: tuple[tuple[str, str], ...]
    picture: NDArray[np.uint8] | None
    steps: tuple[int, ...]
    times_ms: tuple[tuple[float, float], ...]
    activity: tuple[NDArray[np.float64], NDArray[np.float64]]
    counts_events: bool
    rows: tuple[SheetRow, ...]
    picture_label: tuple[str, str] = ("image", "intensity")


class Sheet(NamedTuple):
    """A contact sheet; every group has the same rows and columns.

    Attributes:
        title: First line, large.
        facts: Lines below it, each of parts that are not broken.
        keys: The legend.
        groups: The pairs.
        notes: Parts of the last line, in small type.
    """

    title: str
    facts: tuple[tuple[str, ...], ...]
    keys: tuple[Key, ...]
    groups: tuple[SheetGroup, ...]
    notes: tuple[str, ...]


def draw_sheet(sheet: Sheet) -> Image.Image:
    """Draw a contact sheet as an RGB picture; equal sheets give equal pixels.

    Groups are placed side by side if they fit, with at most as many columns as rows.
    """
    groups = [draw_group(group) for group in sheet.groups]
    fitting = (MAX_WIDTH - 2 * MARGIN + GUTTER) // (groups[0].width + GUTTER)
    columns = max(1, min(fitting, math.ceil(math.sqrt(len(groups)))))
    body = below([beside(groups[at : at + columns], GUTTER) for at in range(0, len(groups), columns)], GROUP_GAP)
    room = body.width
    lines = [(text, SOFT if at else INK) for at, line in enumerate(sheet.facts) for text in wrapped(line, TEXT, room)]
    head = below(
        [line_of(sheet.title, TITLE, room), *(line_of(text, TEXT, room, color=color) for text, color in lines)]
    )
    rule = Image.new("RGB", (room, 1), RULE)
    notes = below([line_of(text, SMALL, room, color=SOFT) for text in wrapped(sheet.notes, SMALL, room)])
    whole = below([head, below(draw_keys(sheet.keys, room), 4), rule, paper(1, 1), body, notes], 16)
    picture = paper(whole.width + 2 * MARGIN, whole.height + 2 * MARGIN)
    picture.paste(whole, (MARGIN, MARGIN))
    return picture


def draw_keys(keys: Sequence[Key], room: int) -> list[Image.Image]:
    """Draw the legend, in as many lines as needed."""
    lines: list[list[Image.Image]] = [[]]
    for key in keys:
        tile = paper(SWATCH + 8 + text_width(key.text, SMALL) + 26, 20)
        match key.kind:
            case "fill":
                ImageDraw.Draw(tile).rectangle((0, 2, SWATCH - 1, SWATCH + 1), fill=key.color)
            case "edge":
                ImageDraw.Draw(tile).rectangle((0, 2, SWATCH - 1, SWATCH + 1), outline=key.color, width=EDGE)
            case "marker":
                draw_marker(tile, SWATCH // 2, 2, SWATCH + 1)
        tile.paste(line_of(key.text, SMALL, tile.width - SWATCH - 8), (SWATCH + 8, 0))
        if lines[-1] and sum(other.width for other in lines[-1]) + tile.width - 26 > room:
            lines.append([])
        lines[-1].append(tile)
    return [beside(line) for line in lines]


def cell_size(num_cells: int, frame: int) -> tuple[int, int]:
    """Return cell size and gap in pixels, so that a row fits the width of a sheet.

    Args:
        num_cells: Cells in a row.
        frame: Width and height of a frame. A cell is an integer multiple of it if that fits.
    """
    gap = 6 if num_cells <= 20 else 5
    room = (MAX_WIDTH - 2 * MARGIN - LABEL_WIDTH) // num_cells - gap
    fill = min(MAX_FILL, MIN_GRID // num_cells - gap)
    return min(max(-(-MIN_CELL // frame), fill // frame), room // frame) * frame or room, gap


def draw_group(group: SheetGroup) -> Image.Image:
    """Draw one pair: picture and facts, step numbers, events per step, rows of cells."""
    num_cells, frame = group.rows[0].cells.shape[:2]
    cell, gap = cell_size(num_cells, frame)
    body = max(num_cells * (cell + gap), MIN_GRID)
    tiles = [_intro(group, frame, body), _heading(group, cell, gap), _activity(group, cell, gap)]
    return below([*tiles, *(draw_row(row, cell, gap, body) for row in group.rows)])


def draw_row(row: SheetRow, cell: int, gap: int, body: int) -> Image.Image:
    """Draw a label and a row of cells; cell k begins `LABEL_WIDTH + k * (cell + gap) + EDGE` pixels from the left."""
    tile = paper(LABEL_WIDTH + body, ROW_GAP + cell + 2 * EDGE + (22 if row.marker is not None else 0))
    tile.paste(_label(row.label, row.details), (0, ROW_GAP))
    for column, colors in enumerate(row.cells):
        edge = None if row.is_event is None else EVENT_EDGE if row.is_event[column] else IMAGE_EDGE
        tile.paste(framed(colors, cell, edge), (LABEL_WIDTH + column * (cell + gap), ROW_GAP))
    if row.marker is not None:
        x, bottom = LABEL_WIDTH + row.marker * (cell + gap) - 1, ROW_GAP + cell + 2 * EDGE
        draw_marker(tile, x, 2, bottom + 4)
        width = text_width(row.marker_text, SMALL) + 2
        left = max(LABEL_WIDTH, min(x - width // 2, tile.width - width))
        tile.paste(line_of(row.marker_text, SMALL, width, centered=True), (left, bottom + 5))
    return tile


def _label(label: str, details: Sequence[str]) -> Image.Image:
    lines = [line_of(text, SMALL, LABEL_WIDTH - 4, color=SOFT) for text in details]
    return below([line_of(label, TEXT, LABEL_WIDTH - 4), *lines])


def _intro(group: SheetGroup, frame: int, body: int) -> Image.Image:
    tiles: list[Image.Image] = []
    room = LABEL_WIDTH + body
    if group.picture is not None:
        side = max(1, round(PICTURE / frame)) * frame if frame <= 2 * PICTURE else PICTURE
        label = below([_label(group.picture_label[0], group.picture_label[1:]), paper(LABEL_WIDTH, 1)])
        tiles = [beside([label, framed(group.picture, side)])]
        room -= tiles[0].width + 20
    facts = [
        beside([line_of(name, SMALL, 56, color=SOFT), line_of(value, SMALL, room - 56)]) for name, value in group.facts
    ]
    return beside([*tiles, below([line_of(group.name, NAME, room), *facts], 2)], 20)


def _heading(group: SheetGroup, cell: int, gap: int) -> Image.Image:
    times, unit = time_labels(group.times_ms, cell + gap - 4)
    steps = beside([
        line_of("time step", TEXT, LABEL_WIDTH),
        *(line_of(str(step), TEXT, cell + gap, centered=True) for step in group.steps),
    ])  # fmt: skip
    spans = beside([
        line_of(unit, SMALL, LABEL_WIDTH, color=SOFT),
        *(line_of(time, TINY, cell + gap, color=SOFT, centered=True) for time in times),
    ])  # fmt: skip
    return below([paper(1, 12), steps, spans, paper(1, 8)])


def _activity(group: SheetGroup, cell: int, gap: int) -> Image.Image:
    """Draw bars of the ON and OFF events of each step, relative to the largest of the group."""
    on, off = group.activity
    largest = float(max(on.max(), off.max()))
    bars = paper(len(on) * (cell + gap), BARS)
    draw = ImageDraw.Draw(bars)
    width = max(3, min(14, cell // 7))
    for column in range(len(on)):
        middle = column * (cell + gap) + EDGE + cell // 2
        for counts, color, x in ((on, ON, middle - 1 - width), (off, OFF, middle + 1)):
            height = round(float(counts[column]) / (largest or 1.0) * (BARS - 3))
            if height:
                draw.rectangle((x, BARS - 1 - height, x + width - 1, BARS - 2), fill=color)
    draw.line((0, BARS - 1, bars.width, BARS - 1), RULE)
    extent = f"up to {largest:,.0f}" if group.counts_events else "relative"
    texts = [line_of(text, SMALL, LABEL_WIDTH, color=SOFT) for text in ("events per step", extent)]
    return beside([below(texts), bars])


def time_labels(times_ms: Sequence[tuple[float, float]], room: int) -> tuple[list[str], str]:
    """Format the times of steps in one unit, with as few digits as keep them distinct.

    Args:
        times_ms: Start and end of each step, milliseconds; equal for a point in time.
        room: Pixels available per label; if ranges do not fit, only their starts are shown.

    Returns:
        One label per step, and the name of the unit.

    Example:
        >>> time_labels([(0.0, 30.8), (30.8, 61.6)], 60)
        (['0-31', '31-62'], 'ms')
    """
    last = max(end for _, end in times_ms)
    divisor, unit = (1000.0, "s") if last >= 10_000 else (1.0, "ms")
    shortest = min((end - start for start, end in times_ms if end > start), default=last) / divisor
    digits = 0 if shortest >= 3 else 1 if shortest >= 0.3 else 2
    starts, ends = ([f"{time / divisor:.{digits}f}" for time in side] for side in zip(*times_ms, strict=True))
    ranges = [a if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True)]
    if max(text_width(text, TINY) for text in ranges) <= room:
        return ranges, unit
    return starts, f"{unit}, from"
