"""Leave out events whose time lies far from nearly all others of a recording."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tmkt_data.events.events import Events

OUTSIDE_TIME = "outside the time range"
"""Reason in `Events.num_dropped`."""
_FEWEST = 10


def range_ranks(num_events: int) -> tuple[int, int]:
    """Return which events, in order of time, stand for the 5th and the 95th percentile; the ends for less than 10.

    Example:
        >>> range_ranks(1000), range_ranks(10), range_ranks(9)
        ((50, 949), (1, 8), (0, 8))
    """
    num_left = -(-num_events // 20) if num_events >= _FEWEST else 0
    return num_left, num_events - 1 - num_left


def robust_range(pieces: Iterable[Events], num_events: int) -> tuple[int, int] | None:
    """Return the time range of a recording that a few stray times do not stretch.

    With t5 and t95, the times of the 5th and the 95th percentile, it runs from t5 - (t95 - t5) to t95 + (t95 - t5), so
    that a recording of even rate, or with pauses, lies in it whole.

    Args:
        pieces: The events, in order of time.
        num_events: Their number, 1 or more.

    Returns:
        First and last time, microseconds; None where the middle events have one time.
    """
    ranks = range_ranks(num_events)
    found: list[int] = []
    num_passed = 0
    for events in pieces:
        found += [int(events.t[rank - num_passed]) for rank in ranks if 0 <= rank - num_passed < len(events)]
        num_passed += len(events)
    low, high = found
    return None if low == high else (low - (high - low), high + (high - low))


def cut_time(events: Events, bounds: tuple[int, int]) -> Events:
    """Keep the events from the first time to the last, inclusive; the others are counted as dropped."""
    first, end = (
        int(at) for at in (events.t.searchsorted(bounds[0], "left"), events.t.searchsorted(bounds[1], "right"))
    )
    num_left = len(events) - (end - first)
    if not num_left:
        return events
    here = slice(first, end)
    t, x, y, p = events.columns
    dropped = {**events.num_dropped, OUTSIDE_TIME: num_left}
    return replace(events, t=t[here], x=x[here], y=y[here], p=p[here], num_dropped=dropped)
