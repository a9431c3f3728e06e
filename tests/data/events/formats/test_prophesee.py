"""Prophesee `.dat` and `.raw`: worked examples, plain decoders, another library, a real file, and arbitrary bytes."""

from __future__ import annotations

import struct

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.errors import EventError
from tmkt_data.events.events import SensorSize
from tmkt_data.events.formats.prophesee import decode_dat, decode_evt, new_evt_state

ROWS = [(100, 1, 2, True), (100, 3, 4, False), (5000, 639, 479, True), (70000, 10, 20, False)]
EVT2 = bytes.fromhex("01000080 02080019 04180009 4e000080 dff91312 45040080 1450000c")
EVT3 = bytes.fromhex("0080 6460 0200 0128 0400 0320 0180 8863 df01 7f2a 1180 7061 1400 0a20")
HEADS = {
    "2.0": b"% evt 2.0\n% geometry 640x480\n",
    "2.1": b"% evt 2.1\n% endianness little\n% end\n",
    "3.0": b"% evt 3.0\n% geometry 640x480\n% end\n",
}


def test_worked_examples_decode():
    for head, data in ((HEADS["2.0"], EVT2), (HEADS["3.0"], EVT3)):
        events = decode_evt(head + data)
        assert naive.rows_of(events) == ROWS
        assert events.sensor_size == (640, 480)


def naive_evt2(words):
    rows, high, wraps = [], 0, 0
    for word in words:
        kind = word >> 28
        if kind == 8:
            wraps += (word & 0xFFFFFFF) < high - 2**27
            high = word & 0xFFFFFFF
        elif kind in (0, 1):
            rows.append(((wraps * 2**28 + high) * 64 + (word >> 22) % 64, (word >> 11) % 2048, word % 2048, kind == 1))
    return rows, 0


def naive_evt21(words):
    rows, beyond, high, wraps = [], 0, 0, 0
    for word in words:
        kind, upper = word >> 60, (word >> 32) % 2**28
        if kind == 8:
            wraps += upper < high - 2**27
            high = upper
        elif kind in (0, 1):
            time = (wraps * 2**28 + high) * 64 + (word >> 54) % 64
            columns = [(word >> 43) % 2048 + bit for bit in range(32) if word >> bit & 1]
            rows += [(time, column, (word >> 32) % 2048, kind == 1) for column in columns if column < 2048]
            beyond += sum(column >= 2048 for column in columns)
    return rows, beyond


def naive_evt3(words):
    rows, beyond, high, low, wraps, row, base, polarity = [], 0, 0, 0, 0, 0, 0, False
    for word in words:
        kind, value = word >> 12, word % 4096
        time = (wraps * 4096 + high) * 4096 + low
        if kind == 0:
            row = value % 2048
        elif kind == 2:
            rows.append((time, value % 2048, row, value >= 2048))
        elif kind == 3:
            base, polarity = value % 2048, value >= 2048
        elif kind in (4, 5):
            columns = [base + bit for bit in range(12 if kind == 4 else 8) if value >> bit & 1]
            rows += [(time, column, row, polarity) for column in columns if column < 2048]
            beyond += sum(column >= 2048 for column in columns)
            base += 12 if kind == 4 else 8
        elif kind == 6:
            low = value
        elif kind == 8:
            wraps += value < high - 2048
            high = value
    return rows, beyond


def timed(words, decode, shift):
    """Decode from the first time word on; rows and base columns of earlier words hold on, events before it do not."""
    first = next((at for at, word in enumerate(words) if word >> shift == 8), len(words))
    before, beyond_before = decode(words[:first])
    rows, beyond = decode(words)
    return rows[len(before) :], beyond - beyond_before, len(before) + beyond_before


CODES = {"2.0": ("I", 32, naive_evt2), "2.1": ("Q", 64, naive_evt21), "3.0": ("H", 16, naive_evt3)}
TYPES_21 = [0, 1, 8, 10, 14, 15]


@pytest.mark.parametrize("version", CODES)
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_decode_equals_a_plain_decoder_for_any_words(version, data):
    code, bits, decode = CODES[version]
    words = data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=60))
    events = decode_evt(
        HEADS[version] + struct.pack(f"<{len(words)}{code}", *words), sensor_size=SensorSize(2048, 2048)
    )
    rows, beyond, timeless = timed(words, decode, bits - 4)
    assert naive.rows_of(events) == sorted(rows, key=lambda row: row[0])
    dropped = {"before the first time word": timeless, "beyond the largest column": beyond}
    assert events.num_dropped == {reason: count for reason, count in dropped.items() if count}
    assert events.num_read == len(rows) + beyond + timeless


def test_events_before_the_first_time_word_have_no_time():
    # By hand: an event at low time 5, then the times 50000000 * 64 + 5 and 50000100 * 64.
    words = [
        5 << 22 | 1 << 11 | 2,
        8 << 28 | 50000000,
        1 << 28 | 5 << 22 | 3 << 11 | 4,
        8 << 28 | 50000100,
        5 << 11 | 6,
    ]
    events = decode_evt(HEADS["2.0"] + struct.pack("<5I", *words))
    assert naive.rows_of(events) == [(3200000005, 3, 4, True), (3200006400, 5, 6, False)]
    assert (events.num_read, events.num_dropped) == (3, {"before the first time word": 1})
    # In EVT 3 the row and the lower part of the time from before hold on.
    words = [0x0007, 0x6005, 0x2001, 0x8400, 0x2802]
    events = decode_evt(HEADS["3.0"] + struct.pack("<5H", *words))
    assert naive.rows_of(events) == [(0x400005, 2, 7, True)]
    assert events.num_dropped == {"before the first time word": 1}
    state = new_evt_state()
    pieces = [decode_evt(HEADS["3.0"] + struct.pack("<H", word), state=state) for word in words]
    assert [row for piece in pieces for row in naive.rows_of(piece)] == [(0x400005, 2, 7, True)]
    assert [piece.num_dropped for piece in pieces] == [{}, {}, {"before the first time word": 1}, {}, {}]


def test_a_wrap_of_the_time_goes_on():
    words = [0x8FFF, 0x6FFF, 0x2001, 0x8000, 0x6001, 0x2002]
    events = decode_evt(b"% evt 3.0\n% end\n" + struct.pack("<6H", *words))
    assert events.t.tolist() == [2**24 - 1, 2**24 + 1]
    assert events.sensor_size is None


def test_both_orders_of_evt21_are_told_apart():
    # By hand: TIME_HIGH 3, then OFF at time 3 * 64 + 5, columns 100, 128 and 130, row 7.
    words = [(8 << 60) | (3 << 32), (0 << 60) | (5 << 54) | (100 << 43) | (7 << 32) | 0x50000001]
    rows = [(197, 100, 7, False), (197, 128, 7, False), (197, 130, 7, False)]
    whole = struct.pack("<2Q", *words)
    swapped = b"".join(struct.pack("<2I", word >> 32, word % 2**32) for word in words)
    for line, data in ((b"", whole), (b"", swapped), (b"% endianness legacy\n", swapped)):
        assert naive.rows_of(decode_evt(b"% evt 2.1\n" + line + b"% end\n" + data)) == rows
    assert naive.rows_of(decode_evt(b"% format EVT21;endianness=legacy;height=9;width=200\n% end\n" + swapped)) == rows
    with pytest.raises(EventError, match=r"^raw bytes: words of types that EVT 2\.1"):
        decode_evt(b"% evt 2.1\n% end\n" + struct.pack("<2Q", 0x5000000050000000, 0x7000000070000000))


@pytest.mark.parametrize(
    ("head", "size"),
    [
        (b"% format EVT3;height=480;width=640\n% end\n", (640, 480)),
        (b"% evt 3.0\n% width 1280\n% height 720\n% end\n", (1280, 720)),
        (b"% evt 3.0\n% geometry 0x4\n% end\n", None),
        (b"% Date 2020\r\n% evt 3.0\r\n% end\r\n", None),
    ],
)
def test_the_size_is_the_declared_one_or_none(head, size):
    events = decode_evt(head + EVT3)
    assert events.sensor_size == size
    assert len(events) == 4


def test_a_real_file(real_data):
    data = (real_data / "evt" / "evt2.raw").read_bytes()
    events = decode_evt(data)
    assert (len(events), events.sensor_size, events.num_dropped) == (521252, None, {})
    assert naive.rows_of(events)[0] == (913716224, 35, 443, True)
    assert naive.rows_of(events)[-1] == (913812095, 12, 471, False)
    assert events.extent == (0, 0, 639, 479)
    assert int(events.p.sum()) == 185861
    assert (int(events.x.sum()), int(events.y.sum())) == (128979953, 216346680)
    assert int((events.t - events.t[0]).sum()) == 21685464521
    assert events.num_inversions == 0


def test_another_library_agrees(tmp_path, real_data):
    faery = pytest.importorskip("faery")
    for name, source in (
        ("evt2.raw", (real_data / "evt" / "evt2.raw").read_bytes()),
        ("evt3.raw", HEADS["3.0"] + EVT3),
    ):
        path = tmp_path / name
        path.write_bytes(source)
        theirs = faery.events_stream_from_file(path).to_array()
        ours = decode_evt(source)
        for mine, field in ((ours.t, "t"), (ours.x, "x"), (ours.y, "y"), (ours.p, theirs.dtype.names[3])):
            np.testing.assert_array_equal(mine, theirs[field])


@settings(deadline=None, max_examples=150)
@given(
    head=st.sampled_from([*HEADS.values(), b"", b"%", b"% evt 2.1\n", b"% format \n", b"% evt 9\n"]), data=st.binary()
)
def test_any_bytes_decode_or_are_one_line(head, data):
    naive.decodes_or_says_why(lambda: decode_evt(head + data, place="a.raw"), "a.raw")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "found no line % evt in the header, expected EVT 2.0, 2.1, 3.0; is it a .raw file of Prophesee?"),
        (b"% evt 4.0\n", "found EVT 4.0 in the header, expected EVT 2.0, 2.1, 3.0; is it a .raw file of Prophesee?"),
        (b"% evt 3.0\n% end\n\x00",
         "1 bytes after the header, expected whole words of 2; the file is truncated, fetch it again"),
        (b"% format EVT3;endianness=big\n% end\n", "words of byte order 'big', expected little; record it anew"),
    ],
)  # fmt: skip
def test_errors_are_one_line(data, message):
    with pytest.raises(EventError) as problem:
        decode_evt(data, place="a.raw")
    assert str(problem.value) == f"a.raw: {message}"


DAT_BODY = bytes.fromhex("64000000 01800010 88130000 7fc27710")
DAT_ROWS = [(100, 1, 2, True), (5000, 639, 479, True)]


@pytest.mark.parametrize("kind", [0x00, 0x0C])
def test_worked_dat_examples_decode(kind):
    events = decode_dat(b"% Data file\n% Version 2\n% Width 640\n% Height 480\n" + bytes([kind, 8]) + DAT_BODY)
    assert naive.rows_of(events) == DAT_ROWS
    assert events.sensor_size == (640, 480)


def test_a_dat_header_is_optional_and_a_start_time_is_added_back():
    assert naive.rows_of(decode_dat(b"\x0c\x08" + DAT_BODY)) == DAT_ROWS
    late = decode_dat(b"% T0 1000\n\x0c\x08" + DAT_BODY)
    assert late.t.tolist() == [1100, 6000]
    assert late.sensor_size is None


@settings(deadline=None, max_examples=150)
@given(words=st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=40))
def test_decode_dat_equals_a_plain_decoder_for_any_events(words):
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
def test_any_dat_bytes_decode_or_are_one_line(head, data):
    naive.decodes_or_says_why(lambda: decode_dat(head + data, place="a.dat"), "a.dat")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"% Version 2\n", "no data after the header, expected the type of the events; the file is truncated"),
        (b"\x0e\x08" + DAT_BODY, (
            "events of type 0x0e and 8 bytes, expected 0x00 or 0x0c and 8; "
            "other streams than change detection are not read"
        )),
        (b"\x0c\x08" + DAT_BODY[:-3],
         "5 bytes left after 1 whole events of 8 bytes; the file is truncated, fetch it again"),
    ],
)  # fmt: skip
def test_dat_errors_are_one_line(data, message):
    with pytest.raises(EventError) as problem:
        decode_dat(data, place="a.dat")
    assert str(problem.value) == f"a.dat: {message}"
