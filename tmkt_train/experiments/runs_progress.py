"""What the training of many runs tells while it goes on; plain values for whoever shows them."""

from __future__ import annotations

from typing import NamedTuple

from tmkt_train.experiments.planned_run import PlannedRun
from tmkt_train.training.progress import Progress


class RunBegins(NamedTuple):
    """A run is started, or gone on with; `goes_on` says which."""

    run: PlannedRun
    goes_on: bool


class RunAdvances(NamedTuple):
    """A run has come further; runs in processes of their own do not tell."""

    run: PlannedRun
    progress: Progress


class RunEnds(NamedTuple):
    """A run has ended; `problem` says in one line why it failed, and is None where it is finished."""

    run: PlannedRun
    problem: str | None


RunsProgress = RunBegins | RunAdvances | RunEnds
