from __future__ import annotations

import time

import pytest
import torch

from tmkt_train.cli.text import estimate_lines
from tmkt_train.errors import RunError
from tmkt_train.training import estimate as estimate_module
from tmkt_train.training.environment import available_bytes
from tmkt_train.training.estimate import estimate_training
from tmkt_train.training.run import start_run

from ..conftest import make_recipe


def test_the_estimate_is_near_the_time_and_the_memory_of_the_training(tiny_cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The time of this process, in the estimate as here: other processes change that of the wall.
    monkeypatch.setattr(time, "perf_counter", time.process_time)
    recipe = make_recipe(train__epochs=4)
    estimate = estimate_training(recipe, tiny_cache)
    assert not list(tmp_path.iterdir())
    run = start_run(recipe, cache=tiny_cache, out=tmp_path / "run")
    started = time.perf_counter()
    finished = list(run.train())[-1]
    assert estimate.num_steps == finished.result["num_steps"] == 4 * 5
    assert estimate.device == "cpu, 1 thread"
    assert estimate.measured_batch == recipe.train.batch_size
    # Checkpoints and the final evaluation are not in it.
    assert 0.2 < estimate.total_s / (time.perf_counter() - started) < 3
    assert 0.7 < estimate.memory_bytes / finished.result["peak_memory_bytes"] <= 1.1


def test_both_stages_are_measured(tiny_cache):
    recipe = make_recipe(method={"name": "fine-tune"}, train__epochs=2, train__image_epochs=3)
    estimate = estimate_training(recipe, tiny_cache)
    assert estimate.num_steps == 5 * 5
    assert estimate.total_s > estimate.num_steps * estimate.step_s / 5


def test_a_batch_that_does_not_fit_is_not_tried(tiny_cache):
    recipe = make_recipe(train__batch_size=10**9, train__steps_per_epoch=3, train__sampler="shuffled")
    estimate = estimate_training(recipe, tiny_cache)
    assert 0 < estimate.fitting_batch < 10**6
    assert estimate.memory_bytes > estimate.available_bytes > 0
    assert (estimate.step_s, estimate.total_s) == (0, 0)


def test_a_slow_cpu_measures_two_samples_and_says_so(tiny_cache, monkeypatch):
    monkeypatch.setattr(estimate_module, "_SECONDS", 0.0)
    recipe = make_recipe()
    estimate = estimate_training(recipe, tiny_cache)
    assert (estimate.measured_batch, estimate.step_s > 0) == (2, True)
    (time_line,) = (line for line in estimate_lines(recipe, estimate) if line.startswith("time: "))
    assert ", measured with 2 samples, and an evaluation after each epoch" in time_line


def test_what_would_stop_a_training_stops_its_estimate(tiny_cache):
    with pytest.raises(RunError, match=r"expected at least train\.batch_size = 500"):
        estimate_training(make_recipe(train__batch_size=500, train__drop_last=True), tiny_cache)
    with pytest.raises(RunError, match="this training runs on a CPU"):
        estimate_training(make_recipe(train__precision="bfloat16"), tiny_cache)


def test_free_memory_of_this_machine_is_known_on_linux():
    free = available_bytes(torch.device("cpu"))
    assert free == 0 or 1e8 < free < 1e14


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "adam"])
def test_a_gpu_is_measured_at_the_batch_of_the_recipe_with_every_optimizer(tiny_cache, optimizer):
    recipe = make_recipe(train__device="cuda", optim={"learning_rate": 1e-3, "warmup_epochs": 1, "name": optimizer})
    estimate = estimate_training(recipe, tiny_cache)
    assert estimate.measured_batch == recipe.train.batch_size
    assert 0 < estimate.step_s < 1
    assert 0 < estimate.memory_bytes < estimate.available_bytes
