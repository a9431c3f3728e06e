"""Train planned runs: start missing ones, resume interrupted ones, keep finished ones."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress

from tmkt_data.errors import TmktError
from tmkt_train.errors import RunInterruptedError
from tmkt_train.experiments.jobs import RunAdvanced, RunEnded, RunsProgress, RunStarted, train_in_processes
from tmkt_train.experiments.plan import PlannedRun
from tmkt_train.experiments.slots import Slots
from tmkt_train.training.progress import Progress


def train_runs(
    runs: Sequence[PlannedRun], should_stop: Callable[[], bool] = lambda: False, slots: Slots | None = None
) -> Generator[RunsProgress, None, None]:
    """Train every run that is not finished; a run that fails does not stop the others.

    Args:
        runs: The runs.
        should_stop: Polled between steps; once it returns True, running runs save a checkpoint and stop.
        slots: How many runs train at once, and on which GPUs; the default trains one after the other in this process.

    Yields:
        Progress of the runs; nothing for finished ones.

    Raises:
        RunInterruptedError: `should_stop` returned True before the last run ended.
    """
    unfinished = [run for run in runs if run.status != "finished"]
    for run in runs:
        if run not in unfinished:
            _complete(run)
    if slots is not None and not slots.is_single:
        yield from train_in_processes(unfinished, should_stop, slots)
        return
    for run in unfinished:
        if should_stop():
            raise RunInterruptedError(run.folder)
        yield RunStarted(run, is_resumed=run.status == "interrupted")
        try:
            for progress in _train(run, should_stop):
                yield RunAdvanced(run, progress)
        except RunInterruptedError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever stopped this run, the others may still train
            yield RunEnded(run, _first_line(error))
        else:
            yield RunEnded(run, None)


def _train(run: PlannedRun, should_stop: Callable[[], bool]) -> Iterator[Progress]:
    from tmkt_train.training.run import resume_run, start_run

    if run.status == "missing":
        ready = start_run(run.recipe, cache=run.cache.path, out=run.folder, loggers=run.loggers)
    else:
        ready = resume_run(run.folder, cache=run.cache.path)
    yield from ready.train(should_stop)
    if run.has_report:
        _write_report(run)


def _complete(run: PlannedRun) -> None:
    """Do what a process that was killed at the end of a run has not done: write its report, release its lock."""
    from tmkt_train.training.folder import RunFolder

    folder = RunFolder(run.folder)
    folder.remove_leftovers()
    if run.has_report and not folder.report.exists():
        _write_report(run)


def _write_report(run: PlannedRun) -> None:
    from tmkt_train.report.page import write_report
    from tmkt_train.training.folder import RunFolder

    # The training is complete even if its report cannot be written.
    with suppress(TmktError):
        write_report([run.folder], RunFolder(run.folder).report)


def _first_line(error: BaseException) -> str:
    text = str(error) if isinstance(error, TmktError) else f"{type(error).__name__}: {error}"
    return text.partition("\n")[0]
