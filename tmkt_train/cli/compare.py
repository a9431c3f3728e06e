"""The command `tmkt-train compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tmkt_data.cli.console import STOPPED, fail, print_rows
from tmkt_train.cli.display import CACHE, SET, RunsDisplay, asked_to_stop

if TYPE_CHECKING:
    from tmkt_train.experiments.plan import Comparison


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
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...")
@click.option("--seeds", type=click.IntRange(1, 1000), default=3, show_default=True, help="Number of seeds.")
@click.option(
    "--event-share",
    "shares",
    callback=_parse_shares,
    metavar="SHARES",
    help="Shares of the training recordings, such as 0.1,0.3,1.0.  [default: that of each recipe]",
)
@SET
@CACHE
@click.option("--out", type=click.Path(path_type=Path), help="Folder.  [default: runs/compare-RECIPE]")
@click.option("--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Runs at once.")
def compare(
    recipes: tuple[str, ...],
    seeds: int,
    shares: tuple[float, ...],
    settings: tuple[str, ...],
    cache: Path | None,
    out: Path | None,
    jobs: int,
) -> None:
    """Train recipes at each share of the event data with each seed, and compare them with the first.

    Runs that are finished are taken as they are, interrupted ones go on: after Ctrl-C, type the same command again.
    """
    from tmkt_train.errors import RecipeError
    from tmkt_train.experiments.plan import plan_comparison

    try:
        comparison = plan_comparison(
            recipes, num_seeds=seeds, shares=shares, settings=settings, cache=cache, out=out, num_jobs=jobs
        )
    except RecipeError as error:
        fail("\nerror: ".join(error.problems))
    problems = _train(comparison, jobs)
    _show(comparison, problems)
    if problems:
        fail(f"{len(problems)} of {len(comparison.runs)} runs failed; the same command tries them again")


def _train(comparison: Comparison, num_jobs: int) -> dict[Path, str]:
    """Train what is missing; return why runs failed, by folder."""
    from tmkt_train.errors import RunInterruptedError
    from tmkt_train.experiments.compare import train_runs

    states = [run.state for run in comparison.runs]
    counts = [states.count(state) for state in ("finished", "interrupted", "missing")]
    click.echo(f"{len(states)} runs: {counts[0]} finished, {counts[1]} to go on with, {counts[2]} to start")
    try:
        with asked_to_stop() as should_stop, RunsDisplay(len(states), counts[0]) as display:
            for progress in train_runs(comparison.runs, should_stop, num_jobs=num_jobs):
                display.show(progress)
    except (RunInterruptedError, KeyboardInterrupt):
        click.echo("stopped; the same command goes on from here", err=True)
        sys.exit(STOPPED)
    return display.problems


def _show(comparison: Comparison, problems: dict[Path, str]) -> None:
    from tmkt_train.cli.comparison_text import comparison_lines
    from tmkt_train.experiments.comparison_files import write_comparison
    from tmkt_train.experiments.table import environment_notes, group_rows, run_rows

    rows = run_rows(comparison, problems)
    groups = group_rows(rows)
    notes = [*comparison.notes, *environment_notes(rows)]
    files = write_comparison(comparison, rows, groups, notes)
    for line in comparison_lines(groups):
        click.echo(line)
    if any(group.optimistic for group in groups):
        reasons = dict.fromkeys(recipe.optimism for recipe in comparison.recipes if recipe.optimism)
        click.secho(f"* optimistic: {'; '.join(reasons)}", fg="red")
    for note in notes:
        click.echo(f"note: {note}")
    print_rows((path.name, str(path)) for path in files)
