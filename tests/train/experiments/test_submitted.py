"""Runs as jobs of submitit's local executor, and what is refused."""

import io
import sys
import time
from contextlib import suppress

import pytest
from click.testing import CliRunner

from tmkt_train.cli.main import main
from tmkt_train.errors import RunError, RunInterruptedError
from tmkt_train.experiments.compare import train_runs
from tmkt_train.experiments.jobs import RunEnded
from tmkt_train.experiments.plan import RunOptions, plan_comparison
from tmkt_train.experiments.slots import Slots, submitted_slots
from tmkt_train.experiments.submitted import Submission, submit
from tmkt_train.recipe.recipe import recipe_text
from tmkt_train.training.checkpoint import load_checkpoint
from tmkt_train.training.folder import RunFolder

from ..conftest import make_recipe
from .conftest import without_pages

LOCAL = Submission("local", ("timeout_min=5",))


def plan(folder, cache, **epochs):
    for name, count in epochs.items():
        recipe = make_recipe(name=name, train__epochs=count, optim__warmup_epochs=0)
        (folder / f"{name}.toml").write_text(recipe_text(recipe), encoding="utf-8")
    names = [str(folder / f"{name}.toml") for name in epochs]
    return without_pages(plan_comparison(names, RunOptions(cache=cache, out=folder / "out"), num_seeds=1).runs)


def test_jobs_train_runs_and_tell_why_one_failed(tiny_cache, tmp_path):
    good, bad = plan(tmp_path, tiny_cache, good=1, bad=2)
    bad.folder.mkdir(parents=True)
    (bad.folder / "something").touch()
    slots = submitted_slots(2, None, LOCAL)
    assert not slots.is_single
    ended = [step for step in train_runs([good, bad], slots=slots) if isinstance(step, RunEnded)]
    problems = {step.run.label: step.problem for step in ended}
    assert problems == {
        good.label: None,
        bad.label: f"{bad.folder}: not empty, expected a new folder; choose another with --out",
    }
    assert good.status == "finished"


def test_a_stop_cancels_the_jobs_whose_runs_resume(tiny_cache, tmp_path):
    (run,) = plan(tmp_path, tiny_cache, long=500)
    metrics = run.folder / "metrics.jsonl"
    with pytest.raises(RunInterruptedError):
        list(train_runs([run], lambda: metrics.is_file() and metrics.stat().st_size > 0, Slots(4, submission=LOCAL)))
    assert run.status == "interrupted"
    # The executor kills its processes; the run notices, saves and ends by itself.
    for _ in range(600):
        with suppress(RunError), RunFolder(run.folder).lock():
            break
        time.sleep(0.1)
    with RunFolder(run.folder).lock():
        assert load_checkpoint(run.folder / "last.pt")["position"]["epoch"] >= 1


@pytest.mark.parametrize(
    ("submission", "text"),
    [
        (Submission("slurm"), r"^--submit slurm: the job was not taken \(.*(srun|sbatch|slurm).*\)$"),
        (Submission("local", ("no_such=1",)), r"^--submit local: the job was not taken \(.*no_such.*\)$"),
        (Submission("local", ("timeout_min",)), "^--submit-option: found 'timeout_min', expected NAME=VALUE such as "),
    ],
)
def test_what_no_scheduler_takes_is_told_in_one_line(monkeypatch, tmp_path, submission, text):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match=text) as error:
        submit(["recipes"], tmp_path / "jobs", submission, io.BytesIO())
    assert "\n" not in str(error.value)


def test_the_extra_is_named_where_submitit_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(RunError, match=r"install it with: pip install 'tmkt\[submit\]'"):
        submit(["recipes"], tmp_path, LOCAL, io.BytesIO())


def test_gpus_of_this_machine_are_not_for_jobs():
    with pytest.raises(RunError, match="the cluster assigns GPUs to jobs"):
        submitted_slots(2, (0,), LOCAL)
    with pytest.raises(RunError, match="--jobs: found none with --submit, expected how many jobs"):
        submitted_slots(None, None, LOCAL)


@pytest.mark.parametrize("words", [["compare", "scnn_digits"], ["sweep", "scnn_digits", "--over", "mix.ratio=0.1:0.9"]])
def test_parameters_of_jobs_need_a_cluster(words):
    result = CliRunner().invoke(main, [*words, "--submit-option", "timeout_min=5"])
    assert result.stderr == "error: --submit-option: found 'timeout_min=5' without --submit, expected both\n"
