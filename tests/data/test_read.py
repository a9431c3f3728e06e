from __future__ import annotations

from pathlib import Path

import naive
import pytest

import tmkt_data
from tmkt_data.errors import EventError
from tmkt_data.events import EVENT_DTYPE, SensorSize
from tmkt_data.io.files import read_bytes, replace_file
from tmkt_data.io.read import decode_events, load_events, read_events

ROWS = [(6, 131, 2, True), (106, 12, 146, True), (74565, 33, 33, False)]


@pytest.mark.parametrize("name", ["a.bin", "a.bs2", "A.BIN", "b.Bs2"])
def test_reads_by_suffix_whatever_its_case(tmp_path, name):
    (tmp_path / name).write_bytes(naive.encode_atis(ROWS))
    array = read_events(tmp_path / name)
    assert array.dtype == EVENT_DTYPE
    assert array.tolist() == ROWS
    assert read_events(str(tmp_path / name)).tolist() == ROWS


def test_the_array_belongs_to_the_caller(tmp_path):
    (tmp_path / "a.bin").write_bytes(naive.encode_atis(ROWS))
    first = read_events(tmp_path / "a.bin")
    first["t"] = 0
    assert read_events(tmp_path / "a.bin").tolist() == ROWS


def test_the_record_counts_what_was_dropped(tmp_path):
    (tmp_path / "a.bin").write_bytes(naive.encode_atis(ROWS))
    events = load_events(tmp_path / "a.bin", sensor_size=SensorSize(34, 34))
    assert naive.rows_of(events) == ROWS[2:]
    assert events.num_dropped == {"outside the sensor": 2}
    assert events.num_read == 3
    assert events.sensor_size == (34, 34)


def test_is_what_the_package_exports():
    assert tmkt_data.read_events is read_events
    assert tmkt_data.load_events is load_events


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"#!AER-DAT2.0\r\n", "AEDAT"),
        (b"#!AER-DAT3.1\r\n", "AEDAT"),
        (b"#!AER-DAT4.0\r\n", "AEDAT"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"PK\x03\x04", "npz or zip"),
        (b"\x93NUMPY\x01\x00", "npy"),
        (b"Event Stream\x02\x00\x00\x01", "Event Stream"),
        (b"\x1f\x8b\x08\x00", "gzip"),
    ],
)
def test_other_formats_are_named_even_under_the_suffix_of_a_recording(tmp_path, start, name):
    path = tmp_path / "a.bin"
    path.write_bytes(start.ljust(25, b"\x00"))
    with pytest.raises(EventError, match=rf"^a.bin: found {name} bytes, expected an ATIS recording; this format"):
        read_events(path)


def test_a_recording_may_start_with_an_event_at_31_139():
    rows = [(5, 31, 139, True), (6, 31, 139, False)]
    assert naive.rows_of(decode_events(naive.encode_atis(rows), Path("a.bin"))) == rows
    rows = [(5, 31, 139, False), (6, 31, 139, True)]
    assert naive.rows_of(decode_events(naive.encode_atis(rows), Path("a.bin"))) == rows


@pytest.mark.parametrize(
    ("name", "found"), [("a.dat", "suffix '.dat'"), ("a", "no suffix"), ("a.bin.gz", "suffix '.gz'")]
)
def test_another_suffix_is_refused(tmp_path, name, found):
    (tmp_path / name).write_bytes(naive.encode_atis(ROWS))
    with pytest.raises(EventError, match=rf"^{name}: found {found}, expected an ATIS recording \(.bin, .bs2\)"):
        read_events(tmp_path / name)


def test_an_empty_file(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(EventError, match=r"^a.bin: empty file"):
        read_events(tmp_path / "a.bin")


def test_a_truncated_file(tmp_path):
    (tmp_path / "image_0001.bin").write_bytes(naive.encode_atis(ROWS)[:-1])
    with pytest.raises(EventError, match=r"^image_0001.bin: 4 bytes left after 2 whole events of 5 bytes"):
        read_events(tmp_path / "image_0001.bin")


def test_a_missing_file(tmp_path):
    with pytest.raises(EventError, match=r"absent.bin: no such file; check the path"):
        read_events(tmp_path / "absent.bin")


def test_a_folder(tmp_path):
    with pytest.raises(EventError, match="a folder, expected a file; name one file in it"):
        read_events(tmp_path)


def test_a_loop_of_links_cannot_be_read(tmp_path):
    path = tmp_path / "a.bin"
    path.symlink_to(path)
    with pytest.raises(EventError, match=r"a.bin: cannot be read"):
        read_bytes(path)


def test_replacing_a_file_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "a.bin"
    replace_file(path, b"old")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]
