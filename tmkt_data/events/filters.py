"""What is done to the events of a recording before they are counted: shift, orientation, filters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError
from tmkt_data.events.events import MAX_TIME_US, Events, SensorSize
from tmkt_data.events.orientation import swaps_axes, turn
from tmkt_data.spec import Orientation, PrepareSpec

OUTSIDE = "outside the sensor"
REASONS = {"hot_pixels": "of hot pixels", "refractory_us": "in the refractory period", "background_us": "background"}
"""What a filter of the spec counts its dropped events as."""
HOT_PERCENTILE = 99.0


def canvas_size(sensor_size: SensorSize, orientation: Orientation) -> SensorSize:
    """Return the size of a sensor after it was turned."""
    width, height = sensor_size
    return SensorSize(height, width) if swaps_axes(orientation) else SensorSize(width, height)


def keep_events(events: Events, keep: NDArray[np.bool_], reason: str) -> Events:
    """Return the events that a mask keeps; the others are counted under `reason`."""
    dropped = int(len(keep) - np.count_nonzero(keep))
    if not dropped:
        return events
    counts = events.num_dropped | {reason: events.num_dropped.get(reason, 0) + dropped}
    return replace(events, t=events.t[keep], x=events.x[keep], y=events.y[keep], p=events.p[keep], num_dropped=counts)


def place_events(events: Events, sensor_size: SensorSize, shift: tuple[int, int] = (0, 0)) -> Events:
    """Shift events by whole pixels and drop what then lies outside the sensor.

    Args:
        events: In file coordinates.
        sensor_size: Size of the sensor.
        shift: Added to columns and rows.

    Returns:
        The record, with `sensor_size`.
    """
    if events.sensor_size == sensor_size and shift == (0, 0):
        return events
    x, y = events.x.astype(np.int64) + shift[0], events.y.astype(np.int64) + shift[1]
    inside = (x >= 0) & (y >= 0) & (x < sensor_size.width) & (y < sensor_size.height)
    kept = keep_events(replace(events, sensor_size=None), inside, OUTSIDE)
    return replace(kept, x=x[inside].astype(np.uint16), y=y[inside].astype(np.uint16), sensor_size=sensor_size)


def orient_events(
    events: Events, orientation: Orientation = "as-is", *, inverted: bool = False, time_offset_us: int = 0
) -> Events:
    """Turn a recording on its sensor, invert its polarity, move it in time.

    Args:
        events: With a sensor size.
        orientation: See `orientation.turn`.
        inverted: Take OFF for ON.
        time_offset_us: Added to every time, microseconds.

    Raises:
        EventError: No sensor size to turn on, or times that the offset moves beyond 2**61 microseconds.
    """
    if events.sensor_size is None:
        raise EventError("orientation: the recording has no sensor size, expected one; give sensor_size")
    x, y = turn(events.x, events.y, *events.sensor_size, orientation)
    t = events.t
    if time_offset_us and len(t):
        if max(abs(int(t[0]) + time_offset_us), abs(int(t[-1]) + time_offset_us)) > MAX_TIME_US:
            raise EventError(f"time_offset_us: found {time_offset_us}, which moves times beyond 2**61; check it")
        t = t + time_offset_us
    size = canvas_size(events.sensor_size, orientation)
    p = ~events.p if inverted else events.p
    return replace(events, t=t, x=np.ascontiguousarray(x), y=np.ascontiguousarray(y), p=p, sensor_size=size)


def hot_pixel_limit(counts: NDArray[np.int64], factor: float) -> float:
    """Return how many events a pixel may have before it counts as hot.

    Args:
        counts: Events of each active pixel, shape (M,).
        factor: Over the 99th percentile of them; the rule is an own choice (inferred).
    """
    return factor * float(np.percentile(counts, HOT_PERCENTILE)) if len(counts) else 0.0


class EventFilter:
    """The filters of a spec over one recording, which may come in pieces: hot pixels, refractory period, background.

    Args:
        spec: Its `hot_pixels`, `refractory_us` and `background_us`; 0 leaves a filter out.
        size: The sensor.
        counts: Events of each pixel over the whole recording, shape (height, width); needed for hot pixels.
    """

    def __init__(self, spec: PrepareSpec, size: SensorSize, counts: NDArray[np.int64] | None = None) -> None:
        from tmkt_data.kernels.filters import NEVER

        self._spec = spec
        self._hot: NDArray[np.bool_] | None = None
        if spec.hot_pixels and counts is not None:
            self._hot = counts > hot_pixel_limit(counts[counts > 0], spec.hot_pixels)
        margins = {name: margin for name, margin in (("refractory_us", 0), ("background_us", 2)) if getattr(spec, name)}
        self._last = {
            name: np.full((size.height + margin, size.width + margin), NEVER, np.int64)
            for name, margin in margins.items()
        }

    def apply(self, events: Events) -> Events:
        """Return the next events with the dropped ones counted under `REASONS`."""
        from tmkt_data.kernels import filters

        if self._hot is not None and len(events):
            events = keep_events(events, ~self._hot[events.y, events.x], REASONS["hot_pixels"])
        marks = {"refractory_us": filters.mark_refractory, "background_us": filters.mark_supported}
        for name, last in self._last.items():
            keep = np.empty(len(events), np.bool_)
            marks[name](events.t, events.x, events.y, last, int(getattr(self._spec, name)), keep)
            events = keep_events(events, keep, REASONS[name])
        return events


def pixel_counts(events: Events, size: SensorSize) -> NDArray[np.int64]:
    """Return the number of events of each pixel, shape (height, width), int64."""
    pixels = events.y.astype(np.int64) * size.width + events.x
    return np.bincount(pixels, minlength=size.width * size.height).reshape(size.height, size.width)


def filter_events(events: Events, spec: PrepareSpec) -> Events:
    """Apply the filters of a spec to a whole recording with a sensor size, see `EventFilter`."""
    size = events.sensor_size
    if not spec.filters or size is None or not len(events):
        return events
    return EventFilter(spec, size, pixel_counts(events, size) if spec.hot_pixels else None).apply(events)


def num_filtered(counts: Mapping[str, int]) -> dict[str, int]:
    """Return how many events each filter has dropped, by the name of its choice."""
    return {name: counts.get(reason, 0) for name, reason in REASONS.items()}
