"""Whether the recipe in a run folder is still the one that the run was started with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from tmkt_train.errors import RecipeError, RunError
from tmkt_train.recipe.load import parse_toml, read_tables
from tmkt_train.training.checkpoint import load_checkpoint
from tmkt_train.training.folder import RunFolder


def recipe_digest(tables: Mapping[str, Any]) -> str:
    """Return a digest of the settings of a recipe: comments, order and spacing do not count.

    Example:
        >>> recipe_digest({"a": 1, "b": 2}) == recipe_digest({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(tables, sort_keys=True, default=str).encode()).hexdigest()[:16]


def require_same_recipe(folder: RunFolder, environment: Mapping[str, Any]) -> None:
    """Refuse a run whose recipe.toml was edited after the start.

    Args:
        folder: The run.
        environment: What the run was started in; runs of older versions have no digest there.

    Raises:
        RunError: It was edited; names the keys where the checkpoint tells them.
        RecipeError: The recipe cannot be read.
    """
    now = read_tables(folder.recipe)
    expected = environment.get("recipe_digest")
    if expected is None or recipe_digest(now) == expected:
        return
    keys = _changed_keys(folder, now)
    found = f"{', '.join(keys)} changed" if keys else "the settings changed"
    raise RunError(
        f"{folder.recipe}: {found}, expected the recipe that the run was started with; "
        "undo the change, or start a new run with the changed recipe"
    )


def _changed_keys(folder: RunFolder, now: Mapping[str, Any]) -> list[str]:
    try:
        text = load_checkpoint(folder.last).get("recipe")
        before = parse_toml(text, str(folder.last)) if isinstance(text, str) else None
    except (RunError, RecipeError, ValueError):
        return []
    if before is None:
        return []
    here, there = dict(_flatten(now, "")), dict(_flatten(before, ""))
    return [key for key in {**there, **here} if (key in here, here.get(key)) != (key in there, there.get(key))]


def _flatten(tables: Mapping[str, Any], prefix: str) -> list[tuple[str, object]]:
    items: list[tuple[str, object]] = []
    for name, value in tables.items():
        if isinstance(value, dict):
            items += _flatten(value, f"{prefix}{name}.")
        else:
            items.append((f"{prefix}{name}", value))
    return items
