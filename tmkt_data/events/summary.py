"""What a recording holds, counted in one or two passes over its events."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError
from tmkt_data.events.events import Events, SensorSize
from tmkt_data.events.filters import hot_pixel_limit

NUM_TENTHS = 10
HOT_FACTOR = 10.0


@dataclass
class RecordingFacts:
    """Time, extent and counts of a recording, gathered while its events pass.

    Attributes:
        t_first: Time of the first kept event, microseconds.
        t_last: Time of the last one.
        extent: Their smallest and largest coordinates, see `Events.extent`; None without events.
        num_read: Events in the source.
        num_kept: Events that are left.
        num_dropped: Dropped events by reason.
        num_inversions: Neighboring events whose time stepped back.
        polarities: 1 for OFF events only, 2 for ON events only, 3 for both; 0 without events.
    """

    t_first: int = 0
    t_last: int = 0
    extent: tuple[int, int, int, int] | None = None
    num_read: int = 0
    num_kept: int = 0
    num_dropped: dict[str, int] = field(default_factory=dict)
    num_inversions: int = 0
    polarities: int = 0

    @classmethod
    def of(cls, pieces: Iterable[Events]) -> RecordingFacts:
        """Gather the facts of all pieces of a recording."""
        facts = cls()
        for events in pieces:
            facts.add(events)
        return facts

    def add(self, events: Events) -> None:
        """Add the next events of the recording."""
        self.num_read += events.num_read
        self.num_inversions += events.num_inversions
        for reason, count in events.num_dropped.items():
            self.num_dropped[reason] = self.num_dropped.get(reason, 0) + count
        if not len(events):
            return
        if not self.num_kept:
            self.t_first = int(events.t[0])
        self.t_last = int(events.t[-1])
        self.num_kept += len(events)
        self.polarities |= int(not events.p.all()) | int(events.p.any()) << 1
        here, there = events.extent, self.extent or events.extent
        self.extent = (*map(min, here[:2], there[:2]), *map(max, here[2:], there[2:]))  # type: ignore[assignment]


@dataclass(frozen=True)
class HotPixel:
    """A pixel that fires far more often than the others.

    Attributes:
        x: Column.
        y: Row.
        num_events: Number of its events.
    """

    x: int
    y: int
    num_events: int


@dataclass(frozen=True)
class RecordingSummary:
    """What one recording holds.

    Attributes:
        num_events: Kept events.
        num_read: Events in the file.
        num_dropped: Dropped events by reason.
        num_inversions: Neighboring events whose time stepped back in the file.
        num_wraps: How often the clock of the file wrapped, see `Events.num_wraps`.
        time_step_us: Resolution of the times in the file, see `Events.time_step_us`.
        t_first_us: First file time, microseconds.
        t_last_us: Last file time.
        num_on: ON events.
        num_off: OFF events.
        extent: Smallest and largest coordinates that occur: x_min, y_min, x_max, y_max, inclusive.
        sensor_size: Width and height that the file declares or the caller gave; None without either.
        num_active_pixels: Pixels with at least one event.
        median_per_pixel: Median number of events of the active pixels.
        hot_pixels: Pixels with more than `HOT_FACTOR` times as many events as the 99th percentile of the active
            pixels, most events first; the rule is our own choice.
        events_per_step: Events in each tenth of the duration, shape (10,).
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
        """Events per second; infinite where all events have the same time."""
        return self.num_events / (self.duration_us / 1e6) if self.duration_us else math.inf


def summarize_events(events: Events, *, place: str = "events") -> RecordingSummary:
    """Count what a recording in memory holds; errors as `summarize_pieces`."""
    return summarize_pieces(lambda: iter((events,)), place=place)


def summarize_pieces(pieces: Callable[[], Iterator[Events]], *, place: str) -> RecordingSummary:
    """Count what a recording holds that comes in pieces, as `read_pieces` yields them.

    Args:
        pieces: Returns a new iterator over the events at each call; called twice.
        place: Prefix of error messages.

    Raises:
        EventError: The recording has no events.
    """
    total = _Total()
    for events in pieces():
        total.add(events)
    facts = total.facts
    if facts.extent is None:
        among = f" among {facts.num_read:,} words ({dropped_text(facts.num_dropped)})" if facts.num_dropped else ""
        raise EventError(f"{place}: no events{among}, expected some to look at")
    first, last = facts.t_first, facts.t_last
    edges = [first + (last - first) * tenth // NUM_TENTHS for tenth in range(1, NUM_TENTHS)]
    per_tenth = np.zeros(NUM_TENTHS, np.int64)
    for events in pieces():
        per_tenth += np.diff([0, *np.searchsorted(events.t, edges), len(events)])
    return RecordingSummary(
        num_events=facts.num_kept,
        num_read=facts.num_read or facts.num_kept,
        num_dropped=facts.num_dropped,
        num_inversions=facts.num_inversions,
        num_wraps=total.num_wraps,
        time_step_us=total.time_step_us,
        t_first_us=first,
        t_last_us=last,
        num_on=total.num_on,
        num_off=facts.num_kept - total.num_on,
        extent=facts.extent,
        sensor_size=total.sensor_size,
        num_active_pixels=len(total.counts),
        median_per_pixel=float(np.median(total.counts)),
        hot_pixels=total.hot_pixels(),
        events_per_step=tuple(per_tenth.tolist()),
    )


class _Total:
    """Facts of the events so far, and the count of each active pixel."""

    def __init__(self) -> None:
        self.facts = RecordingFacts()
        self.num_wraps = self.num_on = 0
        self.time_step_us = 1
        self.sensor_size: SensorSize | None = None
        self.counts = np.empty(0, np.int64)
        self._pixels = np.empty(0, np.int64)

    def add(self, events: Events) -> None:
        self.facts.add(events)
        self.num_wraps += events.num_wraps
        self.num_on += int(np.count_nonzero(events.p))
        self.time_step_us = max(self.time_step_us, events.time_step_us)
        self.sensor_size = events.sensor_size
        # Counts of active pixels only: a dense table of a 65536 x 65536 sensor would not fit into memory.
        here, counts = np.unique((events.y.astype(np.int64) << 16) | events.x, return_counts=True)
        pixels, inverse = np.unique(np.concatenate([self._pixels, here]), return_inverse=True)
        merged: NDArray[np.int64] = np.zeros(len(pixels), np.int64)
        np.add.at(merged, inverse, np.concatenate([self.counts, counts]))
        self._pixels, self.counts = pixels, merged

    def hot_pixels(self) -> tuple[HotPixel, ...]:
        hot = np.flatnonzero(self.counts > hot_pixel_limit(self.counts, HOT_FACTOR))
        hot = hot[np.argsort(-self.counts[hot], kind="stable")]
        found = zip(self._pixels[hot].tolist(), self.counts[hot].tolist(), strict=True)
        return tuple(HotPixel(pixel & 0xFFFF, pixel >> 16, count) for pixel, count in found)


def summary_rows(summary: RecordingSummary) -> list[tuple[str, str]]:
    """Return a summary as pairs of label and text, ready to print."""
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
        rows.append(("dropped", f"{dropped_text(summary.num_dropped)} of {summary.num_read:,}"))
    if summary.num_inversions:
        rows.append(("sorted", f"time stepped back {summary.num_inversions:,} times"))
    if summary.num_wraps:
        times = "once" if summary.num_wraps == 1 else f"{summary.num_wraps:,} times"
        rows.append(("clock", f"time wrapped {times} and was unwrapped"))
    if summary.time_step_us > 1:
        rows.append(("coarse", f"the file's times are up to {summary.time_step_us:,} us apart, finer ones are lost"))
    return rows


def dropped_text(num_dropped: Mapping[str, int]) -> str:
    """Return counts by reason as text, such as `"3 outside the sensor, 1 background"`."""
    return ", ".join(f"{count:,} {reason}" for reason, count in num_dropped.items())


def _hot_text(pixels: tuple[HotPixel, ...]) -> str:
    shown = ", ".join(f"({pixel.x}, {pixel.y}) {pixel.num_events:,}" for pixel in pixels[:3])
    more = f" and {len(pixels) - 3} more" if len(pixels) > 3 else ""
    return shown + more if pixels else "none"
