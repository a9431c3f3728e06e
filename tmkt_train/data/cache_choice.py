"""Which cache a recipe trains on, and what to type when there is none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tmkt_data import CacheInfo, cache_directory, default_spec, find_caches, read_cache_info
from tmkt_data.errors import TmktError
from tmkt_train.errors import RunError, command
from tmkt_train.recipe.recipe import Recipe


def prepare_command(recipe: Recipe) -> str:
    """Return the command that makes the cache of a recipe.

    Raises:
        CatalogueError: There is no such dataset.
    """
    options = recipe.data.prepare.to_spec().command_options(default_spec(recipe.data.dataset))
    return command("tmkt-data", "prepare", recipe.data.dataset, *options)


def choose_cache(recipe: Recipe, given: Path | None = None) -> CacheInfo:
    """Return the cache of a recipe: the one given, otherwise the one that fits among those prepared.

    Args:
        recipe: The recipe.
        given: File that the user named.

    Raises:
        RunError: None fits, or several do; names the command or the option that helps.
        CacheError: The given file is no readable cache.
        CatalogueError: There is no such dataset.
    """
    if given is not None:
        info = read_cache_info(given)
        problem = _misfit(info, recipe)
        if problem:
            raise RunError(f"{given}: {problem}; make the right one with: {prepare_command(recipe)}")
        return info
    found = find_caches(recipe.data.dataset)
    fitting = [info for info in found if not _misfit(info, recipe)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        paths = ", ".join(str(info.path) for info in fitting)
        raise RunError(f"{recipe.name}: found {len(fitting)} caches that fit, {paths}; choose one with --cache FILE")
    if len(found) == 1:
        start = f"{found[0].path}: {_misfit(found[0], recipe)}"
    elif found:
        start = f"{cache_directory()}: none of {len(found)} caches of {recipe.data.dataset} fits {recipe.name}"
    else:
        start = f"{cache_directory()}: no cache of {recipe.data.dataset}"
    raise RunError(f"{start}; make it with: {prepare_command(recipe)}")


def is_found(recipe: Recipe, cache: Path) -> bool:
    """Return whether a recipe finds a cache by itself."""
    try:
        return choose_cache(recipe).path.resolve() == cache.resolve()
    except TmktError:
        return False


def _misfit(info: CacheInfo, recipe: Recipe) -> str:
    """Say in what a cache differs from what a recipe needs; empty when it fits."""
    if info.dataset != recipe.data.dataset:
        return f"holds {info.dataset}, expected {recipe.data.dataset}"
    needed = recipe.data.prepare.to_spec()
    if needed.bake == "none":
        # Stored spike frames do not disturb whoever does not read them.
        needed = dataclasses.replace(needed, bake=info.spec.bake)
    differences = info.spec.differences(needed)
    return ", ".join(f"{name} is {here}, expected {there}" for name, (here, there) in differences.items())
