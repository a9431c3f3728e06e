"""One run of an experiment before it is trained: its resolved recipe, its folder, and what lies there already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tmkt_data import CacheInfo
from tmkt_train.errors import RunError
from tmkt_train.recipe.load import load_recipe, toml_value
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.recipe.settings import flat_items
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.run_identity import require_same_recipe

State = Literal["missing", "interrupted", "finished"]

WORDS = ("name", "title", "description")
"""The settings of a recipe that only name it."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of an experiment.

    Attributes:
        label: What messages call it.
        source: Recipe file that it comes from.
        settings: `key=value` texts that go over the file, in their order.
        recipe: The resolved recipe.
        cache: What it trains on.
        folder: Where it lies, or will.
    """

    label: str
    source: Path
    settings: tuple[str, ...]
    recipe: Recipe
    cache: CacheInfo
    folder: Path

    @property
    def state(self) -> State:
        """What the folder holds."""
        folder = RunFolder(self.folder)
        if not folder.recipe.is_file():
            return "missing"
        return "finished" if folder.is_finished else "interrupted"

    def result(self) -> dict[str, Any] | None:
        """Read the result, None where there is none yet.

        Raises:
            RunError: It is damaged.
        """
        return RunFolder(self.folder).result() if self.state == "finished" else None


def plan_run(
    label: str, source: Path, settings: Sequence[str], cache: CacheInfo, folder: Path, *, recipe: Recipe | None = None
) -> PlannedRun:
    """Plan one run and look at what its folder holds already.

    Args:
        label: What messages call it.
        source: Recipe file.
        settings: `key=value` texts that go over the file.
        cache: What it trains on.
        folder: Where it lies, or will.
        recipe: The resolved recipe where it is known; None reads it.

    Raises:
        RecipeError: The settings make no recipe.
        RunError: The folder holds a run of another recipe, of another cache, or no run.
    """
    planned = PlannedRun(label, source, tuple(settings), recipe or load_recipe(source, settings), cache, folder)
    _require_fit(planned)
    return planned


def _require_fit(planned: PlannedRun) -> None:
    """Refuse a folder that holds something else than the planned run.

    Raises:
        RunError: It does.
    """
    folder = RunFolder(planned.folder)
    if planned.folder.exists() and not planned.folder.is_dir():
        raise RunError(f"{planned.folder}: a file, expected the folder of a run; choose another with --out")
    if planned.state == "missing":
        return
    differing = differing_settings(folder.load_recipe(), planned.recipe)
    if differing:
        first = ", ".join(f"{key} = {there}, expected {here}" for key, (there, here) in list(differing.items())[:3])
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise RunError(f"{planned.folder}: holds a run with {first}{more}; choose another folder with --out")
    environment = folder.environment()
    require_same_recipe(folder, environment)
    digest = environment["cache_digest"]
    if digest != planned.cache.digest:
        raise RunError(
            f"{planned.folder}: holds a run on a cache of digest {digest[:12]}, expected {planned.cache.digest[:12]} "
            f"of {planned.cache.path}; give that cache with --cache, or choose another folder with --out"
        )


def differing_settings(there: Recipe, here: Recipe) -> dict[str, tuple[str, str]]:
    """Return the settings in which two recipes differ, names and descriptions aside, as TOML values by dotted key."""
    values = {key: toml_value(value) for key, value, _ in flat_items(there)}
    return {
        key: (values[key], toml_value(value))
        for key, value, _ in flat_items(here)
        if key not in WORDS and values[key] != toml_value(value)
    }
