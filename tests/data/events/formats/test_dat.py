"""Prophesee `.dat`: worked examples, a plain decoder, and arbitrary bytes."""

from __future__ import annotations

import struct

import naive
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.errors import EventError
from tmkt_data.events.formats.dat import decode_dat

BODY = bytes.fromhex("64000000 01800010 88130000 7fc27710")
ROWS = [(100, 1, 2, True), (5000, 639, 479, True)]


@pytest.mark.parametrize("kind", [0x00, 0x0C])
def test_worked_examples_decode(kind):
    events = decode_dat(b"% Data file\n% Version 2\n% Width 640\n% Height 480\n" + bytes([kind, 8]) + BODY)
    assert naive.rows_of(events) == ROWS
    assert events.sensor_size == (640, 480)


def test_a_header_is_not_needed_and_a_start_time_is_added_back():
    assert naive.rows_of(decode_dat(b"\x0c\x08" + BODY)) == ROWS
    late = decode_dat(b"% T0 1000\n\x0c\x08" + BODY)
    assert late.t.tolist() == [1100, 6000]
    assert late.sensor_size is None


@settings(deadline=None, max_examples=150)
@given(words=st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=40))
def test_decode_equals_a_plain_decoder_for_any_events(words):
    events = decode_dat(b"% Version 2\n\x00\x08" + b"".join(struct.pack("<2I", *word) for word in words))
    rows = [(t, d % 2**14, (d >> 14) % 2**14, d >> 28 == 1) for t, d in words if d >> 28 <= 1]
    rows, num_wraps = naive.unwrapped(rows, 2**32)
    assert events.num_wraps == num_wraps
    assert naive.rows_of(events) == sorted(rows, key=lambda row: row[0])
    strange = len(words) - len(rows)
    assert events.num_dropped == ({"polarity neither 0 nor 1": strange} if strange else {})
    assert events.num_read == len(words)


@settings(deadline=None, max_examples=150)
@given(head=st.sampled_from([b"", b"% Version 2\n", b"% T0 99999999999999999\n\x00\x08"]), data=st.binary())
def test_any_bytes_decode_or_are_one_line(head, data):
    naive.decodes_or_says_why(lambda: decode_dat(head + data, place="a.dat"), "a.dat")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"% Version 2\n", "no data after the header, expected the type of the events; the file is truncated"),
        (b"\x0e\x08" + BODY, (
            "events of type 0x0e and 8 bytes, expected 0x00 or 0x0c and 8; "
            "other streams than change detection are not read"
        )),
        (b"\x0c\x08" + BODY[:-3],
         "5 bytes left after 1 whole events of 8 bytes; the file is truncated, fetch it again"),
    ],
)  # fmt: skip
def test_errors_are_one_line(data, message):
    with pytest.raises(EventError) as problem:
        decode_dat(data, place="a.dat")
    assert str(problem.value) == f"a.dat: {message}"
