"""What is done to events before they are counted: shift, orientation, and filters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tmkt_data.errors import EventError
from tmkt_data.events.events import MAX_TIME_US, OUTSIDE, Events, SensorSize
from tmkt_data.spec import Orientation, PrepareSpec

REASONS = {"hot_pixels": "of hot pixels", "refractory_us": "in the refractory period", "background_us": "background"}
"""Reason under which each filter of the spec counts its dropped events."""
HOT_PERCENTILE = 99.0

_SWAPPED = ("rotate-90", "rotate-270", "transpose", "anti-transpose")
_RIGHT_TO_LEFT = ("flip-x", "rotate-180", "rotate-90", "anti-transpose")
_BOTTOM_TO_TOP = ("flip-y", "rotate-180", "rotate-270", "anti-transpose")


def swaps_axes(orientation: Orientation) -> bool:
    """Return whether width and height are swapped."""
    return orientation in _SWAPPED


def turn(
    x: NDArray[Any], y: NDArray[Any], width: int, height: int, orientation: Orientation
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Turn pixel coordinates on a sensor; row 0 is the top, rotations are clockwise.

    Args:
        x: Columns, shape (N,), below `width`.
        y: Rows, shape (N,), below `height`.
        width: Width of the sensor before the turn.
        height: Height of the sensor before the turn.
        orientation: `transpose` mirrors at the diagonal from the top left, `anti-transpose` at the other one.

    Returns:
        Columns and rows after the turn, of the type of `x` and `y`.

    Example:
        >>> x, y = turn(np.array([0]), np.array([0]), 4, 3, "rotate-90")
        >>> x.tolist(), y.tolist()
        ([2], [0])
    """
    if orientation in _SWAPPED:
        x, y, width, height = y, x, height, width
    if orientation in _RIGHT_TO_LEFT:
        x = (width - 1 - x).astype(x.dtype)
    if orientation in _BOTTOM_TO_TOP:
        y = (height - 1 - y).astype(y.dtype)
    return x, y


def canvas_size(sensor_size: SensorSize, orientation: Orientation) -> SensorSize:
    """Return the size of a sensor after a turn."""
    width, height = sensor_size
    return SensorSize(height, width) if swaps_axes(orientation) else SensorSize(width, height)


def keep_events(events: Events, keep: NDArray[np.bool_], reason: str) -> Events:
    """Return the events that a mask keeps; the others are counted as dropped for `reason`."""
    dropped = int(len(keep) - np.count_nonzero(keep))
    if not dropped:
        return events
    counts = events.num_dropped | {reason: events.num_dropped.get(reason, 0) + dropped}
    return replace(events, t=events.t[keep], x=events.x[keep], y=events.y[keep], p=events.p[keep], num_dropped=counts)


def place_events(events: Events, sensor_size: SensorSize, shift: tuple[int, int] = (0, 0)) -> Events:
    """Shift events by whole pixels and drop those that then lie outside the sensor.

    Args:
        events: In file coordinates.
        sensor_size: Size of the sensor.
        shift: Added to columns and to rows.

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
    """Turn a recording on its sensor, invert its polarity, shift it in time.

    Args:
        events: With a sensor size.
        orientation: See `turn`.
        inverted: Whether OFF becomes ON and ON becomes OFF.
        time_offset_us: Added to every time, microseconds.

    Raises:
        EventError: The events have no sensor size, or the offset moves times beyond 2**61 microseconds.
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
    """Return the largest number of events of a pixel that is not hot.

    Args:
        counts: Number of events of each active pixel, shape (M,).
        factor: Times the 99th percentile of the counts; the rule is our own choice (inferred).
    """
    return factor * float(np.percentile(counts, HOT_PERCENTILE)) if len(counts) else 0.0


class EventFilter:
    """Apply the filters of a spec to a recording, which may come in pieces: hot pixels, refractory period, background.

    Args:
        spec: Its `hot_pixels`, `refractory_us` and `background_us`; a filter at 0 is off.
        size: Size of the sensor.
        counts: Number of events of each pixel over the whole recording, shape (height, width); needed for hot pixels.
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
        """Filter the next events; dropped ones are counted under `REASONS`."""
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
    """Return the number of events that each filter dropped, by its name in the spec."""
    return {name: counts.get(reason, 0) for name, reason in REASONS.items()}
