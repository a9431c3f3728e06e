"""What a recording holds: numbers, and a picture of its events over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tmkt_data.errors import EventError
from tmkt_data.events.events import Events, SensorSize
from tmkt_data.events.filters import hot_pixel_limit
from tmkt_data.events.frames import FrameBuilder, canvas_box
from tmkt_data.preview.colors import BOTH, GROUND, OFF, ON, event_colors, polarities
from tmkt_data.preview.drawing import draw_sheet
from tmkt_data.preview.sheet import Key, Sheet, SheetGroup, SheetRow

NUM_STEPS = 10
HOT_FACTOR = 10.0
MAX_SIDE = 144


@dataclass(frozen=True)
class HotPixel:
    """A pixel that fires far more often than the others.

    Attributes:
        x: Column.
        y: Row.
        num_events: Its events.
    """

    x: int
    y: int
    num_events: int


@dataclass(frozen=True)
class RecordingSummary:
    """What one recording holds.

    Attributes:
        num_events: Events that are kept.
        num_read: Events in the file.
        num_dropped: Dropped events by reason.
        num_inversions: Neighbors whose time stepped back in the file.
        num_wraps: How often the clock of the file has gone round, see `Events.num_wraps`.
        time_step_us: What the times of the file tell apart, see `Events.time_step_us`.
        t_first_us: First file time, microseconds.
        t_last_us: Last file time.
        num_on: Events of rising brightness.
        num_off: Events of falling brightness.
        extent: Smallest and largest coordinates that occur: x_min, y_min, x_max, y_max, inclusive.
        sensor_size: Width and height that the file declares or the caller gave; None where neither does.
        num_active_pixels: Pixels with an event.
        median_per_pixel: Median number of events of those.
        hot_pixels: Pixels with more than `HOT_FACTOR` times as many events as the 99th percentile of the active ones,
            most events first; the rule is an own choice.
        events_per_step: Events in each of ten equal parts of the time, shape (10,).
    """

    num_events: int
    num_read: int
    num_dropped: dict[str, int]
    num_inversions: int
    num_wraps: int
    time_step_us: int
    t_first_us: int
    t_last_us: int
    num_on: int
    num_off: int
    extent: tuple[int, int, int, int]
    sensor_size: SensorSize | None
    num_active_pixels: int
    median_per_pixel: float
    hot_pixels: tuple[HotPixel, ...]
    events_per_step: tuple[int, ...]

    @property
    def duration_us(self) -> int:
        """Time from the first event to the last."""
        return self.t_last_us - self.t_first_us

    @property
    def rate(self) -> float:
        """Events per second; infinite where all lie at one time."""
        return self.num_events / (self.duration_us / 1e6) if self.duration_us else math.inf


def summarize_events(events: Events, *, place: str = "events") -> RecordingSummary:
    """Count what a recording holds.

    Raises:
        EventError: There is no event.
    """
    return summarize_pieces(lambda: iter((events,)), place=place)


def summarize_pieces(pieces: Callable[[], Iterator[Events]], *, place: str) -> RecordingSummary:
    """Count what a recording holds whose events come in pieces, as `read_pieces` gives them.

    Args:
        pieces: Gives the events anew at each call.
        place: What the message of an error starts with.

    Raises:
        EventError: There is no event.
    """
    total = _Total()
    for events in pieces():
        total.add(events)
    if total.first is None:
        raise EventError(f"{place}: no events, expected some to look at")
    first, last = total.first, total.last
    edges = [first + (last - first) * step // NUM_STEPS for step in range(1, NUM_STEPS)]
    per_step = np.zeros(NUM_STEPS, np.int64)
    for events in pieces():
        per_step += np.diff([0, *np.searchsorted(events.t, edges), len(events)])
    rows, columns, counts = total.pixels >> 16, total.pixels & 0xFFFF, total.counts
    hot = np.flatnonzero(counts > hot_pixel_limit(counts, HOT_FACTOR))
    hot = hot[np.argsort(-counts[hot], kind="stable")]
    return RecordingSummary(
        num_events=total.num_events,
        num_read=total.num_read or total.num_events,
        num_dropped=total.num_dropped,
        num_inversions=total.num_inversions,
        num_wraps=total.num_wraps,
        time_step_us=total.time_step_us,
        t_first_us=first,
        t_last_us=last,
        num_on=total.num_on,
        num_off=total.num_events - total.num_on,
        extent=(int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())),
        sensor_size=total.sensor_size,
        num_active_pixels=len(counts),
        median_per_pixel=float(np.median(counts)),
        hot_pixels=tuple(HotPixel(int(columns[i]), int(rows[i]), int(counts[i])) for i in hot.tolist()),
        events_per_step=tuple(per_step.tolist()),
    )


class _Total:
    """What has passed of a recording."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.last = 0
        self.num_events = self.num_read = self.num_inversions = self.num_wraps = self.num_on = 0
        self.time_step_us = 1
        self.num_dropped: dict[str, int] = {}
        self.sensor_size: SensorSize | None = None
        self.pixels = np.empty(0, np.int64)
        self.counts = np.empty(0, np.int64)

    def add(self, events: Events) -> None:
        self.num_read += events.num_read
        self.num_inversions += events.num_inversions
        self.num_wraps += events.num_wraps
        self.time_step_us = max(self.time_step_us, events.time_step_us)
        self.sensor_size = events.sensor_size
        for reason, count in events.num_dropped.items():
            self.num_dropped[reason] = self.num_dropped.get(reason, 0) + count
        if not len(events):
            return
        self.first = int(events.t[0]) if self.first is None else self.first
        self.last = int(events.t[-1])
        self.num_events += len(events)
        self.num_on += int(np.count_nonzero(events.p))
        self._count(events)

    def _count(self, events: Events) -> None:
        """Count by pixel; a sensor may be too large for a table of all."""
        here, counts = np.unique((events.y.astype(np.int64) << 16) | events.x, return_counts=True)
        pixels, inverse = np.unique(np.concatenate([self.pixels, here]), return_inverse=True)
        merged = np.zeros(len(pixels), np.int64)
        np.add.at(merged, inverse, np.concatenate([self.counts, counts]))
        self.pixels, self.counts = pixels, merged


def draw_recording(events: Events, name: str) -> Image.Image:
    """Draw a recording that is in memory, see `draw_pieces`."""
    return draw_pieces(lambda: iter((events,)), name)


def draw_pieces(pieces: Callable[[], Iterator[Events]], name: str) -> Image.Image:
    """Draw the extent of a recording: all of its events in one picture, and ten equal parts of its time.

    Args:
        pieces: Gives the events anew at each call, one at least.
        name: Title.

    Returns:
        An RGB picture. An extent of more than 144 pixels a side is scaled down, every event counted.

    Raises:
        EventError: There is no event.
    """
    summary = summarize_pieces(pieces, place=name)
    x_min, y_min, x_max, y_max = summary.extent
    sides = (y_max - y_min + 1, x_max - x_min + 1)
    scale = max(1.0, max(sides) / MAX_SIDE)
    height, width = (max(1, round(side / scale)) for side in sides)
    builder = FrameBuilder(
        canvas_box(summary.extent, "tight", None), summary.t_first_us, summary.t_last_us,
        num_bins=NUM_STEPS, height=height, width=width, bin_rule="exact", resize="sum", representation="counts",
    )  # fmt: skip
    for events in pieces():
        builder.add(events)
    frames = builder.result().frames.astype(np.float32)
    off, on = polarities(frames)
    span_ms = summary.duration_us / 1e3 / NUM_STEPS
    group = SheetGroup(
        name=f"x {x_min} to {x_max}, y {y_min} to {y_max}",
        facts=tuple((name, text) for name, text in summary_rows(summary) if name != "extent"),
        picture=_squared(event_colors(frames.sum(axis=0, keepdims=True)))[0],
        steps=tuple(range(1, NUM_STEPS + 1)),
        times_ms=tuple((step * span_ms, (step + 1) * span_ms) for step in range(NUM_STEPS)),
        activity=(on.sum(axis=(1, 2)), off.sum(axis=(1, 2))),
        counts_events=True,
        rows=(SheetRow("event frames", ("counts",), _squared(event_colors(frames))),),
        picture_label=("all events", "counts"),
    )
    keys = (Key("fill", ON, "ON events"), Key("fill", OFF, "OFF events"), Key("fill", BOTH, "both"))
    notes = ("ten equal parts of the time", "times after the first event", "event colors scaled to the recording")
    return draw_sheet(Sheet(name, (), keys, (group,), notes))


def summary_rows(summary: RecordingSummary) -> list[tuple[str, str]]:
    """Return a summary as names and texts."""
    x_min, y_min, x_max, y_max = summary.extent
    size = summary.sensor_size
    rate = f"{summary.rate:,.0f} events a second" if math.isfinite(summary.rate) else "all at one time"
    rows = [
        ("events", f"{summary.num_events:,}"),
        ("time", f"{summary.duration_us / 1e6:.6f} s from {summary.t_first_us:,} us, {rate}"),
        ("polarity", f"{summary.num_on:,} ON, {summary.num_off:,} OFF ({summary.num_on / summary.num_events:.1%} ON)"),
        ("extent", f"x {x_min} to {x_max}, y {y_min} to {y_max}"),
        ("sensor", f"within {size.width} x {size.height}" if size else "size not declared"),
        ("pixels", f"{summary.num_active_pixels:,} with events, median {summary.median_per_pixel:g}"),
        ("hot", _hot_text(summary.hot_pixels)),
    ]
    if summary.num_dropped:
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in summary.num_dropped.items())
        rows.append(("dropped", f"{dropped} of {summary.num_read:,}"))
    if summary.num_inversions:
        rows.append(("sorted", f"time stepped back {summary.num_inversions:,} times"))
    if summary.num_wraps:
        times = "once" if summary.num_wraps == 1 else f"{summary.num_wraps:,} times"
        rows.append(("clock", f"time wrapped {times} and is counted on"))
    if summary.time_step_us > 1:
        rows.append(("coarse", f"the file's times are up to {summary.time_step_us:,} us apart, finer ones are lost"))
    return rows


def _hot_text(pixels: tuple[HotPixel, ...]) -> str:
    shown = ", ".join(f"({pixel.x}, {pixel.y}) {pixel.num_events:,}" for pixel in pixels[:3])
    more = f" and {len(pixels) - 3} more" if len(pixels) > 3 else ""
    return shown + more if pixels else "none"


def _squared(colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put colors (T, H, W, 3) in the middle of a square on the ground color."""
    _, height, width, _ = colors.shape
    side = max(height, width)
    out = np.empty((len(colors), side, side, 3), np.uint8)
    out[:] = GROUND
    top, left = (side - height) // 2, (side - width) // 2
    out[:, top : top + height, left : left + width] = colors
    return out
