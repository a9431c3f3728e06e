"""What a training prints at its end: the result, the report, and the next commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tmkt_data.cli.console import fail, megabytes, print_rows
from tmkt_data.cli.reporting import put_json
from tmkt_data.errors import TmktError, printable
from tmkt_train.cli.text import duration, percent
from tmkt_train.errors import command

if TYPE_CHECKING:
    from tmkt_train.recipe.recipe import Recipe
    from tmkt_train.training.folder import RunFolder

REPORT = click.option(
    "--report/--no-report",
    "has_report",
    default=True,
    help="Whether to write report.html; tmkt-train report does later.  [default: --report]",
)


def optimism(recipe: Recipe) -> str:
    """Return what stands behind a test accuracy that also chose the epoch; nothing for an honest one."""
    return f", optimistic: {recipe.optimism}" if recipe.optimism else ""


def _reason(recipe: Recipe) -> str:
    return "the last one" if recipe.selected_on == "none" else f"best on {recipe.selected_on}"


def show_result(run: RunFolder, has_report: bool) -> None:
    """Write the report of a complete run unless it is not wanted, and print the result and what to type next.

    Raises:
        RunError: A file of the run is damaged.
    """
    folder, recipe, result = run.path, run.read_recipe(), run.read_result()
    again = command("tmkt-train", "report", folder)
    report, problem = _write_report(run) if has_report else (f"write it with: {again}", "")
    put_json({"run": folder, "report": report if has_report and not problem else None, "result": result})
    rows = [
        ("selected", f"epoch {result['best_epoch'] + 1} of {result['epochs']}, {_reason(recipe)}"),
        ("time", f"{duration(result['wall_s'])}, {megabytes(result['peak_memory_bytes'])} of memory"),
        ("report", report),
    ]
    last = {split: result.get(f"last_epoch_{split}_accuracy") for split in ("test", "val")}
    if any(value is not None for value in last.values()):
        known = (f"{percent(value)} on {split}" for split, value in last.items() if value is not None)
        rows.insert(1, ("last epoch", ", ".join(known)))
    if result.get("val_accuracy") is not None:
        rows.insert(0, ("val accuracy", percent(result["val_accuracy"])))
    test = result["test_accuracy"]
    if test is not None:
        rows.insert(0, ("test accuracy", f"{percent(test)} of {result['num_test']} recordings{optimism(recipe)}"))
    print_rows(rows)
    for warning in result["warnings"]:
        click.echo(f"note: {warning}")
    _show_next(run, recipe, Path(str(result["environment"].get("cache"))))
    if problem:
        fail(f"{folder}: the run is complete, but not its report: {printable(problem)}; write it with: {again}")


def _write_report(run: RunFolder) -> tuple[str, str]:
    """Return where the report is, and why it is not; the training is complete in either case."""
    from tmkt_train.report.page import write_report

    try:
        return str(write_report([run.path], run.report)), ""
    except TmktError as problem:
        return "not written", str(problem)


def _show_next(run: RunFolder, recipe: Recipe, cache: Path) -> None:
    from tmkt_train.data.cache import is_found

    if not recipe.needs_images:
        click.echo("next, evaluate its weights on the test split again:")
        click.echo(f"  {command('tmkt-train', 'evaluate', run.path)}")
        return
    without: list[str | Path] = ["tmkt-train", "recipe", run.recipe, "--set", "method.name=event-only"]
    if not is_found(recipe, cache):
        without += ["--cache", cache]
    click.echo("next, train the same without images, and report both side by side:")
    click.echo(f"  {command(*without)}")
    click.echo(f"  {command('tmkt-train', 'report', run.path)} RUN")
