import csv
import shutil
import sys
from dataclasses import replace

import pytest
from PIL import Image

from tmkt_train.errors import RunError
from tmkt_train.experiments.final_test import read_test
from tmkt_train.experiments.plan import RunOptions
from tmkt_train.experiments.sweep import Trial, best_trial, plan_sweep, plan_trial, sweep_notes
from tmkt_train.experiments.sweep_report import write_sweep
from tmkt_train.training.result import evaluate_both

from ..report.pages import Page
from ..training.runs import alter_recording, rows_of
from .conftest import plan, run


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_files_of_a_sweep(grid):
    sweep, trials = grid
    files = write_sweep(sweep, trials)
    assert [path.name for path in files] == ["sweep.csv", "figure.png", "figure.pdf", "figure.svg", "report.html"]
    # Pages of trials are drawn where they are asked for.
    assert list(sweep.out.rglob("report.html")) == [sweep.out / "report.html"]
    table = read_csv(sweep.out / "sweep.csv")
    assert [row["mix.ratio"] for row in table] == ["0.1", "0.5", "0.9"]
    assert [float(row["val_accuracy"]) for row in table] == pytest.approx([trial.value for trial in trials])
    assert set(table[0]) == {
        "trial", "mix.ratio", "status", "val_accuracy", "sd", "val_accuracy_seed_3", "val_accuracy_seed_4", "problem",
    }  # fmt: skip
    with Image.open(sweep.out / "figure.png") as picture:
        assert picture.format == "PNG"
        assert 800 <= picture.width <= 1600
        assert (0x00, 0x67, 0xA8) in {color for _, color in picture.convert("RGB").getcolors(100_000)}
    page = Page((sweep.out / "report.html").read_text(encoding="utf-8"))
    assert (page.links, page.unnamed) == ([], [])
    for words in ("tiny over mix.ratio", "even grid", "seeds 3, 4", "best validation accuracy", "train.epochs=2"):
        assert words in page.text, words


def trial(number, value, **values):
    return Trial(number, {key.replace("__", "."): v for key, v in values.items()}, {3: value})


def test_notes_and_the_best(grid):
    sweep = grid[0]
    peaked = [trial(1, 0.5, mix__ratio=0.1), trial(2, 0.9, mix__ratio=0.5), trial(3, 0.7, mix__ratio=0.9)]
    assert best_trial(peaked).number == 2
    assert sweep_notes(sweep, peaked) == []
    rising = [*peaked[:1], trial(2, 0.6, mix__ratio=0.5), trial(3, 0.7, mix__ratio=0.9)]
    assert "is at the end of its range" in sweep_notes(sweep, rising)[0]
    tied = [*peaked, trial(4, 0.9, mix__ratio=0.6)]
    assert best_trial(tied).number == 2
    assert sweep_notes(sweep, tied) == ["tied with the best: 1 other of 4 trials; the earliest is shown"]
    flat = [trial(1, 0.5, mix__ratio=0.1), trial(2, 0.5, mix__ratio=0.5)]
    assert "have no effect with these settings" in sweep_notes(sweep, flat)[0]
    failed = Trial(1, {"mix.ratio": 0.1}, {}, "why")
    assert best_trial([failed]) is None
    assert sweep_notes(sweep, [failed]) == ["no trial has a value"]


def test_validation_accuracy_with_images_of_held_out_recordings_is_optimistic(grid):
    sweep = replace(grid[0], settings=(*grid[0].settings, "data.image_pool=all"))
    peaked = [trial(1, 0.5, mix__ratio=0.1), trial(2, 0.9, mix__ratio=0.5), trial(3, 0.7, mix__ratio=0.9)]
    (note,) = sweep_notes(sweep, peaked)
    assert note.startswith("the best validation accuracy is optimistic: images of held-out recordings")


def test_sweep_never_selects_on_test(recipe, tiny_cache, tmp_path):
    with pytest.raises(
        RunError, match=r"kt-paper has no validation split, and a sweep never selects on test; add --set"
    ):
        plan_sweep(str(recipe), ["mix.ratio=0:1"], RunOptions(("data.protocol=kt-paper",), tiny_cache, tmp_path))


def test_trials_read_no_test_recording(recipe, tiny_cache, tmp_path):
    cache = tmp_path / "cache.h5"
    shutil.copy(tiny_cache, cache)
    for row in rows_of(cache, "test"):
        alter_recording(cache, row)
    trials = run(plan(recipe, cache, tmp_path / "out", "mix.ratio=0.1,0.9", is_grid=True))
    assert [trial.problem for trial in trials] == [None, None]
    assert all(0 < trial.value <= 1 for trial in trials)


def test_best_trial_is_tested_once_where_it_is_asked_for(grid, recipe, tiny_cache, tmp_path):
    shutil.copytree(grid[0].out, tmp_path / "out")
    sweep = plan(recipe, tiny_cache, tmp_path / "out", "mix.ratio=0.1:0.9", num_trials=3, num_seeds=2, is_grid=True)
    best = best_trial(grid[1])
    runs = plan_trial(sweep, best.number - 1, best.values)
    assert [run.result()["test_accuracy"] for run in runs] == [None, None]
    found = read_test(sweep, best)
    for planned in runs:
        selected, last = evaluate_both(planned.folder)
        assert found[planned.recipe.seed] == (selected.accuracy, last.accuracy)
        (planned.folder / "best.pt").unlink()
    assert read_test(sweep, best) == found
    assert len(list(sweep.out.rglob("test.json"))) == 1
    next(sweep.out.rglob("test.json")).write_text("[]")
    with pytest.raises(RunError, match=r"test\.json: found .*, expected accuracies by seed; remove it"):
        read_test(sweep, best)


def test_grid_takes_one_key_and_two_trials(recipe, tiny_cache, tmp_path):
    with pytest.raises(RunError, match="found 2 keys, expected one --over"):
        plan(recipe, tiny_cache, tmp_path, "mix.ratio=0:1", "loss.ratio=0:1", is_grid=True)
    with pytest.raises(RunError, match="found 1 trial, expected 2 or more"):
        plan(recipe, tiny_cache, tmp_path, "mix.ratio=0:1", is_grid=True, num_trials=1)


@pytest.mark.parametrize("is_grid", [False, True])
def test_missing_optuna_says_what_to_install(recipe, tiny_cache, tmp_path, monkeypatch, is_grid):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(RunError, match=r"found no optuna; install it with: pip install 'tmkt\[sweep\]'"):
        plan(recipe, tiny_cache, tmp_path / "out", "mix.ratio=0:1", is_grid=is_grid)
    assert not (tmp_path / "out").exists()


def test_missing_cache_of_a_value_is_told_first(recipe, tiny_cache, tmp_path):
    with pytest.raises(RunError, match="time_bins is 4, expected 5; make the right one with"):
        plan(recipe, tiny_cache, tmp_path / "out", "data.prepare.time_bins=4,5", is_grid=True)
