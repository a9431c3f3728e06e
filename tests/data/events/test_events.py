from __future__ import annotations

import dataclasses

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.errors import EventError
from tmkt_data.events.events import EVENT_DTYPE, DecoderReport, Events, SensorSize, validate_events


def columns(t, x=None, y=None, p=None):
    n = len(t)
    return (
        np.array(t, np.int64),
        np.array([0] * n if x is None else x, np.uint16),
        np.array([0] * n if y is None else y, np.uint16),
        np.array([False] * n if p is None else p, np.bool_),
    )


ROWS = st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 65535), st.integers(0, 65535), st.booleans()), max_size=40)


@settings(deadline=None, max_examples=60)
@given(rows=ROWS)
def test_sorting_is_stable_and_counts_steps_back(rows):
    t, x, y, p = (np.array(c) for c in zip(*rows, strict=True)) if rows else (np.zeros(0, int),) * 4
    events = validate_events(t, x, y, p.astype(bool))
    assert naive.rows_of(events) == sorted(rows, key=lambda row: row[0])
    assert events.num_inversions == naive.num_inversions(rows)
    assert events.num_read == len(rows)
    assert events.num_dropped == {}


@settings(deadline=None, max_examples=60)
@given(rows=ROWS, width=st.integers(1, 65535), height=st.integers(1, 65535))
def test_drops_and_counts_what_lies_outside(rows, width, height):
    t, x, y, p = columns(*([row[i] for row in rows] for i in range(4)))
    events = validate_events(t, x, y, p, sensor_size=SensorSize(width, height))
    inside = [row for row in rows if row[1] < width and row[2] < height]
    assert naive.rows_of(events) == sorted(inside, key=lambda row: row[0])
    num_outside = len(rows) - len(inside)
    assert events.num_dropped == ({"outside the sensor": num_outside} if num_outside else {})
    assert events.num_read == len(rows)
    assert events.sensor_size == (width, height)


def test_the_last_column_and_row_lie_inside_and_the_next_outside():
    events = validate_events(*columns([1, 2, 3, 4], x=[7, 8, 7, 0], y=[5, 5, 6, 0]), sensor_size=SensorSize(8, 6))
    assert events.t.tolist() == [1, 4]
    assert events.num_dropped == {"outside the sensor": 2}


def test_steps_back_are_counted_after_dropping():
    events = validate_events(*columns([5, 1, 6], x=[0, 9, 0]), sensor_size=SensorSize(4, 4))
    assert events.num_inversions == 0
    assert events.t.tolist() == [5, 6]


def test_equal_times_keep_the_order_of_the_source():
    events = validate_events(*columns([7, 7, 3, 7], x=[1, 2, 3, 4]))
    assert events.x.tolist() == [3, 1, 2, 4]


def test_drops_of_a_decoder_are_added_to():
    given_counts = {"outside the sensor": 2, "bad parity": 1, "sync events": 0}
    report = DecoderReport(num_read=5, num_dropped=given_counts)
    events = validate_events(*columns([1, 2], x=[0, 8]), sensor_size=SensorSize(8, 8), report=report)
    assert events.num_dropped == {"outside the sensor": 3, "bad parity": 1}
    assert events.num_read == 5
    assert given_counts == {"outside the sensor": 2, "bad parity": 1, "sync events": 0}


def test_inputs_are_untouched():
    given_columns = columns([3, 1, 2], x=[1, 99, 3], p=[True, False, True])
    before = [column.copy() for column in given_columns]
    validate_events(*given_columns, sensor_size=SensorSize(50, 50))
    for now, then in zip(given_columns, before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_integer_columns_of_any_width_become_the_record():
    events = validate_events(
        np.array([-5, 2**40]), np.array([0, 65535]), np.array([1, 2], np.int8), np.array([True, False])
    )
    assert [column.dtype for column in (events.t, events.x, events.y, events.p)] == ["<i8", "<u2", "<u2", "?"]
    assert naive.rows_of(events) == [(-5, 0, 1, True), (2**40, 65535, 2, False)]


def test_strided_columns_become_contiguous():
    table = np.arange(40).reshape(10, 4)
    events = validate_events(table[:, 0], table[:, 1], table[:, 2], table[:, 3] > 0)
    assert events.x.flags.c_contiguous
    assert events.t.flags.c_contiguous
    assert events.x.tolist() == table[:, 1].tolist()


@pytest.mark.parametrize(
    ("t", "x", "y", "p", "text"),
    [
        (np.zeros((2, 1), int), np.zeros(2, int), np.zeros(2, int), np.zeros(2, bool),
         r"a.bin: column t has shape \(2, 1\), expected \(2, 1\) like t; give four columns of one length"),
        (np.zeros(2, int), np.zeros(3, int), np.zeros(2, int), np.zeros(2, bool),
         r"a.bin: column x has shape \(3,\), expected \(2,\) like t"),
        (np.zeros(2, int), np.zeros(2, int), np.zeros(2, int), np.zeros(1, bool),
         r"a.bin: column p has shape \(1,\), expected \(2,\) like t"),
        (np.zeros(2, int), np.zeros(2, int), np.zeros(2, int), np.array([-1, 1]),
         r"a.bin: polarity is int64, expected bool; map it to True for ON first"),
        (np.zeros(2), np.zeros(2, int), np.zeros(2, int), np.zeros(2, bool),
         r"a.bin: column t is float64, expected integers; round it first"),
        (np.zeros(2, int), np.zeros(2, bool), np.zeros(2, int), np.zeros(2, bool),
         r"a.bin: column x is bool, expected integers"),
        (np.zeros(2, int), np.array([3, -1]), np.zeros(2, int), np.zeros(2, bool),
         r"a.bin: x runs from -1 to 3, expected 0 to 65535; check the byte layout of the source"),
        (np.zeros(2, int), np.zeros(2, int), np.array([3, 65536]), np.zeros(2, bool),
         r"a.bin: y runs from 3 to 65536, expected 0 to 65535"),
        (np.array([1, 2**63], np.uint64), np.zeros(2, int), np.zeros(2, int), np.zeros(2, bool),
         r"a.bin: t runs from 1 to 9223372036854775808, expected at most 2\*\*61 microseconds"),
    ],
)  # fmt: skip
def test_wrong_columns_are_named(t, x, y, p, text):
    with pytest.raises(EventError, match=text):
        validate_events(t, x, y, p, report=DecoderReport("a.bin"))


def test_a_negative_coordinate_is_an_error_even_where_a_sensor_is_declared():
    with pytest.raises(EventError, match="x runs from -1"):
        validate_events(np.array([1]), np.array([-1]), np.array([0]), np.array([True]), sensor_size=SensorSize(4, 4))


def test_extent_is_inclusive():
    events = naive.make_events([(0, 3, 9, True), (1, 7, 2, False)])
    assert events.extent == (3, 2, 7, 9)


def test_extent_of_nothing_is_an_error():
    with pytest.raises(EventError, match="extent: no events"):
        _ = naive.make_events([]).extent


def test_structured_array_holds_every_column():
    events = naive.make_events([(10**15, 65535, 0, True), (10**15 + 1, 0, 65535, False)])
    array = events.to_array()
    assert array.dtype == EVENT_DTYPE
    assert array.tolist() == naive.rows_of(events)
    array["x"] = 0
    assert events.x.tolist() == [65535, 0]


def test_the_record_is_frozen():
    events = naive.make_events([(0, 0, 0, True)])
    with pytest.raises(dataclasses.FrozenInstanceError):
        events.t = np.zeros(0, np.int64)


def test_two_records_do_not_share_their_counters():
    first, second = (Events(*columns([0])) for _ in range(2))
    first.num_dropped["a"] = 1
    assert second.num_dropped == {}


@pytest.mark.parametrize("times", [[0, 2**61 + 1], [-(2**61) - 1, 0], [0, 2**63 - 1]])
def test_times_beyond_what_bins_can_hold_are_refused(times):
    column = np.array([0, 0], np.uint16)
    with pytest.raises(EventError, match=r"expected at most 2\*\*61 microseconds$"):
        validate_events(np.array(times), column, column, np.array([True, False]))


def record(**changed):
    good = {
        "t": np.array([1, 2, 3]),
        "x": np.array([1, 2, 3], np.uint16),
        "y": np.array([1, 2, 3], np.uint16),
        "p": np.array([True, False, True]),
    }
    return good | changed


@pytest.mark.parametrize(
    "changed",
    [
        {"x": np.array([1], np.uint16)},
        {"x": np.array([-1, 2, 3])},
        {"t": np.array([0.0, 1.0, 2.0])},
        {"t": np.array([[1, 2, 3]])},
        {"p": np.array([1, 0, 1])},
        {"y": np.arange(6, dtype=np.uint16)[::2]},
    ],
)
def test_a_record_built_by_hand_is_checked(changed):
    with pytest.raises(EventError, match=r"^events: column . is .*; build the record with validate_events$"):
        Events(**record(**changed))


def test_a_record_built_by_hand_must_be_in_time_order():
    with pytest.raises(EventError, match="time steps back, expected non-decreasing"):
        Events(**record(t=np.array([0, 10**12, 10])))


def test_a_record_cannot_be_changed():
    events = Events(**record())
    for column in (events.t, events.x, events.y, events.p):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1
