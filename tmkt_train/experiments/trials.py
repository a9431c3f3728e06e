"""Train the trials of a sweep: Optuna proposes their values, in a journal that several processes share."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage
from optuna.trial import FrozenTrial, TrialState

from tmkt_data.files import lock
from tmkt_train.data.cache import choose_cache
from tmkt_train.errors import RecipeError, RunError, RunInterruptedError
from tmkt_train.experiments.compare import train_runs
from tmkt_train.experiments.jobs import RunEnded, RunsProgress
from tmkt_train.experiments.plan import PlannedRun, plan_run
from tmkt_train.experiments.search_space import Choices, Dimension, Value, setting_of
from tmkt_train.experiments.sweep import Sweep, Trial
from tmkt_train.recipe.load import load_recipe

_POLL_S = 0.2
# Fewer random trials than Optuna's ten: a sweep of trainings has few trials (own choice).
_NUM_RANDOM = 4
_FIRST, _PROBLEM = "first_attempt", "problem"


def run_sweep(
    sweep: Sweep, should_stop: Callable[[], bool] = lambda: False
) -> Generator[RunsProgress | Trial, None, None]:
    """Train a sweep, together with all other processes that train it.

    Finished runs are kept, so that a stopped sweep resumes. Trials that failed in earlier sessions are tried again.

    Args:
        sweep: The sweep.
        should_stop: Polled between steps; once it returns True, the current run saves a checkpoint and stops.

    Yields:
        Progress of the runs in this process, and each trial of the sweep when it has ended.

    Raises:
        RunInterruptedError: `should_stop` returned True.
        RunError: A folder holds another run, the cache of a trial is missing, or the journal is damaged.
    """
    journal = _Journal(sweep)
    while not journal.is_complete:
        if should_stop():
            raise RunInterruptedError(sweep.out)
        with ExitStack() as held:
            taken = journal.take(held)
            if taken is None:
                time.sleep(_POLL_S)
            elif isinstance(taken, Trial):
                yield taken
            else:
                trial = yield from _train(sweep, taken, should_stop)
                journal.tell(taken, trial)
                yield trial


class _Attempt(NamedTuple):
    """A trial that this process trains."""

    number: int
    values: dict[str, Value]
    asked: optuna.Trial


class _Journal:
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

    def take(self, held: ExitStack) -> Trial | _Attempt | None:
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

    def tell(self, attempt: _Attempt, trial: Trial) -> None:
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
            runs = _plan_runs(self._sweep, number, values)
            if all(run.status == "finished" for run in runs):
                return Trial(number + 1, values, _accuracies(runs))
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

    def _ask(self) -> _Attempt | None:
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
        return _Attempt(number, self._values(asked.params), asked)

    def _values(self, params: Mapping[str, Any]) -> dict[str, Value]:
        return {dimension.key: dimension.rounded(params[dimension.key]) for dimension in self._sweep.dimensions}

    def _lock(self, values: Mapping[str, Value], held: ExitStack) -> bool:
        return _try_lock(_folder(self._sweep, values) / ".lock", held)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with ExitStack() as held:
            while not _try_lock(self._sweep.out / ".journal.lock", held):
                time.sleep(_POLL_S / 10)
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


def _train(sweep: Sweep, attempt: _Attempt, should_stop: Callable[[], bool]) -> Generator[RunsProgress, None, Trial]:
    number, values = attempt.number + 1, attempt.values
    try:
        runs = _plan_runs(sweep, attempt.number, values)
    except RecipeError as error:
        # Values that are valid one by one, but not together.
        return Trial(number, values, {}, error.problems[0])
    problem: str | None = None
    for progress in train_runs(runs, should_stop):
        if isinstance(progress, RunEnded):
            problem = problem or progress.problem
        yield progress
    return Trial(number, values, _accuracies(runs), problem)


def _plan_runs(sweep: Sweep, number: int, values: Mapping[str, Value]) -> list[PlannedRun]:
    varied = [setting_of(key, value) for key, value in values.items()]
    runs = []
    for seed in sweep.seeds:
        settings = [*sweep.settings, *varied, f"seed={seed}"]
        cache = choose_cache(load_recipe(sweep.source, settings), sweep.cache)
        label = f"trial {number + 1} ({', '.join(varied)}) seed {seed}"
        runs.append(plan_run(label, sweep.source, settings, cache, _folder(sweep, values) / f"seed-{seed}"))
    return runs


def _folder(sweep: Sweep, values: Mapping[str, Value]) -> Path:
    # Named by the values, not by a number: another grid, or more trials, find the runs that exist.
    names = [re.sub(r"[^A-Za-z0-9_.+=-]", "_", setting_of(key, value)) for key, value in values.items()]
    return sweep.out.joinpath("runs", *names)


def _accuracies(runs: list[PlannedRun]) -> dict[int, float]:
    return {run.recipe.seed: float(result["val_accuracy"]) for run in runs if (result := run.result())}
