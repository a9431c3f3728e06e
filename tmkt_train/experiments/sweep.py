"""A sweep: one recipe trained again and again with other values of some keys, judged on the validation part."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tmkt_data import CacheInfo, PairedFrames
from tmkt_train.data.cache import choose_cache
from tmkt_train.errors import RecipeError, RunError
from tmkt_train.experiments.compare import train_runs
from tmkt_train.experiments.jobs import RunEnded, RunsProgress
from tmkt_train.experiments.plan import PlannedRun, RunOptions, plan_run, require_writable
from tmkt_train.experiments.proposals import Estimator, Grid, Proposals
from tmkt_train.experiments.search_space import Choices, Dimension, Range, Value, parse_dimensions, setting_of
from tmkt_train.experiments.table import csv_text, spread
from tmkt_train.recipe.load import RecipePath, find_recipe, load_recipe
from tmkt_train.recipe.recipe import Recipe, toml_value


@dataclass(frozen=True)
class Sweep:
    """A sweep before it is trained.

    Attributes:
        out: Its folder.
        source: Recipe, as it was found.
        settings: `key=value` texts that go over every run.
        recipe: The recipe with these settings.
        dimensions: What is varied.
        num_trials: Trials in all, at most.
        num_seeds: Seeds of each trial: that of the recipe and those after it.
        is_grid: Whether the values are evenly spaced, rather than searched.
        cache: Cache that was given; None for the one that each trial finds.
    """

    out: Path
    source: RecipePath
    settings: tuple[str, ...]
    recipe: Recipe
    dimensions: tuple[Dimension, ...]
    num_trials: int
    num_seeds: int
    is_grid: bool
    cache: Path | None

    @property
    def seeds(self) -> list[int]:
        """The seeds of each trial."""
        return [self.recipe.seed + number for number in range(self.num_seeds)]

    def proposals(self) -> Proposals:
        """Start the proposals anew; told the same values, they are the same.

        Raises:
            RunError: Optuna is needed and not installed.
        """
        if self.is_grid:
            return Grid(self.dimensions[0], self.num_trials)
        return Estimator(self.dimensions, self.num_trials, self.recipe.seed)


@dataclass(frozen=True)
class Trial:
    """One trial of a sweep.

    Attributes:
        number: Its number, from 1.
        values: Value of each key that is varied.
        accuracies: Best validation accuracy of each seed that is finished.
        problem: Why it has no value; None where it has one.
    """

    number: int
    values: dict[str, Value]
    accuracies: dict[int, float]
    problem: str | None = None

    @property
    def value(self) -> float | None:
        """Mean over the seeds; None where one failed."""
        return None if self.problem else spread(list(self.accuracies.values())).mean

    @property
    def words(self) -> str:
        """What was tried, as `key = value`."""
        return ", ".join(f"{key} = {toml_value(value)}" for key, value in self.values.items())


def plan_sweep(
    name: str,
    over: Sequence[str],
    options: RunOptions | None = None,
    *,
    num_trials: int = 9,
    num_seeds: int = 1,
    is_grid: bool = False,
) -> Sweep:
    """Plan a sweep; nothing is trained.

    Args:
        name: Recipe, a name or a file.
        over: What is varied, see `search_space.parse_dimensions`.
        options: Options of all runs; the default folder is `runs/sweep-<recipe>-<keys>`.
        num_trials: Trials, 1 or more; with `is_grid` and a range, 2 or more.
        num_seeds: Seeds of each trial, 1 or more.
        is_grid: Evenly spaced values of one key, rather than a search.

    Raises:
        RecipeError: The recipe, or a value that it does not accept.
        RunError: A key that cannot be varied, a protocol without a validation part, a grid over several keys, a
            folder that cannot be written, or a search without Optuna.
        TmktError: No cache serves the recipe, or it has no validation part.
    """
    options = options or RunOptions()
    source, settings = find_recipe(name), options.settings
    recipe = load_recipe(source, settings)
    if recipe.selects_on_test:
        raise RunError(
            f"{recipe.name}: {recipe.data.protocol} has no validation part, and a sweep never chooses on test; add "
            "--set data.protocol=twin-disjoint"
        )
    dimensions = parse_dimensions(over, source, settings)
    if is_grid and len(dimensions) > 1:
        raise RunError(f"--grid: found {len(dimensions)} keys, expected one --over; leave --grid out to search them")
    if is_grid and num_trials < 2 and not isinstance(dimensions[0], Choices):
        raise RunError("--grid: found 1 trial, expected 2 or more; raise --trials")
    keys = "-".join(dimension.key for dimension in dimensions)
    folder = options.out or Path("runs") / f"sweep-{recipe.name}-{keys}"
    sweep = Sweep(folder, source, settings, recipe, dimensions, num_trials, num_seeds, is_grid, options.cache)
    sweep.proposals()
    _require_same_validation(sweep)
    require_writable(folder)
    return sweep


def _require_same_validation(sweep: Sweep) -> None:
    """Refuse values whose cache is missing, or holds other validation recordings: they could not be compared.

    Raises:
        RunError: There is one.
    """
    base = choose_cache(sweep.recipe, sweep.cache)
    expected = _validation(base, sweep.recipe)
    for dimension in sweep.dimensions:
        for value in dimension.ends:
            setting = setting_of(dimension.key, value)
            recipe = load_recipe(sweep.source, [*sweep.settings, setting])
            info = choose_cache(recipe, sweep.cache)
            if info.digest != base.digest and _validation(info, recipe) != expected:
                raise RunError(
                    f"--over {setting}: {info.path} holds other validation recordings than {base.path}, expected the "
                    "same; prepare both from the same files"
                )


def _validation(info: CacheInfo, recipe: Recipe) -> frozenset[str]:
    return frozenset(PairedFrames(info.path, "val", pairing="none", protocol=recipe.data.protocol).ids)


def run_sweep(
    sweep: Sweep, should_stop: Callable[[], bool] = lambda: False
) -> Generator[RunsProgress | Trial, None, None]:
    """Train a sweep trial by trial; what is finished is taken as it is, so that a stopped one goes on exactly.

    Args:
        sweep: The sweep.
        should_stop: Asked between any two steps; when it says yes, the run in work saves where it stands.

    Yields:
        How far the runs have come, and each trial when it has ended.

    Raises:
        RunInterruptedError: `should_stop` said yes.
        RunError: A folder holds another run, or the cache of a trial is missing.
    """
    proposals = sweep.proposals()
    number = 0
    while (values := proposals.ask()) is not None:
        number += 1
        trial = yield from _run_trial(sweep, number, values, should_stop)
        proposals.tell(trial.value)
        yield trial


def _run_trial(
    sweep: Sweep, number: int, values: dict[str, Value], should_stop: Callable[[], bool]
) -> Generator[RunsProgress, None, Trial]:
    try:
        runs = [_plan(sweep, number, values, seed) for seed in sweep.seeds]
    except RecipeError as error:
        # Values that are fine by themselves and not together.
        return Trial(number, values, {}, error.problems[0])
    problem: str | None = None
    for progress in train_runs(runs, should_stop):
        if isinstance(progress, RunEnded):
            problem = problem or progress.problem
        yield progress
    accuracies = {run.recipe.seed: float(result["val_accuracy"]) for run in runs if (result := run.result())}
    return Trial(number, values, accuracies, problem)


def _plan(sweep: Sweep, number: int, values: dict[str, Value], seed: int) -> PlannedRun:
    varied = [setting_of(key, value) for key, value in values.items()]
    settings = [*sweep.settings, *varied, f"seed={seed}"]
    recipe = load_recipe(sweep.source, settings)
    # Named by their values, not by their number: another grid, or more trials, find what is there.
    folder = sweep.out / "runs"
    for setting in varied:
        folder /= re.sub(r"[^A-Za-z0-9_.+=-]", "_", setting)
    label = f"trial {number} ({', '.join(varied)}) seed {seed}"
    cache = choose_cache(recipe, sweep.cache)
    return plan_run(label, sweep.source, settings, cache, folder / f"seed-{seed}")


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """Give the trial of the highest value, the earliest of several; None where none has a value."""
    known = [(trial.value, -trial.number, trial) for trial in trials if trial.value is not None]
    return max(known, key=lambda item: item[:2])[2] if known else None


def sweep_notes(sweep: Sweep, trials: Sequence[Trial]) -> list[str]:
    """Say what limits the answer, one line each."""
    best = best_trial(trials)
    if best is None:
        return ["no trial has a value"]
    others = [trial for trial in trials if trial.value is not None and trial.values != best.values]
    tied = [trial for trial in others if trial.value == best.value]
    if tied and len(tied) == len(others):
        return ["all values do equally well: with these settings, or on so few recordings, they change nothing"]
    if tied:
        return [f"as good as the best: {len(tied)} more of {len(trials)} trials; the earliest is named"]
    return [
        f"the best {dimension.key} lies at the end of its range; a wider one may hold a better"
        for dimension in sweep.dimensions
        if isinstance(dimension, Range) and best.values[dimension.key] in dimension.ends
    ]


def sweep_csv(sweep: Sweep, trials: Sequence[Trial]) -> str:
    """Write one line per trial, accuracies in [0, 1]."""
    return csv_text(
        [
            {
                "trial": trial.number,
                **trial.values,
                "status": "failed" if trial.problem else "finished",
                "val_accuracy": trial.value,
                "sd": spread(list(trial.accuracies.values())).sd,
                **{f"val_accuracy_seed_{seed}": trial.accuracies.get(seed) for seed in sweep.seeds},
                "problem": trial.problem,
            }
            for trial in trials
        ]
    )
