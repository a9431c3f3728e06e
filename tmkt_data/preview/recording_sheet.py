"""Draw a recording: all events in one picture, and frames of ten time bins."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tmkt_data.events.events import Events
from tmkt_data.events.frames import FrameBuilder, FrameSpec, canvas_box
from tmkt_data.events.summary import NUM_TENTHS, summarize_pieces, summary_rows
from tmkt_data.preview.colors import BOTH, GROUND, OFF, ON, event_colors, polarities
from tmkt_data.preview.sheet import Key, Sheet, SheetGroup, SheetRow, draw_sheet

MAX_SIDE = 144


def draw_recording(events: Events, name: str) -> Image.Image:
    """Draw a recording in memory, see `draw_pieces`."""
    return draw_pieces(lambda: iter((events,)), name)


def draw_pieces(pieces: Callable[[], Iterator[Events]], name: str) -> Image.Image:
    """Draw a recording: all events in one picture, and frames of ten equal time bins.

    Args:
        pieces: Returns a new iterator over the events, at least one.
        name: Title.

    Returns:
        An RGB picture. An extent above 144 pixels per side is scaled down, counting every event.

    Raises:
        EventError: There are no events.
    """
    summary = summarize_pieces(pieces, place=name)
    x_min, y_min, x_max, y_max = summary.extent
    sides = (y_max - y_min + 1, x_max - x_min + 1)
    scale = max(1.0, max(sides) / MAX_SIDE)
    height, width = (max(1, round(side / scale)) for side in sides)
    box = canvas_box(summary.extent, "tight", None)
    builder = FrameBuilder(FrameSpec(NUM_TENTHS, height, width), box, summary.t_first_us, summary.t_last_us)
    for events in pieces():
        builder.add(events)
    frames = builder.result().frames.astype(np.float32)
    off, on = polarities(frames)
    span_ms = summary.duration_us / 1e3 / NUM_TENTHS
    group = SheetGroup(
        name=f"x {x_min} to {x_max}, y {y_min} to {y_max}",
        facts=tuple((name, text) for name, text in summary_rows(summary) if name != "extent"),
        picture=_squared(event_colors(frames.sum(axis=0, keepdims=True)))[0],
        steps=tuple(range(1, NUM_TENTHS + 1)),
        times_ms=tuple((step * span_ms, (step + 1) * span_ms) for step in range(NUM_TENTHS)),
        activity=(on.sum(axis=(1, 2)), off.sum(axis=(1, 2))),
        counts_events=True,
        rows=(SheetRow("event frames", ("counts",), _squared(event_colors(frames))),),
        picture_label=("all events", "counts"),
    )
    keys = (Key("fill", ON, "ON events"), Key("fill", OFF, "OFF events"), Key("fill", BOTH, "both"))
    notes = ("ten equal parts of the time", "times after the first event", "event colors scaled to the recording")
    return draw_sheet(Sheet(name, (), keys, (group,), notes))


def _squared(colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Center colors (T, H, W, 3) in a square of the background color."""
    _, height, width, _ = colors.shape
    side = max(height, width)
    out = np.empty((len(colors), side, side, 3), np.uint8)
    out[:] = GROUND
    top, left = (side - height) // 2, (side - width) // 2
    out[:, top : top + height, left : left + width] = colors
    return out
