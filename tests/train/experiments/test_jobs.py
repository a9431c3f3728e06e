"""Child processes and the GPUs that they see, read from the environment that each of them really gets."""

import os
import sys
from pathlib import Path

import pytest

from tmkt_train.experiments import jobs as jobs_module
from tmkt_train.experiments.compare import train_runs
from tmkt_train.experiments.jobs import Jobs, RunEnded, train_in_processes
from tmkt_train.experiments.plan import RunOptions, plan_comparison
from tmkt_train.experiments.slots import Slots
from tmkt_train.experiments.sweep import plan_sweep, plan_trial
from tmkt_train.recipe.recipe import recipe_text

from ..conftest import make_recipe
from .conftest import without_pages

# Python imports it at its start, from the path of the environment.
NOTE = """
import os, pathlib, sys
place = pathlib.Path(os.environ["NOTES"])
if "tmkt_train" in sys.orig_argv:
    note = f"{sys.orig_argv[-1]}\\n{os.environ.get('CUDA_VISIBLE_DEVICES', 'unset')}"
    (place / str(os.getpid())).write_text(note)
"""


@pytest.fixture
def notes(tmp_path, monkeypatch):
    """What child processes wrote at their start: their recipe and `CUDA_VISIBLE_DEVICES`."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NOTE)
    (tmp_path / "notes").mkdir()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), str(Path(__file__).parents[3])]))
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return lambda: [tuple(path.read_text().splitlines()) for path in (tmp_path / "notes").iterdir()]


def plan(folder, cache, num_seeds, **devices):
    for name, device in devices.items():
        recipe = make_recipe(name=name, train__device=device, train__epochs=1, optim__warmup_epochs=0)
        (folder / f"{name}.toml").write_text(recipe_text(recipe), encoding="utf-8")
    names = [str(folder / f"{name}.toml") for name in devices]
    options = RunOptions(cache=cache, out=folder / "out")
    return without_pages(plan_comparison(names, options, num_seeds=num_seeds).runs)


def occupy(runs):
    """Put a file into the folder of each run, whose process then ends before it loads torch; return what it says."""
    for run in runs:
        run.folder.mkdir(parents=True)
        (run.folder / "something").touch()
    return [f"{run.folder}: not empty, expected a new folder; choose another with --out" for run in runs]


def test_loggers_are_those_of_every_run(tiny_cache, tmp_path, monkeypatch):
    (tmp_path / "tiny.toml").write_text(recipe_text(make_recipe()), encoding="utf-8")
    options = RunOptions(cache=tiny_cache, out=tmp_path / "out", loggers=("wandb", "mlflow"))
    runs = plan_comparison([str(tmp_path / "tiny.toml")], options, num_seeds=2).runs
    sweep = plan_sweep(str(tmp_path / "tiny.toml"), ["mix.ratio=0.1:0.9"], options)
    trials = plan_trial(sweep, 0, {"mix.ratio": 0.5})
    for run in (*runs, *trials):
        words = jobs_module._arguments(run)
        assert [words[at + 1] for at, word in enumerate(words) if word == "--logger"] == ["wandb", "mlflow"]
    # In this process, too.
    monkeypatch.setitem(sys.modules, "wandb", None)
    ended = [step for step in train_runs(runs[:1]) if isinstance(step, RunEnded)]
    assert [step.problem for step in ended] == [
        "--logger wandb: found no wandb; install it with: pip install 'tmkt[wandb]'"
    ]


def test_run_sees_one_gpu_and_one_of_the_cpu_sees_what_this_process_does(notes, tiny_cache, tmp_path):
    runs = plan(tmp_path, tiny_cache, 1, any="auto", cpu="cpu")
    said = occupy(runs)
    ended = [step for step in train_in_processes(runs, lambda: False, Slots(2, ("7",))) if isinstance(step, RunEnded)]
    assert {step.problem for step in ended} == set(said)
    assert {Path(recipe).stem: device for recipe, device in notes()} == {"any": "7", "cpu": "unset"}
    assert len(notes()) == 2


def test_free_gpu_is_taken_again(notes, tiny_cache, tmp_path):
    runs = plan(tmp_path, tiny_cache, 3, gpu="cuda")
    problems, said = [], occupy(runs)
    with Jobs(Slots(2, ("98", "99"))) as jobs:
        for run in runs:
            while jobs.is_full:
                problems += [step.problem for step in jobs.wait()]
            jobs.start(run)
            assert jobs.running[-1] == run
            assert jobs.is_full == (len(jobs.running) == 2)
        while jobs.running:
            problems += [step.problem for step in jobs.wait()]
    assert sorted(problems) == sorted(said)
    assert {device for _, device in notes()} == {"98", "99"}
    assert len(notes()) == 3


def test_single_run_on_a_named_gpu_is_a_process_of_its_own(notes, tiny_cache, tmp_path):
    runs = plan(tmp_path, tiny_cache, 1, gpu="cuda")
    ended = [step for step in train_runs(runs, slots=Slots(1, ("98",))) if isinstance(step, RunEnded)]
    # There is no GPU of this name.
    assert [step.problem for step in ended] == [
        "train.device: found 'cuda', but torch finds no GPU here; set train.device=auto"
    ]
    assert [device for _, device in notes()] == ["98"]
