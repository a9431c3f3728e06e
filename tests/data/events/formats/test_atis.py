from __future__ import annotations

import hashlib

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.errors import EventError, TmktError
from tmkt_data.events.events import SensorSize
from tmkt_data.events.formats.atis import decode_atis, encode_atis, read_atis, write_atis

ROW = st.tuples(st.integers(0, 8_388_607), st.integers(0, 255), st.integers(0, 239), st.booleans())
FACE = "ncaltech101/Caltech101/Faces_easy/image_0001.bin"


# DATASETS 2.1, worked examples: (x, y, p, t) and bytes.
EXAMPLES = [
    ((131, 2, True, 6), "8302800006"),
    ((12, 146, True, 106), "0c9280006a"),
    ((33, 33, True, 74565), "2121812345"),
    ((255, 239, False, 8388607), "ffef7fffff"),
]


@pytest.mark.parametrize(("event", "data"), EXAMPLES)
def test_worked_examples_decode_and_encode(event, data):
    events = decode_atis(bytes.fromhex(data))
    x, y, p, t = event
    assert naive.rows_of(events) == [(t, x, y, p)]
    assert encode_atis(events) == bytes.fromhex(data)


@settings(deadline=None, max_examples=100)
@given(data=st.binary(min_size=5, max_size=200).map(lambda raw: raw[: len(raw) // 5 * 5]))
def test_decode_equals_naive_for_any_bytes(data):
    events = decode_atis(data)
    rows, outside = naive.decode_atis(data, 256, 240)
    rows, num_wraps = naive.unwrapped(rows, 2**23)
    assert naive.rows_of(events) == sorted(rows, key=lambda row: row[0])
    assert events.num_wraps == num_wraps
    assert events.num_inversions == naive.num_inversions(rows)
    assert events.num_read == len(data) // 5
    assert events.num_dropped == ({"outside the sensor": outside} if outside else {})
    assert events.sensor_size is None


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(ROW, min_size=1, max_size=30), width=st.integers(1, 400), height=st.integers(1, 400))
def test_a_given_sensor_bounds_what_is_kept(rows, width, height):
    events = decode_atis(naive.encode_atis(rows), sensor_size=SensorSize(width, height))
    inside, _ = naive.unwrapped([row for row in rows if row[1] < width and row[2] < height], 2**23)
    assert naive.rows_of(events) == sorted(inside, key=lambda row: row[0])
    assert sum(events.num_dropped.values()) == len(rows) - len(inside)
    assert events.num_read == len(rows)
    assert events.sensor_size == (width, height)


@pytest.mark.parametrize("sensor_size", [None, SensorSize(304, 240), SensorSize(300, 400)])
def test_rows_from_240_on_are_dropped_however_large_the_sensor(sensor_size):
    events = decode_atis(
        naive.encode_atis([(1, 0, 239, True), (2, 0, 240, True), (3, 0, 255, True)]), sensor_size=sensor_size
    )
    assert naive.rows_of(events) == [(1, 0, 239, True)]
    assert events.num_dropped == {"outside the sensor": 2}


def test_an_overflow_row_adds_no_time_to_later_events():
    events = decode_atis(naive.encode_atis([(10, 1, 1, True), (11, 0, 240, False), (12, 2, 2, True)]))
    assert events.t.tolist() == [10, 12]
    assert events.num_dropped == {"outside the sensor": 1}


def test_steps_back_are_sorted_stably_and_counted():
    rows = [(50, 1, 0, True), (20, 2, 0, True), (20, 3, 0, False), (60, 4, 0, True), (10, 5, 0, True)]
    events = decode_atis(naive.encode_atis(rows))
    assert events.num_inversions == 2
    assert events.x.tolist() == [5, 2, 3, 1, 4]


def test_nothing_valid_is_an_empty_record():
    events = decode_atis(bytes.fromhex("00f0000000"))
    assert len(events) == 0
    assert events.num_read == 1
    assert events.num_dropped == {"outside the sensor": 1}


@settings(deadline=None, max_examples=80)
@given(rows=st.lists(ROW, min_size=1, max_size=40))
def test_encode_then_decode_gives_the_events_back(rows):
    events = naive.make_events(rows)
    data = encode_atis(events)
    assert data == naive.encode_atis(naive.rows_of(events))
    again = decode_atis(data)
    assert naive.rows_of(again) == naive.rows_of(events)
    assert again.num_inversions == 0


@pytest.mark.parametrize("length", [1, 4, 6, 11, 13])
def test_truncated_bytes_say_how_many_are_left(length):
    text = rf"a.bin: {length % 5} bytes left after {length // 5} whole events of 5 bytes; the file is truncated"
    with pytest.raises(EventError, match=text):
        decode_atis(bytes(length), place="a.bin")


def test_no_bytes_are_an_error():
    with pytest.raises(EventError, match=r"a.bin: empty file, expected 5 bytes an event; fetch it again"):
        decode_atis(b"", place="a.bin")


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ((0, 256, 0, True), "x runs from 256 to 256, an ATIS file holds 0 to 255"),
        ((0, 0, 240, True), "y runs from 240 to 240, an ATIS file holds 0 to 239"),
        ((8_388_608, 0, 0, True), "t runs from 8388608 to 8388608, an ATIS file holds 0 to 8388607"),
        ((-1, 0, 0, True), "t runs from -1 to -1, an ATIS file holds 0 to 8388607"),
    ],
)
def test_what_the_format_cannot_hold_is_not_encoded(row, text):
    with pytest.raises(EventError, match=f"events: {text}; write another format or shift the events"):
        encode_atis(naive.make_events([row]))


def test_encoding_leaves_the_events_alone():
    events = naive.make_events([(5, 6, 7, True), (8, 9, 10, False)])
    before = naive.rows_of(events)
    encode_atis(events)
    assert naive.rows_of(events) == before


def test_write_then_read(tmp_path):
    events = naive.make_events([(6, 131, 2, True), (74565, 33, 33, False)])
    write_atis(tmp_path / "a.bin", events)
    assert naive.rows_of(read_atis(tmp_path / "a.bin")) == naive.rows_of(events)
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_a_failed_write_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"12345")
    with pytest.raises(EventError, match=r"a.bin: x runs from 256"):
        write_atis(path, naive.make_events([(0, 256, 0, True)]))
    assert path.read_bytes() == b"12345"


def test_a_folder_that_is_missing_cannot_be_written(tmp_path):
    with pytest.raises(TmktError, match="cannot be written"):
        write_atis(tmp_path / "absent" / "a.bin", naive.make_events([(0, 0, 0, True)]))


@pytest.mark.real_data
class TestRealNmnist:
    # DATASETS 9.1.
    def test_first_training_recording(self, real_data):
        path = real_data / "nmnist/N-MNIST/Train/5/00001.bin"
        assert path.read_bytes()[:10] == bytes.fromhex("12 10 80 03 7d 14 11 80 04 24")
        events = read_atis(path)
        assert (len(events), int((~events.p).sum()), int(events.p.sum())) == (4681, 2353, 2328)
        rows = naive.rows_of(events)
        assert rows[:3] == [(893, 18, 16, True), (1060, 20, 17, True), (2443, 17, 9, False)]
        assert rows[-1] == (305924, 10, 10, False)
        assert (int(events.x.sum()), int(events.y.sum()), int(events.t.sum())) == (76115, 82306, 625535240)

    def test_first_test_recording(self, real_data):
        events = read_atis(real_data / "nmnist/N-MNIST/Test/7/00001.bin")
        assert (len(events), int((~events.p).sum()), int(events.p.sum())) == (3330, 1612, 1718)
        rows = naive.rows_of(events)
        assert (rows[0], rows[-1]) == ((5087, 7, 7, True), (307827, 26, 8, True))
        assert (int(events.x.sum()), int(events.y.sum()), int(events.t.sum())) == (55060, 55556, 469759843)

    @pytest.mark.parametrize(
        ("part", "per_digit", "labels", "counts", "polarities", "num_bytes", "first_t", "last_t"),
        [
            ("Train", [58, 79, 64, 59, 59, 51, 54, 62, 49, 65], "50419213143536172869", (1112, 4034, 7152),
             (1223877, 1216386), 12201315, (1, 7370), (296841, 315109)),
            ("Test", [5, 9, 5, 4, 9, 4, 3, 6, 0, 5], "72104149590690159734", (1069, 3810, 6147),
             (92431, 90737), 915840, (11, 25812), (301809, 336040)),
        ],
    )  # fmt: skip
    def test_totals(self, real_data, part, per_digit, labels, counts, polarities, num_bytes, first_t, last_t):
        paths = sorted((real_data / "nmnist/N-MNIST" / part).glob("*/*.bin"), key=lambda path: path.stem)
        digits = [int(path.parent.name) for path in paths]
        assert np.bincount(digits, minlength=10).tolist() == per_digit
        assert "".join(map(str, digits[:20])) == labels
        assert sum(path.stat().st_size for path in paths) == num_bytes
        recordings = [read_atis(path) for path in paths]
        lengths = np.array([len(events) for events in recordings])
        assert (lengths.min(), int(np.median(lengths)), lengths.max()) == counts
        assert lengths.sum() == sum(polarities)
        on = sum(int(events.p.sum()) for events in recordings)
        assert (int(lengths.sum()) - on, on) == polarities
        firsts, lasts = [int(e.t[0]) for e in recordings], [int(e.t[-1]) for e in recordings]
        assert (min(firsts), max(firsts)) == first_t
        assert (min(lasts), max(lasts)) == last_t
        assert all(events.num_inversions == 0 and not events.num_dropped for events in recordings)
        extents = np.array([events.extent for events in recordings])
        assert extents[:, :2].min() == 0
        assert extents[:, 2:].max(axis=0).tolist() == [33, 33]

    def test_smallest_and_largest(self, real_data):
        folder = real_data / "nmnist/N-MNIST"
        names = {"Train": ("8/00419", "3/00112"), "Test": ("1/00041", "0/00026")}
        lengths = {"Train": (1112, 7152), "Test": (1069, 6147)}
        for part, pair in names.items():
            assert tuple(len(read_atis(folder / part / f"{name}.bin")) for name in pair) == lengths[part]

    def test_every_recording_encodes_to_its_own_bytes(self, real_data):
        for path in sorted((real_data / "nmnist/N-MNIST/Test").glob("*/*.bin")):
            assert encode_atis(read_atis(path)) == path.read_bytes()


@pytest.mark.real_data
class TestRealNcaltech101:
    # DATASETS 9.3.
    def test_facts(self, real_data):
        data = (real_data / FACE).read_bytes()
        assert hashlib.sha256(data).hexdigest() == "407bc49df26b529d344a7d79e640e37d687219a2fecdc1f1e533eb016fc07240"
        events = read_atis(real_data / FACE)
        assert (len(data), len(events), events.num_inversions, events.num_dropped) == (337225, 67445, 0, {})
        assert events.extent == (0, 0, 150, 172)
        assert (int((~events.p).sum()), int(events.p.sum())) == (33675, 33770)
        rows = naive.rows_of(events)
        assert rows[:3] == [(6, 131, 2, True), (106, 12, 146, True), (120, 7, 128, False)]
        assert rows[-1] == (299364, 40, 15, True)
        assert (int(events.x.sum()), int(events.y.sum()), int(events.t.sum())) == (4337148, 4922131, 9862143111)
        assert len(np.unique(events.t)) == 61025
        assert np.histogram(events.t, [0, 105_000, 210_000, 315_000])[0].tolist() == [23308, 26793, 17344]
        assert rows == naive.decode_atis(data, 256, 240)[0]

    def test_a_corrupt_row_is_dropped_and_no_time_is_added(self, real_data):
        # DATASETS 2.2: other readers shift the rest of the recording by 8192 us, to 307556.
        data = bytearray((real_data / FACE).read_bytes())
        data[5 * 1000 + 1] = 240
        events = decode_atis(bytes(data))
        assert len(events) == 67444
        assert events.num_dropped == {"outside the sensor": 1}
        assert events.t[-1] == 299364
