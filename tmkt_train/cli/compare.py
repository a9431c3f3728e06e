"""The command `tmkt-train compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tmkt_data.cli.console import fail, print_rows
from tmkt_data.cli.reporting import put_json
from tmkt_data.cli.start import STOPPED
from tmkt_train.cli.completion import complete_recipe
from tmkt_train.cli.display import (
    CACHE,
    DEVICES,
    JOBS,
    LOGGER,
    SET,
    SUBMIT,
    SUBMIT_OPTION,
    RunsDisplay,
    asked_to_stop,
    out_option,
    take_slots,
)
from tmkt_train.cli.early import load_named
from tmkt_train.cli.text import comparison_lines
from tmkt_train.errors import RunInterruptedError

if TYPE_CHECKING:
    from tmkt_train.experiments.plan import Comparison
    from tmkt_train.experiments.slots import Slots
    from tmkt_train.experiments.table import GroupRow


def _parse_shares(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[float, ...]:
    shares: list[float] = []
    for word in (text or "").split(",") if text is not None else ():
        try:
            share = float(word)
        except ValueError:
            raise click.BadParameter(f"found {word!r}, expected shares such as 0.1,0.3,1.0") from None
        if not 0 < share <= 1:
            raise click.BadParameter(f"found {word.strip()}, expected shares above 0 and at most 1")
        if share in shares:
            raise click.BadParameter(f"found {share!r} twice, expected each share once")
        shares.append(share)
    return tuple(shares)


@click.command()
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...", shell_complete=complete_recipe)
@click.option(
    "--seeds",
    type=click.IntRange(1, 1000),
    default=3,
    show_default=True,
    help="Number of seeds, starting at that of the first recipe.",
)
@click.option(
    "--event-share",
    "shares",
    callback=_parse_shares,
    metavar="SHARES",
    help="Shares of the training recordings, such as 0.1,0.3,1.0.  [default: those of the recipes]",
)
@JOBS
@DEVICES
@SUBMIT
@SUBMIT_OPTION
@SET
@CACHE
@LOGGER
@out_option("runs/compare-RECIPE")
def compare(recipes: tuple[str, ...], seeds: int, shares: tuple[float, ...], **options: Any) -> None:
    """Train several recipes and compare their test accuracy.

    Each RECIPE, a name or a file, is trained at each share of the event data with each seed. The first one is the
    baseline: its accuracy is subtracted from that of the others, seed by seed.

    After Ctrl-C, run the same command again: finished runs are kept, interrupted ones resume.
    """
    from tmkt_train.experiments.plan import RunOptions, plan_comparison
    from tmkt_train.training.loggers import require_logger_packages

    require_logger_packages(options["loggers"])
    for name in recipes:
        load_named(name, options["settings"])
    slots = take_slots(options)
    comparison = plan_comparison(recipes, RunOptions(**options, slots=slots), num_seeds=seeds, shares=shares)
    problems = _train(comparison, slots)
    _show(comparison, problems)
    if problems:
        fail(f"{len(problems)} of {len(comparison.runs)} runs failed; run the same command again to retry them")


def _train(comparison: Comparison, slots: Slots) -> dict[Path, str]:
    from tmkt_train.experiments.compare import train_runs

    statuses = [run.status for run in comparison.runs]
    counts = [statuses.count(status) for status in ("finished", "interrupted", "missing")]
    runs = f"{len(statuses)} run" if len(statuses) == 1 else f"{len(statuses)} runs"
    click.echo(f"{runs}: {counts[0]} finished, {counts[1]} to resume, {counts[2]} to start")
    try:
        with asked_to_stop() as should_stop, RunsDisplay(len(statuses), counts[0]) as display:
            for progress in train_runs(comparison.runs, should_stop, slots):
                display.show(progress)
    except (RunInterruptedError, KeyboardInterrupt):
        click.echo("stopped; run the same command again to resume", err=True)
        sys.exit(STOPPED)
    return display.problems


def _show(comparison: Comparison, problems: dict[Path, str]) -> None:
    from tmkt_train.experiments.compare_report import write_comparison
    from tmkt_train.experiments.table import environment_notes, group_rows, run_rows

    rows = run_rows(comparison, problems)
    groups = group_rows(rows)
    notes = [*comparison.notes, *environment_notes(rows)]
    files = write_comparison(comparison, rows, groups, notes)
    put_json({"folder": comparison.out, "groups": [_group(group) for group in groups], "notes": notes})
    put_json({"problems": {str(folder): text for folder, text in problems.items()}, "files": list(files)})
    for line in comparison_lines(groups):
        click.echo(line)
    if any(group.optimistic for group in groups):
        reasons = dict.fromkeys(recipe.optimism for recipe in comparison.recipes if recipe.optimism)
        click.secho(f"* optimistic: {'; '.join(reasons)}", fg="red")
    for note in notes:
        click.echo(f"note: {note}")
    print_rows((path.name, str(path)) for path in files)


def _group(group: GroupRow) -> dict[str, Any]:
    return {
        "recipe": group.recipe,
        "event_share": group.share,
        "num": group.spread.num,
        "test_accuracies": group.accuracies,
        "test_accuracy": group.spread.mean,
        "last_epoch_test_accuracy": group.last_spread.mean,
        "difference": group.difference_text,
        "is_optimistic": group.optimistic,
    }
