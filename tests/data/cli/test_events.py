"""`tmkt-data events` and `tmkt-data convert`: what they print, write and refuse."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tmkt_data.cli.main import main
from tmkt_data.events import stream
from tmkt_data.events.events import SensorSize, validate_events
from tmkt_data.events.read import load_events
from tmkt_data.events.write import write_events

FACE = "ncaltech101/Caltech101/Faces_easy/image_0001.bin"


def record_of(rows, sensor_size=None):
    t, x, y, p = (np.array(column) for column in zip(*rows, strict=True))
    return validate_events(t.astype(np.int64), x, y, p.astype(bool), sensor_size=sensor_size)


def call(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.output


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


def test_a_name_that_the_system_refuses_is_told_beside_the_others(tmp_path):
    write_events(tmp_path / "a.npz", record_of([(1, 2, 3, True), (2, 5, 3, True)]))
    code, out = call("events", "n" * 300, tmp_path / "a.npz")
    assert code == 1
    assert "events            2\n" in out
    assert out.endswith(f"error: {'n' * 300}: cannot be read (File name too long)\n")


def test_convert_says_what_is_left_out(tmp_path):
    write_events(tmp_path / "a.npz", record_of([(1, 2, 3, True), (2, 50, 3, True)]))
    code, out = call("convert", tmp_path / "a.npz", tmp_path / "b.bin", "--sensor", "34x34")
    assert code == 0
    assert "note: 1 outside the sensor of 2 events were dropped" in out
    assert len(load_events(tmp_path / "b.bin", sensor_size=SensorSize(34, 34))) == 1


@pytest.mark.parametrize("size", ["34", "34x", "0x3", "axb", "99999x3", "-3x4"])
def test_a_sensor_is_two_sides(tmp_path, size):
    (tmp_path / "a.bin").write_bytes(bytes.fromhex("8302800006"))
    code, out = call("events", tmp_path / "a.bin", f"--sensor={size}")
    assert code == 2
    assert out == f"error: --sensor-size: found {size!r}, expected width and height such as 240x180, 1 to 65536 each\n"


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
        monkeypatch.setattr(stream, "WHOLE_BYTES", 0)
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
    row = (
        f"coarse            the file's times are up to {step:,} us apart, finer ones are lost" if step else "  coarse  "
    )
    assert (code, row in out) == (0, step is not None)
    assert "  coarse  " not in call("events", tmp_path / "b.npz", "--unit", "s")[1]


def write_tall(path, size=(40, 30)):
    write_events(path, record_of([(1, 2, 3, True), (2, 39, 29, False)], SensorSize(*size)))
    return path


def test_several_files_are_named_with_their_formats_and_a_broken_one_hides_no_other(tmp_path):
    first, last = write_tall(tmp_path / "a.npz"), write_tall(tmp_path / "c.bin")
    (tmp_path / "b.bin").write_bytes(b"1234")
    code, out = call("events", first, tmp_path / "b.bin", last)
    assert code == 1
    for path, title in ((first, "NumPy .npz"), (last, "ATIS")):
        assert f"  file              {path}\n  format            {title}\n  events            2\n" in out
    assert out.splitlines()[-1].startswith("error: b.bin: ")
    code, out = call("events", first, last, "--out", tmp_path / "a.png")
    assert code == 2
    assert "--out draws one recording, found 2 files; name one of them" in out
    assert not (tmp_path / "a.png").exists()


def test_json_is_one_object_of_one_or_more_files(tmp_path):
    first, last = write_tall(tmp_path / "a.npz"), write_tall(tmp_path / "c.bin")
    found = json.loads(call("events", first, last, "--json")[1])
    assert list(found) == ["recordings", "problems"]
    assert [(each["file"], each["format"], each["num_events"]) for each in found["recordings"]] == [
        (str(first), "npz", 2),
        (str(last), "atis", 2),
    ]
    alone = json.loads(call("events", last, "--json")[1])
    assert (alone["num_events"], alone["recordings"]) == (2, found["recordings"][1:])
    (tmp_path / "b.bin").write_bytes(b"1234")
    result = CliRunner().invoke(main, ["events", str(tmp_path / "b.bin"), str(first), "--json"])
    found = json.loads(result.stdout)
    assert (result.exit_code, len(found["recordings"]), len(found["problems"])) == (1, 1, 1)


def test_orientation_turns_the_events_as_prepare_does(tmp_path):
    path = write_tall(tmp_path / "a.npz")
    assert call("convert", path, tmp_path / "b.npz", "--orientation", "rotate-90")[0] == 0
    turned = load_events(tmp_path / "b.npz")
    assert (turned.sensor_size, turned.x.tolist(), turned.y.tolist()) == ((30, 40), [26, 0], [2, 39])
    assert "within 30 x 40" in call("events", path, "--orientation", "transpose")[1]


@pytest.mark.parametrize("is_large", [False, True])
def test_a_recording_without_a_sensor_is_not_turned(tmp_path, monkeypatch, is_large):
    path = write_tall(tmp_path / "a.bin")
    if is_large:
        monkeypatch.setattr(stream, "WHOLE_BYTES", 0)
    message = "a.bin: declares no sensor, expected one to apply --orientation to; give --sensor-size"
    assert call("events", path, "--orientation", "flip-x") == (1, f"error: {message}\n")
    out = call("events", path, "--orientation", "flip-x", "--sensor-size", "40x30")[1]
    assert "extent            x 0 to 37, y 3 to 29" in out


def test_options_are_called_as_in_prepare_and_those_of_before_are_taken(tmp_path):
    np.savez(tmp_path / "a.npz", t=np.array([0.5, 0.9]), **{name: np.zeros(2, np.uint8) for name in "xyp"})
    message = "a.npz: t is float64 without a unit; give unit='s' or another (--time-unit s)"
    assert call("events", tmp_path / "a.npz") == (1, f"error: {message}\n")
    assert call("events", tmp_path / "a.npz", "--unit", "s") == call("events", tmp_path / "a.npz", "--time-unit", "s")
    for option in ("--orientation", "--aedat2-layout"):
        message = "a.npz: orientation: found 'jaer', expected none for a recording of format npz; leave it out"
        assert call("events", tmp_path / "a.npz", option, "jaer") == (1, f"error: {message} (--aedat2-layout)\n")
    code, out = call("events", tmp_path / "a.npz", "--orientation", "left")
    assert (code, out.startswith("error: --orientation: found 'left', expected one of as-is, flip-x,")) == (2, True)
