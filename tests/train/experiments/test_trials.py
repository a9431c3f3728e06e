import shutil
from collections import Counter
from contextlib import ExitStack

import pytest
from optuna import load_study
from optuna.samplers import RandomSampler
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.study import get_all_study_names

from tmkt_data.locks import lock
from tmkt_train.errors import RunError, RunInterruptedError
from tmkt_train.experiments.jobs import RunEnded, RunStarted
from tmkt_train.experiments.journal import Attempt, Journal
from tmkt_train.experiments.slots import Slots
from tmkt_train.experiments.sweep import Trial, best_trial
from tmkt_train.experiments.sweep_report import write_sweep
from tmkt_train.experiments.trials import _train, run_sweep
from tmkt_train.training.folder import RunFolder

from ..cli.commands import PROGRAM, call_program
from ..report.pages import Page
from ..training.runs import StopAfter, assert_same_run
from .conftest import plan, run, trials_of
from .test_sweep import read_csv


def search(sweep, score, num=None, ended=()):
    """Let Optuna propose values, and tell it a score instead of training."""
    journal, tried = Journal(sweep), []
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
    sweep, trials = grid
    assert [trial.values for trial in trials] == [{"mix.ratio": 0.1}, {"mix.ratio": 0.5}, {"mix.ratio": 0.9}]
    for trial in trials:
        folder = sweep.out / "runs" / f"mix.ratio={trial.values['mix.ratio']}"
        found = []
        for seed in (3, 4):
            run = RunFolder(folder / f"seed-{seed}")
            assert run.read_recipe().mix.ratio == trial.values["mix.ratio"]
            rows = run.metrics.read()[0]
            assert run.read_result()["val_accuracy"] == max(row["val_accuracy"] for row in rows)
            found.append(run.read_result()["val_accuracy"])
        assert list(trial.accuracies.values()) == found
        assert trial.value == pytest.approx(sum(found) / 2)


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
    whole = plan(recipe, tiny_cache, tmp_path / "whole", *over, num_trials=3)
    expected = run(whole)
    cut = plan(recipe, tiny_cache, tmp_path / "cut", *over, num_trials=2)
    for asks in (4, 15):
        with pytest.raises(RunInterruptedError):
            list(run_sweep(cut, StopAfter(asks)))
    assert run(cut) == expected[:2]
    # More trials go on where fewer ended.
    assert run(plan(recipe, tiny_cache, tmp_path / "cut", *over, num_trials=3)) == expected
    folders = sorted(path.parent for path in (tmp_path / "whole").glob("runs/**/result.json"))
    assert len(folders) == 3
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
    attempt = Attempt(0, {"optim.learning_rate": 5e-5, "optim.min_learning_rate": 1e-4}, None)
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
        journal = Journal(sweep)
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
    states = Counter(trial.state.name for trial in Journal(sweep)._study.get_trials())
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
    words = (*map(str, words), "--set", "train.epochs=3", "--out", "out")
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


def test_trials_that_train_at_once_are_those_of_one_after_the_other(grid, recipe, tiny_cache, tmp_path):
    sweep = plan(recipe, tiny_cache, tmp_path / "out", "mix.ratio=0.1:0.9", num_trials=3, num_seeds=2, is_grid=True)
    for ended in ("mix.ratio=0.5", "mix.ratio=0.9/seed-4"):
        shutil.copytree(grid[0].out / "runs" / ended, sweep.out / "runs" / ended)
    progress, at_once, most = list(run_sweep(sweep, slots=Slots(3))), 0, 0
    for step in progress:
        at_once += isinstance(step, RunStarted) - isinstance(step, RunEnded)
        most = max(most, at_once)
    assert sorted(trials_of(progress), key=lambda trial: trial.number) == grid[1]
    assert [isinstance(step, RunStarted) for step in progress].count(True) == 3
    # More than the two seeds of a trial: trials, too, train at once.
    assert most == 3
    for folder in (path.parent for path in grid[0].out.glob("runs/**/result.json")):
        assert_same_run(sweep.out / folder.relative_to(grid[0].out), folder)
    assert list(run_sweep(sweep, slots=Slots(3))) == grid[1]


def test_trials_that_train_at_once_stop_and_free_their_values(recipe, tiny_cache, tmp_path):
    over = "optim.learning_rate=1e30,0.002"
    sweep = plan(recipe, tiny_cache, tmp_path / "out", over, is_grid=True)
    with pytest.raises(RunInterruptedError):
        list(run_sweep(sweep, StopAfter(8), Slots(2)))
    folders = list(sweep.out.glob("runs/*"))
    assert len(folders) == 2
    for folder in folders:
        with lock(folder / ".lock", RunError("held")):
            pass
    trials = sorted(trials_of(run_sweep(sweep)), key=lambda trial: trial.number)
    assert [trial.value is None for trial in trials] == [True, False]
    assert "NaN or infinite" in trials[0].problem


def test_equal_values_are_trained_by_one_process_at_a_time(recipe, tiny_cache, tmp_path):
    sweep = plan(recipe, tiny_cache, tmp_path, "mix.schedule=constant,linear", num_trials=8)
    first, second = Journal(sweep), Journal(sweep)
    with ExitStack() as held, ExitStack() as other:
        one = first.take(held)
        two = second.take(other)
        assert one.values != two.values
        # Whatever is proposed now is in training.
        assert Journal(sweep).take(ExitStack()) is None
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
