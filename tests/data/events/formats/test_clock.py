"""Times whose clock goes round: in every format that has few bits for them, at once and in pieces."""

from __future__ import annotations

import struct

import naive
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.cli.main import main
from tmkt_data.events.formats.clock import Clock
from tmkt_data.events.read import Reading, load_events
from tmkt_data.events.stream import read_pieces

NEAR = st.one_of(st.integers(0, 999), st.integers(0, 3), st.integers(980, 999), st.integers(400, 600))


@settings(deadline=None, max_examples=400)
@given(times=st.lists(NEAR, max_size=40), cuts=st.lists(st.integers(0, 40), max_size=6))
def test_pieces_of_any_size_are_unwrapped_like_a_plain_loop(times, cuts):
    scaled = [1000 * t for t in times]
    clock = Clock(1_000_000)
    parts = np.split(np.array(scaled, np.int64), sorted(min(cut, len(times)) for cut in cuts))
    found = [t for part in parts for t in clock.unwrap(part).tolist()]
    assert (found, clock.num_wraps) == naive.unwrap(scaled, 1_000_000)


@settings(deadline=None, max_examples=100)
@given(times=st.lists(st.integers(0, 2**32 - 1), max_size=30).map(sorted))
def test_times_in_order_stay_as_they_are(times):
    assert Clock(1 << 32).unwrap(np.array(times, np.int64)).tolist() == times


def test_by_hand():
    unwrap = lambda *times: Clock(1 << 23).unwrap(np.array(times)).tolist()  # noqa: E731
    end = 1 << 23
    assert unwrap(end - 9, 3, 8, end - 1, 5) == [end - 9, end + 3, end + 8, end - 1, end + 5]
    assert unwrap(100, 200, end - 500_000, 300, 400) == [100, 200, end - 500_000, 300, 400]
    assert unwrap(end // 2 + 2, 1, end // 2, 5) == [end // 2 + 2, end + 1, end + end // 2, end + 5]


COUNT = 900


def true_rows(clock_range):
    """Events over three rounds of the clock, from shortly before its end on, in steps below half of it."""
    step = clock_range * 5 // 2 // COUNT
    return [(clock_range - 70_000 + step * i, i % 100, i % 90, i % 3 == 0) for i in range(COUNT)]


def write_atis(path, rows):
    path.write_bytes(naive.encode_atis([(t % 2**23, *rest) for t, *rest in rows]))


def write_dat(path, rows):
    body = b"".join(struct.pack("<2I", t % 2**32, p << 28 | y << 14 | x) for t, x, y, p in rows)
    path.write_bytes(b"% Version 2\n% Width 128\n% Height 128\n\x0c\x08" + body)


def write_aedat2(path, rows):
    body = b"".join(struct.pack(">2I", y << 8 | x << 1 | p, t % 2**32) for t, x, y, p in rows)
    path.write_bytes(b"#!AER-DAT2.0\r\n# AEChip: DVS128\r\n#End Of ASCII Header\r\n" + body)


def write_npy(path, rows):
    array = np.array([(t % 2**32, *rest) for t, *rest in rows], [("t", "<u4"), ("x", "u1"), ("y", "u1"), ("p", "?")])
    np.save(path, array)


def write_npz(path, rows):
    t, x, y, p = (np.array(column) for column in zip(*rows, strict=True))
    np.savez(path, t=(t % 2**32).astype("u4"), x=x, y=y, p=p)


def signed(t):
    """Signed words of 32 bits: the largest is followed by the smallest."""
    return (np.array(t) % 2**32).astype("u4").view("i4")


def write_signed_npy(path, rows):
    t, x, y, p = zip(*rows, strict=True)
    array = np.empty(len(rows), [("t", "<i4"), ("x", "u1"), ("y", "u1"), ("p", "?")])
    array["t"], array["x"], array["y"], array["p"] = signed(t), x, y, p
    np.save(path, array)


def write_signed_npz(path, rows):
    t, x, y, p = zip(*rows, strict=True)
    np.savez(path, t=signed(t), x=x, y=y, p=p)


def write_signed_sides(path, rows):
    sides = {
        side: np.column_stack([[row[1] for row in some], [row[2] for row in some], signed([row[0] for row in some])])
        for side, some in (("pos", [row for row in rows if row[3]]), ("neg", [row for row in rows if not row[3]]))
    }
    np.savez(path, **{side: array.astype("i4") for side, array in sides.items()})


WRITERS = {
    "a.bin": (write_atis, 2**23),
    "a.dat": (write_dat, 2**32),
    "a.aedat": (write_aedat2, 2**32),
    "a.npy": (write_npy, 2**32),
    "a.npz": (write_npz, 2**32),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_recording_counts_on_where_its_clock_goes_round(tmp_path, name):
    write, clock_range = WRITERS[name]
    rows = true_rows(clock_range)
    write(tmp_path / name, rows)
    events = load_events(tmp_path / name)
    assert naive.rows_of(events) == rows
    assert (events.num_wraps, events.num_inversions) == (3, 0)


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "a.npz"])
@pytest.mark.parametrize("piece_bytes", [1, 40, 333, 5000])
def test_pieces_count_on_too(tmp_path, name, piece_bytes):
    write, clock_range = WRITERS[name]
    rows = true_rows(clock_range)
    write(tmp_path / name, rows)
    pieces = list(read_pieces(tmp_path / name, Reading(), piece_bytes))
    assert [row for piece in pieces for row in naive.rows_of(piece)] == rows
    assert sum(piece.num_wraps for piece in pieces) == 3
    assert sum(piece.num_inversions for piece in pieces) == 0


@pytest.mark.parametrize(
    ("name", "write", "options"),
    [
        ("a.npy", write_signed_npy, {}),
        ("a.npz", write_signed_npz, {}),
        ("sides.npz", write_signed_sides, {"columns": "xyt"}),
    ],
)
def test_signed_times_count_on_too(tmp_path, name, write, options):
    # From shortly before the largest signed time on.
    rows = [(t - 2**31, x, y, p) for t, x, y, p in true_rows(2**32)]
    write(tmp_path / name, rows)
    events = load_events(tmp_path / name, **options)
    assert naive.rows_of(events) == rows
    assert (events.num_wraps, events.num_inversions) == (3, 0)
    if name == "a.npy":
        pieces = list(read_pieces(tmp_path / name, Reading(), 333))
        assert [row for piece in pieces for row in naive.rows_of(piece)] == rows


def test_a_side_that_begins_after_the_wrap_counts_on(tmp_path):
    # One side ends before the clock wraps, the other begins after it.
    rows = [(2**31 - 4, 1, 2, True), (2**31 - 3, 1, 2, True), (2**31 + 5, 3, 4, False), (2**31 + 9, 3, 4, True)]
    write_signed_sides(tmp_path / "a.npz", rows)
    events = load_events(tmp_path / "a.npz", columns="xyt")
    assert naive.rows_of(events) == rows
    assert events.num_wraps == 1


def test_signed_times_in_a_matlab_file_count_on(tmp_path):
    scipy_io = pytest.importorskip("scipy.io")
    rows = [(t - 2**31, x, y, p) for t, x, y, p in true_rows(2**32)]
    t, x, y, p = zip(*rows, strict=True)
    scipy_io.savemat(tmp_path / "a.mat", {"ts": signed(t), "x": np.array(x), "y": np.array(y), "p": np.array(p, "i1")})
    events = load_events(tmp_path / "a.mat")
    assert naive.rows_of(events) == rows
    assert (events.num_wraps, events.num_inversions) == (3, 0)


def test_late_events_around_the_end_are_put_in_order(tmp_path):
    end = 2**32
    rows = [(t, 1, 2, True) for t in (end - 9, end + 3, end - 2, end + 5, end - 1, end + 7)]
    write_dat(tmp_path / "a.dat", rows)
    events = load_events(tmp_path / "a.dat")
    assert events.t.tolist() == sorted(row[0] for row in rows)
    assert (events.num_wraps, events.num_inversions) == (1, 2)


@pytest.mark.parametrize(("name", "seconds"), [("a.bin", "20.94"), ("a.dat", "107")])
def test_the_command_says_so(tmp_path, name, seconds):
    write, clock_range = WRITERS[name]
    write(tmp_path / name, true_rows(clock_range))
    result = CliRunner().invoke(main, ["events", str(tmp_path / name)])
    assert "clock             time wrapped 3 times and was unwrapped" in result.output
    assert "timestamps decreased" not in result.output
    assert f"time              {seconds}" in result.output
