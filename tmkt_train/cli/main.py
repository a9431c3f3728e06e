"""The command `tmkt-train`: parse arguments, call the package, print results."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from tmkt_data.cli.console import GuardedGroup, fail, print_rows
from tmkt_data.cli.reporting import put_json
from tmkt_data.cli.start import STOPPED
from tmkt_data.errors import printable
from tmkt_train.cli.compare import compare
from tmkt_train.cli.display import CACHE, LOGGER, RECIPE, RUN, RUN_CACHE, SET, RunDisplay, asked_to_stop, out_option
from tmkt_train.cli.early import load_named, require_fit, require_new, require_run
from tmkt_train.cli.ended import REPORT, optimism, show_result
from tmkt_train.cli.examples import EXAMPLES
from tmkt_train.cli.export import export
from tmkt_train.cli.few_shot import few_shot
from tmkt_train.cli.predict import predict
from tmkt_train.cli.suggest import suggest
from tmkt_train.cli.sweep import sweep
from tmkt_train.cli.text import percent
from tmkt_train.cli.torchrun import is_first, is_told_by_first, join, launched, on_first, together
from tmkt_train.errors import RecipeError, RunError, RunInterruptedError, command, require_train_packages

if TYPE_CHECKING:
    from tmkt_train.recipe.load import RecipePath
    from tmkt_train.recipe.recipe import Recipe
    from tmkt_train.training.run import Run


class _TrainGroup(GuardedGroup):
    """A command group that reports every mistake of a recipe on a line of its own."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command; see `click.Group.main`."""
        # Importing torch makes a million objects that stay; looking for garbage among them takes a tenth of the start.
        young, middle, old = gc.get_threshold()
        gc.set_threshold(10 * young, middle, 5 * old)
        try:
            return super().main(*args, **kwargs)
        finally:
            gc.set_threshold(young, middle, old)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; see `click.Group.invoke`."""
        try:
            return super().invoke(ctx)
        except RecipeError as error:
            fail("\nerror: ".join(map(printable, error.problems)))
        except RunError as error:
            if is_told_by_first(error):
                sys.exit(1)
            raise
        except ModuleNotFoundError:
            require_train_packages()
            raise
        except (RuntimeError, MemoryError, OSError) as error:
            _fail_without_memory(error)
            raise


def _fail_without_memory(error: RuntimeError | MemoryError | OSError) -> None:
    """Report a device that refuses to compute as one line, where no run did; return for any other error."""
    if "torch" not in sys.modules or os.environ.get("TMKT_DEBUG"):
        return
    from tmkt_train.training.out_of_memory import explain_device_error

    found = explain_device_error(error)
    if found is not None:
        fail(found)


@click.group(
    cls=_TrainGroup,
    examples=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="tmkt", message="%(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """Train spiking networks on paired images and event recordings.

    Start with: tmkt-data prepare digits, then tmkt-train recipe scnn_digits
    """
    launch = launched()
    if launch is not None:
        context.with_resource(join(launch, context.invoked_subcommand))


main.add_command(compare)
main.add_command(export)
main.add_command(few_shot)
main.add_command(predict)
main.add_command(suggest)
main.add_command(sweep)


@main.command()
def recipes() -> None:
    """List the available recipes by system: dataset and network."""
    import textwrap

    from tmkt_train.recipe.load import list_recipes

    listed: list[dict[str, Any]] = []
    for name, found in groupby(list_recipes(), lambda item: item[0].file.stem):
        click.secho(name, bold=True)
        variants: list[str] = []
        problems: list[str] = []
        for path, loaded in found:
            listed.append(_listed(path, loaded))
            if isinstance(loaded, RecipeError):
                problems += loaded.problems[:1]
            elif path.variant:
                variants.append(f"_{path.variant}")
            else:
                click.echo(f"  {printable(loaded.title)}\n  needs: {printable(loaded.data.dataset)}")
        for problem in dict.fromkeys(problems):
            click.secho(f"  error: {problem}", fg="red")
        if variants:
            click.echo(textwrap.fill(" ".join(variants), 78, initial_indent="  also:  ", subsequent_indent="         "))
    put_json({"recipes": listed})
    click.echo("\ntrain one: tmkt-train recipe NAME    all its settings: tmkt-train check NAME")


def _listed(path: RecipePath, loaded: Recipe | RecipeError) -> dict[str, Any]:
    if isinstance(loaded, RecipeError):
        return {"name": path.name, "path": path, "problems": list(loaded.problems)}
    return {"name": path.name, "path": path, "title": loaded.title, "dataset": loaded.data.dataset}


@main.command()
@RECIPE
@SET
@CACHE
@click.option("--measure", is_flag=True, help="Estimate memory and time of its training on this machine.")
def check(name: str, settings: tuple[str, ...], cache: Path | None, measure: bool) -> None:
    """Validate a recipe and print all of its settings.

    RECIPE is a name, a file, or a variant in a file: my.toml:kt. Settings that the papers leave open are marked as
    inferred. --measure trains a few steps, of which nothing is kept.
    """
    from tmkt_train.cli.text import estimate_lines
    from tmkt_train.data.cache import choose_cache
    from tmkt_train.recipe.load import find_recipe
    from tmkt_train.recipe.recipe import flat_items, toml_value

    path = find_recipe(name)
    loaded = load_named(name, settings)
    for key, value, description in flat_items(loaded):
        if key in ("title", "description"):
            continue
        unused_by = loaded.unused_by(key)
        mark = f"unused by this {unused_by}" if unused_by else ""
        mark = mark or ("inferred" if "(inferred)" in description else "")
        click.echo(f"  {key:<28} {toml_value(value):<18} {mark}".rstrip())
    chosen: Path | None = None
    try:
        chosen = choose_cache(loaded, cache).path
        found = f"cache: {chosen}"
    except RunError as problem:
        if cache is not None or measure:
            raise
        found = f"no cache yet: {problem}"
    if chosen is not None:
        require_fit(loaded, chosen)
    settings_found = {key: value for key, value, _ in flat_items(loaded)}
    put_json({"recipe": path, "settings": settings_found, "cache": chosen, "warnings": list(loaded.warnings())})
    click.echo(f"{path}: the recipe is valid")
    click.echo(found)
    for warning in loaded.warnings():
        click.echo(f"note: {warning}")
    if measure and chosen is not None:
        from tmkt_train.training.estimate import estimate_training

        estimate = estimate_training(loaded, chosen)
        put_json({"estimate": estimate._asdict()})
        for line in estimate_lines(loaded, estimate):
            click.echo(line)


@main.command()
@RECIPE
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Seed.  [default: that of the recipe]")
@SET
@CACHE
@LOGGER
@out_option("a new one under runs/")
@REPORT
def recipe(name: str, seed: int | None, settings: tuple[str, ...], has_report: bool, **options: Any) -> None:
    """Train and test a recipe, and write its report.

    RECIPE is a name, a file, or a variant in a file: my.toml:kt. Ctrl-C saves a checkpoint and prints the command that
    resumes the run.
    """
    from tmkt_train.training.loggers import require_logger_packages

    changes = [*settings, *([] if seed is None else [f"seed={seed}"])]

    def choose() -> tuple[Recipe, Path]:
        require_logger_packages(options["loggers"])
        loaded = load_named(name, changes, quiet=not is_first())
        return loaded, require_new(loaded, options.pop("cache"), options["out"])

    loaded, chosen = together(choose)
    _train(lambda training: training.start_run(loaded, cache=chosen, **options), has_report)


@main.command()
@RUN
@RUN_CACHE
@REPORT
def resume(run: Path, cache: Path | None, has_report: bool) -> None:
    """Resume a stopped run.

    The results equal those of an uninterrupted run. A damaged checkpoint is replaced by the one before it, and lost
    metrics of a run, also of a finished one, are restored from the checkpoint.
    """
    from tmkt_train.training.folder import RunFolder

    folder = RunFolder(run)
    if on_first(lambda: folder.is_complete):
        if not is_first():
            return
        from tmkt_train.training.restore import repair_finished

        notes = repair_finished(folder)
        click.echo(f"{run}: already finished")
        for note in notes:
            click.echo(f"note: {note}")
        folder.remove_leftovers()
        show_result(folder, has_report)
        return
    on_first(lambda: require_run(run, cache, is_finished=False))
    _train(lambda training: training.resume_run(run, cache=cache), has_report, run)


@main.command()
@RUN
@RUN_CACHE
def evaluate(run: Path, cache: Path | None) -> None:
    """Evaluate a finished run on the test split again.

    Fails if the accuracy differs from the recorded one.
    """
    require_run(run, cache)
    from tmkt_train.training.folder import RunFolder
    from tmkt_train.training.result import evaluate_run

    evaluation, recorded = evaluate_run(run, cache=cache)
    marked = optimism(RunFolder(run).read_recipe())
    put_json({"run": run, "test_accuracy": evaluation.accuracy, "recorded": recorded, "num": len(evaluation.labels)})
    print_rows(
        [
            ("test accuracy", f"{percent(evaluation.accuracy)} of {len(evaluation.labels)} recordings{marked}"),
            ("recorded", "none, as train.final_split = val" if recorded is None else percent(recorded)),
        ]
    )
    if recorded is not None and evaluation.accuracy != recorded:
        fail(
            f"{run}: test accuracy {evaluation.accuracy!r}, expected {recorded!r} as recorded; the weights, the "
            "device, the versions or the code of the network have changed"
        )


@main.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write.  [default: report.html in the run; ./report.html for several runs]",
)
@click.option("--figures", type=click.Path(path_type=Path), help="Folder to write the figures to: PDF, SVG, PNG.")
def report(runs: tuple[Path, ...], out: Path | None, figures: Path | None) -> None:
    """Write the report of one run, or a comparison of several with their curves in one figure.

    With --out, figures are written only if --figures is given.
    """
    from tmkt_train.report.page import write_report
    from tmkt_train.training.folder import RunFolder

    own = RunFolder(runs[0]) if len(runs) == 1 and out is None else None
    figures = figures or (own.path / "figures" if own else None)
    target = out or (own.report if own else Path("report.html"))
    written = write_report(runs, target, figures=figures)
    put_json({"report": written, "figures": figures})
    click.echo(f"report: {written}")
    if figures:
        click.echo(f"figures: {figures}")


main.add_command(recipe, "train")


def _train(set_up: Callable[[ModuleType], Run], has_report: bool, folder: Path | None = None) -> None:
    """Train a run and show its result; `folder` is that of a run which can be resumed before it is set up."""
    try:
        # Importing and setup take seconds; a signal meanwhile stops the run after its first step.
        with asked_to_stop(is_quiet=launched() is not None) as should_stop, RunDisplay() as display:
            from tmkt_train.training import run as training

            run = set_up(training)
            folder = run.folder.path
            for progress in run.train(should_stop):
                if is_first():
                    display.show(progress)
        if is_first():
            # Ctrl-C in the report is no other: `resume` writes what is missing.
            show_result(run.folder, has_report)
    except (RunInterruptedError, KeyboardInterrupt):
        if not is_first():
            sys.exit(STOPPED)
        hint = f"; resume with:\n  {command('tmkt-train', 'resume', folder)}" if folder else ""
        click.echo(f"stopped{hint}", err=True)
        sys.exit(STOPPED)
