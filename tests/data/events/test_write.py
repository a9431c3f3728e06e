"""Recordings written and read back, and what cannot be written."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tmkt_data
from tmkt_data.errors import EventError
from tmkt_data.events import write as write_module
from tmkt_data.events.events import EVENT_DTYPE, Events, SensorSize, validate_events
from tmkt_data.events.formats.atis import decode_atis
from tmkt_data.events.read import load_events, read_events
from tmkt_data.events.write import write_events, write_pieces
from tmkt_data.spec import WRITTEN_SUFFIXES

FACE = "ncaltech101/Caltech101/Faces_easy/image_0001.bin"
ROW = st.tuples(st.integers(0, 8_388_607), st.integers(0, 255), st.integers(0, 239), st.booleans())


def record_of(rows, sensor_size=None):
    t, x, y, p = (np.array(column) for column in zip(*rows, strict=True))
    return validate_events(t.astype(np.int64), x, y, p.astype(bool), sensor_size=sensor_size)


@pytest.mark.parametrize("suffix", WRITTEN_SUFFIXES)
@settings(deadline=None, max_examples=25)
@given(rows=st.lists(ROW, min_size=1, max_size=30))
def test_what_is_written_reads_back(tmp_path_factory, suffix, rows):
    path = tmp_path_factory.mktemp("written") / f"a{suffix}"
    record = record_of(rows)
    write_events(path, record)
    assert naive.rows_of(load_events(path)) == naive.rows_of(record)
    np.testing.assert_array_equal(read_events(path), record.to_array())


def test_a_real_recording_goes_through_every_format(tmp_path, real_data):
    record = load_events(real_data / FACE)
    for suffix in WRITTEN_SUFFIXES:
        path = tmp_path / f"face{suffix}"
        write_events(path, record)
        again = load_events(path)
        for name in ("t", "x", "y", "p"):
            np.testing.assert_array_equal(getattr(again, name), getattr(record, name))
    assert (tmp_path / "face.bin").read_bytes() == (real_data / FACE).read_bytes()


def test_large_times_and_coordinates_need_a_format_that_holds_them(tmp_path):
    record = record_of([(-5, 65535, 700, True), (2**60, 3, 4, False)])
    write_events(tmp_path / "a.npz", record)
    assert naive.rows_of(load_events(tmp_path / "a.npz")) == naive.rows_of(record)
    for name, message in (
        ("a.bin", r"^a\.bin: x runs from 3 to 65535, an ATIS file holds 0 to 255; write another format"),
        (
            "a.aedat4",
            r"^a\.aedat4: a sensor of 65536 x 701, an AEDAT4 file holds sides of up to 32,767; write \.npz, or",
        ),
    ):
        with pytest.raises(EventError, match=message):
            write_events(tmp_path / name, record)
        assert not list(tmp_path.glob(f"*{name}*"))
    with pytest.raises(
        EventError, match=r"^b\.aedat4: t starts at -5, an AEDAT4 file holds 0 or more; shift the times$"
    ):
        write_events(tmp_path / "b.aedat4", record_of([(-5, 2, 3, True)]))


@pytest.mark.parametrize(("x", "y"), [(32766, 3), (3, 32766)])
def test_aedat4_holds_sides_of_15_bits(tmp_path, x, y):
    write_events(tmp_path / "a.aedat4", record_of([(5, x, y, True)]))
    assert read_events(tmp_path / "a.aedat4").tolist() == [(5, x, y, True)]
    for record in (record_of([(5, x + 1, y + 1, True)]), record_of([(5, 1, 1, True)], SensorSize(65536, 65536))):
        with pytest.raises(EventError, match=r"^b\.aedat4: a sensor of \d+ x \d+, an AEDAT4 file holds sides of up to"):
            write_events(tmp_path / "b.aedat4", record)


@pytest.mark.parametrize("suffix", WRITTEN_SUFFIXES)
@pytest.mark.parametrize("size", [None, SensorSize(200, 200)])
def test_pieces_are_written_as_the_whole(tmp_path, monkeypatch, suffix, size):
    monkeypatch.setattr(write_module, "_IN_MEMORY_BYTES", 100)
    rows = [(7 * i, i % 99, i % 77, i % 2 == 0) for i in range(1000)]
    parts = [record_of(rows[at : at + 128], size) for at in range(0, 1000, 128)]
    write_events(tmp_path / f"a{suffix}", record_of(rows, size))
    write_pieces(tmp_path / f"b{suffix}", lambda: iter(parts))
    whole, again = load_events(tmp_path / f"a{suffix}"), load_events(tmp_path / f"b{suffix}")
    assert naive.rows_of(again) == rows
    assert whole.sensor_size == again.sensor_size
    if suffix != ".aedat4":
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", WRITTEN_SUFFIXES)
def test_what_breaks_off_leaves_nothing(tmp_path, suffix):
    def pieces():
        yield record_of([(1, 2, 3, True)])
        raise EventError("a.dat: cut off")

    (tmp_path / f"a{suffix}").write_bytes(b"earlier")
    with pytest.raises(EventError, match=r"^a\.dat: cut off$"):
        write_pieces(tmp_path / f"a{suffix}", pieces)
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]
    assert (tmp_path / f"a{suffix}").read_bytes() == b"earlier"


def test_an_array_is_sorted_and_another_dtype_refused(tmp_path):
    array = np.array([(20, 1, 2, True), (10, 3, 4, False)], EVENT_DTYPE)
    write_events(tmp_path / "a.npz", array)
    assert read_events(tmp_path / "a.npz").tolist() == [(10, 3, 4, False), (20, 1, 2, True)]
    with pytest.raises(EventError, match=r"^a\.npz: found int64, expected the dtype "):
        write_events(tmp_path / "a.npz", np.zeros((3, 4), np.int64))
    assert len(read_events(tmp_path / "a.npz")) == 2


def test_the_sensor_size_is_kept_where_the_format_has_a_place(tmp_path):
    record = record_of([(1, 2, 3, True)], SensorSize(304, 240))
    for suffix in (".npz", ".aedat4"):
        write_events(tmp_path / f"a{suffix}", record)
        assert load_events(tmp_path / f"a{suffix}").sensor_size == (304, 240)
    with pytest.raises(EventError, match=r"events reach \(2, 3\), the sensor is 2 x 3; give the right size$"):
        write_events(tmp_path / "a.npz", record, sensor_size=SensorSize(2, 3))


def test_a_plain_pair_is_a_sensor_size(tmp_path):
    events = np.array([(5, 3, 2, True), (9, 0, 1, False)], EVENT_DTYPE)
    write_events(tmp_path / "a.npz", events, sensor_size=(4, 3))
    found = load_events(tmp_path / "a.npz", sensor_size=(4, 2))
    assert load_events(tmp_path / "a.npz").sensor_size == SensorSize(4, 3)
    assert (found.sensor_size, len(found)) == (SensorSize(4, 2), 1)
    assert isinstance(found.sensor_size, SensorSize)
    with pytest.raises(EventError, match=r"b\.npz: events reach \(3, 2\), the sensor is 3 x 3"):
        write_events(tmp_path / "b.npz", events, sensor_size=(3, 3))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.txt", r"^a\.txt: found suffix '\.txt', expected one of \.bin, \.bs2, \.npz, \.aedat4 to write$"),
        ("a", r"^a: found no suffix, expected one of "),
    ],
)
def test_other_suffixes_are_one_line(tmp_path, name, message):
    with pytest.raises(EventError, match=message):
        write_events(tmp_path / name, decode_atis(bytes.fromhex("8302800006")))


def test_nothing_is_written_where_there_is_no_event_to_hold(tmp_path):
    empty = validate_events(*(np.empty(0, kind) for kind in (np.int64, np.uint16, np.uint16, np.bool_)))
    for suffix, name in ((".aedat4", "AEDAT4"), (".bin", "ATIS")):
        with pytest.raises(EventError, match=f"no events, an {name} file holds one or more; write .npz"):
            write_events(tmp_path / f"a{suffix}", empty)
        assert not list(tmp_path.iterdir())
    write_events(tmp_path / "a.npz", empty)
    assert len(load_events(tmp_path / "a.npz")) == 0


def test_is_what_the_package_exports():
    assert tmkt_data.write_events is write_events
    assert tmkt_data.Events is Events
