"""The test of a sweep: its best trial on the test split, once, and only where it is asked for."""

from __future__ import annotations

import json
from typing import NamedTuple

from tmkt_train.errors import RunError
from tmkt_train.experiments.sweep import Sweep, Trial, plan_trial, trial_folder
from tmkt_train.report.page import write_files
from tmkt_train.training.result import evaluate_both


class TestedAccuracy(NamedTuple):
    """Test accuracy of a run, in [0, 1]: of the selected epoch and of the last one."""

    selected: float
    last: float


def read_test(sweep: Sweep, trial: Trial) -> dict[int, TestedAccuracy]:
    """Evaluate the runs of a trial on the test split, and keep the accuracies in `test.json` beside the runs.

    A run that was tested before is not tested again.

    Args:
        sweep: The sweep.
        trial: A trial whose runs are finished.

    Returns:
        The accuracies by seed.

    Raises:
        TmktError: A run, its cache or `test.json` is missing or damaged, or cannot be written.
    """
    folder = trial_folder(sweep, trial.values)
    path = folder / "test.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        known = {int(seed): TestedAccuracy(*map(float, pair)) for seed, pair in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RunError(f"{path}: found {error}, expected accuracies by seed; remove it") from None
    for run in plan_trial(sweep, trial.number - 1, trial.values):
        if run.recipe.seed not in known:
            selected, last = evaluate_both(run.folder, cache=run.cache.path)
            known[run.recipe.seed] = TestedAccuracy(selected.accuracy, last.accuracy)
            write_files(folder, {path.name: (json.dumps(known, indent=2) + "\n").encode()})
    return {seed: known[seed] for seed in sweep.seeds}
