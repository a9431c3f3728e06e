import csv
import sys

import pytest
from PIL import Image

from tmkt_train.errors import RunError
from tmkt_train.experiments.plan import RunOptions
from tmkt_train.experiments.sweep import Trial, best_trial, plan_sweep, sweep_notes
from tmkt_train.experiments.sweep_report import write_sweep

from ..report.pages import Page
from .conftest import plan


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_files_of_a_sweep(grid):
    sweep, trials = grid
    files = write_sweep(sweep, trials)
    assert [path.name for path in files] == ["sweep.csv", "figure.png", "figure.pdf", "report.html"]
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


def test_sweep_never_selects_on_test(recipe, tiny_cache, tmp_path):
    with pytest.raises(
        RunError, match=r"kt-paper has no validation split, and a sweep never selects on test; add --set"
    ):
        plan_sweep(str(recipe), ["mix.ratio=0:1"], RunOptions(("data.protocol=kt-paper",), tiny_cache, tmp_path))


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
