"""HDF5 recordings: every known layout as h5py writes it, and nothing outside the file is ever opened.

DSEC, Prophesee and MATLAB 7.3 lay their files out so by their documentation (DATASETS [S]); no original was at hand.
"""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import forks
import h5py
import naive
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data import read_events
from tmkt_data.cli.main import main
from tmkt_data.errors import EventError
from tmkt_data.events.events import SensorSize
from tmkt_data.events.formats import hdf5
from tmkt_data.events.formats.hdf5 import load_hdf5
from tmkt_data.events.read import Reading
from tmkt_data.events.stream import read_pieces

sys.path.insert(0, str(Path(__file__).parents[3] / "tools"))
import fuzz_hdf5

ROWS = [(10, 3, 2, True), (20, 0, 0, False), (20, 5, 4, True), (31, 6, 1, False)]
T, X, Y, P = (np.array(column) for column in zip(*ROWS, strict=True))


def write(path, layout):
    with h5py.File(path, "w") as file:
        for name, data in layout.items():
            file[name] = data
    return path


LAYOUTS = {
    "DSEC": {
        "events/t": T.astype("u4"),
        "events/x": X.astype("u2"),
        "events/y": Y.astype("u2"),
        "events/p": P.astype("u1"),
        "ms_to_idx": np.zeros(2, "u8"),
    },
    "root": {"t": T, "x": X, "y": Y, "p": P},
    "other names": {"events/ts": T, "events/xs": X.astype("u1"), "events/ys": Y, "events/ps": np.where(P, 1, -1)},
    "column vectors": {"t": T[:, None], "x": X[None], "y": Y, "p": P},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_known_layouts_are_read(tmp_path, name):
    assert read_events(write(tmp_path / "a.h5", LAYOUTS[name])).tolist() == ROWS


def test_the_offset_of_dsec_is_added(tmp_path):
    path = write(tmp_path / "a.h5", LAYOUTS["DSEC"] | {"t_offset": np.int64(49_599_300_523)})
    assert read_events(path)["t"].tolist() == [t + 49_599_300_523 for t in T.tolist()]
    path = write(tmp_path / "b.h5", LAYOUTS["DSEC"] | {"t_offset": np.int64(2**62)})
    with pytest.raises(EventError, match=r"b\.h5: t_offset is 4611686018427387904, which moves times beyond 2\*\*61"):
        read_events(path)


def prophesee(path, rows=ROWS, geometry="7x5", **options):
    table = np.zeros(len(rows), [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    for name, column in zip("txyp", zip(*rows, strict=True), strict=True):
        table[name] = column
    with h5py.File(path, "w") as file:
        events = file.create_group("CD").create_dataset("events", data=table, **options)
        events.attrs["geometry"] = geometry
    return path


def test_the_table_of_prophesee_is_read_with_its_size(tmp_path):
    path = prophesee(tmp_path / "a.hdf5")
    assert read_events(path).tolist() == ROWS
    assert load_hdf5(path).sensor_size == SensorSize(7, 5)
    smaller = prophesee(tmp_path / "b.hdf5", geometry="6x5")
    assert load_hdf5(smaller).num_dropped == {"outside the sensor": 1}
    assert load_hdf5(prophesee(tmp_path / "c.hdf5", geometry="huge")).sensor_size is None


def matlab(path, empty=False, **changed):
    columns = {"ts": T, "x": X, "y": Y, "p": np.where(P, 1, -1)} | changed
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, data in columns.items():
            file[name] = np.zeros(2, "u8") if empty else data.astype("f8")[None]
            if empty:
                file[name].attrs["MATLAB_empty"] = np.uint8(1)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(126) + b"\x02IM")
    return path


def test_matlab_7_3_is_read_as_matlab_5_is(tmp_path):
    path = matlab(tmp_path / "a.mat")
    assert read_events(path).tolist() == ROWS
    assert read_events(path, unit="ms")["t"].tolist() == [1000 * t for t in T.tolist()]
    three = matlab(tmp_path / "b.mat", p=np.array([1, -1, 0, 1]))
    assert read_events(three)["p"].tolist() == [True, False, False, True]
    for name, changed, message in (
        ("c.mat", {"p": np.array([1, 2, 0, 1])}, "polarities run from 0 to 2, expected -1, 0 or 1"),
        ("d.mat", {"ts": T / 3}, "variable ts has fractions, expected whole numbers"),
    ):
        with pytest.raises(EventError) as raised:
            read_events(matlab(tmp_path / name, **changed))
        assert message in str(raised.value)


def test_an_empty_matlab_recording_has_no_invented_events(tmp_path):
    with pytest.raises(EventError, match=r"a\.mat: no events, expected one or more"):
        read_events(matlab(tmp_path / "a.mat", empty=True))


def test_nothing_in_the_current_folder_is_run(tmp_path):
    write(tmp_path / "a.h5", LAYOUTS["root"])
    for name in ("json", "numpy", "h5py", "contextlib", "tmkt_data"):
        (tmp_path / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'w').write({name!r})\nraise SystemExit\n"
        )
    script = "from tmkt_data import read_events; print(len(read_events('a.h5')))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "4\n", done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_reads_with_a_reader_of_its_own(tmp_path):
    write(tmp_path / "a.h5", LAYOUTS["root"])
    forks.assert_both_read(tmp_path / "a.h5", 4)


def four_columns(path, order="txyp", dtype="u4", unit_us=1, name="events", **options):
    """Write events as v2e does, in uint32 microseconds, or as MVSEC, in float64 seconds and -1 or 1."""
    by_letter = {"t": T / unit_us, "x": X, "y": Y, "p": P if dtype == "u4" else 2.0 * P - 1}
    with h5py.File(path, "a") as file:
        file.create_dataset(
            name, data=np.column_stack([by_letter[letter] for letter in order]).astype(dtype), **options
        )
    return path


def test_a_table_of_four_columns_is_read_in_the_order_that_is_given(tmp_path):
    v2e = four_columns(tmp_path / "a.h5", chunks=(2, 4), maxshape=(None, 4), compression="gzip")
    order = (
        r"^a\.h5: events has four columns without names; give their order, columns='txyp' or the like \(--columns txyp"
    )
    for keys in (None, "table=events"):
        with pytest.raises(EventError, match=order):
            read_events(v2e, keys=keys)
        assert read_events(v2e, columns="txyp", keys=keys).tolist() == ROWS
    assert CliRunner().invoke(main, ["events", str(v2e), "--columns", "txyp"]).exit_code == 0
    pieces = read_pieces(v2e, Reading(columns="txyp"), 16)
    assert [row for piece in pieces for row in naive.rows_of(piece)] == ROWS
    with pytest.raises(
        EventError, match=r"^a\.h5: columns: found 'xyt', expected the letters of 'txyp' in some order$"
    ):
        read_events(v2e, columns="xyt")
    with pytest.raises(
        EventError, match=r"^b\.h5: columns: found 'txyp', expected none for columns with names; leave it"
    ):
        read_events(write(tmp_path / "b.h5", LAYOUTS["root"]), columns="txyp")


def test_one_of_two_tables_has_to_be_named(tmp_path):
    path = tmp_path / "a.h5"
    for side in ("left", "right"):
        four_columns(path, "xytp", "f8", 1e6, f"davis/{side}/events")
    with pytest.raises(
        EventError,
        match=r"^a\.h5: found 2 tables of four columns \('davis/left/events', 'davis/right/events'\), expected one; "
        r"give its path, keys='table=davis/left/events' \(--keys\)$",
    ):
        read_events(path, columns="xytp", unit="s")
    assert read_events(path, keys="table=davis/right/events", columns="xytp", unit="s").tolist() == ROWS


def test_any_other_layout_wants_its_keys(tmp_path):
    path = write(
        tmp_path / "a.h5", {"raw_events/time": T / 1e6, "raw_events/c": X, "raw_events/r": Y, "raw_events/s": P}
    )
    with pytest.raises(
        EventError, match=r"a\.h5: found 'raw_events', expected events/t, x, y and p, or CD/events; give"
    ):
        read_events(path)
    keys = "t=raw_events/time,x=raw_events/c, y=raw_events/r,p=raw_events/s"
    assert read_events(path, keys=keys, unit="s").tolist() == ROWS
    result = CliRunner().invoke(main, ["events", str(path), "--keys", keys, "--unit", "s"])
    assert result.exit_code == 0, result.output
    table = prophesee(tmp_path / "b.h5")
    assert read_events(table, keys="table=CD/events").tolist() == ROWS


@pytest.mark.parametrize(
    "keys", ["", "t", "t=a", "t=a,x=b,y=c,p=d,q=e", "t=a,t=b,x=c,y=d,p=e", "table=", "table=a,t=b"]
)
def test_keys_that_are_none_are_named(tmp_path, keys):
    with pytest.raises(EventError, match=r"a\.h5: keys: found .*, expected t=PATH,x=PATH,y=PATH,p=PATH or table=PATH"):
        read_events(write(tmp_path / "a.h5", LAYOUTS["root"]), keys=keys)


@pytest.mark.parametrize("compression", ["gzip", "lzf", "blosc"])
def test_compressed_columns_are_read(tmp_path, compression):
    options = {"compression": compression}
    if compression == "blosc":
        options = dict(pytest.importorskip("hdf5plugin").Blosc())
    rows = [(t, t % 7, t % 5, t % 3 == 0) for t in range(5000)]
    assert read_events(prophesee(tmp_path / "a.h5", rows, chunks=(512,), **options)).tolist() == rows


def test_a_filter_that_nobody_has_is_named(tmp_path):
    rows = np.zeros(8, [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((8,))
        # Prophesee's ECF; optional, so that the file can be made without it.
        properties.set_filter(0x8ECF, h5py.h5z.FLAG_OPTIONAL, (0,))
        space = h5py.h5s.create_simple((8,))
        made = h5py.h5d.create(file.create_group("CD").id, b"events", h5py.h5t.py_create(rows.dtype), space, properties)
        made.write_direct_chunk((0,), rows.tobytes(), 0)
    with pytest.raises(
        EventError, match=r"a\.h5: CD/events is compressed with a filter that neither HDF5 nor hdf5plugin"
    ):
        read_events(tmp_path / "a.h5")


OUTSIDE = {
    "an external link": lambda file, other: file.__setitem__("events/t", h5py.ExternalLink(str(other), "/t")),
    "an external group": lambda file, other: file.__setitem__("events", h5py.ExternalLink(str(other), "/")),
    "a soft link": lambda file, _: file.__setitem__("events/t", h5py.SoftLink("/t")),
    "a dangling link": lambda file, _: file.__setitem__("events/t", h5py.SoftLink("/nowhere")),
    "a loop of links": lambda file, _: file.__setitem__("events", h5py.SoftLink("/events")),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_links_are_never_followed(tmp_path, name):
    other = write(tmp_path / "secret.h5", LAYOUTS["root"])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        OUTSIDE[name](file, other)
        file["t"] = T
    for keys in (None, "t=events/t,x=events/t,y=events/t,p=events/t"):
        with pytest.raises(EventError, match=r"^a\.h5: events/t is a link to elsewhere, which is never followed; copy"):
            read_events(tmp_path / "a.h5", keys=keys)


def test_data_kept_in_other_files_is_never_read(tmp_path):
    (tmp_path / "secret.bin").write_bytes(bytes(range(32)))
    other = write(tmp_path / "other.h5", LAYOUTS["root"])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (4,), "i8", external=[(str(tmp_path / "secret.bin"), 0, 32)])
        layout = h5py.VirtualLayout((4,), "i8")
        layout[:] = h5py.VirtualSource(str(other), "t", (4,))
        file.create_virtual_dataset("t", layout)
        file["y"], file["p"] = Y, P
    with pytest.raises(EventError, match=r"a\.h5: t is kept in other files, which are never read"):
        read_events(tmp_path / "a.h5")
    with pytest.raises(EventError, match=r"a\.h5: x is kept in other files"):
        read_events(tmp_path / "a.h5", keys="t=y,x=x,y=y,p=p")


def test_a_bomb_is_refused_before_it_is_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in "txyp":
            file.create_dataset(name, (10**9,), "i8", chunks=(1 << 20,), compression="gzip", fillvalue=0)
    assert (tmp_path / "a.h5").stat().st_size < 20_000
    with pytest.raises(
        EventError, match=r"a\.h5: t claims 8,000,000,000 bytes in a file of [\d,]+; it looks like a bomb"
    ):
        read_events(tmp_path / "a.h5")


BAD = {
    "missing": ({"events/t": T, "events/x": X, "events/y": Y}, "expected events/t, x, y and p"),
    "two names": ({"t": T, "ts": T, "x": X, "y": Y, "p": P}, "expected events/t, x, y and p"),
    "lengths": ({"t": T, "x": X[:2], "y": Y, "p": P}, "expected numbers, one for each of the 4 times"),
    "text": ({"t": T, "x": np.array([b"a"] * 4), "y": Y, "p": P}, "x holds |S1, expected numbers"),
    "a table": ({"t": np.zeros((2, 2)), "x": X, "y": Y, "p": P}, "t has shape (2, 2), expected one column"),
    "polarity": ({"t": T, "x": X, "y": Y, "p": X}, "polarity holds 0, 3, 5, 6, expected bool, 0 and 1, or -1 and 1"),
    "negative": ({"t": T, "x": X - 9, "y": Y, "p": P}, "x runs from -9 to -3, expected 0 to 65535"),
    "far": ({"t": T + 2**62, "x": X, "y": Y, "p": P}, "expected at most 2**61 microseconds"),
    "nothing": ({}, "found nothing, expected events/t"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_recording_is_one_line(tmp_path, name):
    layout, message = BAD[name]
    with pytest.raises(EventError) as raised:
        read_events(write(tmp_path / "a.h5", layout))
    assert str(raised.value).startswith("a.h5: ")
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_empty_recording_and_one_out_of_order_are_what_they_are(tmp_path):
    empty = {name: column[:0] for name, column in LAYOUTS["root"].items()}
    assert len(read_events(write(tmp_path / "a.h5", empty))) == 0
    back = {name: column[::-1] for name, column in LAYOUTS["root"].items()}
    events = load_hdf5(write(tmp_path / "b.h5", back))
    assert events.num_inversions == 2
    assert events.t.tolist() == sorted(T.tolist())


@settings(max_examples=40, deadline=None)
@given(cut=st.floats(0, 1), kind=st.sampled_from(["table", "columns"]))
def test_a_cut_file_decodes_or_says_why(tmp_path_factory, cut, kind):
    folder = tmp_path_factory.mktemp("cut")
    path = prophesee(folder / "a.h5") if kind == "table" else write(folder / "a.h5", LAYOUTS["DSEC"])
    data = path.read_bytes()
    path.write_bytes(data[: int(cut * len(data))])
    naive.decodes_or_says_why(lambda: load_hdf5(path), "a.h5")


def test_mutated_files_end_well():
    result = fuzz_hdf5.run(count=400, seed=1)
    assert result.decoded + result.refused == 400
    assert min(result.decoded, result.refused) > 20


def test_a_reader_that_is_killed_is_one_line_and_the_next_read_has_another(tmp_path, monkeypatch):
    path = write(tmp_path / "a.h5", LAYOUTS["root"])
    assert read_events(path).tolist() == ROWS
    worker = hdf5._WORKER
    first = worker._child
    os.kill(first.pid, signal.SIGSTOP)
    monkeypatch.setattr(hdf5, "TIME_LIMIT_S", 0.3)
    with pytest.raises(EventError, match=r"^a\.h5: the HDF5 library crashed or did not finish within 0 s; the file is"):
        read_events(path)
    monkeypatch.undo()
    assert first.poll() is not None
    assert read_events(path).tolist() == ROWS
    assert worker._child.pid != first.pid


def test_a_lock_on_the_file_is_no_damage(tmp_path):
    path = write(tmp_path / "a.h5", LAYOUTS["root"])
    command = [sys.executable, "-c", "import sys, tmkt_data; print(len(tmkt_data.read_events(sys.argv[1])))", str(path)]
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert subprocess.run(command, capture_output=True, text=True, check=False).stdout == "4\n"
        # With this variable HDF5 asks for its lock, whatever it is told.
        asking = os.environ | {"HDF5_USE_FILE_LOCKING": "TRUE"}
        refused = subprocess.run(command, capture_output=True, text=True, check=False, env=asking)
    assert "a.h5: cannot be read ([Errno 11]" in refused.stderr
    assert "damaged" not in refused.stderr
