"""The command `tmkt-train suggest`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tmkt_data.cli.console import fail, print_rows
from tmkt_data.cli.start import STOPPED
from tmkt_train.cli.completion import complete_recipe
from tmkt_train.cli.display import CACHE, DEVICES, JOBS, SET, RunsDisplay, asked_to_stop, out_option
from tmkt_train.cli.text import decision_lines, duration, suggestion_head
from tmkt_train.errors import RunInterruptedError, command

if TYPE_CHECKING:
    from tmkt_train.experiments.decision import Decision
    from tmkt_train.experiments.plan import RunOptions
    from tmkt_train.experiments.slots import Slots
    from tmkt_train.experiments.suggest import Suggestion


@click.command()
@click.argument("name", metavar="[RECIPE]", required=False, shell_complete=complete_recipe)
@click.option("--seeds", type=click.IntRange(3, 100), default=3, show_default=True, help="Seeds per value.")
@click.option("--epochs", type=click.IntRange(1, 10_000), help="Epochs per run.  [default: the recipe's, at most 10]")
@click.option(
    "--steps", type=click.IntRange(1, 10**6), help="Batches per epoch.  [default: 20, or the recipe's if fewer]"
)
@click.option(
    "--event-share",
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of the training recordings.  [default: that of the recipe]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and no progress.")
@JOBS
@DEVICES
@SET
@CACHE
@out_option("runs/suggest-RECIPE")
def suggest(name: str | None, *, as_json: bool, **options: Any) -> None:
    """Choose image encoder, heads, mix ratio and warm start for a cache by short runs.

    RECIPE is a name or a file; without it, the recipe of the dataset is taken, and adapted to the cache. Runs are
    compared on the validation split; no test recording is read. A value replaces that of the recipe only if it is
    better beyond noise.

    After Ctrl-C, run the same command again: finished runs are kept, interrupted ones resume.
    """
    from tmkt_train.experiments.slots import choose_slots
    from tmkt_train.experiments.suggest import Budget, plan_suggestion

    slots = choose_slots(options.pop("jobs"), options.pop("devices"))
    num_seeds, budget = options.pop("seeds"), Budget(options.pop("epochs"), options.pop("steps"))
    name, run_options = _options(name, options, slots)
    planned = plan_suggestion(name, run_options, budget=budget, num_seeds=num_seeds)
    if not as_json:
        for line in suggestion_head(planned):
            click.echo(line)
    _show(planned, _train(planned, slots, is_quiet=as_json), as_json=as_json)


def _options(name: str | None, options: dict[str, Any], slots: Slots) -> tuple[str, RunOptions]:
    from tmkt_train.experiments.plan import RunOptions
    from tmkt_train.experiments.suggest import default_recipe

    share = options.pop("event_share")
    settings: tuple[str, ...] = options.pop("settings")
    if name is None:
        if options["cache"] is None:
            raise click.UsageError("found neither RECIPE nor --cache, expected one or both")
        name, fitting = default_recipe(options["cache"])
        settings = (*fitting, *settings)
    settings = (*settings, *([] if share is None else [f"data.event_share={share!r}"]))
    return name, RunOptions(settings, **options, slots=slots)


def _train(planned: Suggestion, slots: Slots, *, is_quiet: bool) -> list[Decision]:
    from tmkt_train.experiments.decision import Decision
    from tmkt_train.experiments.suggest_trials import estimate_seconds, run_suggestion

    decisions: list[Decision] = []
    try:
        with asked_to_stop() as should_stop, RunsDisplay(planned.num_runs) as display:
            seconds = estimate_seconds(planned, slots)
            if not is_quiet:
                display.say(f"about {duration(seconds)} of training left")
            for progress in run_suggestion(planned, should_stop, slots):
                if isinstance(progress, Decision):
                    decisions.append(progress)
                elif not is_quiet:
                    display.show(progress)
    except (RunInterruptedError, KeyboardInterrupt):
        click.echo("stopped; run the same command again to resume", err=True)
        sys.exit(STOPPED)
    return decisions


def _show(planned: Suggestion, decisions: list[Decision], *, as_json: bool) -> None:
    from tmkt_train.experiments.suggest_report import (
        RECIPE_FILE,
        suggestion_notes,
        suggestion_record,
        write_suggestion,
    )

    files = write_suggestion(planned, decisions)
    words: list[str | Path] = ["tmkt-train", "recipe", planned.out / RECIPE_FILE]
    words += [] if planned.cache is None else ["--cache", planned.cache]
    if as_json:
        record = suggestion_record(planned, decisions) | {"command": command(*words)}
        click.echo(json.dumps(record, indent=2))
    else:
        for line in decision_lines(decisions):
            click.echo(line)
        for note in suggestion_notes(planned, decisions):
            click.echo(f"note: {note}")
        print_rows((path.name, str(path)) for path in files)
        click.echo("next, train with what was chosen and evaluate on the test split:")
        click.echo(f"  {command(*words)}")
    failed = [one for decision in decisions for one in decision.tried if one.problem]
    if failed:
        fail(f"{len(failed)} values failed; {planned.out / 'suggest.csv'} says why")
