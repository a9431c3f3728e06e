"""What `tmkt-data events` says and draws, and `tmkt-data convert`."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tmkt_data.cli.main import main
from tmkt_data.errors import EventError
from tmkt_data.events import stream as pieces_module
from tmkt_data.events.events import SensorSize, validate_events
from tmkt_data.events.read import load_events
from tmkt_data.events.write import write_events
from tmkt_data.preview.recording_sheet import HotPixel, draw_recording, summarize_events

FACE = "ncaltech101/Caltech101/Faces_easy/image_0001.bin"
ROW = st.tuples(st.integers(0, 10**6), st.integers(0, 40), st.integers(0, 30), st.booleans())


def record_of(rows, sensor_size=None):
    t, x, y, p = (np.array(column) for column in zip(*rows, strict=True))
    return validate_events(t.astype(np.int64), x, y, p.astype(bool), sensor_size=sensor_size)


def call(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(ROW, min_size=1, max_size=60))
def test_the_numbers_are_those_of_a_plain_count(rows):
    summary = summarize_events(record_of(rows))
    times = [row[0] for row in rows]
    assert (summary.t_first_us, summary.t_last_us) == (min(times), max(times))
    assert (summary.num_on, summary.num_off) == (sum(r[3] for r in rows), sum(not r[3] for r in rows))
    assert summary.num_active_pixels == len({row[1:3] for row in rows})
    assert sum(summary.events_per_step) == summary.num_events == len(rows)
    first, span = min(times), max(times) - min(times)
    edges = [first + span * step // 10 for step in range(1, 10)]
    expected = [sum(edge <= time for edge in edges) for time in times]
    assert list(summary.events_per_step) == np.bincount(expected, minlength=10).tolist()


def test_a_hot_pixel_stands_out():
    rows = [(i, i % 20, i // 20, True) for i in range(400)] + [(i, 5, 6, False) for i in range(300)]
    assert summarize_events(record_of(rows)).hot_pixels == (HotPixel(5, 6, 301),)


def test_the_picture_shows_the_extent_and_every_event_color():
    picture = draw_recording(record_of([(0, 200, 100, True), (9, 210, 130, False)]), "two.bin")
    colors = {color for _, color in picture.getcolors(1 << 20)}
    assert picture.mode == "RGB"
    assert {(0, 114, 178), (213, 94, 0)} <= colors
    draw_recording(record_of([(0, 65535, 65535, True), (9, 0, 0, False)]), "wide")


def test_no_events_are_one_line():
    empty = validate_events(*(np.empty(0, kind) for kind in (np.int64, np.uint16, np.uint16, np.bool_)))
    with pytest.raises(EventError, match=r"^a\.npz: no events, expected some to look at$"):
        summarize_events(empty, place="a.npz")


def test_events_command_on_a_real_recording(tmp_path, real_data):
    code, out = call("events", real_data / FACE, "--out", tmp_path / "face.png")
    assert code == 0
    assert "events            67,445" in out
    assert "x 0 to 150, y 0 to 172" in out
    assert "hot               (131, 2) 667" in out
    with Image.open(tmp_path / "face.png") as picture:
        assert picture.width > 1000
    code, out = call("events", real_data / FACE, "--json")
    found = json.loads(out)
    assert (code, found["num_events"], found["num_on"] + found["num_off"]) == (0, 67445, 67445)


def test_convert_and_back_is_the_same_file(tmp_path, real_data):
    assert call("convert", real_data / FACE, tmp_path / "face.npz")[0] == 0
    assert call("convert", tmp_path / "face.npz", tmp_path / "face.bin")[0] == 0
    assert (tmp_path / "face.bin").read_bytes() == (real_data / FACE).read_bytes()


def test_convert_says_what_is_left_out(tmp_path):
    write_events(tmp_path / "a.npz", record_of([(1, 2, 3, True), (2, 50, 3, True)]))
    code, out = call("convert", tmp_path / "a.npz", tmp_path / "b.bin", "--sensor", "34x34")
    assert code == 0
    assert "note: 1 outside the sensor of 2 events are not in it" in out
    assert len(load_events(tmp_path / "b.bin", sensor_size=SensorSize(34, 34))) == 1


@pytest.mark.parametrize("size", ["34", "34x", "0x3", "axb", "99999x3", "-3x4"])
def test_a_sensor_is_two_sides(tmp_path, size):
    (tmp_path / "a.bin").write_bytes(bytes.fromhex("8302800006"))
    code, out = call("events", tmp_path / "a.bin", f"--sensor={size}")
    assert code == 2
    assert out == f"error: --sensor: found {size!r}, expected width and height such as 240x180, 1 to 65536 each\n"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "a.bin",
            ("--unit", "s"),
            "a.bin: unit: found 's', expected none for a recording of format atis; leave it out",
        ),
        ("a.bin", ("--columns", "xytp"), "a.bin: columns: found 'xytp', expected none for a recording of format atis"),
        ("a.bin", ("--chip", "DVS128"), "a.bin: chip: found 'DVS128', expected none for a recording of format atis"),
        ("a.npz", ("--keys", "table=a"), "a.npz: keys: found 'table=a', expected none for a recording of format npz"),
        (
            "a.npz",
            ("--columns", "txyp"),
            "a.npz: columns: found 'txyp', expected none for columns with names; leave it",
        ),
        (
            "a.npy",
            ("--columns", "txyp"),
            "a.npy: columns: found 'txyp', expected none for columns with names; leave it",
        ),
        ("a.npz", ("--orientation", "jaer"), "a.npz: orientation: found 'jaer', expected none for a recording of"),
    ],
)
@pytest.mark.parametrize("is_large", [False, True])
def test_what_a_format_has_no_place_for_is_refused(tmp_path, monkeypatch, is_large, name, options, message):
    record = record_of([(1, 2, 3, True), (2, 50, 3, True)])
    if name.endswith(".npy"):
        np.save(tmp_path / name, record.to_array())
    else:
        write_events(tmp_path / name, record)
    if is_large:
        monkeypatch.setattr(pieces_module, "WHOLE_BYTES", 0)
    for arguments in (("events", tmp_path / name), ("convert", tmp_path / name, tmp_path / "b.npz")):
        code, out = call(*arguments, *options)
        assert (code, out.startswith(f"error: {message}")) == (1, True), out
    assert call("events", tmp_path / name)[0] == 0


def test_an_atis_file_declares_no_sensor(tmp_path):
    write_events(tmp_path / "a.bin", record_of([(1, 2, 3, True), (2, 50, 3, True)]))
    assert "sensor            size not declared" in call("events", tmp_path / "a.bin")[1]
    assert "sensor            within 240 x 180" in call("events", tmp_path / "a.bin", "--sensor", "240x180")[1]
    assert call("convert", tmp_path / "a.bin", tmp_path / "a.npz")[0] == 0
    assert load_events(tmp_path / "a.npz").sensor_size is None


@pytest.mark.parametrize(("last", "step"), [(0.9, None), (100.0, 8), (70_000.0, 7813)])
def test_times_that_are_too_coarse_for_microseconds_are_named(tmp_path, last, step):
    columns = {name: np.zeros(2, np.uint8) for name in "xyp"}
    np.savez(tmp_path / "a.npz", t=np.array([0.5, last], np.float32), **columns)
    np.savez(tmp_path / "b.npz", t=np.array([0.5, last], np.float64), **columns)
    code, out = call("events", tmp_path / "a.npz", "--unit", "s")
    row = f"coarse            the file's times are up to {step:,} us apart, finer ones are lost" if step else "coarse"
    assert (code, row in out) == (0, step is not None)
    assert "coarse" not in call("events", tmp_path / "b.npz", "--unit", "s")[1]
