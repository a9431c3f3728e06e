"""The trials of a sweep in a journal of Optuna, which proposes their values; several processes share it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage
from optuna.trial import FrozenTrial, TrialState

from tmkt_data.locks import lock
from tmkt_train.errors import RunError
from tmkt_train.experiments.search_space import Choices, Dimension, Value
from tmkt_train.experiments.sweep import Sweep, Trial, plan_trial, trial_accuracies, trial_folder

POLL_S = 0.2
# Fewer random trials than Optuna's ten: a sweep of trainings has few trials (own choice).
_NUM_RANDOM = 4
_FIRST, _PROBLEM = "first_attempt", "problem"


class Attempt(NamedTuple):
    """A trial that this process trains."""

    number: int
    values: dict[str, Value]
    asked: optuna.Trial


class Journal:
    """The trials of a sweep in a journal of Optuna.

    The process that trains a trial holds the lock of its values. A running trial whose lock is free was left by a
    process that stopped; it is marked as failed and queued again, as by Optuna's `RetryFailedTrialCallback`. The last
    attempt at a trial counts. Trials are taken by one process at a time.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._distributions = {dimension.key: _distribution(dimension) for dimension in sweep.dimensions}
        self._study = _open_study(sweep)
        self._failed_before = {
            trial.number for trial in self._study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
        }
        self._grid = sweep.grid
        self._num_trials = len(self._grid) or sweep.num_trials
        self._ended: set[int] = set()

    @property
    def is_complete(self) -> bool:
        """Whether all trials have ended and were reported."""
        return self._ended >= set(range(self._num_trials))

    def take(self, held: ExitStack) -> Trial | Attempt | None:
        """Take a trial that has ended, or one to train; None while other processes train what is left.

        Args:
            held: Receives the lock of the values to train.
        """
        with self._turn():
            ended = self._next_ended()
            if ended is not None:
                return ended
            while (attempt := self._ask()) is not None:
                if self._lock(attempt.values, held):
                    return attempt
                # Another process trains the same values; its result is taken when it is done.
        return None

    def tell(self, attempt: Attempt, trial: Trial) -> None:
        """Record how a trial ended."""
        if trial.value is None:
            attempt.asked.set_user_attr(_PROBLEM, trial.problem)
        self._study.tell(attempt.asked, trial.value, TrialState.FAIL if trial.value is None else None)
        self._ended.add(attempt.number)

    def _next_ended(self) -> Trial | None:
        for number, last in enumerate(self._last_attempts()[: self._num_trials]):
            if number in self._ended or last.state == TrialState.WAITING:
                continue
            trial = self._read(number, last)
            if trial is not None:
                self._ended.add(number)
                return trial
            if last.state != TrialState.RUNNING or not self._is_locked(last):
                self._queue_again(last)
        return None

    def _last_attempts(self) -> list[FrozenTrial]:
        last = {trial.user_attrs.get(_FIRST, trial.number): trial for trial in self._study.get_trials(deepcopy=False)}
        return list(last.values())

    def _read(self, number: int, last: FrozenTrial) -> Trial | None:
        if last.state == TrialState.COMPLETE:
            values = self._values(last.params)
            runs = plan_trial(self._sweep, number, values)
            if all(run.status == "finished" for run in runs):
                return Trial(number + 1, values, trial_accuracies(runs))
        elif last.state == TrialState.FAIL and _PROBLEM in last.user_attrs and last.number not in self._failed_before:
            return Trial(number + 1, self._values(last.params), {}, last.user_attrs[_PROBLEM])
        return None

    def _is_complete(self, last: FrozenTrial) -> bool:
        return last.params.keys() == self._distributions.keys()

    def _is_locked(self, last: FrozenTrial) -> bool:
        with ExitStack() as held:
            # A process that was killed while it asked has left no lock, and not all of the values.
            return self._is_complete(last) and not self._lock(self._values(last.params), held)

    def _queue_again(self, last: FrozenTrial) -> None:
        if last.state == TrialState.RUNNING:
            self._study.tell(last.number, state=TrialState.FAIL)
        params = last.params if self._is_complete(last) else last.system_attrs.get("fixed_params", {})
        self._study.enqueue_trial(params, {_FIRST: last.user_attrs.get(_FIRST, last.number)})

    def _ask(self) -> Attempt | None:
        last_attempts = self._last_attempts()
        waiting = [last for last in last_attempts if last.state == TrialState.WAITING]
        if waiting:
            number = last_attempts.index(min(waiting, key=lambda last: last.number))
        elif len(last_attempts) < self._num_trials:
            number = len(last_attempts)
            if self._grid:
                self._study.enqueue_trial({self._sweep.dimensions[0].key: self._grid[number]})
        else:
            return None
        # One seed per trial, so that a resumed sweep proposes what an uninterrupted one does.
        seed = np.random.SeedSequence(self._sweep.recipe.seed, spawn_key=(number,)).generate_state(1)[0]
        self._study.sampler = optuna.samplers.TPESampler(seed=int(seed), n_startup_trials=_NUM_RANDOM)
        asked = self._study.ask(self._distributions)
        return Attempt(number, self._values(asked.params), asked)

    def _values(self, params: Mapping[str, Any]) -> dict[str, Value]:
        return {dimension.key: dimension.rounded(params[dimension.key]) for dimension in self._sweep.dimensions}

    def _lock(self, values: Mapping[str, Value], held: ExitStack) -> bool:
        return _try_lock(trial_folder(self._sweep, values) / ".lock", held)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with ExitStack() as held:
            while not _try_lock(self._sweep.out / ".journal.lock", held):
                time.sleep(POLL_S / 10)
            yield


def _open_study(sweep: Sweep) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    name = f"{', '.join(map(str, sweep.dimensions))}, seeds {', '.join(map(str, sweep.seeds))}"
    path = str(sweep.out / "journal.log")
    try:
        # This lock works on network file systems and on Windows; one that a killed process left expires.
        storage = JournalStorage(JournalFileBackend(path, JournalFileOpenLock(path)))
        return optuna.create_study(
            storage=storage,
            study_name=f"{name}, grid of {sweep.num_trials}" if sweep.is_grid else name,
            direction="maximize",
            load_if_exists=True,
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        raise RunError(f"{path}: not a journal of Optuna ({error}); remove it, finished runs are kept") from None


def _try_lock(path: Path, held: ExitStack) -> bool:
    try:
        held.enter_context(lock(path, RunError(f"{path}: held by another process")))
    except RunError as error:
        if isinstance(error.__cause__, TimeoutError):
            return False
        raise
    return True


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.values)
    if dimension.is_whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.is_log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.is_log)
