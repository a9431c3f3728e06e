"""A finished run classifies files as it classified the recordings of its cache."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
import trees
from click.testing import CliRunner

from tests.train.conftest import make_recipe
from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare
from tmkt_train import load_run
from tmkt_train.cli.main import main
from tmkt_train.errors import RunError
from tmkt_train.training.run import start_run


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return trees.write_nmnist(tmp_path_factory.mktemp("root"), per_digit=6, test_per_digit=3, digits=2)


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    spec = dataclasses.replace(default_spec("nmnist"), size=16, time_bins=4)
    for _ in prepare_cache(plan_prepare(open_catalogue("nmnist", root), spec, folder / "a.h5")):
        pass
    recipe = make_recipe(
        data__dataset="nmnist", data__prepare={"size": 16, "time_bins": 4}, train__epochs=1, optim__warmup_epochs=0
    )
    for _ in start_run(recipe, cache=folder / "a.h5", out=folder / "run").train():
        pass
    (folder / "a.h5").unlink()
    return folder / "run"


def predicted(run):
    with (run / "predictions.csv").open(newline="") as file:
        return {row["id"]: (row["class"], row["predicted"]) for row in csv.DictReader(file)}


def test_files_of_the_test_split_get_the_classes_that_the_run_recorded(root, run):
    trained, recorded = load_run(run), predicted(run)
    assert len(recorded) == 6
    for sample, (digit, expected) in recorded.items():
        file = root / "N-MNIST" / "Test" / digit / f"{sample.rpartition('-')[2]}.bin"
        found = trained.predict(file)
        assert (found.class_name, trained.class_names[found.label]) == (expected, expected)


def test_probabilities_are_those_of_the_mean_logits_so_far(root, run):
    trained = load_run(run)
    file = next((root / "N-MNIST" / "Test").rglob("*.bin"))
    found = trained.predict(file)
    with torch.no_grad():
        logits = trained.network(trained.frames(file), head="event").logits[:, 0].double().numpy()
    for step in range(4):
        mean = logits[: step + 1].mean(axis=0)
        expected = np.exp(mean - mean.max())
        np.testing.assert_allclose(found.probabilities[step], expected / expected.sum(), rtol=1e-12)
    np.testing.assert_array_equal(found.confidences, found.probabilities[:, found.label])


def test_the_command_names_what_it_cannot_read_and_classifies_the_rest(root, run, tmp_path):
    bad = tmp_path / "bad.bin"
    bad.write_bytes(b"1234567")
    good = sorted((root / "N-MNIST" / "Test" / "0").glob("*.bin"))
    result = CliRunner().invoke(main, ["predict", str(run), str(bad), str(good[0].parent), "--csv", "--quiet"])
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert [row["file"] for row in rows] == list(map(str, good))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: bad.bin: ")
    assert sum(float(rows[0][digit]) for digit in "0123456789") == pytest.approx(1, abs=1e-5)


def test_a_run_of_an_earlier_version_says_so(run, tmp_path):
    shutil.copytree(run, tmp_path / "old")
    values = json.loads((tmp_path / "old" / "result.json").read_text())
    del values["cache_facts"]
    (tmp_path / "old" / "result.json").write_text(json.dumps(values))
    with pytest.raises(RunError, match="no cache_facts, as in runs of an earlier version; train it again"):
        load_run(tmp_path / "old")


def test_a_recipe_that_was_changed_after_the_start_is_refused(run, tmp_path):
    shutil.copytree(run, tmp_path / "changed")
    recipe = tmp_path / "changed" / "recipe.toml"
    text = recipe.read_text()
    assert '"log1p"' in text
    recipe.write_text(text.replace('"log1p"', '"raw"'))
    with pytest.raises(RunError, match="recipe"):
        load_run(tmp_path / "changed")


def test_predict_computes_with_the_threads_of_the_training(root, run, monkeypatch):
    trained, found, file = load_run(run), [], next((root / "N-MNIST" / "Test").rglob("*.bin"))
    assert trained.num_threads == 1
    train = trained.recipe.train.model_copy(update={"num_threads": "auto"})
    recipe = trained.recipe.model_copy(update={"train": train})
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    dataclasses.replace(trained, recipe=recipe, num_threads=3).predict(file)
    assert found[0] == 3


@pytest.mark.parametrize(("dataset", "is_noted"), [("dvsgesture", True), ("nmnist", False)])
def test_a_file_of_many_samples_is_noted(root, run, tmp_path, monkeypatch, dataset, is_noted):
    file = tmp_path / "user01_led.bin"
    shutil.copy(next((root / "N-MNIST" / "Test").rglob("*.bin")), file)
    (tmp_path / "user01_led_labels.csv").write_text("class,start,end\n1,0,10\n2,20,30\n3,40,50\n")
    trained = load_run(run)
    recipe = trained.recipe.model_copy(update={"data": trained.recipe.data.model_copy(update={"dataset": dataset})})
    named = dataclasses.replace(trained, recipe=recipe)
    monkeypatch.setattr("tmkt_train.training.trained.load_run", lambda _: named)
    result = CliRunner().invoke(main, ["predict", str(run), str(file)])
    assert result.exit_code == 0, result.output
    assert ("holds 3 samples, listed in user01_led_labels.csv, and is classified as one" in result.stderr) == is_noted
