"""ATIS bytes to event columns against arithmetic on one 40-bit number; other formats are tested with their readers."""

from __future__ import annotations

import naive
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.kernels.decode import decode_atis
from tmkt_data.kernels.event_columns import empty_columns, first_events


def decode(data, width=256, height=240):
    n = len(data) // 5
    columns = empty_columns(n)
    kept, outside, inversions = decode_atis(np.frombuffer(data, np.uint8), width, height, columns)
    rows = list(zip(*(column.tolist() for column in first_events(columns, kept)), strict=True))
    return rows, outside, inversions


class TestDecode:
    @settings(deadline=None, max_examples=100)
    @given(
        data=st.binary(max_size=200).map(lambda raw: raw[: len(raw) // 5 * 5]),
        width=st.integers(1, 256),
        height=st.integers(1, 240),
    )
    def test_equals_naive_for_any_bytes(self, data, width, height):
        rows, outside, inversions = decode(data, width, height)
        expected, expected_outside = naive.decode_atis(data, width, height)
        assert rows == expected
        assert outside == expected_outside
        assert inversions == naive.num_inversions(expected)

    def test_the_last_column_and_row_are_kept_and_the_next_dropped(self):
        rows = [(1, 33, 29, True), (2, 34, 29, True), (3, 33, 30, True), (4, 34, 30, True)]
        assert decode(naive.encode_atis(rows), 34, 30) == (rows[:1], 3, 0)

    def test_steps_back_are_counted_between_neighbors_that_are_kept(self):
        rows = [
            (50, 0, 0, True),
            (20, 0, 0, True),
            (30, 0, 0, True),
            (9, 99, 0, True),
            (60, 0, 0, True),
            (10, 0, 0, True),
        ]
        assert decode(naive.encode_atis(rows), 34, 34)[1:] == (1, 2)

    def test_all_bits_set_and_none(self):
        assert decode(bytes.fromhex("ffefffffff 0000000000"))[0] == [(8388607, 255, 239, True), (0, 0, 0, False)]

    def test_no_bytes(self):
        assert decode(b"") == ([], 0, 0)

    def test_leaves_its_bytes_alone(self):
        data = bytearray(naive.encode_atis([(0, 1, 2, True), (7, 3, 0, False)]))
        before = bytes(data)
        decode(data)
        assert data == before
