"""The command `tmkt-train sweep`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from tmkt_data.cli.console import fail, print_rows
from tmkt_data.cli.reporting import put_json
from tmkt_data.cli.start import STOPPED
from tmkt_train.cli.display import (
    CACHE,
    DEVICES,
    JOBS,
    LOGGER,
    RECIPE,
    SET,
    SUBMIT,
    SUBMIT_OPTION,
    RunsDisplay,
    asked_to_stop,
    out_option,
    take_slots,
)
from tmkt_train.cli.early import load_named
from tmkt_train.cli.text import percent
from tmkt_train.errors import RunInterruptedError, command

if TYPE_CHECKING:
    from tmkt_train.experiments.slots import Slots
    from tmkt_train.experiments.sweep import Sweep, Trial


@click.command()
@RECIPE
@click.option(
    "--over",
    multiple=True,
    required=True,
    metavar="KEY=LOW:HIGH",
    help="Setting to vary, one or more: mix.ratio=0.1:0.9, loss.modality=0.01:1:log, mix.schedule=constant,linear.",
)
@click.option("--trials", type=click.IntRange(1, 10_000), default=9, show_default=True, help="Number of trials.")
@click.option("--seeds", type=click.IntRange(1, 1000), default=1, show_default=True, help="Seeds per trial.")
@click.option("--grid", is_flag=True, help="Try evenly spaced values of one setting instead of searching.")
@click.option("--test", is_flag=True, help="Evaluate the best trial on the test split at the end, once.")
@JOBS
@DEVICES
@SUBMIT
@SUBMIT_OPTION
@SET
@CACHE
@LOGGER
@out_option("runs/sweep-RECIPE-KEY")
def sweep(name: str, over: tuple[str, ...], **options: Any) -> None:
    """Search settings of a recipe by validation accuracy.

    RECIPE is a name or a file. No trial reads a recording of the test split.

    After Ctrl-C, run the same command again: finished runs are kept, interrupted ones resume. Several processes that
    run the same command at the same time share the trials.
    """
    from tmkt_train.experiments.plan import RunOptions
    from tmkt_train.experiments.sweep import plan_sweep
    from tmkt_train.training.loggers import require_logger_packages

    require_logger_packages(options["loggers"])
    load_named(name, options["settings"])
    slots = take_slots(options)
    with_test, counts = options.pop("test"), {"num_trials": options.pop("trials"), "num_seeds": options.pop("seeds")}
    is_grid = options.pop("grid")
    planned = plan_sweep(name, over, RunOptions(**options, slots=slots), **counts, is_grid=is_grid)
    done = _train(planned, slots)
    _show(planned, name, done, with_test=with_test)
    failed = [trial for trial in done if trial.problem]
    if failed:
        fail(f"{len(failed)} of {len(done)} trials failed; {planned.out / 'sweep.csv'} says why")


def _train(planned: Sweep, slots: Slots) -> list[Trial]:
    from tmkt_train.experiments.jobs import RunEnded
    from tmkt_train.experiments.sweep import Trial
    from tmkt_train.experiments.sweep_report import write_trials
    from tmkt_train.experiments.trials import run_sweep

    trials: list[Trial] = []
    try:
        with asked_to_stop() as should_stop, RunsDisplay() as display:
            for progress in run_sweep(planned, should_stop, slots):
                if isinstance(progress, Trial):
                    trials = sorted([*trials, progress], key=lambda trial: trial.number)
                    write_trials(planned, trials)
                    value = f"failed: {progress.problem}" if progress.value is None else percent(progress.value)
                    display.say(f"{progress.number:>4} {progress.words}: {value}")
                elif not isinstance(progress, RunEnded):
                    display.show(progress)
    except (RunInterruptedError, KeyboardInterrupt):
        click.echo("stopped; run the same command again to resume", err=True)
        sys.exit(STOPPED)
    return trials


def _show(planned: Sweep, name: str, trials: list[Trial], *, with_test: bool) -> None:
    from tmkt_train.experiments.search_space import setting_of
    from tmkt_train.experiments.sweep import best_trial, sweep_notes
    from tmkt_train.experiments.sweep_report import write_sweep

    files = write_sweep(planned, trials)
    best = best_trial(trials)
    put_json({"folder": planned.out, "files": list(files), "best": None if best is None else best.number})
    put_json({"trials": [{**vars(trial), "val_accuracy": trial.value} for trial in trials]})
    if best is not None and best.value is not None:
        click.echo(f"best: {best.words} with validation accuracy {percent(best.value)}")
        if with_test:
            _show_test(planned, best)
    for note in sweep_notes(planned, trials):
        click.echo(f"note: {note}")
    print_rows((path.name, str(path)) for path in files)
    if best is not None and not with_test:
        varied = [setting_of(key, value) for key, value in best.values.items()]
        words = [word for setting in (*planned.shown_settings, *varied) for word in ("--set", setting)]
        words += [] if planned.cache is None else ["--cache", str(planned.cache)]
        click.echo("next, train the best values and evaluate them on the test split:")
        click.echo(f"  {command('tmkt-train', 'recipe', name, *words)}")


def _show_test(planned: Sweep, best: Trial) -> None:
    from tmkt_train.experiments.final_test import read_test
    from tmkt_train.report.statistics import spread

    found = list(read_test(planned, best).values())
    for name, values in (("selected", [both.selected for both in found]), ("last", [both.last for both in found])):
        click.echo(f"test accuracy of its {name} epoch: {spread([100 * value for value in values]).text} %")
