import json

import numpy as np
import pytest
from click.testing import CliRunner

from tmkt_data import EVENT_DTYPE, write_events
from tmkt_train.cli.main import main
from tmkt_train.recipe.recipe import recipe_text

from ..conftest import make_recipe

SHORT = ("--set", "train.epochs=1")
# `train` is `recipe`; what `suggest` prints is in test_suggest.py, as it trains many runs.
COMMANDS = {
    "recipes": (["recipes"], "recipes"),
    "check": (["check", "tiny.toml"], "settings"),
    "recipe": (["recipe", "tiny.toml", *SHORT, "--no-report", "--out", "run"], "result"),
    "resume": (["resume", "run", "--no-report"], "result"),
    "evaluate": (["evaluate", "run"], "test_accuracy"),
    "report": (["report", "run", "--out", "run.html"], "figures"),
    "few-shot": (["few-shot", "run", "--ways", "2", "--shots", "1", "--queries", "1", "--episodes", "5"], "accuracies"),
    "export": (["export", "run", "--safetensors"], "files"),
    "compare": (["compare", "tiny.toml", *SHORT, "--seeds", "1", "--out", "both"], "groups"),
    "sweep": (["sweep", "tiny.toml", *SHORT, "--over", "mix.ratio=0.2,0.4", "--trials", "1", "--out", "all"], "trials"),
}


@pytest.fixture(scope="module")
def folder(tiny_cache, tmp_path_factory):
    place = tmp_path_factory.mktemp("reporting")
    (place / "caches").mkdir()
    (place / "caches" / "digits-tiny.h5").write_bytes(tiny_cache.read_bytes())
    (place / "tiny.toml").write_text(recipe_text(make_recipe()), encoding="utf-8")
    return place


def test_json_is_one_object_and_quiet_is_silent(folder, digits_root, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TMKT_CACHES", "caches")
    assert {*COMMANDS, "predict", "suggest", "train"} == set(main.commands)
    for words, key in COMMANDS.values():
        if words[0] == "few-shot":
            continue
        if words[0] == "report":
            # What is drawn of them takes most of the time.
            (folder / "run" / "diagnostics.npz").unlink()
        found = CliRunner().invoke(main, [*words, "--json"])
        assert found.exit_code == 0, (words, found.output)
        assert key in json.loads(found.stdout)
    recording = str(next(path for path in sorted(digits_root.rglob("*")) if path.suffix in (".npz", ".bin")))
    found = CliRunner().invoke(main, ["predict", "run", recording, "--json"])
    assert json.loads(found.stdout)["file"] == recording
    # What the system refuses is told, and the others are classified.
    found = CliRunner().invoke(main, ["predict", "run", "n" * 300, recording, "--json"])
    assert (found.exit_code, json.loads(found.stdout)["file"]) == (1, recording)
    assert "(File name too long)" in found.stderr
    # The advice of readers names no option that the command lacks.
    np.save("plain.npy", np.zeros((5, 4), np.int64))
    write_events("wide.npz", np.zeros(2, EVENT_DTYPE), sensor_size=(64, 48))
    found = CliRunner().invoke(main, ["predict", "run", "plain.npy", "wide.npz"])
    columns, sensor = found.stderr.splitlines()
    assert columns.endswith("columns='txyp' or the like (tmkt-data convert --columns txyp)")
    assert sensor.endswith(": declares a sensor of 64 x 48, expected 34 x 34, as the run was trained on")
    for words in (
        ["recipes"],
        ["check", "tiny.toml"],
        ["report", "run", "--out", "run.html"],
        ["resume", "run", "--no-report"],
    ):
        found = CliRunner().invoke(main, [*words, "--quiet"])
        assert (found.exit_code, found.stdout, found.stderr) == (0, "", "")
