"""Files of a suggestion: the table it decided from, the recipe that it chose, and a page."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tmkt_train.errors import RecipeError
from tmkt_train.experiments.decision import LEAST_RECORDINGS, Decision, Tried
from tmkt_train.experiments.plan import differing_settings
from tmkt_train.experiments.suggest import Suggestion
from tmkt_train.experiments.suggest_trials import chosen_values
from tmkt_train.experiments.table import csv_text
from tmkt_train.recipe.load import find_recipe, load_recipe, read_tables
from tmkt_train.recipe.recipe import recipe_text, toml_value
from tmkt_train.report.figures.bars import dot_chart
from tmkt_train.report.figures.drawing import About, Drawing
from tmkt_train.report.page import render, write_files

RECIPE_FILE = "suggested.toml"
_TITLE = "validation accuracy of the last epoch (%)"


def write_suggestion(plan: Suggestion, decisions: Sequence[Decision]) -> list[Path]:
    """Write `suggested.toml`, `suggest.csv`, `suggest.json` and `report.html` into the folder.

    Raises:
        RunError: A file cannot be written; an earlier file of that name is kept.
    """
    rows = table_rows(plan, decisions)
    page = render(
        "suggest.html.j2",
        plan=plan,
        decisions=decisions,
        notes=suggestion_notes(plan, decisions),
        figures_of=[(decision, _figure(decision)) for decision in decisions],
        chosen=chosen_words(decisions),
        seed_heads=[f"seed {seed}" for seed in plan.seeds],
    )
    contents = {
        RECIPE_FILE: suggested_text(plan, decisions),
        "suggest.csv": csv_text(rows),
        "suggest.json": json.dumps(suggestion_record(plan, decisions), indent=2) + "\n",
        "report.html": page.html,
    }
    return write_files(plan.out, {name: text.encode() for name, text in contents.items()})


def suggestion_record(plan: Suggestion, decisions: Sequence[Decision]) -> dict[str, Any]:
    """Return the suggestion as plain values; accuracies are in [0, 1]."""
    return {
        "recipe": plan.recipe.name,
        "cache": str(plan.cache),
        "suggested": str(plan.out / RECIPE_FILE),
        "seeds": plan.seeds,
        "num_train": plan.num_train,
        "num_val": plan.num_val,
        "epochs": plan.recipe.train.epochs,
        "steps_per_epoch": plan.recipe.train.steps_per_epoch,
        "chosen": {decision.stage.key: decision.chosen.value for decision in decisions},
        "changed": chosen_values(decisions),
        "reasons": {decision.stage.key: decision.reason for decision in decisions},
        "correlations": dict(plan.correlations),
        "table": table_rows(plan, decisions),
        "notes": suggestion_notes(plan, decisions),
    }


def table_rows(plan: Suggestion, decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    """Return one row per value that was tried."""
    return [_cells(plan, decision, one) for decision in decisions for one in decision.tried]


def _cells(plan: Suggestion, decision: Decision, one: Tried) -> dict[str, Any]:
    low, high = (one.difference.interval if one.difference else None) or (None, None)
    is_encoder = decision.stage.key == "data.image_encoding"
    return {
        "setting": decision.stage.key,
        "value": one.value,
        "is_chosen": one.value == decision.chosen.value,
        "n": one.last_spread.num,
        "mean_last_epoch_val_accuracy": one.last_spread.mean,
        "sd_last_epoch_val_accuracy": one.last_spread.sd,
        "mean_val_accuracy": one.selected_spread.mean,
        "sd_val_accuracy": one.selected_spread.sd,
        "mean_difference": one.difference.mean if one.difference else None,
        "ci95_low": low,
        "ci95_high": high,
        "correlation": plan.correlations.get(str(one.value)) if is_encoder else None,
        **{f"last_epoch_val_accuracy_seed_{seed}": one.last.get(seed) for seed in plan.seeds},
        "problem": one.problem,
    }


def chosen_words(decisions: Sequence[Decision]) -> str:
    """Return the chosen values as `image encoder saccade, separate heads false`."""
    return ", ".join(f"{decision.stage.title} {decision.chosen.words}" for decision in decisions)


def suggestion_notes(plan: Suggestion, decisions: Sequence[Decision]) -> list[str]:
    """Return the limits of a suggestion, one line each."""
    noise = 100 * LEAST_RECORDINGS / plan.num_val
    notes = [*plan.notes]
    notes.append(
        f"with {plan.num_val} validation recordings and {plan.num_seeds} seeds, differences below {noise:.1f} points "
        "count as noise, whatever their interval"
    )
    if decisions and all(decision.is_own for decision in decisions):
        notes.append("no value is better than the recipe's own beyond noise: the recipe stays as it is")
    return notes


def suggested_text(plan: Suggestion, decisions: Sequence[Decision]) -> str:
    """Return the recipe file: the given recipe, extended by the chosen settings, for a training of full length."""
    base = load_recipe(plan.source)
    recipe = load_recipe(plan.source, plan.settings_with(chosen_values(decisions)))
    title = f"{base.title}: settings suggested for this cache"
    why = f"Chosen by validation accuracy over seeds {', '.join(map(str, plan.seeds))}: {chosen_words(decisions)}."
    words = {"name": f"{base.name}_suggested", "title": title, "description": why}
    if "extends" in read_tables(plan.source.file):
        # Only one level is read; the given recipe extends another.
        return recipe_text(recipe.model_copy(update=words)).lstrip("\n")
    changed = {key: here for key, (_, here) in differing_settings(base, recipe).items()}
    lines = {
        "extends": toml_value(_extended(plan)),
        **{key: toml_value(text) for key, text in words.items()},
        **changed,
    }
    return "".join(f"{key} = {text}\n" for key, text in lines.items())


def _extended(plan: Suggestion) -> str:
    """Return the given recipe as `extends` names it: its name where that finds it, else its path from the folder."""
    try:
        if find_recipe(plan.source.name) == plan.source:
            return plan.source.name
    except RecipeError:
        pass
    return os.path.relpath(str(plan.source), plan.out)


def _figure(decision: Decision) -> Drawing:
    known = [one for one in decision.tried if one.last]
    groups = [
        (one.words, [100 * accuracy for accuracy in one.last.values()], "event" if one is decision.chosen else "image")
        for one in known
    ]
    told = ", ".join(f"{one.last_spread.text} with {one.words}" for one in known)
    return dot_chart(About(f"suggest-{decision.stage.key.replace('.', '-').replace('_', '-')}", told), groups, _TITLE)
