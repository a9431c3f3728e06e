"""Plan an experiment: resolve its recipes, choose its caches, and find the runs that exist already."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tmkt_data import CacheInfo
from tmkt_train.choices import LoggerName, RunStatus
from tmkt_train.data.cache import choose_cache, open_frames
from tmkt_train.errors import RunError
from tmkt_train.experiments.slots import Slots
from tmkt_train.recipe.load import RecipePath, find_recipe, load_recipe, split_setting
from tmkt_train.recipe.recipe import Recipe, flat_items, toml_value
from tmkt_train.training.folder import RunFolder

WORDS = ("name", "title", "description")
"""Settings that name a recipe and do not change its training."""


@dataclass(frozen=True)
class RunOptions:
    """Options of all runs of an experiment: `key=value` overrides of the recipe, of which later ones win, and more.

    Without `cache`, each recipe finds the one that matches; without `out`, the folder is the default one under `runs`.
    `loggers` log the metrics of every run as well.
    """

    settings: tuple[str, ...] = ()
    cache: Path | None = None
    out: Path | None = None
    slots: Slots = field(default_factory=Slots)
    loggers: tuple[LoggerName, ...] = ()


@dataclass(frozen=True)
class PlannedRun:
    """One run of an experiment: `source` as it was found, overridden by `settings`, gives `recipe`.

    `label` names the run in messages; its folder may not exist yet. Without `has_report`, its page is not drawn: that
    takes longer than a short trial.
    """

    label: str
    source: RecipePath
    settings: tuple[str, ...]
    recipe: Recipe
    cache: CacheInfo
    folder: Path
    has_report: bool = False
    loggers: tuple[LoggerName, ...] = ()

    @property
    def status(self) -> RunStatus:
        """Status of the run in the folder."""
        folder = RunFolder(self.folder)
        if not folder.recipe.is_file():
            return "missing"
        return "finished" if folder.is_complete else "interrupted"

    def result(self) -> dict[str, Any] | None:
        """Read the result; None if the run is not finished.

        Raises:
            RunError: The result is damaged.
        """
        return RunFolder(self.folder).read_result() if self.status == "finished" else None


@dataclass(frozen=True)
class Comparison:
    """A planned comparison; the first recipe is the baseline.

    The runs go seed by seed, so that an interrupted comparison has complete rounds. `notes` say what makes the recipes
    hard to compare, one line each.
    """

    out: Path
    recipes: tuple[Recipe, ...]
    runs: tuple[PlannedRun, ...]
    notes: tuple[str, ...]


def plan_comparison(
    names: Sequence[str],
    options: RunOptions | None = None,
    *,
    num_seeds: int,
    shares: Sequence[float] = (),
) -> Comparison:
    """Plan a comparison and validate the runs that its folder holds already; nothing is trained.

    Args:
        names: One or more recipes, by name or file; the first is the baseline.
        options: Options of all runs.
        num_seeds: Number of seeds: that of the baseline and the following ones, the same for every recipe.
        shares: Shares of the training recordings, each in (0, 1]; empty for the share of each recipe.

    Raises:
        RecipeError: A recipe is missing or invalid.
        RunError: Two recipes share a name or differ in their test recordings, the folder is not writable or holds
            other runs, or a recipe does not fit the slots.
    """
    options = options or RunOptions()
    sources = [find_recipe(name) for name in names]
    recipes = [load_recipe(source, options.settings) for source in sources]
    if shares and any(split_setting(setting)[0] == "data.event_share" for setting in options.settings):
        raise RunError("--set data.event_share: found together with --event-share, expected only one of them")
    _require_different(names, recipes)
    for recipe in recipes:
        _require_tested(recipe)
        options.slots.require_fit(recipe)
    caches = [choose_cache(recipe, options.cache) for recipe in recipes]
    _require_same_test(recipes, caches)
    out = options.out or Path("runs") / f"compare-{recipes[0].name}"
    runs = []
    for seed in range(recipes[0].seed, recipes[0].seed + num_seeds):
        for source, recipe, cache in zip(sources, recipes, caches, strict=True):
            for share in shares or (recipe.data.event_share,):
                settings = (*options.settings, f"data.event_share={share!r}", f"seed={seed}")
                folder = out / "runs" / recipe.name / f"share-{share!r}" / f"seed-{seed}"
                label = f"{recipe.name} share {share!r} seed {seed}"
                run = plan_run(label, source, settings, cache, folder)
                runs.append(replace(run, has_report=True, loggers=options.loggers))
    require_writable(out)
    return Comparison(out, tuple(recipes), tuple(runs), tuple(_notes(recipes, caches)))


def plan_run(label: str, source: RecipePath, settings: Sequence[str], cache: CacheInfo, folder: Path) -> PlannedRun:
    """Plan one run with `key=value` overrides of its recipe; its folder must be new or hold the same run.

    Raises:
        RecipeError: The settings are invalid.
        RunError: The folder holds a run of another recipe or cache, or is a file.
    """
    planned = PlannedRun(label, source, tuple(settings), load_recipe(source, settings), cache, folder)
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder}: a file, expected the folder of a run; choose another with --out")
    if planned.status != "missing":
        _require_same_run(planned)
    return planned


def _require_same_run(planned: PlannedRun) -> None:
    # Loads torch, which no mistake in a new experiment needs.
    from tmkt_train.training.checkpoint import require_same_recipe
    from tmkt_train.training.environment import code_changes

    folder = RunFolder(planned.folder)
    differing = differing_settings(folder.read_recipe(), planned.recipe)
    if differing:
        first = ", ".join(f"{key} = {there}, expected {here}" for key, (there, here) in list(differing.items())[:3])
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise RunError(f"{planned.folder}: holds a run with {first}{more}; choose another folder with --out")
    environment = folder.read_environment()
    require_same_recipe(folder, environment)
    if code_changes(planned.recipe, environment.get("network_digest")):
        raise RunError(
            f"{planned.folder}: holds a run of other code of {planned.recipe.model.backbone}, which has changed since; "
            "undo the change, or choose another folder with --out"
        )
    digest = environment["cache_digest"]
    if digest != planned.cache.digest:
        raise RunError(
            f"{planned.folder}: holds a run on a cache of digest {digest[:12]}, expected {planned.cache.digest[:12]} "
            f"of {planned.cache.path}; give that cache with --cache, or choose another folder with --out"
        )


def differing_settings(there: Recipe, here: Recipe) -> dict[str, tuple[str, str]]:
    """Return the settings in which two recipes differ, except names, as pairs of TOML values by dotted key."""
    values = {key: toml_value(value) for key, value, _ in flat_items(there)}
    return {
        key: (values[key], toml_value(value))
        for key, value, _ in flat_items(here)
        if key not in WORDS and values[key] != toml_value(value)
    }


def _require_different(names: Sequence[str], recipes: Sequence[Recipe]) -> None:
    seen: dict[str, str] = {}
    for name, recipe in zip(names, recipes, strict=True):
        if name in seen.values():
            raise RunError(f"{name}: found twice, expected each recipe once; omit one")
        if recipe.name in seen:
            raise RunError(
                f"{name}: has the same name {recipe.name!r} as {seen[recipe.name]}, expected recipes of different "
                "names; omit one, or change `name` in a copy"
            )
        seen[recipe.name] = name


def _require_tested(recipe: Recipe) -> None:
    if recipe.train.final_split != "test":
        raise RunError(
            f"{recipe.name}: train.final_split is {recipe.train.final_split}, and a comparison shows test accuracies; "
            "add --set train.final_split=test"
        )


def _require_same_test(recipes: Sequence[Recipe], caches: Sequence[CacheInfo]) -> None:
    tested: dict[tuple[Path, str, int], frozenset[str]] = {}
    for recipe, info in zip(recipes, caches, strict=True):
        key = (info.path, recipe.data.protocol, recipe.data.held_out_classes)
        if key not in tested:
            frames = open_frames(recipe, info.path, "test", with_images=False)
            tested[key] = frozenset(f"{info.dataset}/{sample}" for sample in frames.ids)
        first, this = next(iter(tested.values())), tested[key]
        if this != first:
            raise RunError(
                f"{recipe.name}: its {len(this)} test recordings ({recipe.data.dataset}, {recipe.data.protocol}) are "
                f"not the {len(first)} of {recipes[0].name} ({recipes[0].data.dataset}, {recipes[0].data.protocol}), "
                "so their accuracies cannot be subtracted; compare it separately"
            )


def _notes(recipes: Sequence[Recipe], caches: Sequence[CacheInfo]) -> Iterator[str]:
    base, base_cache = recipes[0], caches[0]
    for recipe, info in zip(recipes[1:], caches[1:], strict=True):
        if recipe.data.protocol != base.data.protocol:
            on_test = ", and only one of them selects its epoch on the test split"
            yield (
                f"{recipe.name} follows {recipe.data.protocol}, {base.name} {base.data.protocol}: they train on "
                f"different recordings{on_test if recipe.selects_on_test != base.selects_on_test else ''}"
            )
        if info.digest != base_cache.digest:
            differences = info.spec.differences(base_cache.spec).items()
            words = ", ".join(f"{key} {here}, not {there}" for key, (here, there) in differences)
            yield f"{recipe.name} reads another cache than {base.name}: {words or info.path}"
        if recipe.seed != base.seed:
            yield f"{recipe.name} has seed {recipe.seed}; all runs take the seeds of {base.name}"


def require_writable(folder: Path) -> None:
    """Create the folder of an experiment and check that it is writable, before any training.

    Raises:
        RunError: It is not.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunError(
            f"{folder}: cannot be written ({error.strerror or error}); choose another folder with --out"
        ) from None
