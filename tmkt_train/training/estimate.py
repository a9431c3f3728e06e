"""What a training takes on this machine: memory, counted from shapes, and time, measured on a few of its steps."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

import torch

from tmkt_train.data.batches import Batch, EpochPlan, evaluation_batches, training_batches
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.training.environment import (
    choose_device,
    choose_precision,
    compute_dtype,
    describe_device,
    numerics,
    peak_memory_bytes,
)
from tmkt_train.training.iteration import build_iteration
from tmkt_train.training.loop import CHECK_EVERY_ON_GPU, evaluate
from tmkt_train.training.memory import (
    count_step_memory,
    fitting_batch,
    held_bytes,
    memory_for_steps,
)
from tmkt_train.training.out_of_memory import explain_out_of_memory, explained
from tmkt_train.training.setup import TrainingSetup, build_setup

_FIRST = 2
"""Samples of the first step on a CPU, which says how many more there is time for."""
_SECONDS = 3.0
"""About how long steps are measured, after those that compile."""
_UNMEASURED = 4
"""Steps that a GPU compiles kernels in and records its graph."""


class Estimate(NamedTuple):
    """What a training takes; nothing of it is kept.

    Attributes:
        device: Where it computes, in words.
        memory_bytes: Memory at its peak: what torch allocates on a GPU, all of the process on a CPU.
        available_bytes: Memory that it may take; 0 if unknown.
        fitting_batch: About the largest `train.batch_size` that fits; 0 if unknown.
        num_steps: Training steps.
        step_s: Seconds of one; 0 where it was not measured, as it does not fit.
        measured_batch: Samples of the steps that were measured; `step_s` is for those of the recipe.
        total_s: Seconds of all epochs with their evaluations.
    """

    device: str
    memory_bytes: int
    available_bytes: int
    fitting_batch: int
    num_steps: int
    step_s: float = 0.0
    measured_batch: int = 0
    total_s: float = 0.0


def estimate_training(recipe: Recipe, cache: Path) -> Estimate:
    """Count the memory of a training, and measure some of its steps on samples that it would draw.

    Raises:
        TmktError: The training could not start here, see `run.start_run`; or the GPU is out of memory.
    """
    device = choose_device(recipe)
    with numerics(recipe):
        setup = build_setup(recipe, cache, device)
        on_cpu = device.type != "cuda"
        dtype = compute_dtype(choose_precision(recipe, device))
        step = count_step_memory(recipe, setup.frames, dtype, on_cpu=on_cpu)
        fits, batch_size = fitting_batch(recipe, setup, step), recipe.train.batch_size
        counted = Estimate(
            describe_device(recipe, device, "cpu" if on_cpu else torch.cuda.get_device_name(device)),
            step.of(batch_size) + (peak_memory_bytes(device) if on_cpu else held_bytes(setup)),
            memory_for_steps(setup) + held_bytes(setup),
            fits,
            recipe.num_epochs * setup.batches_per_epoch,
        )
        if 0 < fits < batch_size:
            return counted
        with explained(lambda: f"train.batch_size: {explain_out_of_memory(recipe, setup)}"):
            return _measure(recipe, setup, counted)


def _measure(recipe: Recipe, setup: TrainingSetup, counted: Estimate) -> Estimate:
    total_s = step_s = 0.0
    batch_size = recipe.train.batch_size
    measured = _affordable_batch(recipe, setup)
    for first_epoch, num_epochs in ((0, recipe.image_epochs), (recipe.image_epochs, recipe.train.epochs)):
        if num_epochs:
            step_s = batch_size * _sample_s(recipe, setup, first_epoch, measured)
            total_s += num_epochs * setup.batches_per_epoch * step_s
    total_s += recipe.num_epochs * len(setup.selection) * _evaluation_s(recipe, setup, measured)
    # Measured where the steps were those of the recipe; the count knows no buffers of single layers.
    memory_bytes = max(counted.memory_bytes, peak_memory_bytes(setup.device))
    return counted._replace(memory_bytes=memory_bytes, step_s=step_s, measured_batch=measured, total_s=total_s)


def _affordable_batch(recipe: Recipe, setup: TrainingSetup) -> int:
    """Return how many samples a measured step may have: on a slow CPU fewer than the recipe has."""
    batch_size = recipe.train.batch_size
    if setup.device.type == "cuda" or batch_size <= _FIRST:
        return batch_size
    for _ in range(2):
        # The first one may compile kernels.
        sample_s = _sample_s(recipe, setup, recipe.image_epochs, _FIRST, num_steps=1)
        if batch_size * sample_s < _SECONDS:
            return batch_size
    return _FIRST


def _sample_s(
    recipe: Recipe, setup: TrainingSetup, epoch: int, batch_size: int, *, num_steps: int | None = None
) -> float:
    """Return the seconds a sample of training, of the steps after the first of a GPU; `num_steps` at most."""
    on_gpu = setup.device.type == "cuda"
    num_unmeasured, check_every = (_UNMEASURED, CHECK_EVERY_ON_GPU) if on_gpu else (0, 1)
    iteration, num_samples, started = build_iteration(setup), 0, time.perf_counter()
    setup.model.train()
    setup.method.train()
    with closing(_batches(recipe, setup, epoch, batch_size)) as batches:
        for number, batch in enumerate(islice(batches, num_steps), start=1 - num_unmeasured):
            iteration(batch, 0.0)
            num_samples += len(batch)
            if number == 0:
                num_samples, started = 0, _now(setup.device)
            elif number > 0 and number % check_every == 0 and _now(setup.device) - started > _SECONDS:
                break
    return (_now(setup.device) - started) / num_samples


def _batches(recipe: Recipe, setup: TrainingSetup, epoch: int, batch_size: int) -> Generator[Batch, None, None]:
    """Yield the batches of an epoch again and again."""
    train = recipe.train.model_copy(update={"batch_size": batch_size})
    plan = EpochPlan(recipe.seed, epoch, setup.num_draws)
    for _ in count():
        with closing(training_batches(setup.train_source, train, plan, setup.device)) as batches:
            yield from batches


def _evaluation_s(recipe: Recipe, setup: TrainingSetup, batch_size: int) -> float:
    """Return the seconds a sample of evaluation."""
    if batch_size == recipe.train.batch_size:
        batch_size = recipe.train.eval_batch_size
    batch_size = min(batch_size, len(setup.selection))
    with closing(evaluation_batches(setup.selection_source, batch_size=batch_size, device=setup.device)) as batches:
        batch = next(batches)
    for _ in range(2 if setup.device.type == "cuda" else 1):
        started = _now(setup.device)
        evaluate(setup.model, [batch], recipe.loss)
    return (_now(setup.device) - started) / batch_size


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
