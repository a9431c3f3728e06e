"""What the training commands share: options, the display of a run, the question whether to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tmkt_data.cli.console import fail
from tmkt_train.cli.text import duration, epoch_line, percent, started_lines

if TYPE_CHECKING:
    from tmkt_train.experiments.planned_run import PlannedRun
    from tmkt_train.experiments.runs_progress import RunsProgress
    from tmkt_train.recipe.recipe import Recipe
    from tmkt_train.training.progress import Progress

CACHE = click.option("--cache", type=click.Path(path_type=Path), help="Cache to use, instead of the one that is found.")
SET = click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a setting, such as train.epochs=3."
)


def load_or_fail(path: Path, settings: Sequence[str], seed: int | None) -> Recipe:
    """Read a recipe with settings over it; end the process with a line for each mistake."""
    from tmkt_train.errors import RecipeError
    from tmkt_train.recipe.load import load_recipe

    try:
        return load_recipe(path, [*settings, *([] if seed is None else [f"seed={seed}"])])
    except RecipeError as error:
        fail("\nerror: ".join(error.problems))


class Display:
    """Shows a run: a line per epoch, and on a terminal a bar that moves with the steps."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(highlight=False, soft_wrap=True)
        columns = (TextColumn("{task.description}"), BarColumn(28), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._task = self._bar.add_task("epoch", total=None, visible=False)
        self._times: list[float] = []

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Show one step of the progress."""
        from tmkt_train.training.progress import EpochDone, Started, StepDone

        match progress:
            case Started():
                for line in started_lines(progress):
                    self._console.print(line, markup=False)
            case StepDone(epoch, step, num_steps):
                name = f"epoch {epoch + 1}"
                self._bar.update(self._task, description=name, completed=step, total=num_steps, visible=True)
            case EpochDone():
                self._times.append(float(progress.row["wall_s"]))
                self._console.print(epoch_line(progress, self._times), markup=False)


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C, or a request to end, into a question that the training asks between steps.

    Yields:
        Whether it was asked.
    """
    asked: list[int] = []

    def ask(number: int, _frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        click.echo("stopping after this step; again to stop at once", err=True)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class RunsDisplay:
    """Shows many runs: a line per run, and on a terminal a bar that moves with the steps of the one in work.

    Args:
        num_runs: Runs in all.
        num_done: Runs that are finished already.

    Attributes:
        problems: Why runs failed, by folder.
    """

    def __init__(self, num_runs: int = 0, num_done: int = 0) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.problems: dict[Path, str] = {}
        self._console = Console(highlight=False, soft_wrap=True)
        columns = (TextColumn("{task.description}"), BarColumn(28), MofNCompleteColumn())
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._task = self._bar.add_task("", total=None, visible=False)
        self._total, self._done = num_runs, num_done

    def __enter__(self) -> RunsDisplay:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        # Without a terminal, stopping the bar prints an empty line.
        if self._console.is_terminal:
            self._bar.stop()

    def show(self, progress: RunsProgress) -> None:
        """Show one step of the progress."""
        from tmkt_train.experiments.runs_progress import RunAdvances, RunBegins, RunEnds
        from tmkt_train.training.progress import StepDone

        match progress:
            case RunBegins(run):
                self._bar.update(self._task, description=run.label, completed=0, total=None, visible=True)
            case RunAdvances(run, StepDone(epoch, step, num_steps)):
                done, total = epoch * num_steps + step, run.recipe.num_epochs * num_steps
                self._bar.update(self._task, description=run.label, completed=done, total=total)
            case RunEnds(run, problem):
                self._done += 1
                self._bar.update(self._task, visible=False)
                self.say(f"{self._done:>4}/{self._total} {run.label}: {self._ended(run, problem)}")

    def _ended(self, run: PlannedRun, problem: str | None) -> str:
        result = None if problem else run.result()
        if result is None:
            self.problems[run.folder] = problem or "no result"
            return f"failed: {self.problems[run.folder]}"
        part = str(result["selected_on"])
        best = result["test_accuracy"] if part == "test" else result["val_accuracy"]
        return f"{part} {percent(best)}, {duration(result['wall_s'])}"

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._console.print(line, markup=False)
