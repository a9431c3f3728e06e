"""Train the trials of a sweep, one after the other or several at once, together with other processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from tmkt_train.errors import RecipeError, RunInterruptedError
from tmkt_train.experiments.compare import train_runs
from tmkt_train.experiments.jobs import Jobs, RunEnded, RunsProgress, RunStarted
from tmkt_train.experiments.journal import POLL_S, Attempt, Journal
from tmkt_train.experiments.plan import PlannedRun
from tmkt_train.experiments.slots import Slots
from tmkt_train.experiments.sweep import Sweep, Trial, plan_trial, trial_accuracies


def run_sweep(
    sweep: Sweep, should_stop: Callable[[], bool] = lambda: False, slots: Slots | None = None
) -> Generator[RunsProgress | Trial, None, None]:
    """Train a sweep, together with all other processes that train it.

    Finished runs are kept, so that a stopped sweep resumes. Trials that failed in earlier sessions are tried again.
    `should_stop` and `slots` are those of `compare.train_runs`.

    Yields:
        Progress of the runs in this process, and each trial of the sweep when it has ended.

    Raises:
        RunInterruptedError: `should_stop` returned True.
        RunError: A folder holds another run, the cache of a trial is missing, or the journal is damaged.
    """
    journal = Journal(sweep)
    if slots is not None and not slots.is_single:
        yield from _train_at_once(journal, sweep, should_stop, slots)
        return
    while not journal.is_complete:
        if should_stop():
            raise RunInterruptedError(sweep.out)
        with ExitStack() as held:
            taken = journal.take(held)
            if taken is None:
                time.sleep(POLL_S)
            elif isinstance(taken, Trial):
                yield taken
            else:
                trial = yield from _train(sweep, taken, should_stop)
                journal.tell(taken, trial)
                yield trial


@dataclass(eq=False)
class _Training:
    """A trial that this process trains: its runs, those that wait for a slot, and the first problem."""

    attempt: Attempt
    runs: list[PlannedRun] = field(default_factory=list)
    waiting: list[PlannedRun] = field(default_factory=list)
    problem: str | None = None

    @property
    def trial(self) -> Trial:
        return Trial(self.attempt.number + 1, self.attempt.values, trial_accuracies(self.runs), self.problem)

    def is_done(self, jobs: Jobs) -> bool:
        return not self.waiting and not any(run in self.runs for run in jobs.running)

    def start(self, jobs: Jobs) -> Iterator[RunStarted]:
        while self.waiting and not jobs.is_full:
            run = self.waiting.pop(0)
            yield RunStarted(run, is_resumed=run.status == "interrupted")
            jobs.start(run)

    def note(self, progress: RunsProgress) -> None:
        if isinstance(progress, RunEnded) and progress.run in self.runs:
            self.problem = self.problem or progress.problem


def _plan(sweep: Sweep, attempt: Attempt) -> _Training:
    try:
        runs = plan_trial(sweep, attempt.number, attempt.values)
    except RecipeError as error:
        # Values that are valid one by one, but not together.
        return _Training(attempt, problem=error.problems[0])
    return _Training(attempt, runs, [run for run in runs if run.status != "finished"])


def _train(sweep: Sweep, attempt: Attempt, should_stop: Callable[[], bool]) -> Generator[RunsProgress, None, Trial]:
    training = _plan(sweep, attempt)
    for progress in train_runs(training.runs, should_stop):
        training.note(progress)
        yield progress
    return training.trial


def _train_at_once(
    journal: Journal, sweep: Sweep, should_stop: Callable[[], bool], slots: Slots
) -> Generator[RunsProgress | Trial, None, None]:
    trainings: dict[_Training, ExitStack] = {}
    # The locks of the values are released after the children have stopped.
    with ExitStack() as all_held, Jobs(slots) as jobs:
        while not journal.is_complete:
            if should_stop():
                raise RunInterruptedError(sweep.out)
            for ended in jobs.wait():
                for training in trainings:
                    training.note(ended)
                yield ended
            for training in [training for training in trainings if training.is_done(jobs)]:
                trial = training.trial
                journal.tell(training.attempt, trial)
                trainings.pop(training).close()
                yield trial
            for training in trainings:
                yield from training.start(jobs)
            if jobs.is_full:
                continue
            held = ExitStack()
            taken = journal.take(held)
            if taken is None:
                time.sleep(POLL_S)
            elif isinstance(taken, Trial):
                yield taken
            else:
                all_held.push(held)
                trainings[_plan(sweep, taken)] = held
