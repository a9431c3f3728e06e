from __future__ import annotations

import io
import os
from pathlib import Path

import naive
import numpy as np
import pytest

import tmkt_data
from tmkt_data.errors import EventError
from tmkt_data.events.events import EVENT_DTYPE, SensorSize
from tmkt_data.events.formats.aedat4 import load_aedat4
from tmkt_data.events.read import Reading, ReadOptions, decode_recording, load_events, read_events
from tmkt_data.events.stream import is_large, read_pieces
from tmkt_data.files import read_bytes


def npy_bytes(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz_bytes(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


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


CONTENTS = {
    "aedat2": b"#!AER-DAT2.0\r\n# AEChip: DVS128\r\n" + bytes.fromhex("0000090b000003e8"),
    "aedat3": b"#!AER-DAT3.1\r\n#!END-HEADER\r\n"
    + bytes.fromhex("01000000080000000400000000000000010000000100000001000000 27000a00e8030000"),
    "dat": b"% Version 2\n\x0c\x08" + bytes.fromhex("e8030000 05400210"),
    "evt": b"% evt 2.0\n" + bytes.fromhex("0f000080 0928001a"),
    "es": b"Event Stream\x02\x00\x00\x01\x10\x00\x10\x00" + bytes([255] * 7 + [(111 << 1) | 1, 5, 0, 6, 0]),
    "npy": npy_bytes(np.array([(1000, 5, 9, True)], EVENT_DTYPE)),
    "npz": npz_bytes(t=np.array([1000]), x=np.array([5]), y=np.array([9]), p=np.array([1])),
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("suffix", [".foo", ".dat", ".aedat", ""])
def test_a_format_is_recognized_by_content_whatever_the_suffix(tmp_path, name, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(CONTENTS[name])
    assert read_events(path).tolist() == [(1000, 5, 9, True)]


@pytest.mark.parametrize("name", CONTENTS)
def test_content_goes_before_the_suffix_of_a_recording(tmp_path, name):
    (tmp_path / "a.bin").write_bytes(CONTENTS[name])
    assert read_events(tmp_path / "a.bin").tolist() == [(1000, 5, 9, True)]


@pytest.mark.parametrize("head", [b"", b"% Version 2\n", b"% Data file\r\n% Width 304\r\n% Height 240\r\n"])
def test_a_dat_file_that_is_named_raw_is_one(tmp_path, head):
    (tmp_path / "a.raw").write_bytes(head + b"\x0c\x08" + bytes.fromhex("e8030000 05400210"))
    assert read_events(tmp_path / "a.raw").tolist() == [(1000, 5, 9, True)]


def test_a_raw_file_without_a_version_says_so(tmp_path):
    (tmp_path / "a.raw").write_bytes(b"% date 2020\n" + bytes.fromhex("0f000080 0928001a"))
    with pytest.raises(EventError, match=r"^a\.raw: found no line % evt in the header"):
        read_events(tmp_path / "a.raw")


@pytest.mark.parametrize("second", [9, 10, 13, 32, 101])
def test_a_recording_may_start_with_a_percent_sign(second):
    rows = [(5, 0x25, second, True), (6, 3, 4, False), (7, 0x25, 0x0A, True)]
    assert naive.rows_of(decode_recording(naive.encode_atis(rows), Path("a.bin"), Reading())) == rows


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"\x1f\x8b\x08\x00", "found gzip bytes, expected a recording; unpack it with gunzip first"),
    ],
)
def test_other_content_is_named_even_under_the_suffix_of_a_recording(tmp_path, start, message):
    (tmp_path / "a.bin").write_bytes(start.ljust(25, b"\x00"))
    with pytest.raises(EventError) as problem:
        read_events(tmp_path / "a.bin")
    assert str(problem.value) == f"a.bin: {message}"


def test_what_a_file_leaves_open_is_passed_on(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[5, 9, 0.001, 1.0]]))
    assert read_events(tmp_path / "a.npy", columns="xytp", unit="s").tolist() == [(1000, 5, 9, True)]
    (tmp_path / "a.aedat").write_bytes(b"#!AER-DAT2.0\n" + bytes.fromhex("0000090b000003e8"))
    turned = read_events(tmp_path / "a.aedat", chip="DVS128", orientation="jaer")
    assert turned.tolist() == [(1000, 122, 118, False)]


def test_a_real_aedat4_carries_its_size(real_data):
    events = load_events(real_data / "aedat4" / "sample.aedat4")
    assert (len(events), events.sensor_size) == (6676, (346, 260))


@pytest.mark.parametrize("size", [0, 14, 17, 18, 30, 2000, 100_000])
def test_an_aedat4_that_is_cut_off_is_one_line(tmp_path, real_data, size):
    path = tmp_path / "a.aedat4"
    path.write_bytes((real_data / "aedat4" / "sample.aedat4").read_bytes()[:size])
    with pytest.raises(EventError) as problem:
        load_aedat4(path)
    assert str(problem.value).startswith("a.aedat4: ")
    assert "\n" not in str(problem.value)


def test_a_recording_may_start_with_an_event_at_31_139():
    rows = [(5, 31, 139, True), (6, 31, 139, False)]
    assert naive.rows_of(decode_recording(naive.encode_atis(rows), Path("a.bin"), Reading())) == rows
    rows = [(5, 31, 139, False), (6, 31, 139, True)]
    assert naive.rows_of(decode_recording(naive.encode_atis(rows), Path("a.bin"), Reading())) == rows


@pytest.mark.parametrize(
    ("name", "found"), [("a.txt", "suffix '.txt'"), ("a", "no suffix"), ("a.bin.gz", "suffix '.gz'")]
)
def test_another_suffix_is_refused(tmp_path, name, found):
    (tmp_path / name).write_bytes(naive.encode_atis(ROWS))
    with pytest.raises(EventError, match=rf"^{name}: found {found} and no known start, expected a recording \(.bin, "):
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


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["pipe.bin", "zero.bin", "pipe.h5", "pipe.aedat4"])
def test_a_pipe_or_a_device_is_one_line(tmp_path, name):
    path = tmp_path / name
    if name.startswith("pipe"):
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    for read in (read_events, load_aedat4, is_large, lambda path: list(read_pieces(path, Reading()))):
        with pytest.raises(EventError, match=rf"{name}: a pipe or a device, expected a file; copy what it gives into"):
            read(path)


def test_a_loop_of_links_cannot_be_read(tmp_path):
    path = tmp_path / "a.bin"
    path.symlink_to(path)
    with pytest.raises(EventError, match=r"a.bin: cannot be read"):
        read_bytes(path)


def test_the_options_are_those_of_a_reading():
    assert (*ReadOptions.__annotations__, "pickled") == Reading._fields
    with pytest.raises(TypeError, match="sensor"):
        read_events("a.bin", sensor=SensorSize(3, 4))
