import csv
import shutil
import sys
from collections import Counter
from contextlib import ExitStack

import pytest
from optuna import load_study
from optuna.samplers import RandomSampler
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.study import get_all_study_names
from PIL import Image

from tmkt_train.errors import RecipeError, RunError, RunInterruptedError
from tmkt_train.experiments.jobs import RunStarted
from tmkt_train.experiments.plan import RunOptions
from tmkt_train.experiments.search_space import Choices, Range, parse_dimensions
from tmkt_train.experiments.sweep import Trial, best_trial, plan_sweep, sweep_notes
from tmkt_train.experiments.sweep_report import write_sweep
from tmkt_train.experiments.trials import _Attempt, _Journal, _train, run_sweep
from tmkt_train.recipe.recipe import recipe_text
from tmkt_train.training.folder import RunFolder

from ..cli.test_main import PROGRAM, call, call_program
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


def plan(recipe, cache, out, *over, seed=3, **options):
    return plan_sweep(str(recipe), over, RunOptions((*SHORT, f"seed={seed}"), cache, out), **options)


def trials_of(progress):
    return [step for step in progress if isinstance(step, Trial)]


def run(sweep):
    return trials_of(run_sweep(sweep))


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
    assert dimension.grid(num) == expected


def search(sweep, score, num=None, ended=()):
    """Let Optuna propose values, and tell it a score instead of training."""
    journal, tried = _Journal(sweep), []
    journal._ended.update(ended)
    while len(tried) != num and not journal.is_complete:
        with ExitStack() as held:
            attempt = journal.take(held)
            value = score(attempt.values)
            problem = "failed" if value is None else None
            journal.tell(attempt, Trial(attempt.number + 1, attempt.values, {3: value}, problem))
            tried.append((attempt.values, value))
    return tried


def test_search_finds_a_peak_and_repeats_itself(recipe, tiny_cache, tmp_path):
    over = ("mix.ratio=0.1:0.9", "mix.schedule=constant,linear")

    def score(values):
        if values["mix.ratio"] < 0.15:
            return None
        return 1 - (values["mix.ratio"] - 0.7) ** 2 - (values["mix.schedule"] == "constant")

    asked = [search(plan(recipe, tiny_cache, tmp_path / name, *over, num_trials=40), score) for name in "ab"]
    assert asked[0] == asked[1]
    assert len(asked[0]) == 40
    best = max((value, values) for values, value in asked[0] if value is not None)[1]
    assert best["mix.schedule"] == "linear"
    assert abs(best["mix.ratio"] - 0.7) < 0.05
    assert all(0.1 <= values["mix.ratio"] <= 0.9 for values, _ in asked[0])
    assert all(values["mix.ratio"] == float(f"{values['mix.ratio']:.4g}") for values, _ in asked[0])
    # It learns: the last quarter lies nearer to the peak than the random start.
    far = [abs(values["mix.ratio"] - 0.7) for values, _ in asked[0]]
    assert sum(far[-10:]) / 10 < sum(far[:4]) / 4
    other = plan(recipe, tiny_cache, tmp_path / "c", *over, num_trials=40, seed=4)
    assert search(other, score, 4) != asked[0][:4]


def test_grid_of_integers_with_fewer_values_than_trials(recipe, tiny_cache, tmp_path):
    sweep = plan(recipe, tiny_cache, tmp_path, "train.batch_size=2:100:log", num_trials=30, is_grid=True)
    tried = [values["train.batch_size"] for values, _ in search(sweep, lambda _: 0.5)]
    assert tried == sweep.dimensions[0].grid(30)
    assert len(tried) < 30
    # The values of as many trials are others.
    assert sweep.dimensions[0].grid(len(tried)) != tried


def test_search_stays_in_whole_and_logarithmic_ranges(recipe, tiny_cache, tmp_path):
    over = ("train.batch_size=8:12", "loss.modality=1e-3:1:log")
    sweep = plan(recipe, tiny_cache, tmp_path, *over, num_trials=30)
    tried = [values for values, _ in search(sweep, lambda values: float(values["train.batch_size"]))]
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
            assert run.read_recipe().mix.ratio == trial.values["mix.ratio"]
            rows = run.read_metrics()[0]
            assert run.read_result()["val_accuracy"] == max(row["val_accuracy"] for row in rows)
            found.append(run.read_result()["val_accuracy"])
        assert list(trial.accuracies.values()) == found
        assert trial.value == pytest.approx(sum(found) / 2)


def test_files_of_a_sweep(grid):
    sweep, trials, files = grid
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
    assert "NaN or infinite" in trials[0].problem
    assert best_trial(trials) is trials[1]
    write_sweep(sweep, trials)
    table = read_csv(tmp_path / "out" / "sweep.csv")
    assert [(row["status"], row["val_accuracy"] == "") for row in table] == [("failed", True), ("finished", False)]
    assert "NaN or infinite" in Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8")).text


def test_values_that_contradict_each_other_fail_alone(recipe, tiny_cache, tmp_path):
    # Each end is fine with the other key as the recipe has it; a rate below the least one is not.
    over = ("optim.learning_rate=1e-4:3e-3:log", "optim.min_learning_rate=1e-5,1e-4")
    sweep = plan(recipe, tiny_cache, tmp_path / "out", *over, num_trials=1)
    attempt = _Attempt(0, {"optim.learning_rate": 5e-5, "optim.min_learning_rate": 1e-4}, None)
    with pytest.raises(StopIteration) as stop:
        next(_train(sweep, attempt, lambda: False))
    assert "optim.min_learning_rate: found 0.0001, expected at most" in stop.value.value.problem
    assert stop.value.value.value is None


OVER = ("mix.ratio=0.1:0.9", "mix.schedule=constant,linear")


def peak(values):
    return 1 - (values["mix.ratio"] - 0.7) ** 2 - (values["mix.schedule"] == "constant")


def test_killed_trials_are_taken_again_and_change_no_proposal(recipe, tiny_cache, tmp_path):
    expected = search(plan(recipe, tiny_cache, tmp_path / "whole", *OVER, num_trials=10), peak)
    sweep = plan(recipe, tiny_cache, tmp_path / "cut", *OVER, num_trials=10)
    tried = []
    for number in range(10):
        journal = _Journal(sweep)
        journal._ended.update(range(number))
        if number % 3 == 0:
            # Killed while it trains.
            with ExitStack() as held:
                assert journal.take(held).values == expected[number][0]
        elif number % 3 == 1:
            # Killed while it asks, before or after the first of two values.
            journal._study.sampler = RandomSampler(seed=number)
            asked = journal._study.ask()
            if number % 2:
                asked.suggest_float("mix.ratio", 0.1, 0.9)
        tried += search(sweep, peak, 1, range(number))
    assert tried == expected
    states = Counter(trial.state.name for trial in journal._study.get_trials())
    assert states == {"COMPLETE": 10, "FAIL": 7}


def test_trial_that_failed_is_tried_again_by_the_next_session(grid, recipe, tiny_cache, tmp_path):
    shutil.copytree(grid[0].out, tmp_path / "out")
    (tmp_path / "out" / "journal.log").unlink()
    sweep = plan(recipe, tiny_cache, tmp_path / "out", "mix.ratio=0.1:0.9", num_trials=3, num_seeds=2, is_grid=True)
    assert [value for _, value in search(sweep, lambda _: None)] == [None] * 3
    for _ in range(2):
        assert list(run_sweep(sweep)) == grid[1]
    states = Counter(trial.state.name for trial in _Journal(sweep)._study.get_trials())
    assert states == {"COMPLETE": 3, "FAIL": 3}


def test_run_that_was_deleted_is_trained_again(grid, recipe, tiny_cache, tmp_path):
    shutil.copytree(grid[0].out, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "runs" / "mix.ratio=0.5" / "seed-4")
    sweep = plan(recipe, tiny_cache, tmp_path / "out", "mix.ratio=0.1:0.9", num_trials=3, num_seeds=2, is_grid=True)
    progress = list(run_sweep(sweep))
    assert [step.run.label for step in progress if isinstance(step, RunStarted)] == ["trial 2 (mix.ratio=0.5) seed 4"]
    assert sorted(trials_of(progress), key=lambda trial: trial.number) == grid[1]


def test_two_processes_share_the_trials(recipe, tiny_cache, tmp_path):
    words = ("sweep", recipe, "--over", "mix.schedule=constant,linear,cubic", "--grid", "--cache", tiny_cache)
    words = (*map(str, words), "--set", "train.epochs=20", "--out", "out")
    processes = [call_program(PROGRAM, tmp_path, *words) for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=240)
        assert (process.returncode, err) == (0, "")
        for number, schedule in enumerate(("constant", "linear", "cubic"), 1):
            assert f'   {number} mix.schedule = "{schedule}": ' in out
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "out" / "journal.log")))
    (name,) = get_all_study_names(storage)
    trials = load_study(study_name=name, storage=storage).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    assert {trial.params["mix.schedule"] for trial in trials} == {"constant", "linear", "cubic"}
    assert len(list((tmp_path / "out").glob("runs/*/seed-3/result.json"))) == 3
    assert [row["trial"] for row in read_csv(tmp_path / "out" / "sweep.csv")] == ["1", "2", "3"]


def test_equal_values_are_trained_by_one_process_at_a_time(recipe, tiny_cache, tmp_path):
    sweep = plan(recipe, tiny_cache, tmp_path, "mix.schedule=constant,linear", num_trials=8)
    first, second = _Journal(sweep), _Journal(sweep)
    with ExitStack() as held, ExitStack() as other:
        one = first.take(held)
        two = second.take(other)
        assert one.values != two.values
        # Whatever is proposed now is in training.
        assert _Journal(sweep).take(ExitStack()) is None
        first.tell(one, Trial(one.number + 1, one.values, {3: 0.5}))
        second.tell(two, Trial(two.number + 1, two.values, {3: 0.6}))
    assert len(search(sweep, lambda _: 0.5, None, (one.number, two.number))) == 6


def test_journal_is_one_that_optuna_opens(grid):
    storage = JournalStorage(JournalFileBackend(str(grid[0].out / "journal.log")))
    (name,) = get_all_study_names(storage)
    assert name == "mix.ratio=0.1:0.9, seeds 3, 4, grid of 3"
    study = load_study(study_name=name, storage=storage)
    assert [trial.params for trial in study.trials] == [{"mix.ratio": 0.1}, {"mix.ratio": 0.5}, {"mix.ratio": 0.9}]
    assert study.best_value == max(trial.value for trial in grid[1])


@pytest.mark.parametrize("text", ["not json\n\n", "[1]\n", '{"op_code": 4}\n', '{"op_code": 99, "worker_id": ""}\n'])
def test_damaged_journal_is_one_line(recipe, tiny_cache, tmp_path, text):
    sweep = plan(recipe, tiny_cache, tmp_path / "out", "mix.ratio=0:1")
    (tmp_path / "out" / "journal.log").write_text(text)
    with pytest.raises(
        RunError, match=r"journal\.log: not a journal of Optuna \(.*; remove it, finished runs are kept"
    ):
        next(run_sweep(sweep))


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
        ("data.protocol=kt-paper,twin-disjoint", RunError, "cannot be varied; it changes the validation split"),
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
