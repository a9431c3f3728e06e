"""NumPy files: layouts, units, polarities, and files that were made to harm."""

from __future__ import annotations

import errno
import io
import os
import pickle
import zipfile
from pathlib import Path

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.errors import EventError
from tmkt_data.events.events import EVENT_DTYPE
from tmkt_data.events.formats.arrays import decode_npy, decode_npz, names_its_columns, npz_pieces

ROWS = [(10, 3, 4, True), (25, 65535, 0, False)]


def npy(array, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), **options)
    return buffer.getvalue()


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def columns(**changes):
    t, x, y, p = zip(*ROWS, strict=True)
    return {"t": np.array(t), "x": np.array(x), "y": np.array(y), "p": np.array(p)} | changes


def test_a_structured_array_reads_whatever_its_names_and_types():
    assert naive.rows_of(decode_npy(npy(np.array(ROWS, EVENT_DTYPE)))) == ROWS
    other = np.array([(x, y, p, t) for t, x, y, p in ROWS], [("x", ">i4"), ("y", "f4"), ("Pol", "i1"), ("ts", "u8")])
    assert naive.rows_of(decode_npy(npy(other))) == ROWS
    assert naive.rows_of(decode_npy(npy(other, version=(2, 0)))) == ROWS


def test_names_that_break_lines_are_escaped():
    data = npz(**{name: column for name, column in columns().items() if name != "x"}, **{"\n": np.zeros(2)})
    with pytest.raises(EventError, match=r"found nothing for x among \\n, p, t, y; expected one of x$"):
        decode_npz(data)
    fields = np.zeros(1, [("t", "i8"), ("x\nerror: forged", "u2"), ("y", "u2"), ("p", "?")])
    with pytest.raises(EventError, match=r"found nothing for x among p, t, x\\nerror: forged, y; expected one of x$"):
        decode_npy(npy(fields))
    with pytest.raises(EventError, match=r"^npz bytes, \\n\.npy: Python objects"):
        decode_npz(npz(**columns(), **{"\n": np.array([{}], object)}))


def test_a_plain_array_needs_the_order_of_its_columns():
    array = np.array([(x, y, t, 1 if p else -1) for t, x, y, p in ROWS])
    assert naive.rows_of(decode_npy(npy(array), columns="xytp")) == ROWS
    assert naive.rows_of(decode_npy(npy(np.asfortranarray(array)), columns="xytp")) == ROWS
    with pytest.raises(EventError, match=r"^npy bytes: 4 columns without names; give their order, columns='txyp' or"):
        decode_npy(npy(array))
    with pytest.raises(EventError, match=r"columns: found 'xyzp', expected the letters of 'txyp' in some order"):
        decode_npy(npy(array), columns="xyzp")


@pytest.mark.parametrize(
    ("times", "unit", "expected"),
    [
        ([0.5, 1.25], "s", [500_000, 1_250_000]),
        ([0.0000005, 0.0000015], "s", [0, 2]),
        ([2, 3], "ms", [2000, 3000]),
        ([2.5, 3.5], "us", [2, 4]),
        ([1999, 2000], "ns", [1, 2]),
        ([7, 8], None, [7, 8]),
        ([-3, 8], "us", [-3, 8]),
    ],
)
def test_units_of_time(times, unit, expected):
    assert decode_npz(npz(**columns(t=np.array(times))), unit=unit).t.tolist() == expected


def test_decimal_times_have_no_unit_of_their_own():
    with pytest.raises(EventError, match=r"^npz bytes: t is float64 without a unit; give unit='s' or another"):
        decode_npz(npz(**columns(t=np.array([0.5, 1.0]))))


@pytest.mark.parametrize("polarity", [[True, False], [1, 0], [1, -1], [1.0, -1.0], np.array([1, 0], "u1")])
def test_polarities(polarity):
    assert decode_npz(npz(**columns(p=np.array(polarity)))).p.tolist() == [True, False]


def test_sides_of_their_own():
    data = npz(pos=np.array([[3, 4, 10], [5, 6, 30]]), neg=np.array([[7, 8, 20]]))
    rows = [(10, 3, 4, True), (20, 7, 8, False), (30, 5, 6, True)]
    assert naive.rows_of(decode_npz(data, columns="xyt")) == rows
    with pytest.raises(EventError, match="3 columns without names; give their order, columns='xyt'"):
        decode_npz(data)


def test_a_stored_size_is_the_sensor_unless_one_is_given():
    data = npz(**columns(), sensor_size=np.array([34, 20]))
    events = decode_npz(data)
    assert (events.sensor_size, events.num_dropped) == ((34, 20), {"outside the sensor": 1})


@settings(deadline=None, max_examples=200)
@given(
    start=st.sampled_from([b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00v\x00{'descr'", npy(np.zeros((3, 4)))[:100]]),
    data=st.binary(),
)
def test_any_bytes_after_the_magic_are_one_line(start, data):
    naive.decodes_or_says_why(lambda: decode_npy(start + data, columns="txyp", place="a.npy"), "a.npy")
    naive.decodes_or_says_why(lambda: decode_npz(b"PK\x03\x04" + start + data, place="a.npz"), "a.npz")


@settings(deadline=None, max_examples=300)
@given(at=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.integers(0, 10**6))
def test_a_damaged_archive_decodes_or_is_one_line(at, value, cut):
    whole = npz(**columns())
    data = bytearray(whole)
    data[at % len(data)] = value
    naive.decodes_or_says_why(lambda: decode_npz(bytes(data), place="a.npz"), "a.npz")
    naive.decodes_or_says_why(lambda: decode_npz(whole[: cut % len(whole)], place="a.npz"), "a.npz")


class Harm:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def test_objects_are_never_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    harm = npy(np.array([Harm()], object), allow_pickle=True)
    for decode, data in ((decode_npy, harm), (decode_npz, zipped({"t.npy": harm})), (decode_npy, pickle.dumps(Harm()))):
        with pytest.raises(
            EventError, match=r"Python objects \(pickle\), which are never loaded|no readable npy header"
        ):
            decode(data)
    assert list(tmp_path.iterdir()) == []


def zipped(members, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_a_zip_bomb_is_refused_before_it_is_unpacked():
    bomb = zipped({"t.npy": npy(np.zeros(50_000_000, np.uint8))})
    with pytest.raises(
        EventError, match=r"bytes unpacked, expected at most 200 times the \d+ of the file; it looks like"
    ):
        decode_npz(bomb)


def test_a_header_that_promises_more_than_there_is_takes_no_memory():
    data = bytearray(npy(np.zeros((3, 4))))
    at = data.index(b"(3, 4)")
    data[at : at + 6] = b"(9**9,"
    with pytest.raises(EventError, match="no readable npy header"):
        decode_npy(bytes(data))
    big = bytes(data).replace(b"(9**9,", b"(9999,")
    with pytest.raises(EventError):
        decode_npy(big)


def test_two_members_of_one_name_are_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("t.npy", npy(np.zeros(2)))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("t.npy", npy(np.zeros(2)))
    with pytest.raises(EventError, match="two members of one name, expected one each"):
        decode_npz(buffer.getvalue())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            npz(**columns(t=np.array([np.nan, 1.0]))),
            "t holds NaN or infinity, expected times; clean the recording first",
        ),
        (
            npz(**columns(x=np.array([-1, 2]))),
            "x runs from -1 to 2, expected 0 to 65535; check the order of the columns",
        ),
        (
            npz(**columns(y=np.array([0.5, 2]))),
            (
                "y has fractions, such as 0.5, expected whole pixels; these are probably undistorted or resampled "
                "coordinates; take the raw recording, or round them"
            ),
        ),
        (
            npz(**columns(x=np.array([0.25, 0.5]))),
            (
                "x has fractions, such as 0.25, expected whole pixels; these are probably normalized coordinates, or "
                "times if the order of the columns is another; scale them to the sensor"
            ),
        ),
        (
            npz(**columns(x=np.array([np.nan, 2]))),
            "x holds NaN or infinity, expected whole pixels; clean the recording first",
        ),
        (
            npz(**columns(p=np.array([0, 2]))),
            "polarity holds 0, 2, expected bool, 0 and 1, or -1 and 1; check the columns",
        ),
        (npz(**columns(p=np.array([1]))), "p is int64 of shape (1,), expected numbers, one for each of the 2 times"),
        (
            npz(t=np.zeros(2), x=np.zeros(2)),
            "found nothing for y among t, x; expected one of y",
        ),
        (
            npz(**columns(ts=np.zeros(2))),
            "found t and ts for t among p, t, ts, x, y; expected one of t, ts, time, timestamp, timestamps",
        ),
        (
            npz(frames=np.zeros((2, 2, 8, 8), np.float32)),
            "frames of shape (2, 2, 8, 8) and type float32, expected events: fields t, x, y, p or shape (N, 4)",
        ),
        (
            npz(**columns(t=np.array([0, 2**62]))),
            f"t runs from 0 to {2**62} us, expected at most 2**61 microseconds; check the unit",
        ),
        (zipped({"readme.txt": b"hello"}), "member 'readme.txt', expected arrays (.npy); no npz file of events"),
        (
            npz(**columns(), sensor_size=np.array([0, 5])),
            "sensor_size is no width and height of 1 to 65536; write it as two integers",
        ),
    ],
)
def test_errors_are_one_line(data, message):
    with pytest.raises(EventError) as problem:
        decode_npz(data, place="a.npz", unit="us")
    assert str(problem.value) == f"a.npz: {message}"


def test_an_unknown_unit_is_one_line():
    with pytest.raises(EventError, match=r"^npz bytes: unit: found 'min', expected one of s, ms, us, ns$"):
        decode_npz(npz(**columns()), unit="min")


def with_claim(data, name, *, size=None, checksum=None):
    """An archive whose directory claims another size or checksum of a member than it has."""
    whole = bytearray(data)
    at = whole.rindex(name.encode() + b".npy") - 46
    assert whole[at : at + 4] == b"PK\x01\x02"
    for place, value in ((24, size), (16, checksum)):
        if value is not None:
            whole[at + place : at + place + 4] = value.to_bytes(4, "little")
    return bytes(whole)


@pytest.mark.parametrize(
    "read",
    [
        lambda path: decode_npz(path.read_bytes(), place="a.npz", unit="us"),
        lambda path: list(npz_pieces(path, 1000, sensor_size=None, unit="us")),
    ],
    ids=["whole", "in pieces"],
)
def test_members_that_are_not_what_the_archive_says_are_one_line(tmp_path, read):
    long = columns(t=np.arange(500))
    members = {f"{name}.npy": npy(np.resize(column, 500)) for name, column in long.items()}
    num_bytes = len(members["x.npy"])
    short = zipped(members | {"x.npy": members["x.npy"][:-8]})
    cases = {
        with_claim(short, "x", size=num_bytes): r"x.npy: \d+ bytes of data, expected 4000; the file is truncated",
        with_claim(zipped(members), "y", checksum=1): r"^a.npz.* \(Bad CRC-32 for file 'y.npy'\); the file is damaged",
    }
    for data, message in cases.items():
        path = tmp_path / "a.npz"
        path.write_bytes(data)
        with pytest.raises(EventError, match=message):
            read(path)


def test_pieces_need_columns_of_numbers(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(npz(**columns(x=np.zeros((2, 2)))))
    with pytest.raises(EventError, match=r"a.npz, x.npy: float64 of shape \(2, 2\), expected one column of numbers"):
        list(npz_pieces(path, 1000, sensor_size=None, unit="us"))


@pytest.mark.parametrize(
    ("decode", "data", "message"),
    [
        (decode_npy, npy(np.zeros((2, 3), EVENT_DTYPE)), r"a structured array of shape \(2, 3\), expected \(N,\)"),
        (decode_npz, npz(pos=np.zeros((2, 4)), neg=np.zeros((2, 3))), r"pos has shape \(2, 4\), expected \(N, 3\)"),
        (decode_npz, npz(pos=np.zeros((2, 3)), neg=np.zeros(3)), r"neg has shape \(3,\), expected \(N, 3\) with x, y"),
        (decode_npz, zipped({}), "0 members, expected 1 to 64 arrays"),
        (decode_npy, npy(np.zeros(2)).replace(b"'<f8'", b"'|V0'"), r"shape \(2,\) of \|V0, expected numbers; the"),
    ],
    ids=["table", "pos", "neg", "empty", "no bytes"],
)
def test_other_layouts_are_one_line(decode, data, message):
    with pytest.raises(EventError, match=f"^a.file: {message}"):
        decode(data, place="a.file")


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (npy(np.array(ROWS, EVENT_DTYPE)), True),
        (npz(**columns()), True),
        (npy(np.zeros((2, 4))), False),
        (npz(events=np.zeros((2, 4))), False),
        (b"PK\x03\x04", False),
        (b"", False),
    ],
    ids=["fields", "columns", "table", "packed table", "cut archive", "nothing"],
)
def test_whether_a_file_names_its_columns(tmp_path, monkeypatch, data, names):
    path = tmp_path / "a.npy"
    assert not names_its_columns(path)
    path.write_bytes(data)
    assert names_its_columns(path) == names

    def refuse(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(EventError, match=r"a.npy: cannot be read \(.*Input/output error\); check the file"):
        names_its_columns(path)
