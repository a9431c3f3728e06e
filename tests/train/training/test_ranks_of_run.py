"""Runs of several ranks: stopped, resumed by another number of them, refused, and left by one."""

import os
import signal

import pytest
import torch

from tmkt_data.datasets.digits import open_digits
from tmkt_data.datasets.digits_source import write_digits
from tmkt_data.errors import TmktError
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare
from tmkt_train.errors import NonFiniteError, OtherRankError, RunInterruptedError
from tmkt_train.network.collectives import own_rank
from tmkt_train.training.checkpoint import load_checkpoint
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.ranks import LostRankError, any_rank, in_turn, on_first, together
from tmkt_train.training.run import resume_run, start_run

from ..conftest import TINY_SPEC, make_recipe
from .rank_steps import run_on_ranks
from .runs import StopAfter, assert_same_run

SMALL_BATCHES = {"train__eval_batch_size": 3}
"""The ten samples of validation are four batches: the ranks take turns, and the last one has one sample."""


@pytest.fixture(scope="module")
def alone(tiny_cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "run"
    list(start_run(make_recipe(**SMALL_BATCHES), cache=tiny_cache, out=out).train())
    return out


def stop_twice_and_finish(cache, out, other):
    """Train in one go; then the same stopped in the first epoch by the second rank, and while it evaluates by both."""
    recipe = make_recipe(**SMALL_BATCHES)
    seen = [type(progress).__name__ for progress in start_run(recipe, cache=cache, out=out).train()]
    runs = [start_run(recipe, cache=cache, out=other), None]
    for at, num_asks in ((0, 3 if own_rank() else 99), (1, 5)):
        with pytest.raises(RunInterruptedError, match="tmkt-train resume"):
            list((runs[at] or resume_run(other)).train(StopAfter(num_asks)))
    list(resume_run(other).train())
    return seen


def stop_at(cache, out, num_asks):
    run = resume_run(out) if out.is_dir() else start_run(make_recipe(**SMALL_BATCHES), cache=cache, out=out)
    with pytest.raises(RunInterruptedError):
        list(run.train(StopAfter(num_asks)))


def test_resumed_ranks_equal_those_that_were_not_stopped(alone, tiny_cache, tmp_path):
    out, other = tmp_path / "whole", tmp_path / "stopped"
    first, second = run_on_ranks(2, stop_twice_and_finish, tiny_cache, out, other)
    assert first[-1] == "Finished"
    assert second == first[:-1]
    assert_same_run(other, out)
    assert_close_runs(out, alone)


def test_another_number_of_ranks_resumes(alone, tiny_cache, tmp_path):
    out = tmp_path / "run"
    run_on_ranks(2, stop_at, tiny_cache, out, 7)
    stop_at(tiny_cache, out, 6)
    run_on_ranks(2, finish, out)
    assert_close_runs(out, alone)
    assert "num_ranks" not in RunFolder(alone).read_environment()
    assert RunFolder(out).read_environment()["num_ranks"] == 2


def finish(out):
    list(resume_run(out).train())


def assert_close_runs(out, alone):
    """The draws are the same; sums over ranks round in another way."""
    here, there = RunFolder(out), RunFolder(alone)
    for found, expected in zip(here.metrics.read()[0], there.metrics.read()[0], strict=True):
        assert list(found) == list(expected)
        assert found["realised_ratio"] == pytest.approx(expected["realised_ratio"], rel=1e-6)
        assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-3)
        assert found["val_loss"] == pytest.approx(expected["val_loss"], rel=1e-2)
    weights, expected = (load_checkpoint(folder.last)["model"] for folder in (here, there))
    assert all(torch.allclose(weights[key], expected[key], atol=2e-3) for key in expected if "num" not in key)
    assert here.read_result()["num_train"] == there.read_result()["num_train"]


def problems(cache, other_cache, out):
    """Return the errors of starts that cannot work, in the order of the test."""
    rank, found = own_rank(), []
    for recipe, path in (
        (make_recipe(train__batch_size=25), cache),
        (make_recipe(train__batch_size=8, data__held_out_classes=1, data__recordings_per_class=1), cache),
        (make_recipe(train__epochs=3 + rank, optim__learning_rate=1e-3 * (rank + 1)), cache),
        (make_recipe(), other_cache if rank else cache),
        (make_recipe(), out / "missing.h5" if rank else cache),
        (make_recipe(), cache),
        (make_recipe(optim__learning_rate=1e30, optim__warmup_epochs=0), cache),
    ):
        try:
            # The folder of the last but one is taken.
            place = out if len(found) == 5 else out.parent / f"run{len(found)}"
            list(start_run(recipe, cache=path, out=place).train())
        except TmktError as error:
            found.append((type(error), str(error)))
    return found


def test_what_cannot_work_is_told_by_the_first_rank(tiny_cache, tmp_path):
    (tmp_path / "digits").mkdir()
    list(write_digits(tmp_path / "digits", per_class=10))
    other = tmp_path / "other.h5"
    list(prepare_cache(plan_prepare(open_digits(tmp_path / "digits"), TINY_SPEC, other)))
    first, second = run_on_ranks(2, problems, tiny_cache, other, tmp_path / "digits")
    texts = [text for _, text in first]
    assert texts[0] == (
        "train.batch_size: found 25 with 2 ranks, expected a multiple of them; "
        "set train.batch_size=26, or change --nproc-per-node"
    )
    assert texts[1] == (
        "train.drop_last: found false with a last batch of 1, expected one of 2 samples or more for as many ranks; "
        "set train.drop_last=true"
    )
    for text, parts in zip(
        texts[2:],
        [
            ("rank 1: optim.learning_rate is 0.002, expected 0.001 as on rank 0 (and 1 more); give every rank",),
            ("rank 1: the cache digest is ", " as on rank 0; give every rank the same cache"),
            ("rank 1: ", "missing.h5"),
            ("not empty, expected a new folder; choose another with --out",),
            ("NaN or infinite",),
        ],
        strict=True,
    ):
        assert all(part in text for part in parts), text
    assert [kind for kind, _ in second] == [OtherRankError] * 6 + [NonFiniteError]


def lose_second(cache, out):
    asks = iter(range(9))

    def die_in_second_epoch():
        if next(asks) == 7 and own_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    with pytest.raises(LostRankError, match="rank 0: another rank has ended or cannot be reached") as error:
        list(start_run(make_recipe(), cache=cache, out=out).train(die_in_second_epoch))
    return str(error.value)


def test_a_lost_rank_ends_the_others_and_leaves_the_checkpoint(finished, tiny_cache, tmp_path):
    out = tmp_path / "run"
    (text,) = run_on_ranks(2, lose_second, tiny_cache, out, num_lost=1)
    assert "\n" not in text
    assert load_checkpoint(RunFolder(out).last)["position"]["epoch"] == 1
    list(resume_run(out).train())
    assert_close_runs(out, finished)


def test_one_process_is_asked_alone():
    assert together(lambda: 1) == on_first(lambda: 1) == 1
    assert any_rank(True)
    assert not any_rank(False)
    assert list(in_turn([1, 2])) == [1, 2]
