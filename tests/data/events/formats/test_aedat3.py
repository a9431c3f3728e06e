"""AEDAT 3.1: the worked example, a plain encoder, damaged packets, and arbitrary bytes."""

from __future__ import annotations

import struct

import naive
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.errors import EventError
from tmkt_data.events.formats.aedat3 import decode_aedat3
from tmkt_data.events.read import Reading
from tmkt_data.events.stream import read_pieces

MISFIT = "and overflow 0, expected sizes that fit; the file is damaged"
HEAD = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"
EXAMPLE = bytes.fromhex(
    "01000000080000000400000000000000020000000200000002000000" + "27000a00e8030000" + "0100fe00e9030000"
)
EVENT = st.tuples(
    st.integers(0, 2**31 - 1), st.integers(0, 2**15 - 1), st.integers(0, 2**15 - 1), st.booleans(), st.booleans()
)


def packet(events, *, overflow=0, spare=0, kind=1):
    """Encode events (t, x, y, p, is_valid) by the description of the format."""
    body = b""
    for t, x, y, p, is_valid in events:
        body += struct.pack("<Ii", x << 17 | y << 2 | p << 1 | is_valid, t)
    body += b"\xff" * (8 * spare)
    num_valid = sum(event[4] for event in events)
    return struct.pack("<hhiiiiii", kind, 0, 8, 4, overflow, len(events) + spare, len(events), num_valid) + body


def test_the_worked_example_decodes():
    assert naive.rows_of(decode_aedat3(HEAD + EXAMPLE)) == [(1000, 5, 9, True), (1001, 127, 0, False)]


@settings(deadline=None, max_examples=100)
@given(
    packets=st.lists(
        st.tuples(st.lists(EVENT, max_size=8), st.integers(0, 3), st.integers(0, 3), st.sampled_from([0, 1, 2, 3])),
        max_size=6,
    )
)
def test_decode_gives_back_what_a_plain_encoder_wrote(packets):
    data = HEAD + b"".join(packet(e, overflow=o, spare=s, kind=k) for e, o, s, k in packets)
    events = decode_aedat3(data)
    polarity = [(o, event) for e, o, _, k in packets if k == 1 for event in e]
    rows = [(o * 2**31 + t, x, y, p) for o, (t, x, y, p, is_valid) in polarity if is_valid]
    assert naive.rows_of(events) == sorted(rows, key=lambda row: row[0])
    invalid = len(polarity) - len(rows)
    assert events.num_dropped == ({"marked invalid": invalid} if invalid else {})
    assert events.num_read == len(polarity)


@pytest.mark.parametrize("name", ["Serial-TS", "Compressed", "Serial-TS,PNGFrames"])
def test_packed_packets_are_refused_by_name(tmp_path, name):
    data = HEAD.replace(b"RAW", name.encode()) + EXAMPLE[:-3]
    message = rf"^a\.aedat: packets of the format {name.lower()}, expected raw ones; record it anew, or save it as RAW$"
    with pytest.raises(EventError, match=message):
        decode_aedat3(data, place="a.aedat")
    (tmp_path / "a.aedat").write_bytes(data)
    with pytest.raises(EventError, match=message):
        list(read_pieces(tmp_path / "a.aedat", Reading()))


@settings(deadline=None, max_examples=200)
@given(start=st.sampled_from([b"", b"#!AER-DAT3.1", HEAD, HEAD + EXAMPLE, HEAD + EXAMPLE[:28]]), data=st.binary())
def test_any_bytes_decode_or_are_one_line(start, data):
    naive.decodes_or_says_why(lambda: decode_aedat3(start + data, place="a.aedat"), "a.aedat")


@settings(deadline=None, max_examples=200)
@given(at=st.integers(0, len(EXAMPLE) - 1), value=st.integers(0, 255))
def test_a_changed_byte_decodes_or_is_one_line(at, value):
    data = bytearray(EXAMPLE)
    data[at] = value
    naive.decodes_or_says_why(lambda: decode_aedat3(HEAD + bytes(data), place="a.aedat"), "a.aedat")


def head_of(**changes):
    fields = {"kind": 1, "source": 0, "size": 8, "offset": 4, "overflow": 0, "capacity": 2, "number": 2, "valid": 2}
    return struct.pack("<hhiiiiii", *(fields | changes).values())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"#!AER-DAT3.0\r\n", "starts with b'#!AER-DAT3.0', expected b'#!AER-DAT3.1'; other versions are not read"),
        (b"#!AER-DAT3.1\r\n", "no line #!END-HEADER in the header; the file is truncated"),
        (
            HEAD + b"\x01\x00",
            "2 bytes left at byte 42, expected a packet's header of 28; the file is truncated, fetch it again",
        ),
        (
            HEAD + head_of() + b"\x00" * 8,
            "packet at byte 42 needs 16 bytes, found 8; the file is truncated, fetch it again",
        ),
        (
            HEAD + head_of(number=3) + b"\x00" * 16,
            f"packet at byte 42 of type 1 with 3 of 2 events of 8 bytes {MISFIT}",
        ),
        (
            HEAD + head_of(size=-8) + b"\x00" * 16,
            f"packet at byte 42 of type 1 with 2 of 2 events of -8 bytes {MISFIT}",
        ),
        (
            HEAD + head_of(capacity=2**31 - 1, size=2**31 - 1, kind=2),
            f"packet at byte 42 needs {(2**31 - 1) ** 2} bytes, found 0; the file is truncated, fetch it again",
        ),
    ],
)
def test_errors_are_one_line(data, message):
    with pytest.raises(EventError) as problem:
        decode_aedat3(data, place="a.aedat")
    assert str(problem.value) == f"a.aedat: {message}"
