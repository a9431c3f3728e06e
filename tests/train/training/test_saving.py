"""Checkpoints that a thread writes now and then give the same run as checkpoints after every epoch."""

from dataclasses import replace

import pytest
import torch

from tmkt_train.errors import RunError, RunInterruptedError
from tmkt_train.training.checkpoint import load_checkpoint
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.metrics import EpochMeans
from tmkt_train.training.progress import EpochDone
from tmkt_train.training.run import resume_run, start_run
from tmkt_train.training.saving import CheckpointSaver, to_host
from tmkt_train.training.setup import build_setup
from tmkt_train.training.state import TrainingState

from ..conftest import make_recipe
from .runs import StopAfter, assert_same_state, train, without_times

NEVER = 1e9


@pytest.fixture(scope="module")
def every_epoch(tiny_cache, tmp_path_factory):
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "every"
    train(make_recipe(), tiny_cache, out)
    return out


def start(tiny_cache, out, interval_s):
    return replace(start_run(make_recipe(), cache=tiny_cache, out=out), checkpoint_interval_s=interval_s)


def assert_same_result(here, there):
    assert_same_state(load_checkpoint(here / "best.pt"), load_checkpoint(there / "best.pt"))
    last = [load_checkpoint(path / "last.pt") for path in (here, there)]
    for values in last:
        values.pop("best_model", None)
    assert_same_state(*last)
    results = [without_times(RunFolder(path).read_result()) for path in (here, there)]
    assert results[0] == results[1]


def test_one_checkpoint_at_the_end_gives_the_same_run(every_epoch, tiny_cache, tmp_path):
    out = tmp_path / "run"
    training = start(tiny_cache, out, NEVER).train()
    num_epochs = 0
    for item in training:
        if isinstance(item, EpochDone):
            num_epochs += 1
            # A thread writes the first; those of later epochs wait for the interval, which never passes.
            if num_epochs == 2 and (out / "last.pt").exists():
                assert load_checkpoint(out / "last.pt")["position"]["epoch"] == 1
    assert num_epochs == 3
    assert_same_result(out, every_epoch)


@pytest.mark.parametrize("num_asks", [3, 7, 9, 14])
def test_stopped_between_two_checkpoints_equals_uninterrupted(every_epoch, tiny_cache, tmp_path, num_asks):
    out = tmp_path / "run"
    with pytest.raises(RunInterruptedError):
        list(start(tiny_cache, out, NEVER).train(StopAfter(num_asks)))
    list(replace(resume_run(out), checkpoint_interval_s=NEVER).train())
    assert_same_result(out, every_epoch)


def test_best_weights_that_were_not_written_are_restored_from_last(every_epoch, tiny_cache, tmp_path):
    out = tmp_path / "run"
    list(start(tiny_cache, out, NEVER).train())
    best = (out / "best.pt").read_bytes()
    last = load_checkpoint(out / "last.pt")
    best_epoch = last["position"]["best"][0]
    assert ("best_model" in last) == (best_epoch < 2)
    # As if the process had died between the two files.
    (out / "best.pt").unlink()
    (out / "result.json").unlink()
    list(resume_run(out).train())
    assert (out / "best.pt").read_bytes() == best
    assert_same_result(out, every_epoch)


def test_checkpoint_that_cannot_be_written_stops_the_run(tiny_cache, tmp_path):
    out = tmp_path / "run"
    training = start(tiny_cache, out, 1e-9).train()
    next(training)
    (out / "last.pt").mkdir()
    with pytest.raises(RunError, match=r"last\.pt"):
        list(training)


@pytest.fixture
def saver(tiny_cache, tmp_path):
    """Return a saver that writes in a thread, and a state after the first epoch, which was the best one."""
    torch.set_num_threads(1)
    device = torch.device("cpu")
    setup = build_setup(make_recipe(), tiny_cache, device)
    state = TrainingState(EpochMeans(device))
    state.finish_epoch(device, 0.5, 1.0)
    return CheckpointSaver(RunFolder(tmp_path), make_recipe(), setup, 1e-9), state


def test_an_error_of_the_thread_is_told_at_the_end(saver, tmp_path):
    saver, state = saver
    (tmp_path / "last.pt").mkdir()
    with pytest.raises(RunError, match=r"last\.pt: .*cannot be written"), saver:
        saver.save_epoch(state, is_last=True)
    assert not (tmp_path / "best.pt").exists()


def test_the_error_of_the_training_comes_before_that_of_the_thread(saver, tmp_path):
    saver, state = saver
    (tmp_path / "last.pt").mkdir()

    def train():
        with saver:
            saver.save_epoch(state, is_last=True)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()


def test_save_now_returns_when_both_files_are_written(saver, tmp_path):
    saver, state = saver
    with saver:
        saver.save_epoch(state, is_last=False)
        saver.save_now(state)
        assert load_checkpoint(tmp_path / "last.pt")["position"]["epoch"] == 1
        best = load_checkpoint(tmp_path / "best.pt")
        assert best["epoch"] == 0
        assert load_checkpoint(tmp_path / "last.previous.pt")["position"]["epoch"] == 1
    assert set(best["model"]) == set(load_checkpoint(tmp_path / "last.pt")["model"])


def test_copies_on_the_host_do_not_change_with_the_weights():
    weights = {"a": torch.ones(3), "b": [torch.zeros(2), 5], "c": ("x", torch.arange(2))}
    copies = to_host(weights)
    weights["a"].fill_(7)
    weights["b"][0].fill_(7)
    assert copies["a"].tolist() == [1, 1, 1]
    assert copies["b"][0].tolist() == [0, 0]
    assert copies["b"][1] == 5
    assert copies["c"][0] == "x"
