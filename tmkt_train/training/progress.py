"""The progress values that a run yields, for display."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from tmkt_train.recipe.recipe import Recipe


class Started(NamedTuple):
    """The run is ready: what it trains on, and how far it has come.

    `selection_split` is evaluated after each epoch: val or test. `first_epoch` epochs are done already, and
    `first_batch` batches of the next. `notes` are warnings, and changes since the run was started.
    """

    run: Path
    cache: Path
    recipe: Recipe
    num_classes: int
    num_train: int
    num_selection: int
    selection_split: str
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
    """One of `epochs` is done: its metrics, and whether it is the best so far."""

    row: dict[str, Any]
    is_best: bool
    epochs: int


class Finished(NamedTuple):
    """The run is done; `result` is the content of result.json."""

    result: dict[str, Any]


Progress = Started | StepDone | EpochDone | Finished
