"""Files of a comparison: tables, figure and page."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tmkt_train.errors import RunError
from tmkt_train.experiments.paper_tables import latex_table, markdown_table
from tmkt_train.experiments.plan import WORDS, Comparison
from tmkt_train.experiments.table import GroupRow, RunRow, groups_csv, runs_csv, share_text
from tmkt_train.recipe.recipe import flat_items, toml_value
from tmkt_train.report.comparison import Group, overlay
from tmkt_train.report.figures.axes import Axis
from tmkt_train.report.figures.bars import dot_chart
from tmkt_train.report.figures.drawing import About, Drawing, side_by_side
from tmkt_train.report.figures.lines import Line, line_chart
from tmkt_train.report.page import render, write_files
from tmkt_train.report.palette import SERIES
from tmkt_train.training.record import RunRecord, read_run

_LOG_FROM = 5.0
_APART = 0.008
_DASHES = ("-", "--", ":")
_SHOWN_ELSEWHERE = (*WORDS, "seed", "data.event_share")


def write_comparison(
    comparison: Comparison, rows: Sequence[RunRow], groups: Sequence[GroupRow], notes: Sequence[str] = ()
) -> list[Path]:
    """Write tables (`table.csv`, `summary` as csv, md and tex), figures and `report.html` of a comparison.

    The figures are the accuracies, `figure`, and the curves of all runs, `curves`. The groups of the baseline come
    first. Returns the written files.

    Raises:
        RunError: A file cannot be written; an earlier file of that name is kept.
    """
    curves = comparison_curves(rows)
    figure, seeds = comparison_figure(groups), sorted({row.run.recipe.seed for row in rows})
    page = render(
        "compare.html.j2",
        comparison=comparison,
        rows=rows,
        groups=groups,
        notes=notes,
        seeds=seeds,
        seed_heads=[f"seed {seed}" for seed in seeds],
        figure_drawn=figure if any(group.accuracies for group in groups) else None,
        curves=curves,
        settings=_differing_settings(comparison),
        share_text=share_text,
    )
    png, pdf, svg = figure.saved("png", "pdf", "svg")
    contents = {
        "table.csv": runs_csv(rows, comparison.out).encode(),
        "summary.csv": groups_csv(groups, seeds).encode(),
        "summary.md": markdown_table(groups).encode(),
        "summary.tex": latex_table(groups).encode(),
        "figure.png": png,
        "figure.pdf": pdf,
        "figure.svg": svg,
        "report.html": page.html.encode(),
    }
    if curves:
        contents["curves.pdf"], contents["curves.svg"] = side_by_side("curves", curves).saved("pdf", "svg")
    return write_files(comparison.out, contents)


def comparison_curves(rows: Sequence[RunRow]) -> list[Drawing]:
    """Draw validation accuracy and training loss of every finished run over the epochs, one color per recipe and share.

    Recipes that validate on nothing but the test split have no curve of the former, and folders that are gone or
    damaged none at all: the tables need only their results.
    """
    runs = [row.run for row in rows if row.result is not None]
    recipes = {run.recipe.name: run.recipe.method.name for run in runs}
    names = dict(zip(recipes, short_labels(list(recipes), list(recipes.values())), strict=True))
    shares = sorted({run.recipe.data.event_share for run in runs})
    groups = []
    for recipe, share in itertools.product(recipes, shares):
        own = [run.folder for run in runs if (run.recipe.name, run.recipe.data.event_share) == (recipe, share)]
        name = names[recipe] if len(shares) == 1 else f"{names[recipe]} {share_text(share)}"
        groups.append(Group(name, recipes[recipe], tuple(_readable(own))))
    metrics = (("val_accuracy", "accuracy on validation (%)", 100), ("train_loss", "training loss", 1))
    return [drawing for key, name, factor in metrics if (drawing := overlay(groups, key, name, factor)) is not None]


def comparison_figure(groups: Sequence[GroupRow]) -> Drawing:
    """Draw accuracy over the share of event data; for a single share, one row of dots per recipe."""
    title = "test accuracy (%)" + (", optimistic" if any(group.optimistic for group in groups) else "")
    known = [group for group in groups if group.accuracies]
    methods = {group.recipe: group.method for group in groups}
    names = dict(zip(methods, short_labels(list(methods), list(methods.values())), strict=True))
    told = ", ".join(
        f"{names[group.recipe]} {100 * (group.spread.mean or 0.0):.2f} at {share_text(group.share)}" for group in known
    )
    about = About("comparison", f"{title} by recipe and share of the event data: {told}.")
    shares = sorted({group.share for group in groups})
    if len({group.share for group in known}) < 2:
        colors = {recipe: SERIES[k % len(SERIES)] for k, recipe in enumerate(names)}
        rows = [(names[g.recipe], [100 * v for v in g.accuracies.values()], colors[g.recipe]) for g in known]
        return dot_chart(about, rows, title)
    is_log = shares[-1] / shares[0] >= _LOG_FROM
    lines = []
    for k, (recipe, name) in enumerate(names.items()):
        own = sorted((group for group in known if group.recipe == recipe), key=lambda group: group.share)
        # Error bars at the same share are set apart.
        part = _APART * (k - (len(names) - 1) / 2)
        factor, shift = (shares[-1] / shares[0]) ** part if is_log else 1.0, (shares[-1] - shares[0]) * part
        x = [group.share * factor + (0.0 if is_log else shift) for group in own]
        means, bars = ([100 * (getattr(group.spread, key) or 0.0) for group in own] for key in ("mean", "sd"))
        color, dash = SERIES[k % len(SERIES)], _DASHES[k // len(SERIES) % len(_DASHES)]
        lines.append(Line(name, x, means, color, dash, bars=bars))
    margin = 0.06 * (shares[-1] - shares[0])
    low, high = (shares[0] / 1.12, shares[-1] * 1.12) if is_log else (shares[0] - margin, shares[-1] + margin)
    ticks = {share: share_text(share) for share in shares}
    x_axis = Axis("share of the training recordings", low, high, ticks, is_log=is_log)
    return Drawing(about, line_chart(lines, x_axis, Axis(title)))


def _readable(folders: Sequence[Path]) -> Iterator[RunRecord]:
    for folder in folders:
        with suppress(RunError):
            yield read_run(folder)


def short_labels(names: Sequence[str], methods: Sequence[str]) -> list[str]:
    """Shorten names of recipes: to their methods if those differ, else by their common prefix.

    Example:
        >>> short_labels(["a_kt", "a"], ["kt", "tmkt"]), short_labels(["a_b", "a_b_no_x"], ["tmkt", "tmkt"])
        (['kt', 'tmkt'], ['a_b', 'no_x'])
    """
    if len(set(methods)) == len(methods):
        return list(methods)
    words = [name.split("_") for name in names]
    common = 0
    while all(len(parts) > common and parts[common] == words[0][common] for parts in words):
        common += 1
    return ["_".join(parts[common:]) or name for parts, name in zip(words, names, strict=True)]


def _differing_settings(comparison: Comparison) -> list[tuple[str, list[tuple[str, bool]]]]:
    """Return the settings in which the recipes differ: key, and value and use of each recipe."""
    recipes = comparison.recipes
    columns = [{key: toml_value(value) for key, value, _ in flat_items(recipe)} for recipe in recipes]
    found = []
    for key in columns[0]:
        cells = [(column[key], recipe.uses(key)) for column, recipe in zip(columns, recipes, strict=True)]
        if key not in _SHOWN_ELSEWHERE and len(set(cells)) > 1 and any(is_used for _, is_used in cells):
            found.append((key, cells))
    return found
