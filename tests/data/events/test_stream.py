"""A recording in pieces is the recording: for every format, any size of piece, every choice of frames and filters."""

import os
import subprocess
import sys

import faery
import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from tmkt_data.cache.reader import Cache
from tmkt_data.cli.main import main
from tmkt_data.datasets.folder import open_folder
from tmkt_data.errors import EventError
from tmkt_data.events import stream as pieces_module
from tmkt_data.events.events import SensorSize, validate_events
from tmkt_data.events.formats.atis import encode_atis
from tmkt_data.events.read import Reading, decode_recording, load_events
from tmkt_data.events.stream import STREAMABLE, checksum_of, is_large, is_large_but_whole, read_pieces
from tmkt_data.events.summary import summarize_events, summarize_pieces
from tmkt_data.files import checksum
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare
from tmkt_data.preview.recording_sheet import draw_pieces, draw_recording
from tmkt_data.spec import PrepareSpec

SIZE = SensorSize(128, 128)


def columns_of(seed, count=700, span=900_000, jitter=0):
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, span, count))
    t = np.maximum(t + rng.integers(-jitter, jitter + 1, count), 0) if jitter else t
    return t, rng.integers(0, 128, count), rng.integers(0, 128, count), rng.integers(0, 2, count)


def atis(path, t, x, y, p):
    path.write_bytes(encode_atis(validate_events(t, x.astype("u2"), y.astype("u2"), p == 1)))


def dat(path, t, x, y, p):
    body = np.stack([t, x | y << 14 | p << 28], 1).astype("<u4").tobytes()
    path.write_bytes(b"% Version 2\n% Width 128\n% Height 128\n% T0 5\n\x0c\x08" + body)


def evt2(path, t, x, y, p):
    """A time word before each event whose upper time differs, over a wrap of its 28 bits."""
    words, high = [], None
    for time, column, row, on in zip(t + (1 << 34) - 300_000, x, y, p, strict=True):
        if time >> 6 != high:
            high = int(time) >> 6
            words.append(8 << 28 | high & 0xFFFFFFF)
        words.append(int(on) << 28 | (int(time) & 63) << 22 | int(column) << 11 | int(row))
    path.write_bytes(b"% evt 2.0\n% geometry 128x128\n" + np.array(words, "<u4").tobytes())


def evt3(path, t, x, y, p):
    """Rows, times and vectors that stand long before the events that need them, over a wrap of 24 bits."""
    words, high, low, row = [], None, None, None
    for number, (time, column, line, on) in enumerate(zip(t + (1 << 24) - 300_000, x, y, p, strict=True)):
        time = int(time) & 0xFFFFFF
        if time >> 12 != high:
            high = time >> 12
            words.append(0x8000 | high)
        if time & 0xFFF != low:
            low = time & 0xFFF
            words.append(0x6000 | low)
        if line != row:
            row = int(line)
            words.append(row)
        if number % 3:
            words.append(0x2000 | int(on) << 11 | int(column))
        else:
            words += [0x3000 | int(on) << 11 | int(column) // 2, 0x4000 | 0b101, 0x5000 | 0b11]
    path.write_bytes(b"% evt 3.0\n% geometry 128x128\n% end\n" + np.array(words, "<u2").tobytes())


def aedat2(path, t, x, y, p):
    stamps = (t + (1 << 32) - 300_000) & 0xFFFFFFFF
    words = np.stack([y << 8 | x << 1 | p | (np.arange(len(t)) % 50 == 9) << 15, stamps], 1)
    path.write_bytes(b"#!AER-DAT2.0\r\n# AEChip: DVS128\r\n#End Of ASCII Header\r\n" + words.astype(">u4").tobytes())


def aedat3(path, t, x, y, p):
    packets = []
    for at in range(0, len(t), 33):
        part = slice(at, at + 33)
        body = np.stack([1 | p[part] << 1 | y[part] << 2 | x[part] << 17, t[part]], 1).astype("<u4").tobytes()
        count = len(body) // 8
        head = np.array([1, 0], "<i2").tobytes() + np.array([8, 4, 0, count, count, count], "<i4").tobytes()
        packets += [
            head + body,
            np.array([3, 0], "<i2").tobytes() + np.array([4, 0, 0, 2, 1, 1], "<i4").tobytes() + bytes(8),
        ]
    path.write_bytes(b"#!AER-DAT3.1\r\n#!END-HEADER\r\n" + b"".join(packets))


def aedat4(path, t, x, y, p):
    array = np.zeros(len(t), faery.EVENTS_DTYPE)
    order = np.argsort(t, kind="stable")
    for name, column in (("t", t), ("x", x), ("y", y)):
        array[name] = column[order]
    array[array.dtype.names[3]] = p[order]
    faery.events_stream_from_array(array, dimensions=SIZE).to_file(path)


def structured(path, t, x, y, p):
    array = np.zeros(len(t), [("t", "<i8"), ("x", "<u2"), ("y", "<u2"), ("p", "?")])
    for name, column in zip("txyp", (t, x, y, p), strict=True):
        array[name] = column
    np.save(path, array)


def columns_of_hdf5(path, t, x, y, p):
    with h5py.File(path, "w") as file:
        for name, column in zip("txyp", (t, x, y, p), strict=True):
            file.create_dataset(f"events/{name}", data=column, chunks=(90 if name == "t" else 40,), compression="gzip")
        file["t_offset"] = np.int64(10**12)


def table_of_hdf5(path, t, x, y, p):
    array = np.zeros(len(t), [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    for name, column in zip("txyp", (t, x, y, p), strict=True):
        array[name] = column
    with h5py.File(path, "w") as file:
        file.create_group("CD").create_dataset("events", data=array).attrs["geometry"] = "128x128"


def matlab73(path, t, x, y, p):
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, column in (("ts", t), ("x", x), ("y", y), ("p", p)):
            file[name] = column.astype("f8")[None]
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(126) + b"\x02IM")


def archive(path, t, x, y, p):
    np.savez_compressed(path, T=t, x=x.astype("u1"), y=y, pol=p, sensor_size=np.array(SIZE))


def event_stream(path, t, x, y, p):
    body, last = [], 0
    for time, column, row, on in zip(t.tolist(), x.tolist(), y.tolist(), p.tolist(), strict=True):
        waits, rest = divmod(time - last, 127)
        last = time
        body.append(b"\xff" * waits + bytes([rest << 1 | on, column, 0, 127 - row, 0]))
    path.write_bytes(b"Event Stream\x02\x00\x00\x01\x80\x00\x80\x00" + b"".join(body) + b"\xff\xff")


WRITERS = {
    "a.es": event_stream, "columns.h5": columns_of_hdf5, "table.h5": table_of_hdf5, "a.mat": matlab73, "a.npz": archive,
    "a.bin": atis, "a.dat": dat, "evt2.raw": evt2, "evt3.raw": evt3, "two.aedat": aedat2, "three.aedat": aedat3,
    "a.aedat4": aedat4, "a.npy": structured,
}  # fmt: skip


def same(pieces, whole):
    pieces = list(pieces)
    for name in "txyp":
        np.testing.assert_array_equal(np.concatenate([getattr(piece, name) for piece in pieces]), getattr(whole, name))
    assert sum(piece.num_read for piece in pieces) == whole.num_read
    total = {}
    for piece in pieces:
        for reason, count in piece.num_dropped.items():
            total[reason] = total.get(reason, 0) + count
    assert total == whole.num_dropped
    return pieces


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("piece_bytes", [1, 40, 333, 4096, 10**6])
def test_pieces_are_the_whole(tmp_path, name, piece_bytes):
    path = tmp_path / name
    WRITERS[name](path, *columns_of(1))
    whole = decode_recording(path.read_bytes(), path, Reading(SIZE))
    assert len(whole) >= 600
    pieces = same(read_pieces(path, Reading(SIZE), piece_bytes), whole)
    if piece_bytes in (333, 4096) and name != "a.aedat4" and not name.startswith("a.mat"):
        assert len(pieces) >= 2


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), piece_bytes=st.integers(1, 3000), jitter=st.integers(0, 5000))
@pytest.mark.parametrize("name", ["a.dat", "evt3.raw", "a.npy"])
def test_times_that_step_back_a_little_are_put_in_order(tmp_path_factory, name, seed, piece_bytes, jitter):
    path = tmp_path_factory.mktemp("jitter") / name
    WRITERS[name](path, *columns_of(seed, 300, jitter=jitter))
    whole = decode_recording(path.read_bytes(), path, Reading(SIZE))
    same(read_pieces(path, Reading(SIZE), piece_bytes), whole)


def test_times_that_step_back_far_are_one_line(tmp_path):
    t, x, y, p = columns_of(0)
    dat(tmp_path / "a.dat", t[::-1], x, y, p)
    with pytest.raises(
        EventError, match=r"^a\.dat: time steps back to \d+ after \d+ has passed; a file of this size is"
    ):
        list(read_pieces(tmp_path / "a.dat", Reading(SIZE), 800))


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("cut", [3, 1001])
def test_a_cut_file_says_so_in_pieces_too(tmp_path, name, cut):
    path = tmp_path / name
    WRITERS[name](path, *columns_of(1))
    path.write_bytes(path.read_bytes()[:-cut])
    try:
        decode_recording(path.read_bytes(), path, Reading(SIZE))
    except EventError:
        with pytest.raises(EventError, match=rf"^{name}: [^\n]*$"):
            list(read_pieces(path, Reading(SIZE), 1 << 10))
    else:
        same(read_pieces(path, Reading(SIZE), 1 << 10), decode_recording(path.read_bytes(), path, Reading(SIZE)))


@pytest.mark.parametrize("name", WRITERS)
def test_summary_and_picture_are_the_same(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path, *columns_of(2))
    whole = decode_recording(path.read_bytes(), path, Reading(SIZE))
    pieces = lambda: read_pieces(path, Reading(SIZE), 500)  # noqa: E731
    assert summarize_pieces(pieces, place=name) == summarize_events(whole, place=name)
    assert draw_pieces(pieces, name).tobytes() == draw_recording(whole, name).tobytes()


CHOICES = [
    {}, {"resize": "bilinear"}, {"resize": "area", "canvas": "tight"}, {"representation": "voxel"},
    {"bin_rule": "tonic"}, {"bin_rule": "spikingjelly"}, {"orientation": "rotate-90", "shift_x": -3},
    {"refractory_us": 3000, "background_us": 60_000, "hot_pixels": 1.5},
]  # fmt: skip


@pytest.mark.parametrize("choices", CHOICES)
def test_caches_are_the_same_whether_files_count_as_large_or_not(tmp_path, monkeypatch, choices):
    root = tmp_path / "own"
    for number, (name, write) in enumerate(WRITERS.items()):
        folder = root / "events" / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / f"{number}-{name}", *columns_of(number))
    (root / "tmkt.toml").write_text('sensor_size = [128, 128]\nimages = ""\nchip = "DVS128"\n')
    spec = PrepareSpec(size=16, **choices)
    digests = []
    for large in (False, True):
        if large:
            monkeypatch.setattr(pieces_module, "WHOLE_BYTES", 0)
            monkeypatch.setattr(pieces_module, "PIECE_BYTES", 600)
            monkeypatch.setattr(read_pieces, "__defaults__", (600,))
        for _ in prepare_cache(plan_prepare(open_folder(root), spec, tmp_path / f"{large}.h5")):
            pass
        digests.append(Cache(tmp_path / f"{large}.h5").info.digest)
    assert digests[0] == digests[1]


def test_the_checksum_in_pieces_is_that_of_the_file(tmp_path):
    data = os.urandom(100_000)
    (tmp_path / "a").write_bytes(data)
    assert checksum_of(tmp_path / "a") == checksum(data)


def test_formats_that_are_not_read_in_pieces_say_so(tmp_path):
    path = tmp_path / "a.mat"
    savemat(path, dict(zip(("ts", "x", "y", "p"), columns_of(0), strict=True)))
    assert "mat" not in STREAMABLE
    with pytest.raises(
        EventError, match=r"a\.mat: MATLAB 5 files are not read in pieces; save it with -v7\.3, which is"
    ):
        list(read_pieces(path, Reading()))


def test_archives_of_two_sides_are_decoded_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces_module, "WHOLE_BYTES", 0)
    np.savez(tmp_path / "sides.npz", pos=np.array([[1, 2, 3]]), neg=np.array([[4, 5, 1]]))
    archive(tmp_path / "columns.npz", *columns_of(0))
    assert [is_large(tmp_path / f"{name}.npz") for name in ("sides", "columns")] == [False, True]
    assert [is_large_but_whole(tmp_path / f"{name}.npz") for name in ("sides", "columns")] == [True, False]
    result = CliRunner().invoke(main, ["events", str(tmp_path / "sides.npz"), "--columns", "xyt"])
    assert result.exit_code == 0
    assert (
        "note: sides.npz is decoded at once, which takes several times its 0.0 MB of memory; convert it"
        in result.stderr
    )


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "a.aedat4"])
def test_what_is_said_of_a_cut_file_is_true_of_all_of_it(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path, *columns_of(1))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(EventError) as whole:
        decode_recording(path.read_bytes(), path, Reading(SIZE))
    with pytest.raises(EventError) as pieces:
        list(read_pieces(path, Reading(SIZE), 1 << 10))
    if name != "a.npz":
        assert str(pieces.value) == str(whole.value)


@pytest.mark.parametrize("suffix", [".npz", ".aedat4", ".bin"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_large_file_is_converted_in_pieces(tmp_path, monkeypatch, name, suffix):
    path = tmp_path / name
    t, *rest = columns_of(2)
    WRITERS[name](path, t, *rest)
    whole = decode_recording(path.read_bytes(), path, Reading())
    monkeypatch.setattr(pieces_module, "WHOLE_BYTES", 0)
    monkeypatch.setattr(read_pieces, "__defaults__", (600,))
    result = CliRunner().invoke(main, ["convert", str(path), str(tmp_path / f"b{suffix}")])
    if suffix == ".bin" and int(whole.t[-1]) >= 2**23:
        assert result.exit_code == 1
        assert "an ATIS file holds 0 to 8388607" in result.stderr
        return
    assert result.exit_code == 0, result.output
    monkeypatch.undo()
    again = load_events(tmp_path / f"b{suffix}")
    for column in "txyp":
        np.testing.assert_array_equal(getattr(again, column), getattr(whole, column))
    assert suffix == ".bin" or again.sensor_size in (whole.sensor_size, SIZE)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"t": 9, "x": 9, "y": 9, "p": 8}, r"columns of different length \(.*p 8\)"),
        ({"t": 9, "T": 9, "x": 9, "y": 9, "p": 9}, r"found T and t for t among T, p, t, x, y; expected one of t, ts"),
    ],
)
@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_columns_that_do_not_fit_are_one_line(tmp_path, suffix, columns, message):
    path = tmp_path / f"a{suffix}"
    arrays = {name: np.zeros(count, "i8") for name, count in columns.items()}
    if suffix == ".npz":
        np.savez(path, **arrays)
        for read in (lambda: list(read_pieces(path, Reading())), lambda: load_events(path)):
            with pytest.raises(EventError, match=rf"^a\.npz: ({message}|p is int64 of shape)"):
                read()
    elif "T" not in columns:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
        with pytest.raises(EventError, match=rf"^a\.h5: {message}"):
            list(read_pieces(path, Reading()))


WATCH = """
import re, resource, sys
from pathlib import Path
from tmkt_data.events.formats import hdf5
from tmkt_data.events.stream import is_large, read_pieces
from tmkt_data.events.read import Reading
path = Path(sys.argv[1])
assert is_large(path)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(len(events) for events in read_pieces(path, Reading()))
reader = hdf5._WORKER._child
status = Path(f"/proc/{reader.pid}/status") if reader else Path("none")
peak = int(re.search(r"VmHWM:\\s*(\\d+)", status.read_text())[1]) if status.is_file() else 0
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, peak)
"""
CONVERT = """
import resource, sys
from tmkt_data.cli.main import main
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
main(["convert", *sys.argv[1:]], standalone_mode=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
def test_memory_does_not_grow_with_an_hdf5_file(tmp_path, packed):
    path, count = tmp_path / "a.h5", 14_000_000
    options = {"chunks": (1 << 17,), "compression": "gzip", "compression_opts": 1} if packed else {}
    with h5py.File(path, "w") as file:
        file.create_dataset("events/t", data=np.arange(count, dtype="u4"), **options)
        for name, kind in (("x", "u2"), ("y", "u2"), ("p", "u1")):
            file.create_dataset(f"events/{name}", data=np.arange(count, dtype="u4").astype(kind) & 1)
        file["padding"] = np.zeros(20_000_000, "u1")
        file["t_offset"] = np.int64(10**12)
    done = subprocess.run([sys.executable, "-c", WATCH, str(path)], capture_output=True, text=True, check=True)
    found, kibibytes, of_reader = (int(word) for word in done.stdout.split())
    assert found == count
    # All at once it would be more than 180 MB of columns in each, and as much again on the way to the record.
    assert max(kibibytes, of_reader) < 200_000


@pytest.mark.slow
def test_memory_does_not_grow_with_what_is_converted(tmp_path):
    t, x, y, p = columns_of(3, 10_000_000)
    dat(tmp_path / "a.dat", t, x, y, p)
    command = [sys.executable, "-c", CONVERT, str(tmp_path / "a.dat"), str(tmp_path / "b.aedat4")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 250_000
    assert sum(len(piece) for piece in read_pieces(tmp_path / "b.aedat4", Reading())) == 10_000_000


def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "a.dat"
    t, x, y, p = columns_of(3, 1_000_000)
    dat(path, t, x, y, p)
    head, body = (
        path.read_bytes()[:-8_000_000],
        np.frombuffer(path.read_bytes()[-8_000_000:], "<u4").reshape(-1, 2).copy(),
    )
    with path.open("wb") as file:
        file.write(head)
        for _ in range(40):
            file.write(body.tobytes())
            body[:, 0] += 1_000_000
    assert path.stat().st_size > 300_000_000
    done = subprocess.run([sys.executable, "-c", WATCH, str(path)], capture_output=True, text=True, check=True)
    count, kibibytes, _ = (int(word) for word in done.stdout.split())
    assert count == 40_000_000
    # All at once it would be more than 800 MB: 320 of the file and 13 bytes an event.
    assert kibibytes < 250_000
