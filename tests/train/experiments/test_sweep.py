import csv
import shutil
import sys

import pytest
from PIL import Image

from tmkt_train.errors import RecipeError, RunError, RunInterruptedError
from tmkt_train.experiments.jobs import RunStarted
from tmkt_train.experiments.plan import RunOptions
from tmkt_train.experiments.proposals import Estimator, Grid, grid_values
from tmkt_train.experiments.search_space import Choices, Range, parse_dimensions
from tmkt_train.experiments.sweep import Trial, best_trial, plan_sweep, run_sweep, sweep_notes
from tmkt_train.experiments.sweep_files import write_sweep
from tmkt_train.recipe.recipe import recipe_text
from tmkt_train.training.folder import RunFolder

from ..cli.test_main import call
from ..conftest import make_recipe
from ..report.test_page import Page
from ..training.test_run import StopAfter, assert_same_run

SHORT = ["train.epochs=2"]
RATIO = Range("mix.ratio", 0.1, 0.9, is_log=False, is_whole=False)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "tiny.toml"
    path.write_text(recipe_text(make_recipe()), encoding="utf-8")
    return path


def plan(recipe, cache, out, *over, **options):
    return plan_sweep(str(recipe), over, RunOptions(tuple(SHORT), cache, out), **options)


def run(sweep):
    return [progress for progress in run_sweep(sweep) if isinstance(progress, Trial)]


@pytest.fixture(scope="module")
def grid(recipe, tiny_cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep") / "out"
    sweep = plan(recipe, tiny_cache, out, "mix.ratio=0.1:0.9", num_trials=3, num_seeds=2, is_grid=True)
    trials = run(sweep)
    return sweep, trials, write_sweep(sweep, trials)


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("dimension", "num", "expected"),
    [
        (RATIO, 9, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
        (Range("loss.modality", 0.01, 1.0, is_log=True, is_whole=False), 5, [0.01, 0.03162, 0.1, 0.3162, 1.0]),
        (Range("train.batch_size", 8, 10, is_log=False, is_whole=True), 5, [8, 9, 10]),
        (Range("x", 0.123456, 0.2, is_log=False, is_whole=False), 2, [0.123456, 0.2]),
        (Choices("mix.schedule", ("linear", "cubic")), 9, ["linear", "cubic"]),
    ],
)
def test_grids(dimension, num, expected):
    assert grid_values(dimension, num) == expected


def test_estimator_finds_a_peak_and_repeats_itself():
    dimensions = [RATIO, Choices("mix.schedule", ("constant", "linear"))]
    asked = []
    for _ in range(2):
        estimator = Estimator(dimensions, 40, seed=5)
        tried = []
        while (values := estimator.ask()) is not None:
            score = -((values["mix.ratio"] - 0.7) ** 2) - (values["mix.schedule"] == "constant")
            estimator.tell(None if len(tried) == 3 else score)
            tried.append((score, values))
        asked.append(tried)
    assert asked[0] == asked[1]
    assert len(asked[0]) == 40
    best = max(asked[0], key=lambda item: item[0])[1]
    assert best["mix.schedule"] == "linear"
    assert abs(best["mix.ratio"] - 0.7) < 0.05
    assert all(0.1 <= values["mix.ratio"] <= 0.9 for _, values in asked[0])
    # It learns: the last quarter lies nearer to the peak than the random start.
    far = [abs(values["mix.ratio"] - 0.7) for _, values in asked[0]]
    assert sum(far[-10:]) / 10 < sum(far[:4]) / 4


def test_estimator_stays_in_whole_and_logarithmic_ranges():
    dimensions = [
        Range("train.batch_size", 8, 12, is_log=False, is_whole=True),
        Range("loss.modality", 1e-3, 1.0, is_log=True, is_whole=False),
    ]
    estimator = Estimator(dimensions, 30, seed=0)
    tried = []
    while (values := estimator.ask()) is not None:
        estimator.tell(float(values["train.batch_size"]))
        tried.append(values)
    assert {type(values["train.batch_size"]) for values in tried} == {int}
    assert {values["train.batch_size"] for values in tried} <= set(range(8, 13))
    assert sum(values["loss.modality"] < 0.03 for values in tried) >= 5
    assert all(1e-3 <= values["loss.modality"] <= 1 for values in tried)


def test_trial_is_the_mean_of_the_best_validation_accuracies(grid):
    sweep, trials, _ = grid
    assert [trial.values for trial in trials] == [{"mix.ratio": 0.1}, {"mix.ratio": 0.5}, {"mix.ratio": 0.9}]
    for trial in trials:
        folder = sweep.out / "runs" / f"mix.ratio={trial.values['mix.ratio']}"
        found = []
        for seed in (3, 4):
            run = RunFolder(folder / f"seed-{seed}")
            assert run.load_recipe().mix.ratio == trial.values["mix.ratio"]
            rows = run.metrics.read()
            assert run.result()["val_accuracy"] == max(row["val_accuracy"] for row in rows)
            found.append(run.result()["val_accuracy"])
        assert list(trial.accuracies.values()) == found
        assert trial.value == pytest.approx(sum(found) / 2)


def test_files_of_a_sweep(grid):
    sweep, trials, files = grid
    assert [path.name for path in files] == ["sweep.csv", "figure.png", "report.html"]
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
    assert (page.urls, page.unnamed) == ([], [])
    for words in ("tiny over mix.ratio", "even grid", "seeds 3, 4", "best validation accuracy", "train.epochs=2"):
        assert words in page.text, words


def test_finished_trials_are_taken_as_they_are(grid, recipe, tiny_cache):
    out = grid[0].out
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/**/*") if path.is_file()}
    sweep = plan(recipe, tiny_cache, out, "mix.ratio=0.1:0.9", num_trials=3, num_seeds=2, is_grid=True)
    assert list(run_sweep(sweep)) == grid[1]
    assert {path: path.stat().st_mtime_ns for path in out.glob("runs/**/*") if path.is_file()} == before


def test_finer_grid_trains_the_new_values_alone(grid, recipe, tiny_cache, tmp_path):
    shutil.copytree(grid[0].out, tmp_path / "out")
    sweep = plan(recipe, tiny_cache, tmp_path / "out", "mix.ratio=0.1:0.9", num_trials=5, is_grid=True)
    begun = [progress.run.label for progress in run_sweep(sweep) if isinstance(progress, RunStarted)]
    assert begun == ["trial 2 (mix.ratio=0.3) seed 3", "trial 4 (mix.ratio=0.7) seed 3"]


def test_interrupted_search_ends_as_an_undisturbed_one(recipe, tiny_cache, tmp_path):
    over = ("mix.ratio=0.1:0.9", "mix.schedule=constant,linear")
    whole = plan(recipe, tiny_cache, tmp_path / "whole", *over, num_trials=4)
    expected = run(whole)
    cut = plan(recipe, tiny_cache, tmp_path / "cut", *over, num_trials=2)
    for asks in (4, 15):
        with pytest.raises(RunInterruptedError):
            list(run_sweep(cut, StopAfter(asks)))
    assert run(cut) == expected[:2]
    # More trials go on where fewer ended.
    assert run(plan(recipe, tiny_cache, tmp_path / "cut", *over, num_trials=4)) == expected
    folders = sorted(path.parent for path in (tmp_path / "whole").glob("runs/**/result.json"))
    assert len(folders) == 4
    for folder in folders:
        assert_same_run(tmp_path / "cut" / folder.relative_to(tmp_path / "whole"), folder)


def test_trial_that_fails_has_no_value_and_the_others_go_on(recipe, tiny_cache, tmp_path):
    over = "optim.learning_rate=1e30,0.002"
    sweep = plan(recipe, tiny_cache, tmp_path / "out", over, is_grid=True)
    trials = run(sweep)
    assert [trial.value is None for trial in trials] == [True, False]
    assert "no finite number" in trials[0].problem
    assert best_trial(trials) is trials[1]
    write_sweep(sweep, trials)
    table = read_csv(tmp_path / "out" / "sweep.csv")
    assert [(row["status"], row["val_accuracy"] == "") for row in table] == [("failed", True), ("finished", False)]
    assert "no finite number" in Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).text


def test_values_that_contradict_each_other_fail_alone(recipe, tiny_cache, tmp_path):
    # Each end is fine with the other key as the recipe has it; a rate below the least one is not.
    over = ("optim.learning_rate=1e-4:3e-3:log", "optim.min_learning_rate=1e-5,1e-4")
    sweep = plan(recipe, tiny_cache, tmp_path / "out", *over, num_trials=1)
    values = {"optim.learning_rate": 5e-5, "optim.min_learning_rate": 1e-4}
    sweep.proposals()
    from tmkt_train.experiments.sweep import _run_trial

    steps = _run_trial(sweep, 1, values, lambda: False)
    with pytest.raises(StopIteration) as stop:
        next(steps)
    assert "optim.min_learning_rate: found 0.0001, expected at most" in stop.value.value.problem
    assert stop.value.value.value is None


def trial(number, value, **values):
    return Trial(number, {key.replace("__", "."): v for key, v in values.items()}, {3: value})


def test_notes_and_the_best(grid):
    sweep = grid[0]
    peaked = [trial(1, 0.5, mix__ratio=0.1), trial(2, 0.9, mix__ratio=0.5), trial(3, 0.7, mix__ratio=0.9)]
    assert best_trial(peaked).number == 2
    assert sweep_notes(sweep, peaked) == []
    rising = [*peaked[:1], trial(2, 0.6, mix__ratio=0.5), trial(3, 0.7, mix__ratio=0.9)]
    assert "lies at the end of its range" in sweep_notes(sweep, rising)[0]
    tied = [*peaked, trial(4, 0.9, mix__ratio=0.6)]
    assert best_trial(tied).number == 2
    assert sweep_notes(sweep, tied) == ["as good as the best: 1 more of 4 trials; the earliest is named"]
    flat = [trial(1, 0.5, mix__ratio=0.1), trial(2, 0.5, mix__ratio=0.5)]
    assert "they change nothing" in sweep_notes(sweep, flat)[0]
    failed = Trial(1, {"mix.ratio": 0.1}, {}, "why")
    assert best_trial([failed]) is None
    assert sweep_notes(sweep, [failed]) == ["no trial has a value"]


def test_dimensions_are_read_as_written(recipe):
    over = ["mix.ratio=0.1:0.9", "loss.modality = 0.01 : 1 : log", "train.batch_size=8:64:log", "mix.ratio=0.5,1"]
    assert parse_dimensions(over[:3], recipe, ()) == (
        RATIO,
        Range("loss.modality", 0.01, 1.0, is_log=True, is_whole=False),
        Range("train.batch_size", 8.0, 64.0, is_log=True, is_whole=True),
    )
    assert parse_dimensions(over[3:], recipe, ()) == (Choices("mix.ratio", (0.5, 1)),)
    words = ["mix.schedule=constant, linear", "train.flip=true,false"]
    assert parse_dimensions(words, recipe, ()) == (
        Choices("mix.schedule", ("constant", "linear")),
        Choices("train.flip", (True, False)),
    )
    # Of a key that takes whole numbers or a word.
    assert parse_dimensions(["train.steps_per_epoch=2:5"], recipe, ())[0].is_whole


@pytest.mark.parametrize(
    ("over", "error", "message"),
    [
        ("mix.ratio", RunError, "--over mix.ratio: expected KEY=LOW:HIGH, KEY=LOW:HIGH:log or"),
        ("mix.ratio=", RunError, "expected KEY=LOW:HIGH"),
        ("mix.ratioo=0:1", RunError, "--over mix.ratioo: no key of the recipe; did you mean mix.ratio"),
        ("epochs=1:3", RunError, r"did you mean train\.epochs"),
        ("mix=0:1", RunError, "no key of the recipe"),
        ("mix.ratio=0.5:0.5", RunError, "found an empty range, expected LOW below HIGH"),
        ("mix.ratio=0.9:0.1", RunError, "found an empty range"),
        ("mix.ratio=nan:1", RunError, "found an empty range"),
        ("mix.ratio=0:1:log", RunError, "expected it above 0 for a logarithmic range"),
        ("mix.ratio=0:1:lin", RunError, "expected LOW:HIGH or LOW:HIGH:log"),
        ("mix.ratio=0:1:log:1", RunError, "expected LOW:HIGH or LOW:HIGH:log"),
        ("mix.ratio=a:b", RunError, "expected two numbers"),
        ("mix.ratio=:", RunError, "expected two numbers"),
        ("mix.ratio=0.5", RunError, "found one value, expected two or more, or a range"),
        ("mix.ratio=0.5,", RunError, "found '', expected values such as"),
        ("mix.ratio=0.5,0.5", RunError, "found 0.5 twice"),
        ("mix.ratio=0.5:1.5", RecipeError, "--over mix.ratio: found 1.5, expected a number from 0 to 1"),
        ("mix.schedule=linear,bent", RecipeError, "--over mix.schedule: found 'bent', expected one of"),
        ("mix.schedule=0:1", RunError, "found a range, expected values"),
        ("train.flip=0:1", RunError, "found a range, expected values"),
        ("train.batch_size=1.5:3", RunError, "expected whole numbers"),
        ("seed=1:3", RunError, "cannot be varied; give --seeds instead"),
        ("title=a,b", RunError, "cannot be varied; it only names the recipe"),
        ("data.protocol=kt-paper,twin-disjoint", RunError, "cannot be varied; it changes the validation part"),
        ("train.image_epochs=1:3", RunError, "train.image_epochs: tmkt does not use it"),
        ("train.epochs=3:5", RunError, "found in --set as well"),
    ],
)
def test_bad_dimensions_are_one_line(recipe, over, error, message):
    with pytest.raises(error, match=message) as caught:
        parse_dimensions([over], recipe, SHORT)
    assert str(caught.value).count("\n") == 0


def test_key_that_only_some_methods_use_may_be_varied_with_the_method(recipe):
    settings = ["method.name=event-only"]
    with pytest.raises(RunError, match="event-only does not use it"):
        parse_dimensions(["mix.ratio=0:1"], recipe, settings)
    over = ["mix.ratio=0.1:0.9", "method.name=event-only,tmkt"]
    assert parse_dimensions(over, recipe, ())[0] == RATIO
    with pytest.raises(RunError, match="found twice"):
        parse_dimensions(["mix.ratio=0.1:0.9", "mix.ratio=0.1,0.2"], recipe, ())


def test_sweep_never_chooses_on_test(recipe, tiny_cache, tmp_path):
    with pytest.raises(
        RunError, match=r"kt-paper has no validation part, and a sweep never chooses on test; add --set"
    ):
        plan_sweep(str(recipe), ["mix.ratio=0:1"], RunOptions(("data.protocol=kt-paper",), tiny_cache, tmp_path))


def test_grid_takes_one_key_and_two_trials(recipe, tiny_cache, tmp_path):
    with pytest.raises(RunError, match="found 2 keys, expected one --over"):
        plan(recipe, tiny_cache, tmp_path, "mix.ratio=0:1", "loss.ratio=0:1", is_grid=True)
    with pytest.raises(RunError, match="found 1 trial, expected 2 or more"):
        plan(recipe, tiny_cache, tmp_path, "mix.ratio=0:1", is_grid=True, num_trials=1)


def test_search_without_optuna_says_what_to_install(recipe, tiny_cache, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(RunError, match=r"pip install 'tmkt\[sweep\]', or give --grid"):
        plan(recipe, tiny_cache, tmp_path / "out", "mix.ratio=0:1")
    assert not (tmp_path / "out").exists()
    assert isinstance(plan(recipe, tiny_cache, tmp_path / "out", "mix.ratio=0:1", is_grid=True).proposals(), Grid)


def test_missing_cache_of_a_value_is_told_first(recipe, tiny_cache, tmp_path):
    with pytest.raises(RunError, match="time_bins is 4, expected 5; make the right one with"):
        plan(recipe, tiny_cache, tmp_path / "out", "data.prepare.time_bins=4,5", is_grid=True)


def test_command_from_start_to_end_and_its_errors(recipe, tiny_cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("sweep", recipe, "--cache", tiny_cache, "--set", "train.epochs=2")
    code, out, err = call(*words, "--over", "mix.schedule=constant,linear", "--grid")
    assert (code, err) == (0, "")
    folder = "runs/sweep-tiny-mix.schedule"
    for text in (
        '   1 mix.schedule = "constant": ', "best: mix.schedule = ", f"report.html       {folder}/report.html",
        "next, train the best values and evaluate them on the test split:\n  tmkt-train recipe ", "--set mix.schedule=",
    ):  # fmt: skip
        assert text in out, text
    code, out, err = call(*words, "--over", "optim.learning_rate=1e30,0.002", "--grid")
    assert (code, err) == (
        1, "error: 1 of 2 trials failed; runs/sweep-tiny-optim.learning_rate/sweep.csv says why\n"
    )  # fmt: skip
    assert "optim.learning_rate = 1e+30: failed: epoch 2" in out
    for arguments, found, text in (
        (("--over", "mix.ratio=1:0"), 1, "error: --over mix.ratio=1:0: found an empty range"),
        (("--over", "mix.ratio=0:1", "--seeds", "0"), 2, "0 is not in the range"),
        (("--over", "mix.ratio=0:1", "--trials", "0"), 2, "0 is not in the range"),
        ((), 2, "Missing option '--over'"),
        (("--over", "mix.ratio=0:1", "--out", recipe), 1, "cannot be written (File exists)"),
    ):
        code, _, err = call(*words, *arguments)
        assert code == found
        assert text in err
        assert "Traceback" not in err
