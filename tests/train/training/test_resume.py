"""Runs that are stopped and resumed equal those that are not."""

import re
import shutil
from dataclasses import replace

import pytest
import torch

from tmkt_data import PrepareSpec
from tmkt_data.datasets.digits import open_digits
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare
from tmkt_train.errors import RunError, RunInterruptedError
from tmkt_train.training.checkpoint import load_checkpoint, save_checkpoint
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.progress import EpochDone, Finished
from tmkt_train.training.result import evaluate_run
from tmkt_train.training.run import resume_run, start_run

from ..conftest import make_recipe
from .runs import Asks, StopAfter, assert_same_run, train


# Five steps and one batch of evaluation in each of three epochs, then one batch of the test part.
@pytest.mark.parametrize("num_asks", [1, 3, 5, 6, 7, 16, 18, 19])
def test_stopped_and_resumed_equals_uninterrupted(finished, tiny_cache, tmp_path, num_asks):
    out = tmp_path / "run"
    with pytest.raises(RunInterruptedError, match="tmkt-train resume"):
        list(start_run(make_recipe(), cache=tiny_cache, out=out).train(StopAfter(num_asks)))
    assert not RunFolder(out).is_finished
    progress = list(resume_run(out).train())
    assert isinstance(progress[-1], Finished)
    assert_same_run(out, finished)


@pytest.mark.parametrize(
    ("method", "schedule"),
    [
        ("tmkt", "linear"),
        ("event-only", "constant"),
        ("fine-tune", "constant"),
        ("kt+tsm", "constant"),
        ("kt+tsm after images", "cubic"),
    ],
)
def test_stopped_at_every_step_equals_uninterrupted(tiny_cache, tmp_path, method, schedule):
    method, *warm = method.split(" after ")
    recipe = make_recipe(
        method={"name": method}, train__epochs=2, train__sampler="shuffled", mix__schedule=schedule,
        train__image_epochs=2 if warm else "auto",
        data__image_encoding="poisson", model__batch_norm="per-step",
    )  # fmt: skip
    train(recipe, tiny_cache, tmp_path / "whole")
    out, num_stops = tmp_path / "cut", 0
    run = start_run(recipe, cache=tiny_cache, out=out)
    while True:
        try:
            list(run.train(StopAfter(2)))
            break
        except RunInterruptedError:
            num_stops += 1
            run = resume_run(out)
    assert num_stops >= 7
    assert_same_run(out, tmp_path / "whole")


@pytest.mark.parametrize(
    "changes",
    [
        # The first epoch is the best one: its weights and those of the last one are tested.
        {"optim__learning_rate": 5.0},
        {"data__protocol": "kt-paper", "train__select": "last"},
    ],
)
def test_a_run_that_is_stopped_after_every_batch_ends(tiny_cache, tmp_path, changes):
    recipe = make_recipe(train__epochs=2, train__batch_size=50, train__eval_batch_size=5, **changes)
    asks, out = Asks(), tmp_path / "cut"
    (*_, finished) = start_run(recipe, cache=tiny_cache, out=tmp_path / "whole").train(asks)
    run, num_stops = start_run(recipe, cache=tiny_cache, out=out), 0
    while num_stops <= asks.count:
        try:
            list(run.train(StopAfter(1)))
            break
        except RunInterruptedError:
            num_stops += 1
            run = resume_run(out)
    assert RunFolder(out).is_finished
    assert num_stops == asks.count
    assert_same_run(out, tmp_path / "whole")
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert finished.result["best_epoch"] == (0 if "optim__learning_rate" in changes else 1)


def test_what_a_stopped_run_has_evaluated_counts_for_the_same_weights_only(tiny_cache, tmp_path):
    recipe, out = make_recipe(train__epochs=2, train__eval_batch_size=3), tmp_path / "cut"
    train(recipe, tiny_cache, tmp_path / "whole")
    with pytest.raises(RunInterruptedError):
        list(start_run(recipe, cache=tiny_cache, out=out).train(StopAfter(5 + 2)))
    left = load_checkpoint(out / "evaluations.pt")
    ((key, done),) = left["evaluations"].items()
    assert [len(result[0]) for result in done] == [3, 3]
    wrong = [[torch.zeros_like(part) for part in result] for result in done]
    split, count, digest = key.split()
    assert (split, count) == ("val", "10")
    for bad in (b"cut", {"evaluations": {f"val 10 {digest[::-1]}": wrong, f"test 10 {digest}": wrong}}, {"other": 1}):
        here = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(out, here)
        if isinstance(bad, bytes):
            (here / "evaluations.pt").write_bytes(bad)
        else:
            save_checkpoint(here / "evaluations.pt", bad)
        list(resume_run(here).train())
        assert_same_run(here, tmp_path / "whole")


def with_loss_scale(run):
    """Scale the loss as a run in float16 does, and often enough that the scale changes in each epoch."""
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=4)
    return replace(run, setup=replace(run.setup, scaler=scaler))


def test_scale_of_the_loss_goes_on_where_a_run_was_stopped(tiny_cache, tmp_path):
    whole = with_loss_scale(start_run(make_recipe(), cache=tiny_cache, out=tmp_path / "whole"))
    list(whole.train())
    out = tmp_path / "cut"
    with pytest.raises(RunInterruptedError):
        list(with_loss_scale(start_run(make_recipe(), cache=tiny_cache, out=out)).train(StopAfter(3)))
    assert load_checkpoint(out / "last.pt")["scaler"]["_growth_tracker"] != 0
    list(with_loss_scale(resume_run(out)).train())
    assert_same_run(out, tmp_path / "whole")
    assert load_checkpoint(out / "last.pt")["scaler"]["scale"] > 64.0


def test_work_after_the_checkpoint_is_done_again(finished, tiny_cache, tmp_path):
    out = tmp_path / "run"
    training = start_run(make_recipe(), cache=tiny_cache, out=out).train()
    while not isinstance(next(training), EpochDone):
        pass
    last = (out / "last.pt").read_bytes()
    while not isinstance(next(training), EpochDone):
        pass
    training.close()
    # As if the process had died while it wrote the third line, with the checkpoint of the first epoch.
    (out / "last.pt").write_bytes(last)
    with (out / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"epoch": 2, "lr"')
    list(resume_run(out).train())
    assert_same_run(out, finished)


def test_run_that_died_before_its_first_checkpoint_starts_over(finished, tiny_cache, tmp_path):
    out = tmp_path / "run"
    training = start_run(make_recipe(), cache=tiny_cache, out=out).train()
    for _ in range(4):
        next(training)
    training.close()
    assert not (out / "last.pt").exists()
    list(resume_run(out).train())
    assert_same_run(out, finished)


def test_another_cache_is_refused_before_it_is_used(finished, digits_root, tiny_cache, tmp_path):
    with pytest.raises(RunInterruptedError):
        list(start_run(make_recipe(), cache=tiny_cache, out=tmp_path / "run").train(StopAfter(2)))
    # Without a recording to validate on, it would be refused for that.
    spec, other = PrepareSpec(time_bins=4, size=16, val_share=0.0, test_share=0.0), tmp_path / "other.h5"
    for _ in prepare_cache(plan_prepare(open_digits(digits_root), spec, other)):
        pass
    words = rf"^{re.escape(str(other))}: cache digest \w+, expected \w+ as when the run was started; give that cache"
    with pytest.raises(RunError, match=words):
        resume_run(tmp_path / "run", cache=other)
    with pytest.raises(RunError, match=words):
        evaluate_run(finished, cache=other)


def test_resume_refuses_another_cache(digits_root, tiny_cache, tmp_path):
    with pytest.raises(RunInterruptedError):
        list(start_run(make_recipe(), cache=tiny_cache, out=tmp_path / "run").train(StopAfter(2)))
    other = tmp_path / "other.h5"
    for _ in prepare_cache(
        plan_prepare(open_digits(digits_root), PrepareSpec(time_bins=4, size=16, split_seed=1), other)
    ):
        pass
    with pytest.raises(RunError, match=r"expected .* as when the run was started"):
        resume_run(tmp_path / "run", cache=other)
    moved = tmp_path / "moved.h5"
    shutil.copy(tiny_cache, moved)
    assert resume_run(tmp_path / "run", cache=moved).notes == ()


def test_resume_notes_other_versions(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    environment = RunFolder(out).read_environment()
    RunFolder(out).write_environment(environment | {"torch": "1.0"})
    assert resume_run(out).notes == (f"torch was 1.0 and is {environment['torch']}: the last digits may differ",)
