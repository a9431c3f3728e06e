"""Draw a recording: all events in one picture, and frames of ten time bins."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tmkt_data.events.events import Events
from tmkt_data.events.frames import FrameBuilder, FrameSpec, canvas_box
from tmkt_data.events.summary import NUM_TENTHS, summarize_pieces, summary_rows
from tmkt_data.preview.colors import event_colors, polarities
from tmkt_data.preview.sheet import PICTURE, Grid, Row, draw_group, draw_page

WIDE, HIGH = 360, 360
"""Largest frame of a time bin."""
WHOLE_WIDE, WHOLE_HIGH = 800, 560
"""Largest picture of all events."""
COLUMNS, CELL, MAX_FACTOR = 5, 280, 10
"""Frames beside each other, the width that those of a small sensor grow to, and its largest pixel in the picture."""
TALLEST, WIDEST = 2, 4
"""Height over width, and width over height, that a picture is padded to."""


def draw_recording(events: Events, name: str) -> Image.Image:
    """Draw a recording in memory, see `draw_pieces`."""
    return draw_pieces(lambda: iter((events,)), name)


def draw_pieces(pieces: Callable[[], Iterator[Events]], name: str) -> Image.Image:
    """Draw a recording: all events in one picture, and frames of ten equal time bins, in two rows.

    Pictures have the shape of the extent. One above 360 pixels per side, 800 x 560 for all events, is scaled down,
    counting every event. Each call of `pieces` goes through the recording anew, and the picture is RGB.

    Raises:
        EventError: There are no events.
    """
    summary = summarize_pieces(pieces, place=name)
    x_min, y_min, x_max, y_max = summary.extent
    box, times = canvas_box(summary.extent, "tight", None), (summary.t_first_us, summary.t_last_us)
    sides = (y_max - y_min + 1, x_max - x_min + 1)
    bins = FrameBuilder(FrameSpec(NUM_TENTHS, *_scaled(sides, HIGH, WIDE)), box, *times)
    whole = FrameBuilder(FrameSpec(1, *_scaled(sides, WHOLE_HIGH, WHOLE_WIDE)), box, *times)
    for events in pieces():
        bins.add(events)
        whole.add(events)
    frames, total = (_padded(builder.result().frames.astype(np.float32)) for builder in (bins, whole))
    starts_ms = np.linspace(0, summary.duration_us / 1e3, NUM_TENTHS, endpoint=False)
    facts = [(label, text) for label, text in summary_rows(summary) if label != "extent"]
    picture = Row("all events", ["counts"], event_colors(total))
    row = Row("event frames", ["counts"], event_colors(frames))
    height, width = frames.shape[2:]
    fill = width * max(1, round(CELL * min(1.0, width / height) / width))
    grids = [Grid(NUM_TENTHS, width, steps=steps, fill=fill) for steps in np.arange(NUM_TENTHS).reshape(-1, COLUMNS)]
    room = min(WHOLE_WIDE, round(WHOLE_HIGH * width / height), max(PICTURE, MAX_FACTOR * total.shape[3]))
    strips = [grids[0].intro(f"x {x_min} to {x_max}, y {y_min} to {y_max}", facts, picture, room)]
    for grid in grids:
        strips += [grid.heading(starts_ms, polarities(frames).sum(axis=(2, 3)), "up to {}"), grid.row(row)]
    notes = ["ten equal parts of the time", "times after the first event", "event colors scaled to the recording"]
    return draw_page([name], ["ON events", "OFF events", "both"], [draw_group(strips)], notes)


def _scaled(sides: tuple[int, int], height: int, width: int) -> tuple[int, int]:
    """Return height and width of a picture that fits into a box; a cell is whole pixels, others would show a grid."""
    factor = max(1, -(-sides[0] // height), -(-sides[1] // width))
    return -(-sides[0] // factor), -(-sides[1] // factor)


def _padded(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add empty margins to frames (T, C, H, W) that are very tall or very wide."""
    height, width = frames.shape[2:]
    extra = (max(0, -(-width // WIDEST) - height), max(0, -(-height // TALLEST) - width))
    return np.pad(frames, [(0, 0), (0, 0), *((more // 2, more - more // 2) for more in extra)])
