"""The settings of a recipe as a flat list, and those among them that the papers leave open."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tmkt_train.recipe.load import toml_value
from tmkt_train.recipe.recipe import Recipe
from tmkt_train.recipe.schema import Table


def flat_items(recipe: Recipe) -> Iterator[tuple[str, Any, str]]:
    """Yield every setting as `(dotted key, value, description)`, in the order of the tables."""
    yield from _flat_items(recipe, "")


def _flat_items(table: Table, prefix: str) -> Iterator[tuple[str, Any, str]]:
    for name, field in type(table).model_fields.items():
        value = getattr(table, name)
        if isinstance(value, Table):
            yield from _flat_items(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value, field.description or ""


def inferred_choices(recipe: Recipe) -> list[str]:
    """List the settings in force that the papers leave open, as `key = value` in TOML.

    Example:
        >>> recipe = Recipe.model_validate({
        ...     "name": "tiny", "title": "A tiny one", "data": {"dataset": "digits"},
        ...     "model": {"backbone": "scnn"}, "method": {"name": "tmkt"},
        ...     "optim": {"learning_rate": 0.001, "warmup_epochs": 0},
        ...     "train": {"epochs": 1, "batch_size": 8},
        ... })
        >>> [choice for choice in inferred_choices(recipe) if choice.startswith("mix.")]
        ['mix.ratio = 0.5', 'mix.schedule = "constant"', 'mix.law = "sequential"', 'mix.slide = "auto"']
    """
    return [
        f"{key} = {toml_value(value)}"
        for key, value, description in flat_items(recipe)
        if "(inferred)" in description and recipe.uses(key)
    ]
