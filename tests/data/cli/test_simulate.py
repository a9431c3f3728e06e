"""`tmkt-data simulate`, and that `prepare` and `pairs` find the twins that it made."""

from __future__ import annotations

import json
import tomllib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tmkt_data.cache.reader import Cache
from tmkt_data.events.read import load_events

from .conftest import one_line, run


@pytest.fixture
def images(tmp_path):
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(12):
            image = Image.new("RGB", (80, 60), "gray")
            for box in random.integers((0, 0), (60, 45), (4, 2)).tolist():
                color = tuple(random.integers(0, 256, 3).tolist())
                ImageDraw.Draw(image).rectangle((*box, box[0] + 20, box[1] + 15), color)
            image.save(tmp_path / "in" / name / f"{number:02}.png")
    return tmp_path / "in"


def test_images_become_a_dataset_whose_twins_correlate(images, tmp_path):
    out, cache = tmp_path / "out", tmp_path / "c.h5"
    result = run("simulate", images, out, "--sensor", "80x60", "--workers", 2)
    assert result.exit_code == 0, result.output
    assert "24 images, 2 classes; sensor 80 x 60, path saccades of 300 ms" in result.stdout
    assert "wrote 24 recordings in " in result.stdout
    assert f"prepare: tmkt-data prepare folder --root {out}" in result.stdout
    assert "kept 24 earlier" in run("simulate", images, out, "--sensor", "80x60").stdout
    prepared = run("prepare", "folder", "--root", out, "--out", cache)
    assert prepared.exit_code == 0, prepared.output
    assert "24 recordings, 24 images, 24 twins, 2 classes" in prepared.stdout
    told = json.loads(run("pairs", cache, "--pairing", "twin", "--json").stdout)
    alignment = told["alignment"]
    assert alignment["own"] > 0.5 > 0.2 > alignment["same_class"]
    assert alignment["own_is_best"] > 0.8


def test_values_paths_and_cameras_are_those_of_the_run(images, tmp_path):
    path = tmp_path / "path.toml"
    path.write_text("points = [[0, 0, 0], [50, 3, 1]]\n")
    first = run("simulate", images, tmp_path / "a", "--sensor", "40x30", "--path", path, "--set", "shot_hz=0")
    assert "path points of 50 ms" in first.stdout
    again = run("simulate", images, tmp_path / "b", "--sensor", "40x30", "--camera", tmp_path / "a" / "simulate.toml")
    assert again.exit_code == 0, again.output
    name = "events/dog/03.bin"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(
    ("options", "exit_code", "named"),
    [
        (["--sensor", "346x260"], 2, "sensor: found 346 x 260, a .bin file holds up to 256 x 240"),
        (["--set", "threshold_on=0"], 2, "threshold_on 0 (expected 0.01 to 10)"),
        (["--set", "threshold_off=-0.2"], 2, "threshold_off -0.2"),
        (["--path", "circle"], 2, "path: found 'circle', expected saccades"),
        (["--camera", "none.toml"], 2, "none.toml: no such file"),
        (["--set", "path.scale=100"], 2, "and leaves the image of 240 x 180 sensor pixels"),
    ],
)
def test_wrong_options_are_one_line(images, tmp_path, options, exit_code, named):
    result = run("simulate", images, tmp_path / "out", *options)
    assert named in one_line(result, exit_code)
    assert not (tmp_path / "out").exists()


def test_bad_images_are_named_and_can_be_left_out(images, tmp_path):
    (images / "cat" / "05.png").write_bytes(b"damaged")
    Image.new("RGB", (40, 30), (90, 90, 90)).save(images / "cat" / "04.png")
    options = "simulate", images, tmp_path / "out", "--sensor", "40x30"
    failed = run(*options)
    assert "cannot record 1 image; fix them" in one_line(failed)
    assert "cat/05.png: no image that Pillow can read" in failed.stderr
    assert "note: 1 image without contrast, such as cat/04; recorded is noise alone" in failed.stdout
    passed = run(*options, "--skip-bad")
    assert passed.exit_code == 0
    assert "skipped: cat/05.png: no image" in passed.stdout
    assert "wrote 0 recordings" in passed.stdout
    assert "kept 23 earlier" in passed.stdout
    # Of a recording that was made before, too.
    assert "note: 1 image without contrast, such as cat/04; recorded is noise alone" in passed.stdout


def test_like_fits_the_camera_to_recordings_and_says_how_close_it_came(images, tmp_path):
    truth, out = tmp_path / "truth", tmp_path / "out"
    made = run("simulate", images, truth, "--sensor", "40x30", "--set", "threshold_on=0.3", "--set", "path.scale=0.8")
    assert made.exit_code == 0
    result = run("simulate", images, out, "--like", truth, "--workers", 2)
    assert result.exit_code == 0, result.output
    assert "fitting to 12 recordings of folder (40 x 30), 12 held out" in result.stdout
    assert "of the published length" in result.stdout
    assert "simulated and real recordings of the same held-out images" in result.stdout
    assert "sensor 40 x 30" in result.stdout
    settings = tomllib.loads((out / "simulate.toml").read_text())
    assert settings["threshold_on"] == pytest.approx(0.3, rel=0.2)
    assert settings["path"]["scale"] == pytest.approx(0.8, abs=0.11)
    assert "no recordings with their images" in one_line(run("simulate", images, tmp_path / "new", "--like", images))


def test_recordings_of_any_format_hold_the_same_events(images, tmp_path):
    found = {}
    for kind in ("bin", "npz", "aedat4"):
        out = tmp_path / kind
        made = run("simulate", images, out, "--sensor", "80x60", "--format", kind)
        assert made.exit_code == 0, made.output
        found[kind] = load_events(out / "events" / "cat" / f"03.{kind}")
    for kind in ("npz", "aedat4"):
        assert found[kind].sensor_size == (80, 60)
        for name in "txyp":
            np.testing.assert_array_equal(getattr(found[kind], name), getattr(found["bin"], name), f"{kind} {name}")
    prepared = run("prepare", "folder", "--root", tmp_path / "aedat4", "--out", tmp_path / "c.h5")
    assert prepared.exit_code == 0, prepared.output
    assert "24 recordings, 24 images, 24 twins, 2 classes" in prepared.stdout
    assert run("prepare", "folder", "--root", tmp_path / "npz", "--out", tmp_path / "d.h5").exit_code == 0
    frames = [Cache(tmp_path / name).event_frames(np.arange(24)) for name in ("c.h5", "d.h5")]
    np.testing.assert_array_equal(*frames)


def test_a_larger_sensor_is_held_by_aedat4(images, tmp_path):
    made = run("simulate", images, tmp_path / "out", "--sensor", "346x260", "--format", "aedat4")
    assert made.exit_code == 0, made.output
    events = load_events(tmp_path / "out" / "events" / "dog" / "00.aedat4")
    assert events.sensor_size == (346, 260)
    assert int(events.x.max()) > 256


def test_images_of_all_sizes_and_kinds_are_recorded_and_prepared(tmp_path):
    folder, out = tmp_path / "in" / "cat", tmp_path / "out"
    folder.mkdir(parents=True)
    ramp = np.tile(np.linspace(0, 255, 10_000).astype(np.uint8), (40, 1))
    Image.fromarray(ramp).save(folder / "long.png")
    Image.fromarray(ramp.T.copy()).save(folder / "tall.jpg")
    Image.fromarray(np.full((1, 1), 90, np.uint8)).save(folder / "dot.png")
    Image.fromarray(np.full((30, 40), 90, np.uint8)).save(folder / "flat.png")
    colors = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(colors).convert("CMYK").save(folder / "print.jpg")
    Image.fromarray(colors).convert("P").save(folder / "palette.png")
    Image.fromarray(np.dstack([colors, colors[:, :, 0]])).save(folder / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(colors).save(folder / "turned.jpg", exif=exif)
    (tmp_path / "in" / "dog").mkdir()
    for number in range(3):
        Image.fromarray(colors[:, ::-1] // (1 + number)).save(tmp_path / "in" / "dog" / f"{number}.png")
    made = run("simulate", tmp_path / "in", out, "--sensor", "80x60", "--path", "jitter", "--set", "path.scale=0.1")
    assert made.exit_code == 0, made.output
    assert "2 images without contrast, such as cat/dot" in made.stdout
    prepared = run("prepare", "folder", "--root", out, "--out", tmp_path / "c.h5")
    assert prepared.exit_code == 0, prepared.output
    cache = Cache(tmp_path / "c.h5")
    frames = dict(zip(cache.image_ids, cache.image_frames(np.arange(len(cache.image_ids))), strict=True))
    assert len(frames) == 11
    # 10 000 x 40 pixels on 80 x 60 are less than one row of cells.
    assert (np.diff(frames["cat/long"][0].astype(int)) >= -1).all()
    assert frames["cat/long"][0, -1] > frames["cat/long"][0, 0] + 20
    assert not frames["cat/long"][2:].any()
    assert frames["cat/tall"][-1, 0] > frames["cat/tall"][0, 0] + 20


def test_more_than_eight_bits_a_channel_and_too_many_pixels_are_named(images, tmp_path):
    Image.fromarray(np.full((30, 40), 40_000, np.uint16)).save(images / "cat" / "deep.png")
    # Enough for Pillow to warn, in each of several threads.
    for name in "abc":
        Image.new("1", (10_000, 10_000)).save(images / "cat" / f"huge_{name}.png")
    result = run("simulate", images, tmp_path / "out", "--sensor", "40x30", "--workers", 3)
    assert "cannot record 4 images; fix them" in one_line(result)
    assert "cat/deep.png: pixels of type I;16, expected 8 bits a channel; convert it" in result.stderr
    assert result.stderr.count("10000 x 10000 pixels, expected at most 64000000; scale it down") == 3
