"""AEDAT 2.0: worked examples, a plain decoder, orientations, headers, and arbitrary bytes."""

from __future__ import annotations

import struct

import naive
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.errors import EventError
from tmkt_data.events.formats.aedat2 import CHIPS, decode_aedat2

SAY_CHIP = "expected DVS128, DAVIS240, DAVIS346; give chip='DVS128' or another (--chip DVS128)"
HEAD = "#!AER-DAT2.0\r\n# This is a raw AE data file\r\n# AEChip: eu.seebetter.ini.chips.davis.{}\r\n"
EXAMPLES = [
    ("DVS128", "0000090b000003e8", (1000, 5, 9, True)),
    ("DAVIS346B", "02405800000003e8", (1000, 5, 9, True)),
    ("DAVIS346B", "40d5900000000001", (1, 345, 259, False)),
]


def head(chip="DVS128"):
    return HEAD.format(chip).encode()


@pytest.mark.parametrize(("chip", "data", "row"), EXAMPLES)
def test_worked_examples_decode(chip, data, row):
    events = decode_aedat2(head(chip) + bytes.fromhex(data))
    assert naive.rows_of(events) == [row]
    assert events.sensor_size == CHIPS[chip[:8]]


def naive_words(chip, words):
    rows, dropped = [], {}
    times, _ = naive.unwrap([t for _, t in words], 2**32)
    for (a, _), time in zip(words, times, strict=True):
        if chip == "DVS128":
            reason = "sync events" if a >> 15 & 1 else None
            row = (time, (a >> 1) % 128, (a >> 8) % 128, a % 2 == 1)
        else:
            reason = "frame and IMU words" if a >> 31 else "external triggers" if a >> 10 & 1 else None
            row = (time, (a >> 12) % 1024, (a >> 22) % 512, a >> 11 & 1 == 1)
        width, height = CHIPS[chip]
        if reason is None and (row[1] >= width or row[2] >= height):
            reason = "outside the sensor"
        if reason is None:
            rows.append(row)
        else:
            dropped[reason] = dropped.get(reason, 0) + 1
    return rows, dropped


@pytest.mark.parametrize("chip", CHIPS)
@settings(deadline=None, max_examples=120)
@given(words=st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=40))
def test_decode_equals_a_plain_decoder_for_any_words(chip, words):
    body = b"".join(struct.pack(">2I", *word) for word in words)
    events = decode_aedat2(head(chip) + b"#End Of ASCII Header\r\n" + body)
    rows, dropped = naive_words(chip, words)
    assert naive.rows_of(events) == sorted(rows, key=lambda row: row[0])
    assert events.num_dropped == dropped
    assert events.num_read == len(words)


@pytest.mark.parametrize(
    ("chip", "orientation", "row"),
    [
        ("DVS128", "raw", (1000, 5, 9, True)),
        ("DVS128", "jaer", (1000, 122, 118, False)),
        ("DVS128", "cifar10dvs", (1000, 118, 122, False)),
        ("DAVIS240C", "raw", (1000, 5, 9, True)),
        ("DAVIS240C", "jaer", (1000, 234, 170, True)),
    ],
)
def test_orientations_by_hand(chip, orientation, row):
    data = "0000090b000003e8" if chip == "DVS128" else "02405800000003e8"
    assert naive.rows_of(decode_aedat2(head(chip) + bytes.fromhex(data), orientation=orientation)) == [row]


def test_a_word_may_begin_like_a_line_of_the_header():
    # Row 143 of a DAVIS: the first byte of the word is that of a number sign.
    word = struct.pack(">2I", (143 << 22) | (7 << 12), 5)
    assert word[:1] == b"#"
    for ending in (b"", b"#End Of ASCII Header\r\n"):
        events = decode_aedat2(head("DAVIS346B") + ending + word + b"\n" * 8)
        assert naive.rows_of(events)[0] == (5, 7, 143, False)


@pytest.mark.parametrize("chip", ["MultiDAVIS346BCamera", "MultiDVS128CameraChip", "DVS128StereoPair"])
@pytest.mark.parametrize("given", [None, "DAVIS346"])
def test_a_camera_of_several_sensors_is_refused(chip, given):
    data = head(chip) + struct.pack(">2I", (14 << 22) | (7 << 12), 5)
    with pytest.raises(
        EventError, match=rf"^a\.aedat: chip: found '.*{chip.lower()}', several sensors in one file, exp"
    ):
        decode_aedat2(data, chip=given, place="a.aedat")


def test_cifar10dvs_needs_no_name_of_the_chip():
    words = bytes.fromhex("0000090b000003e8")
    unnamed = decode_aedat2(b"#!AER-DAT2.0\r\n" + words, orientation="cifar10dvs")
    named = decode_aedat2(head("DVS128") + words, orientation="cifar10dvs")
    assert naive.rows_of(unnamed) == naive.rows_of(named) == [(1000, 118, 122, False)]
    assert unnamed.sensor_size == (128, 128)


def test_a_huge_header_and_no_events():
    long = b"".join(b"# <entry key='%d'/>\n" % number for number in range(2100))
    events = decode_aedat2(b"#!AER-DAT2.0\n" + long + b"# AEChip: DVS128\n")
    assert (len(events), events.num_read) == (0, 0)


@pytest.mark.parametrize("ending", [b"#End Of ASCII Header\r\n", b"# more\r\n#end of ascii header\n"])
def test_a_header_that_says_where_it_ends_may_hold_any_alphabet(ending):
    start = "#!AER-DAT2.0\r\n# Aufgenommen in Zürich\r\n# 事件\r\n# AEChip: DVS128\r\n".encode()
    events = decode_aedat2(start + ending + bytes.fromhex(EXAMPLES[0][1]))
    assert naive.rows_of(events) == [EXAMPLES[0][2]]
    with pytest.raises(EventError, match="no line # AEChip"):
        decode_aedat2(start + bytes.fromhex(EXAMPLES[0][1]))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("ending", [b"", b"#End Of ASCII Header\r\n"])
def test_a_header_of_nothing_but_other_alphabets_ends_soon(ending):
    data = b"#!AER-DAT2.0\r\n# AEChip: DVS128\r\n" + b"#\xff\n" * 3_000_000 + ending
    naive.decodes_or_says_why(lambda: decode_aedat2(data, place="a.aedat"), "a.aedat")


def test_a_wrap_of_the_time_goes_on():
    words = [(0, 2**32 - 2), (0, 3), (0, 1)]
    events = decode_aedat2(head() + b"".join(struct.pack(">2I", *word) for word in words))
    assert events.t.tolist() == [2**32 - 2, 2**32 + 1, 2**32 + 3]
    assert events.num_inversions == 1


@settings(deadline=None, max_examples=150)
@given(start=st.sampled_from([b"", b"#!AER-DAT2.0", head(), head("DAVIS346")]), data=st.binary())
def test_any_bytes_decode_or_are_one_line(start, data):
    naive.decodes_or_says_why(lambda: decode_aedat2(start + data, place="a.aedat"), "a.aedat")


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (b"#!AER-DAT1.0\r\n", {}, "starts with b'#!AER-DAT1.0', expected b'#!AER-DAT2.0'; AEDAT 1.0 is not read"),
        (
            b"#!AER-DAT2.0\r\n",
            {},
            f"chip: found no line # AEChip, {SAY_CHIP}",
        ),
        (
            head("CochleaAMS1c"),
            {},
            f"chip: found 'eu.seebetter.ini.chips.davis.cochleaams1c', {SAY_CHIP}",
        ),
        (
            head() + b"\x00" * 11,
            {},
            "3 bytes left after 1 whole words of 8 bytes; the file is truncated, fetch it again",
        ),
        (
            head("DAVIS346"),
            {"orientation": "cifar10dvs"},
            "orientation: found 'cifar10dvs', expected one of raw, jaer for DAVIS346",
        ),
    ],
)
def test_errors_are_one_line(data, options, message):
    with pytest.raises(EventError) as problem:
        decode_aedat2(data, place="a.aedat", **options)
    assert str(problem.value) == f"a.aedat: {message}"
