"""Draw a recording: all events in one picture, and frames of ten time bins."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from tmkt_data.events.events import Events
from tmkt_data.events.frames import FrameBuilder, FrameSpec, canvas_box
from tmkt_data.events.summary import NUM_TENTHS, summarize_pieces, summary_rows
from tmkt_data.preview.colors import event_colors, polarities
from tmkt_data.preview.sheet import Grid, Row, draw_group, draw_page

MAX_SIDE = 144


def draw_recording(events: Events, name: str) -> Image.Image:
    """Draw a recording in memory, see `draw_pieces`."""
    return draw_pieces(lambda: iter((events,)), name)


def draw_pieces(pieces: Callable[[], Iterator[Events]], name: str) -> Image.Image:
    """Draw a recording: all events in one picture, and frames of ten equal time bins.

    An extent above 144 pixels per side is scaled down, counting every event. Each call of `pieces` goes through the
    recording anew, and the picture is RGB.

    Raises:
        EventError: There are no events.
    """
    summary = summarize_pieces(pieces, place=name)
    x_min, y_min, x_max, y_max = summary.extent
    sides = (y_max - y_min + 1, x_max - x_min + 1)
    height, width = (max(1, round(side / max(1.0, max(sides) / MAX_SIDE))) for side in sides)
    box = canvas_box(summary.extent, "tight", None)
    builder = FrameBuilder(FrameSpec(NUM_TENTHS, height, width), box, summary.t_first_us, summary.t_last_us)
    for events in pieces():
        builder.add(events)
    missing = [max(height, width) - side for side in (height, width)]
    margins = [(0, 0), (0, 0), *((extra // 2, extra - extra // 2) for extra in missing)]
    frames = np.pad(builder.result().frames.astype(np.float32), margins)
    starts_ms = np.linspace(0, summary.duration_us / 1e3, NUM_TENTHS, endpoint=False)
    grid = Grid(NUM_TENTHS, max(height, width))
    facts = [(label, text) for label, text in summary_rows(summary) if label != "extent"]
    picture = Row("all events", ["counts"], event_colors(frames.sum(axis=0, keepdims=True)))
    strips = [
        grid.intro(f"x {x_min} to {x_max}, y {y_min} to {y_max}", facts, picture),
        grid.heading(starts_ms, polarities(frames).sum(axis=(2, 3)), "up to {}"),
        grid.row(Row("event frames", ["counts"], event_colors(frames))),
    ]
    notes = ["ten equal parts of the time", "times after the first event", "event colors scaled to the recording"]
    return draw_page([name], ["ON events", "OFF events", "both"], [draw_group(strips)], notes)
