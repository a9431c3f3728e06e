"""Summaries of recordings against plain counts."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.errors import EventError
from tmkt_data.events.events import validate_events
from tmkt_data.events.formats.prophesee import decode_evt
from tmkt_data.events.summary import HotPixel, summarize_events

ROW = st.tuples(st.integers(0, 10**6), st.integers(0, 40), st.integers(0, 30), st.booleans())


def record_of(rows):
    t, x, y, p = (np.array(column) for column in zip(*rows, strict=True))
    return validate_events(t.astype(np.int64), x, y, p.astype(bool))


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(ROW, min_size=1, max_size=60))
def test_the_numbers_are_those_of_a_plain_count(rows):
    summary = summarize_events(record_of(rows))
    times = [row[0] for row in rows]
    assert (summary.t_first_us, summary.t_last_us) == (min(times), max(times))
    assert (summary.num_on, summary.num_off) == (sum(r[3] for r in rows), sum(not r[3] for r in rows))
    assert summary.num_active_pixels == len({row[1:3] for row in rows})
    assert sum(summary.events_per_step) == summary.num_events == len(rows)
    first, span = min(times), max(times) - min(times)
    edges = [first + span * step // 10 for step in range(1, 10)]
    expected = [sum(edge <= time for edge in edges) for time in times]
    assert list(summary.events_per_step) == np.bincount(expected, minlength=10).tolist()


def test_a_hot_pixel_stands_out():
    rows = [(i, i % 20, i // 20, True) for i in range(400)] + [(i, 5, 6, False) for i in range(300)]
    assert summarize_events(record_of(rows)).hot_pixels == (HotPixel(5, 6, 301),)


def test_no_events_are_one_line():
    empty = validate_events(*(np.empty(0, kind) for kind in (np.int64, np.uint16, np.uint16, np.bool_)))
    with pytest.raises(EventError, match=r"^a\.npz: no events, expected some to look at$"):
        summarize_events(empty, place="a.npz")


def test_what_was_dropped_is_said_where_nothing_is_left():
    # EVT 3: a row and an event, twice, and no word of the time.
    events = decode_evt(b"% evt 3.0\n% end\n" + struct.pack("<4H", 0x0007, 0x2001, 0x2802, 0x2003))
    with pytest.raises(EventError) as refused:
        summarize_events(events, place="a.raw")
    assert str(refused.value) == (
        "a.raw: no events among 3 words (3 before the first time word), expected some to look at"
    )
