import json

import torch

from tmkt_train.training.metrics import EpochMeans
from tmkt_train.training.state import Best, TrainingState

CPU = torch.device("cpu")


def test_training_state_comes_back_from_its_values():
    state = TrainingState(
        EpochMeans(CPU), epoch=3, batch=5, best=Best(2, 0.5, 1.5), num_skipped=1, epoch_s=2.5, wall_s=9.0, peak_bytes=7
    )
    state.means.add({"x": torch.tensor(1.5)}, weight=2)
    state.rows = [{"epoch": number, "x": 0.1 + number, "y": {"z": float("inf")}} for number in range(3)]
    values = json.loads(json.dumps(state.state_dict()))
    again = TrainingState.from_state_dict(values, CPU)
    assert again.state_dict() == state.state_dict() == values
    assert again.rows == state.rows
    # The names in last.pt, which earlier runs have as well, but for the metrics.
    names = ["epoch", "step", "best", "means", "num_skipped", "epoch_s", "wall_s", "peak_bytes"]
    assert list(values) == [*names, "metrics"]
    del values["metrics"]
    assert TrainingState.from_state_dict(values, CPU).rows == []


def test_memory_taken_from_a_gpu_is_kept_where_there_is_one():
    state = TrainingState(EpochMeans(CPU), reserved_bytes=9)
    assert TrainingState.from_state_dict(state.state_dict(), CPU).reserved_bytes == 9
    state.tick(CPU)
    assert state.reserved_bytes == 9


def test_best_epoch_is_the_most_accurate_then_the_lowest_loss_then_the_first():
    state = TrainingState(EpochMeans(CPU), _since=10.0)
    outcomes = [(0.5, 2.0), (0.6, 3.0), (0.6, 2.5), (0.6, 2.5), (0.4, 0.1)]
    assert [state.finish_epoch(CPU, *outcome) for outcome in outcomes] == [True, True, True, False, False]
    assert state.best == Best(2, 0.6, 2.5)


def test_state_is_right_behind_its_best_epoch_until_the_next_batch():
    state = TrainingState(EpochMeans(CPU), _since=10.0)
    assert not state.is_best_just_done
    state.finish_epoch(CPU, 0.5, 1.0)
    assert state.is_best_just_done
    state.batch = 1
    assert not state.is_best_just_done


def test_seconds_and_skipped_terms_add_up_over_epochs(monkeypatch):
    clock = iter([13.0, 14.0, 19.0])
    monkeypatch.setattr("tmkt_train.training.state.time.perf_counter", lambda: next(clock))
    state = TrainingState(EpochMeans(CPU), _since=10.0)
    state.means.num_skipped = 2
    state.tick(CPU)
    assert (state.epoch_s, state.wall_s) == (3.0, 3.0)
    state.tick(CPU)
    assert (state.epoch_s, state.wall_s) == (4.0, 4.0)
    state.finish_epoch(CPU, 0.5, 1.0)
    state.means.num_skipped = 1
    state.tick(CPU)
    assert (state.epoch_s, state.wall_s) == (5.0, 9.0)
    state.finish_epoch(CPU, 0.5, 1.0)
    assert (state.epoch, state.epoch_s, state.num_skipped) == (2, 0.0, 3)
