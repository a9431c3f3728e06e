"""From a folder of images to a network: simulated, prepared, the camera fitted, and trained with it."""

from __future__ import annotations

import json

import numpy as np
from click.testing import CliRunner
from PIL import Image

from tmkt_data.cli.main import main as tmkt_data
from tmkt_train.cli.main import main as tmkt_train

RECIPE = """extends = "scnn_folder"

[data]
image_encoding = "saccade"

[data.prepare]
size = 24

[train]
epochs = 2
batch_size = 4

[data.camera]
"""


def call(command, *words, expected=0):
    result = CliRunner().invoke(command, [str(word) for word in words])
    assert result.exit_code == expected, result.output
    return result.stdout + result.stderr


def draw_bars(folder):
    """Bars on black, across in one class and down in the other."""
    random = np.random.default_rng(0)
    for number in range(24):
        image = np.zeros((40, 40), np.uint8)
        for _ in range(3):
            at, first = random.integers(7, 28, 2)
            image[at : at + 4, first : first + 7] = random.integers(100, 256)
        name = ("across", "down")[number % 2]
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.T if number % 2 else image).save(folder / name / f"{number:02}.png")


def test_a_camera_fitted_to_a_folder_trains_its_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw_bars(tmp_path / "in")
    call(tmkt_data, "simulate", "in", "out", "--sensor", "40x40", "--set", "negative=true", "--set", "path.scale=0.8")
    call(tmkt_data, "prepare", "folder", "--root", "out", "--out", "c.h5", "--size", 24)
    (tmp_path / "own.toml").write_text(RECIPE.removesuffix("[data.camera]\n"))
    told = call(tmkt_train, "train", "own.toml", "--cache", "c.h5", "--out", "run", expected=2)
    assert "found 'saccade' for folder, whose camera path is unknown" in told
    camera = call(tmkt_data, "pairs", "c.h5", "--fit-motion")
    assert "negative = true" in camera
    (tmp_path / "own.toml").write_text(RECIPE + camera)
    call(tmkt_train, "train", "own.toml", "--cache", "c.h5", "--no-report", "--out", "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert 0 <= result["test_accuracy"] <= 1
    assert "negative = true" in (tmp_path / "run" / "recipe.toml").read_text()
