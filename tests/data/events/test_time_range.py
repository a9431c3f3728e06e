"""Events far from nearly all others in time: found and left out, at once and in pieces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmkt_data.events.events import Events, validate_events
from tmkt_data.events.time_range import OUTSIDE_TIME, cut_time, robust_range


def events_at(times) -> Events:
    t = np.sort(np.array(times, np.int64))
    at = np.arange(len(t), dtype=np.uint16)
    return validate_events(t, at % 7, at % 5, at % 2 == 0)


EVEN = [1000 * step for step in range(200)]


@pytest.mark.parametrize(
    "strays",
    [
        [10**9],
        [-(10**9)],
        [10**9, 10**9 + 1, 10**9 + 2, -(10**9)],
        # Up to 5 percent of the events may be of another clock.
        [3_200_000_000 + step for step in range(10)],
    ],
)
def test_stray_times_are_left_out(strays):
    events = events_at(EVEN + strays)
    bounds = robust_range([events], len(events))
    assert bounds is not None
    kept = cut_time(events, bounds)
    assert kept.t.tolist() == EVEN
    assert (kept.num_read, kept.num_dropped) == (len(EVEN) + len(strays), {OUTSIDE_TIME: len(strays)})


@pytest.mark.parametrize(
    "times",
    [
        EVEN,
        # Three bursts with pauses, as of saccades.
        [start + step for start in (0, 100_000, 200_000) for step in range(300)],
        # Nine in ten events in the first tenth of the time.
        [*range(0, 30_000, 100), *range(30_000, 60_000, 1000)],
        [5] * 40,
        [*range(9), 10**9],
        [5],
    ],
)
def test_a_sound_recording_or_one_without_a_middle_stays_whole(times):
    events = events_at(times)
    bounds = robust_range([events], len(events))
    if times == [*range(9), 10**9]:
        assert cut_time(events, bounds).t.tolist() == list(range(9))
        return
    assert bounds is None or cut_time(events, bounds) is events


@given(times=st.lists(st.integers(-1000, 1000), min_size=1, max_size=60), cut=st.integers(0, 60))
def test_pieces_have_the_bounds_of_the_whole(times, cut):
    whole = events_at(times)
    t, x, y, p = whole.columns
    pieces = [validate_events(t[part], x[part], y[part], p[part]) for part in (slice(cut), slice(cut, None))]
    assert robust_range(pieces, len(whole)) == robust_range([whole], len(whole))


@given(times=st.lists(st.integers(-1000, 1000), min_size=10, max_size=60))
def test_at_most_the_outer_tenth_is_left_out(times):
    events = events_at(times)
    bounds = robust_range([events], len(events))
    if bounds is None:
        return
    num_left = len(events) - len(cut_time(events, bounds))
    assert num_left <= 2 * -(-len(events) // 20)
