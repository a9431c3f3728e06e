"""Options, progress displays and stop handling of the training commands."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_args

import click

from tmkt_data.cli.paths import CACHE as CACHE_FILE
from tmkt_data.cli.paths import LocalPath
from tmkt_train.choices import All, Cluster, LoggerName
from tmkt_train.cli.completion import complete_recipe, complete_setting
from tmkt_train.cli.text import duration, epoch_line, percent, started_lines
from tmkt_train.errors import RunError

if TYPE_CHECKING:
    from tmkt_train.experiments.jobs import RunsProgress
    from tmkt_train.experiments.plan import PlannedRun
    from tmkt_train.experiments.slots import Slots
    from tmkt_train.training.progress import Progress

RECIPE = click.argument("name", metavar="RECIPE", shell_complete=complete_recipe)
RUN = click.argument("run", type=click.Path(path_type=Path))
CACHE = click.option("--cache", type=CACHE_FILE, help="Cache to use, a file or a URL.  [default: the one that matches]")
RUN_CACHE = click.option("--cache", type=CACHE_FILE, help="New path or URL of the cache, if it was moved.")
SET = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    shell_complete=complete_setting,
    help="Override a setting, such as train.epochs=3.",
)
LOGGER = click.option(
    "--logger",
    "loggers",
    type=click.Choice(get_args(LoggerName)),
    multiple=True,
    help="Log to Weights & Biases or MLflow, too; repeatable.",
)
JOBS = click.option(
    "--jobs", type=click.IntRange(1, 256), help="Number of parallel runs.  [default: 1, or one per device of --devices]"
)


def _parse_devices(
    _context: click.Context, _parameter: click.Parameter, text: str | None
) -> tuple[int, ...] | All | None:
    if text is None:
        return None
    if text == "all":
        return "all"
    numbers: list[int] = []
    for word in text.split(","):
        if not (word.strip().isascii() and word.strip().isdecimal()):
            raise click.BadParameter(f"found {word!r}, expected numbers of GPUs such as 0,1, or all")
        number = int(word)
        if number in numbers:
            raise click.BadParameter(f"found {number} twice, expected each GPU once; for more runs on it, raise --jobs")
        numbers.append(number)
    return tuple(numbers)


DEVICES = click.option(
    "--devices",
    callback=_parse_devices,
    metavar="NUMBERS",
    help="GPUs to spread the runs over, such as 0,1, or all.  [default: all with --jobs, else one]",
)


SUBMIT = click.option(
    "--submit",
    type=click.Choice(get_args(Cluster)),
    help="Submit each run as a job, through submitit; local: as a process here.",
)
SUBMIT_OPTION = click.option(
    "--submit-option",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="Parameter of the jobs, such as timeout_min=600 or slurm_partition=gpu.",
)


def take_slots(options: dict[str, Any]) -> Slots:
    """Take the options that say where runs train out of those of a command, and return their slots."""
    from tmkt_train.experiments.slots import choose_slots, submitted_slots
    from tmkt_train.experiments.submitted import Submission

    num_jobs, devices, cluster, parameters = (options.pop(name) for name in ("jobs", "devices", "submit", "parameters"))
    if cluster is None:
        if parameters:
            raise RunError(f"--submit-option: found {parameters[0]!r} without --submit, expected both")
        return choose_slots(num_jobs, devices)
    return submitted_slots(num_jobs, devices, Submission(cluster, parameters))


def out_option(default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the option `--out` for a folder."""
    return click.option("--out", type=LocalPath(path_type=Path), help=f"Folder to write.  [default: {default}]")


@contextmanager
def asked_to_stop(*, is_quiet: bool = False) -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a flag that the training polls between steps; the second one interrupts.

    SIGHUP of a closed terminal sets the flag as well, however often it comes; under `nohup` it stays ignored.
    `is_quiet` is for ranks, which torchrun signals: nothing is said.

    Yields:
        Whether a signal arrived.
    """
    asked: list[int] = []
    hangup = getattr(signal, "SIGHUP", None)
    terminals = [handle for handle in (1, 2) if os.isatty(handle)]

    def ask(number: int, _frame: object) -> None:
        if number == hangup:
            # The shell and the system both send it. Nobody reads any more, and writing there is an error.
            _silence(terminals)
        elif asked:
            raise KeyboardInterrupt
        asked.append(number)
        if is_quiet:
            return
        with suppress(OSError):
            click.echo("stopping after this step; press Ctrl-C again to stop at once", err=True)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        numbers.append(hangup)
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _silence(handles: list[int]) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    for handle in handles:
        os.dup2(null, handle)
    os.close(null)


class _Bar:
    """A progress bar on a terminal, with lines printed above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(highlight=False, soft_wrap=True)
        columns = (TextColumn("{task.description}"), BarColumn(28), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._task = self._bar.add_task("", total=None, visible=False)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Without a terminal, stopping the bar prints an empty line.
        if self._console.is_terminal:
            self._bar.stop()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line, markup=False)

    def _move(self, name: str, completed: int = 0, total: int | None = None) -> None:
        self._bar.update(self._task, description=name, completed=completed, total=total, visible=True)


class RunDisplay(_Bar):
    """Show one run: a line per epoch, and on a terminal a bar that moves with the steps."""

    def __init__(self) -> None:
        super().__init__()
        self._times: list[float] = []

    def show(self, progress: Progress) -> None:
        """Show one step of progress."""
        from tmkt_train.training.progress import EpochDone, Started, StepDone

        match progress:
            case Started():
                for line in started_lines(progress):
                    self.say(line)
            case StepDone(epoch, batch, batches_per_epoch):
                self._move(f"epoch {epoch + 1}", batch, batches_per_epoch)
            case EpochDone():
                self._times.append(float(progress.row["wall_s"]))
                self.say(epoch_line(progress, self._times))


class RunsDisplay(_Bar):
    """Show many runs: a line per run, and on a terminal a bar that moves with the steps of the current one.

    `problems` says by folder why runs failed.
    """

    def __init__(self, num_runs: int = 0, num_done: int = 0) -> None:
        super().__init__()
        self.problems: dict[Path, str] = {}
        self._total, self._done = num_runs, num_done

    def show(self, progress: RunsProgress) -> None:
        """Show one step of progress."""
        from tmkt_train.experiments.jobs import RunAdvanced, RunEnded, RunStarted
        from tmkt_train.training.progress import StepDone

        match progress:
            case RunStarted(run):
                self._move(run.label)
            case RunAdvanced(run, StepDone(epoch, batch, batches_per_epoch)):
                done, total = epoch * batches_per_epoch + batch, run.recipe.num_epochs * batches_per_epoch
                self._move(run.label, done, total)
            case RunEnded(run, problem):
                self._done += 1
                self._bar.update(self._task, visible=False)
                self.say(f"{self._done:>4}/{self._total} {run.label}: {self._ended(run, problem)}")

    def _ended(self, run: PlannedRun, problem: str | None) -> str:
        result = None if problem else run.result()
        if result is None:
            self.problems[run.folder] = problem or "no result"
            return f"failed: {self.problems[run.folder]}"
        split = "test" if result["val_accuracy"] is None else "val"
        best = result[f"{split}_accuracy"]
        return f"{split} {percent(best)}, {duration(result['wall_s'])}"
