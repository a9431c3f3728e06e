"""What a comparison trains: every recipe at every share of the event data with every seed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tmkt_data import CacheInfo, PairedFrames
from tmkt_train.data.cache import choose_cache
from tmkt_train.errors import RunError
from tmkt_train.experiments.planned_run import PlannedRun, plan_run
from tmkt_train.recipe.load import find_recipe, load_recipe
from tmkt_train.recipe.overrides import split_setting
from tmkt_train.recipe.recipe import Recipe


@dataclass(frozen=True)
class Comparison:
    """A comparison before it is trained.

    Attributes:
        out: Its folder.
        recipes: One resolved recipe for each that was given, in that order; the first is the baseline.
        runs: All runs, seed by seed, so that a comparison that is cut short has whole rounds.
        notes: What makes the recipes hard to compare, one line each.
    """

    out: Path
    recipes: tuple[Recipe, ...]
    runs: tuple[PlannedRun, ...]
    notes: tuple[str, ...]


def plan_comparison(
    names: Sequence[str],
    *,
    num_seeds: int,
    shares: Sequence[float] = (),
    settings: Sequence[str] = (),
    cache: Path | None = None,
    out: Path | None = None,
    num_jobs: int = 1,
) -> Comparison:
    """Plan a comparison and look at what its folder holds already; nothing is trained.

    Args:
        names: Recipes, names or files, one or more; the first is the baseline.
        num_seeds: Seeds: that of the baseline and those after it, the same for every recipe.
        shares: Shares of the training recordings, each in (0, 1]; none takes the share of each recipe.
        settings: `key=value` texts that go over every recipe.
        cache: Cache of all runs; None for the one that each recipe finds.
        out: Folder; None for `runs/compare-<baseline>`.
        num_jobs: Runs at once.

    Raises:
        RecipeError: A recipe is missing or wrong.
        RunError: Two recipes share a name or not the test recordings, the folder cannot be written or holds other
            runs, or several runs at once leave the number of threads open.
    """
    sources = {name: find_recipe(name) for name in names}
    recipes = [load_recipe(sources[name], settings) for name in names]
    if shares and any(split_setting(setting)[0] == "data.event_share" for setting in settings):
        raise RunError("--set data.event_share: found beside --event-share, expected one of the two; leave one out")
    _require_different(names, recipes)
    _require_threads(recipes, num_jobs)
    caches = [choose_cache(recipe, cache) for recipe in recipes]
    _require_same_test(recipes, caches)
    folder = out or Path("runs") / f"compare-{recipes[0].name}"
    seeds = [recipes[0].seed + number for number in range(num_seeds)]
    runs = [
        _plan_one(recipe, sources[name], settings, share, seed, info, folder)
        for seed in seeds
        for name, recipe, info in zip(names, recipes, caches, strict=True)
        for share in shares or (recipe.data.event_share,)
    ]
    require_writable(folder)
    return Comparison(folder, tuple(recipes), tuple(runs), tuple(_notes(recipes, caches)))


def _plan_one(
    recipe: Recipe, source: Path, settings: Sequence[str], share: float, seed: int, cache: CacheInfo, out: Path
) -> PlannedRun:
    folder = out / "runs" / recipe.name / f"share-{share!r}" / f"seed-{seed}"
    both = [*settings, f"data.event_share={share!r}", f"seed={seed}"]
    return plan_run(f"{recipe.name} share {share!r} seed {seed}", source, both, cache, folder)


def _require_different(names: Sequence[str], recipes: Sequence[Recipe]) -> None:
    """Refuse recipes that would lie in one folder.

    Raises:
        RunError: Two share a name.
    """
    seen: dict[str, str] = {}
    for name, recipe in zip(names, recipes, strict=True):
        if name in seen.values():
            raise RunError(f"{name}: found twice, expected each recipe once; leave one out")
        if recipe.name in seen:
            raise RunError(
                f"{name}: its name is {recipe.name!r} as that of {seen[recipe.name]}, expected recipes of different "
                "names; leave one out, or change `name` in a copy"
            )
        seen[recipe.name] = name


def _require_threads(recipes: Sequence[Recipe], num_jobs: int) -> None:
    """Refuse to leave the threads to torch where several runs share the processor: the last digits depend on them.

    Raises:
        RunError: Several jobs, and `train.num_threads` is auto.
    """
    for recipe in recipes:
        if num_jobs > 1 and recipe.train.num_threads == "auto":
            raise RunError(
                f"{recipe.name}: train.num_threads is 'auto' with --jobs {num_jobs}, expected a number, so that the "
                "results do not depend on --jobs; add --set train.num_threads=1"
            )


def _require_same_test(recipes: Sequence[Recipe], caches: Sequence[CacheInfo]) -> None:
    """Refuse recipes that are tested on other recordings than the baseline: their accuracies have no difference.

    Raises:
        RunError: One is.
    """
    tested: dict[tuple[Path, str], frozenset[str]] = {}
    for recipe, info in zip(recipes, caches, strict=True):
        key = (info.path, recipe.data.protocol)
        if key not in tested:
            frames = PairedFrames(info.path, "test", pairing="none", protocol=recipe.data.protocol)
            tested[key] = frozenset(f"{info.dataset}/{sample}" for sample in frames.ids)
        first, this = next(iter(tested.values())), tested[key]
        if this != first:
            raise RunError(
                f"{recipe.name}: its {len(this)} test recordings ({recipe.data.dataset}, {recipe.data.protocol}) are "
                f"not the {len(first)} of {recipes[0].name} ({recipes[0].data.dataset}, {recipes[0].data.protocol}), "
                "so their accuracies have no difference; compare it apart"
            )


def _notes(recipes: Sequence[Recipe], caches: Sequence[CacheInfo]) -> Iterator[str]:
    base, base_cache = recipes[0], caches[0]
    for recipe, info in zip(recipes[1:], caches[1:], strict=True):
        if recipe.data.protocol != base.data.protocol:
            yield (
                f"{recipe.name} follows {recipe.data.protocol}, {base.name} {base.data.protocol}: they train on "
                "different recordings, and only one of them chooses its epoch on the test part"
            )
        if info.digest != base_cache.digest:
            words = [
                f"{key} {here}, not {there}" for key, (here, there) in info.spec.differences(base_cache.spec).items()
            ]
            yield f"{recipe.name} reads another cache than {base.name}: {', '.join(words) or info.path}"
        if recipe.seed != base.seed:
            yield f"{recipe.name} has the seed {recipe.seed} of its own; all runs take those of {base.name}"


def require_writable(folder: Path) -> None:
    """Make the folder of an experiment, and refuse one that cannot be written before hours are spent.

    Raises:
        RunError: It cannot be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise RunError(
            f"{folder}: cannot be written ({error.strerror or error}); choose another folder with --out"
        ) from None
