"""What a run tells while it goes on; plain values for whoever shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from tmkt_train.recipe.recipe import Recipe


class Started(NamedTuple):
    """The run is ready.

    Attributes:
        run: Its folder.
        cache: Its cache.
        recipe: Its recipe.
        num_classes: Classes.
        num_train: Training samples; an epoch draws as many.
        num_selection: Samples of the part that selects the epoch.
        selected_on: That part: val or test.
        num_steps: Steps of an epoch.
        num_parameters: Parameters of the network.
        device: Where it runs, in words.
        first_epoch: Epochs that are done already.
        first_step: Steps of the next one that are done already.
        notes: What differs from when the run was started.
    """

    run: Path
    cache: Path
    recipe: Recipe
    num_classes: int
    num_train: int
    num_selection: int
    selected_on: str
    num_steps: int
    num_parameters: int
    device: str
    first_epoch: int
    first_step: int
    notes: tuple[str, ...]


class StepDone(NamedTuple):
    """One step is done: number `step` of `num_steps` in `epoch`."""

    epoch: int
    step: int
    num_steps: int


class EpochDone(NamedTuple):
    """One epoch is done.

    Attributes:
        row: Its line in the metrics.
        is_best: Whether it is the best so far.
        epochs: Epochs of the training.
    """

    row: dict[str, Any]
    is_best: bool
    epochs: int


class Finished(NamedTuple):
    """The run is done; `result` is what result.json holds."""

    result: dict[str, Any]


Progress = Started | StepDone | EpochDone | Finished
