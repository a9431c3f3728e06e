"""The command `tmkt-train sweep`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tmkt_data.cli.console import STOPPED, fail, print_rows
from tmkt_train.cli.display import CACHE, SET, RunsDisplay, asked_to_stop
from tmkt_train.cli.text import percent

if TYPE_CHECKING:
    from tmkt_train.experiments.sweep import Sweep, Trial


@click.command()
@click.argument("recipe")
@click.option(
    "--over",
    multiple=True,
    required=True,
    metavar="KEY=LOW:HIGH",
    help="Setting to vary: mix.ratio=0.1:0.9, loss.modality=0.01:1:log, mix.schedule=constant,linear.",
)
@click.option("--trials", type=click.IntRange(1, 10_000), default=9, show_default=True, help="Trials.")
@click.option("--seeds", type=click.IntRange(1, 1000), default=1, show_default=True, help="Seeds of each trial.")
@click.option("--grid", is_flag=True, help="Evenly spaced values of one setting, rather than a search with Optuna.")
@SET
@CACHE
@click.option("--out", type=click.Path(path_type=Path), help="Folder.  [default: runs/sweep-RECIPE-KEY]")
def sweep(
    recipe: str,
    over: tuple[str, ...],
    trials: int,
    seeds: int,
    grid: bool,
    settings: tuple[str, ...],
    cache: Path | None,
    out: Path | None,
) -> None:
    """Vary settings of a recipe and find the values that are best on the validation part; test is not looked at.

    Runs that are finished are taken as they are, interrupted ones go on: after Ctrl-C, type the same command again.
    """
    from tmkt_train.errors import RecipeError
    from tmkt_train.experiments.sweep import plan_sweep

    try:
        planned = plan_sweep(
            recipe, over, num_trials=trials, num_seeds=seeds, is_grid=grid, settings=settings, cache=cache, out=out
        )
    except RecipeError as error:
        fail("\nerror: ".join(error.problems))
    done = _train(planned)
    _show(planned, recipe, done)
    failed = [trial for trial in done if trial.problem]
    if failed:
        fail(f"{len(failed)} of {len(done)} trials failed; {planned.out / 'sweep.csv'} says why")


def _train(planned: Sweep) -> list[Trial]:
    from tmkt_train.errors import RunInterruptedError
    from tmkt_train.experiments.runs_progress import RunEnds
    from tmkt_train.experiments.sweep import Trial, run_sweep
    from tmkt_train.experiments.sweep_files import write_trials

    trials: list[Trial] = []
    try:
        with asked_to_stop() as should_stop, RunsDisplay() as display:
            for progress in run_sweep(planned, should_stop):
                if isinstance(progress, Trial):
                    trials.append(progress)
                    write_trials(planned, trials)
                    value = f"failed: {progress.problem}" if progress.value is None else percent(progress.value)
                    display.say(f"{progress.number:>4} {progress.words}: {value}")
                elif not isinstance(progress, RunEnds):
                    display.show(progress)
    except (RunInterruptedError, KeyboardInterrupt):
        click.echo("stopped; the same command goes on from here", err=True)
        sys.exit(STOPPED)
    return trials


def _show(planned: Sweep, name: str, trials: list[Trial]) -> None:
    from tmkt_train.errors import command
    from tmkt_train.experiments.search_space import setting_of
    from tmkt_train.experiments.sweep_files import best_trial, sweep_notes, write_sweep

    files = write_sweep(planned, trials)
    best = best_trial(trials)
    if best is not None and best.value is not None:
        click.echo(f"best: {best.words} with validation accuracy {percent(best.value)}")
    for note in sweep_notes(planned, trials):
        click.echo(f"note: {note}")
    print_rows((path.name, str(path)) for path in files)
    if best is not None:
        varied = [setting_of(key, value) for key, value in best.values.items()]
        words = [word for setting in (*planned.settings, *varied) for word in ("--set", setting)]
        words += [] if planned.cache is None else ["--cache", str(planned.cache)]
        click.echo("next, the best values with the test part:")
        click.echo(f"  {command('tmkt-train', 'recipe', name, *words)}")
