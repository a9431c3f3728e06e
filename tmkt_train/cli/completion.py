"""Completion of recipes and their keys in a shell, see docs/how-to/completion.md."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


def complete_recipe(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the recipes that begin like this; without any, what makes the shell complete file names."""
    from tmkt_train.recipe.load import recipe_names

    found = [name for name in recipe_names() if name.startswith(incomplete)]
    return [CompletionItem(name) for name in found] or [CompletionItem(incomplete, type="file")]


def complete_setting(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the dotted keys of a recipe that begin like this, or whose last part does, each with `=`."""
    from tmkt_train.recipe.explain import accepted_values

    if "=" in incomplete:
        return []
    keys = {key: text for key, text in accepted_values().items() if key and not text.startswith("a table with")}
    found = [key for key in keys if key.startswith(incomplete)]
    found = found or [key for key in keys if key.rpartition(".")[2].startswith(incomplete)]
    return [CompletionItem(f"{key}=", help=keys[key]) for key in found]
