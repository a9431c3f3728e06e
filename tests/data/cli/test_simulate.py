"""`tmkt-data simulate`, and that `prepare` and `pairs` find the twins that it made."""

from __future__ import annotations

import json
import tomllib

import numpy as np
import pytest
from PIL import Image, ImageDraw

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
    options = "simulate", images, tmp_path / "out", "--sensor", "40x30"
    failed = run(*options)
    assert "cannot record 1 image; fix them" in one_line(failed)
    assert "cat/05.png: no image that Pillow can read" in failed.stderr
    passed = run(*options, "--skip-bad")
    assert passed.exit_code == 0
    assert "skipped: cat/05.png: no image" in passed.stdout
    assert "wrote 0 recordings" in passed.stdout
    assert "kept 23 earlier" in passed.stdout


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
