"""Which recordings a run is selected and tested on, and what it says of that."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from tmkt_data import PairedFrames
from tmkt_data.errors import CacheError
from tmkt_train.errors import RunInterruptedError
from tmkt_train.training.checkpoint import load_checkpoint
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.result import evaluate_both, evaluate_run
from tmkt_train.training.run import resume_run, start_run
from tmkt_train.training.setup import setup_warnings

from ..conftest import make_recipe
from .runs import Asks, StopAfter, alter_recording, assert_same_run, rows_of, train


def test_weights_are_tested_once(tiny_cache, tmp_path):
    steps, batches = 5, 2
    counts = {}
    for name, changes in {
        "selected on val": {},
        "last, on test": {"data__protocol": "kt-paper", "train__select": "last"},
        "no test": {"train__final_split": "val", "train__select": "last"},
    }.items():
        asks = Asks()
        recipe = make_recipe(train__epochs=2, train__eval_batch_size=5, **changes)
        run = start_run(recipe, cache=tiny_cache, out=tmp_path / name)
        assert (run.setup.batches_per_epoch, len(run.setup.selection)) == (5, 10)
        list(run.train(asks))
        counts[name] = asks.count
    assert counts == {
        "selected on val": 2 * (steps + batches) + batches,
        "last, on test": 2 * (steps + batches),
        "no test": 2 * (steps + batches),
    }


@pytest.mark.parametrize(("split", "num_epochs_done"), [("test", 3), ("val", 0)])
def test_test_part_is_read_at_the_end_only(tiny_cache, tmp_path, split, num_epochs_done):
    cache = tmp_path / "cache.h5"
    shutil.copy(tiny_cache, cache)
    alter_recording(cache, rows_of(cache, split)[0])
    seen = []
    with pytest.raises(CacheError, match="was changed"):
        seen.extend(start_run(make_recipe(), cache=cache, out=tmp_path / "run").train())
    assert len(RunFolder(tmp_path / "run").metrics.read()[0]) == num_epochs_done


def test_run_without_the_test_part_reads_no_recording_of_it(tiny_cache, tmp_path):
    cache = tmp_path / "cache.h5"
    shutil.copy(tiny_cache, cache)
    for row in rows_of(cache, "test"):
        alter_recording(cache, row)
    result = train(make_recipe(train__final_split="val"), cache, tmp_path / "run")[-1].result
    names = ("test_accuracy", "test_loss", "last_epoch_test_accuracy", "num_test")
    assert [result[name] for name in names] == [None, None, None, 0]
    assert result["warnings"] == []
    rows = RunFolder(tmp_path / "run").metrics.read()[0]
    assert result["val_accuracy"] == max(row["val_accuracy"] for row in rows)
    with np.load(tmp_path / "run" / "diagnostics.npz") as found:
        assert np.trace(found["confusion"]) / found["confusion"].sum() == result["val_accuracy"]
        assert set(found["strip_ids"]) <= set(PairedFrames(cache, split="val", pairing="none").ids)
    with pytest.raises(CacheError, match="was changed"):
        evaluate_run(tmp_path / "run")


def test_last_epoch_is_tested_beside_the_selected_one(tiny_cache, tmp_path):
    # A high rate, so that the epochs differ; with it, this seed selects epoch 4.
    recipe = make_recipe(seed=8, optim__learning_rate=0.1, optim__schedule="constant", train__epochs=5)
    result = train(recipe, tiny_cache, tmp_path / "run")[-1].result
    assert result["best_epoch"] == 3
    selected, last = evaluate_both(tmp_path / "run")
    assert selected.accuracy == result["test_accuracy"] != last.accuracy
    assert last.accuracy == result["last_epoch_test_accuracy"]
    assert evaluate_run(tmp_path / "run")[0].accuracy == result["test_accuracy"]


def test_last_epoch_may_be_taken_whatever_its_accuracy(tiny_cache, tmp_path):
    recipe = make_recipe(optim__learning_rate=0.05, train__epochs=4, train__select="last")
    whole, out = tmp_path / "whole", tmp_path / "cut"
    result = train(recipe, tiny_cache, whole)[-1].result
    assert (result["best_epoch"], result["select"], result["selected_on"]) == (3, "last", "none")
    assert result["test_accuracy"] == result["last_epoch_test_accuracy"]
    assert result["val_accuracy"] == result["last_epoch_val_accuracy"]
    best, last = (load_checkpoint(whole / name)["model"] for name in ("best.pt", "last.pt"))
    assert all(torch.equal(best[name], last[name]) for name in last)
    with pytest.raises(RunInterruptedError):
        list(start_run(recipe, cache=tiny_cache, out=out).train(StopAfter(15)))
    assert not (out / "best.pt").exists()
    list(resume_run(out).train())
    assert_same_run(out, whole)


def test_last_epoch_under_the_protocol_of_the_papers_is_not_optimistic(tiny_cache, tmp_path):
    recipe = make_recipe(data__protocol="kt-paper", train__epochs=2, train__select="last")
    result = train(recipe, tiny_cache, tmp_path / "run")[-1].result
    assert (result["optimistic"], result["selected_on"], result["warnings"]) == (False, "none", [])
    assert result["test_accuracy"] == RunFolder(tmp_path / "run").metrics.read()[0][-1]["test_accuracy"]


def test_selection_on_more_recordings_than_training_has_is_warned_of(tiny_cache, tmp_path):
    run = start_run(make_recipe(), cache=tiny_cache, out=tmp_path / "run")
    assert list(setup_warnings(run.recipe, run.setup)) == []
    swapped = replace(run.setup, frames=run.setup.selection, selection=run.setup.frames)
    (warning,) = setup_warnings(run.recipe, swapped)
    assert warning.startswith("the epoch is selected on 100 validation recordings, more than the 10 of training; ")
    for changes in ({"train__select": "last"}, {"data__protocol": "kt-paper"}):
        assert list(setup_warnings(make_recipe(**changes), swapped)) == []


def test_selection_on_test_is_flagged(tiny_cache, tmp_path):
    recipe = make_recipe(data__protocol="kt-paper", train__epochs=2)
    result = train(recipe, tiny_cache, tmp_path / "run")[-1].result
    rows = RunFolder(tmp_path / "run").metrics.read()[0]
    assert result["optimistic"] is True
    assert result["val_accuracy"] is None
    assert result["selected_on"] == "test"
    assert "optimistic" in result["warnings"][0]
    assert result["test_accuracy"] == max(row["test_accuracy"] for row in rows)
    assert result["last_epoch_test_accuracy"] == rows[-1]["test_accuracy"]


def test_a_leaking_pool_is_optimistic_and_says_how_many_it_reaches(tiny_cache, tmp_path):
    recipe = make_recipe(data__image_pool="all", train__epochs=2)
    result = train(recipe, tiny_cache, tmp_path / "run")[-1].result
    assert result["optimistic"] is True
    assert result["selected_on"] == "val"
    assert isinstance(result["val_accuracy"], float)
    assert result["pair_report"]["num_reachable_heldout"] == result["num_val"] + result["num_test"]
    assert result["warnings"] == [
        "test_accuracy is optimistic: images of held-out recordings are within reach of training"
    ]
    honest = make_recipe(data__image_pool="all", method__name="event-only")
    assert not honest.optimism
