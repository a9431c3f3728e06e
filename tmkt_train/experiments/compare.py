"""Training of planned runs: what is missing is started, what was interrupted goes on, what is finished stays."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress

from tmkt_data.errors import TmktError
from tmkt_train.errors import RunInterruptedError
from tmkt_train.experiments.jobs import train_in_processes
from tmkt_train.experiments.planned_run import PlannedRun
from tmkt_train.experiments.runs_progress import RunAdvances, RunBegins, RunEnds, RunsProgress
from tmkt_train.training.progress import Progress


def train_runs(
    runs: Sequence[PlannedRun], should_stop: Callable[[], bool] = lambda: False, *, num_jobs: int = 1
) -> Generator[RunsProgress, None, None]:
    """Train every run that is not finished; one that fails does not keep the others from training.

    Args:
        runs: The runs.
        should_stop: Asked again and again; when it says yes, the runs in work save where they stand.
        num_jobs: Runs at once: 1 trains in this process, more in as many others.

    Yields:
        How far the runs have come; finished ones are passed over in silence.

    Raises:
        RunInterruptedError: `should_stop` said yes before the last run had ended.
    """
    unfinished = [run for run in runs if run.state != "finished"]
    if num_jobs > 1:
        yield from train_in_processes(unfinished, should_stop, num_jobs)
        return
    for run in unfinished:
        if should_stop():
            raise RunInterruptedError(run.folder)
        yield RunBegins(run, goes_on=run.state == "interrupted")
        try:
            for progress in _train_here(run, should_stop):
                yield RunAdvances(run, progress)
        except RunInterruptedError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever broke one run, the others may be fine
            yield RunEnds(run, describe_problem(error))
        else:
            yield RunEnds(run, None)


def _train_here(run: PlannedRun, should_stop: Callable[[], bool]) -> Iterator[Progress]:
    from tmkt_train.report.page import write_report
    from tmkt_train.training.run import resume_run, start_run

    if run.state == "missing":
        ready = start_run(run.recipe, cache=run.cache.path, out=run.folder)
    else:
        ready = resume_run(run.folder, cache=run.cache.path)
    yield from ready.train(should_stop)
    # The run is done, whatever is wrong with its report.
    with suppress(TmktError):
        write_report([run.folder], run.folder / "report.html")


def describe_problem(error: BaseException) -> str:
    """Say in one line what went wrong."""
    text = str(error) if isinstance(error, TmktError) else f"{type(error).__name__}: {error}"
    return text.partition("\n")[0]
