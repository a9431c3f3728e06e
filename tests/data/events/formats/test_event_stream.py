"""Event Stream: files that another library wrote, a plain decoder, and arbitrary bytes."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.errors import EventError
from tmkt_data.events.formats.event_stream import decode_event_stream

HEAD = b"Event Stream" + bytes([2, 0, 0, 1, 54, 0, 239, 0])


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 5000), st.integers(0, 53), st.integers(0, 238), st.booleans()), min_size=1, max_size=30
    )
)
def test_what_another_library_writes_reads_back(tmp_path_factory, rows):
    faery = pytest.importorskip("faery")
    rows = sorted(rows, key=lambda row: row[0])
    array = np.array(rows, faery.EVENTS_DTYPE)
    path = tmp_path_factory.mktemp("es") / "a.es"
    faery.events_stream_from_array(array, dimensions=(54, 239)).to_file(path)
    events = decode_event_stream(path.read_bytes())
    start = rows[0][0] - int(events.t[0])
    assert naive.rows_of(events) == [(t - start, x, y, p) for t, x, y, p in rows]
    assert events.sensor_size == (54, 239)


def naive_decode(data, width, height):
    rows, outside, time, at = [], 0, 0, 0
    while at < len(data):
        if data[at] >= 254:
            time += 127 if data[at] == 255 else 0
            at += 1
            continue
        if at + 5 > len(data):
            return None
        time += data[at] // 2
        x, y = data[at + 1] + 256 * data[at + 2], height - 1 - data[at + 3] - 256 * data[at + 4]
        if x < width and y >= 0:
            rows.append((time, x, y, data[at] % 2 == 1))
        else:
            outside += 1
        at += 5
    return rows, outside


@settings(deadline=None, max_examples=200)
@given(data=st.lists(st.sampled_from([0, 1, 2, 53, 100, 253, 254, 255]), max_size=60).map(bytes))
def test_decode_equals_a_plain_decoder_for_any_bytes(data):
    expected = naive_decode(data, 54, 239)
    events = naive.decodes_or_says_why(lambda: decode_event_stream(HEAD + data, place="a.es"), "a.es")
    assert (events is None) == (expected is None)
    if events is not None:
        rows, outside = expected
        assert naive.rows_of(events) == rows
        assert events.num_dropped == ({"outside the sensor": outside} if outside else {})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"Event Stream", "starts with b'Event Stream', expected b'Event Stream' and a size; the file is truncated"),
        (HEAD[:12] + bytes([1, 0, 0, 1, 0, 0, 0, 0]), "version 1.0.0, expected 2; convert it first"),
        (
            HEAD[:15] + bytes([2, 0, 0, 0, 0]),
            "events of type atis, expected dvs; other types are not read, convert it to dvs or .dat",
        ),
        (HEAD + b"\x02\x00\x00", "3 bytes left after 0 whole events; the file is truncated, fetch it again"),
    ],
)
def test_errors_are_one_line(data, message):
    with pytest.raises(EventError) as problem:
        decode_event_stream(data, place="a.es")
    assert str(problem.value) == f"a.es: {message}"
