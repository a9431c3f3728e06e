"""The progress values that a run yields, for display."""

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
        num_train: Training samples.
        num_selection: Samples of the split that selects the epoch.
        selected_on: That split: val or test.
        batches_per_epoch: Batches of an epoch.
        num_parameters: Parameters of the network.
        device: Description of the device.
        first_epoch: Epochs that are done already.
        first_batch: Batches of the next epoch that are done already.
        notes: Warnings, and changes since the run was started.
    """

    run: Path
    cache: Path
    recipe: Recipe
    num_classes: int
    num_train: int
    num_selection: int
    selected_on: str
    batches_per_epoch: int
    num_parameters: int
    device: str
    first_epoch: int
    first_batch: int
    notes: tuple[str, ...]


class StepDone(NamedTuple):
    """One training step is done: the one on batch `batch`, counted from 1, of `batches_per_epoch` in `epoch`."""

    epoch: int
    batch: int
    batches_per_epoch: int


class EpochDone(NamedTuple):
    """One epoch is done.

    Attributes:
        row: Its metrics.
        is_best: Whether it is the best so far.
        epochs: Epochs of the training.
    """

    row: dict[str, Any]
    is_best: bool
    epochs: int


class Finished(NamedTuple):
    """The run is done; `result` is the content of result.json."""

    result: dict[str, Any]


Progress = Started | StepDone | EpochDone | Finished
