"""A sweep: train one recipe with other values of some settings, and select by validation accuracy."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tmkt_data import CacheInfo, PairedFrames
from tmkt_train.choices import LoggerName
from tmkt_train.data.cache import choose_cache
from tmkt_train.errors import RunError
from tmkt_train.experiments.plan import PlannedRun, RunOptions, plan_run, require_writable
from tmkt_train.experiments.search_space import Choices, Dimension, Range, Value, parse_dimensions, setting_of
from tmkt_train.experiments.table import csv_text
from tmkt_train.recipe.load import RecipePath, find_recipe, load_recipe
from tmkt_train.recipe.recipe import Recipe, toml_value
from tmkt_train.report.statistics import spread

_WITHOUT_TEST = "train.final_split=val"


@dataclass(frozen=True)
class Search:
    """Trials of a recipe: of its file `source` with the overrides `settings`, each trained with the same seeds.

    The last setting keeps the runs from reading a test recording. Without `cache`, each trial finds the one that
    matches.
    """

    out: Path
    source: RecipePath
    settings: tuple[str, ...]
    recipe: Recipe
    num_seeds: int
    cache: Path | None
    loggers: tuple[LoggerName, ...] = field(default=(), kw_only=True)

    @property
    def seeds(self) -> list[int]:
        """The seeds of each trial."""
        return [self.recipe.seed + number for number in range(self.num_seeds)]

    @property
    def shown_settings(self) -> tuple[str, ...]:
        """The settings of the user."""
        return self.settings[:-1]


@dataclass(frozen=True)
class Sweep(Search):
    """A planned sweep; the grid of an integer range may have fewer than `num_trials`."""

    dimensions: tuple[Dimension, ...]
    num_trials: int
    is_grid: bool

    @property
    def grid(self) -> list[Value]:
        """The values of the grid; empty for a search."""
        return self.dimensions[0].grid(self.num_trials) if self.is_grid else []


@dataclass(frozen=True)
class Trial:
    """A trial that ended: its number, from 1, and the value of each varied key.

    `accuracies` are the best validation accuracies by seed, in [0, 1]; `problem` says why the trial failed.
    """

    number: int
    values: dict[str, Value]
    accuracies: dict[int, float]
    problem: str | None = None

    @property
    def value(self) -> float | None:
        """Mean accuracy over the seeds; None if a run failed."""
        return None if self.problem else spread(list(self.accuracies.values())).mean

    @property
    def words(self) -> str:
        """The values as `key = value`."""
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

    `over` is parsed by `search_space.parse_dimensions`; the default folder is `runs/sweep-<recipe>-<keys>`. A grid
    tries evenly spaced values of one key instead of searching; that of a range has 2 trials or more.

    Raises:
        RecipeError: The recipe is invalid, or does not accept a value.
        RunError: A key cannot be varied, the protocol has no validation split, a grid has several keys, the folder is
            not writable, the recipe does not fit the slots, or Optuna is not installed.
        TmktError: No cache fits the recipe or a value.
    """
    options = options or RunOptions()
    source = find_recipe(name)
    settings, recipe = without_test(source, options, "a sweep")
    dimensions = parse_dimensions(over, source, settings)
    if is_grid and len(dimensions) > 1:
        raise RunError(f"--grid: found {len(dimensions)} keys, expected one --over; omit --grid to search them")
    if is_grid and num_trials < 2 and not isinstance(dimensions[0], Choices):
        raise RunError("--grid: found 1 trial, expected 2 or more; raise --trials")
    if importlib.util.find_spec("optuna") is None:
        raise RunError("sweep: found no optuna; install it with: pip install 'tmkt[sweep]'")
    keys = "-".join(dimension.key for dimension in dimensions)
    out = options.out or Path("runs") / f"sweep-{recipe.name}-{keys}"
    sweep = Sweep(
        out, source, settings, recipe, num_seeds, options.cache, dimensions, num_trials, is_grid,
        loggers=options.loggers,
    )  # fmt: skip
    _require_same_validation(sweep)
    require_writable(out)
    return sweep


def without_test(source: RecipePath, options: RunOptions, what: str) -> tuple[tuple[str, ...], Recipe]:
    """Return the settings of trials that read no test recording, and the recipe that they give.

    `what` names the search in messages.

    Raises:
        RecipeError: The recipe or a setting is invalid.
        RunError: The protocol has no validation split, or the recipe does not fit the slots.
    """
    recipe = load_recipe(source, options.settings)
    options.slots.require_fit(recipe)
    if not recipe.has_validation:
        raise RunError(
            f"{recipe.name}: {recipe.data.protocol} has no validation split, and {what} never selects on test; add "
            "--set data.protocol=twin-disjoint"
        )
    settings = (*options.settings, _WITHOUT_TEST)
    return settings, load_recipe(source, settings)


def _require_same_validation(sweep: Sweep) -> None:
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


def plan_trial(search: Search, number: int, values: Mapping[str, Value]) -> list[PlannedRun]:
    """Plan the runs of a trial, one per seed; `number` counts from 0.

    Raises:
        RecipeError: The values are valid one by one, but not together.
        RunError: A folder holds another run, or the cache is missing.
    """
    varied = [setting_of(key, value) for key, value in values.items()]
    runs = []
    for seed in search.seeds:
        settings = [*search.settings, *varied, f"seed={seed}"]
        cache = choose_cache(load_recipe(search.source, settings), search.cache)
        label = f"trial {number + 1} ({', '.join(varied) or 'the recipe'}) seed {seed}"
        run = plan_run(label, search.source, settings, cache, trial_folder(search, values) / f"seed-{seed}")
        runs.append(replace(run, loggers=search.loggers))
    return runs


def trial_folder(search: Search, values: Mapping[str, Value]) -> Path:
    """Return the folder of the runs of some values."""
    # Named by the values, not by a number: another grid, or more trials, find the runs that exist.
    names = [re.sub(r"[^A-Za-z0-9_.+=-]", "_", setting_of(key, value)) for key, value in values.items()]
    return search.out.joinpath("runs", *names)


def trial_accuracies(runs: Sequence[PlannedRun]) -> dict[int, float]:
    """Return the best validation accuracy of each finished run by seed, in [0, 1]."""
    return {run.recipe.seed: float(result["val_accuracy"]) for run in runs if (result := run.result())}


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """Return the trial of the highest value, the earliest in case of a tie; None if no trial has a value."""
    known = [(trial.value, -trial.number, trial) for trial in trials if trial.value is not None]
    return max(known, key=lambda item: item[:2])[2] if known else None


def sweep_notes(sweep: Sweep, trials: Sequence[Trial]) -> list[str]:
    """Return the limitations of the result, one line each."""
    best = best_trial(trials)
    if best is None:
        return ["no trial has a value"]
    settings = [setting_of(key, value) for key, value in best.values.items()]
    leaks = load_recipe(sweep.source, [*sweep.settings, *settings]).leaks
    optimistic = (
        "the best validation accuracy is optimistic: images of held-out recordings are within reach of training"
    )
    return [*([optimistic] if leaks else []), *_notes_on_values(sweep, trials, best)]


def _notes_on_values(sweep: Sweep, trials: Sequence[Trial], best: Trial) -> list[str]:
    others = [trial for trial in trials if trial.value is not None and trial.values != best.values]
    tied = [trial for trial in others if trial.value == best.value]
    if tied and len(tied) == len(others):
        return ["all values perform equally: they have no effect with these settings or this number of recordings"]
    if tied:
        return [f"tied with the best: {len(tied)} other of {len(trials)} trials; the earliest is shown"]
    return [
        f"the best {dimension.key} is at the end of its range; a wider range may contain a better one"
        for dimension in sweep.dimensions
        if isinstance(dimension, Range) and best.values[dimension.key] in dimension.ends
    ]


def sweep_csv(sweep: Sweep, trials: Sequence[Trial]) -> str:
    """Return one CSV line per trial, accuracies in [0, 1]."""
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
