"""Checks of what was typed that need no torch, whose import takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tmkt_train.errors import unfinished

if TYPE_CHECKING:
    from tmkt_train.recipe.recipe import Recipe


def load_named(name: str, settings: Sequence[str], *, quiet: bool = False) -> Recipe:
    """Load a recipe by name or file, and print what overriding its settings changed in others unless `quiet`.

    Raises:
        RecipeError: It cannot be found or is invalid.
    """
    from tmkt_train.recipe.load import find_recipe, load_noted

    recipe, notes = load_noted(find_recipe(name), settings)
    for note in () if quiet else notes:
        click.echo(f"note: {note}")
    return recipe


def require_new(recipe: Recipe, cache: Path | None, out: Path | None) -> Path:
    """Return the cache of a new run.

    Raises:
        TmktError: There is none that fits, or its folder is taken.
    """
    from tmkt_train.data.cache import choose_cache
    from tmkt_train.training.new_folder import require_free

    if out is not None:
        require_free(out)
    return choose_cache(recipe, cache).path


def require_fit(recipe: Recipe, cache: Path) -> None:
    """Check that a cache holds what a recipe trains on, and build a network of the user's own for it.

    Raises:
        TmktError: The training would not start.
    """
    from tmkt_train.data.cache import open_training

    frames, _ = open_training(recipe, cache)
    if recipe.model.is_imported:
        from tmkt_train.training.setup import build_network

        build_network(recipe, frames)


def require_run(path: Path, cache: Path | None = None, *, is_finished: bool = True) -> None:
    """Check that a folder holds a run, and that the cache that was given for it can be opened.

    Raises:
        TmktError: It does not, the run is not finished but `is_finished`, or the cache cannot be read.
    """
    from tmkt_data import read_cache_info
    from tmkt_train.training.folder import RunFolder

    folder = RunFolder(path)
    folder.read_recipe()
    if is_finished and not folder.is_finished:
        raise unfinished(path)
    if cache is not None:
        read_cache_info(cache)
