"""The files of a sweep: the table of trials, the figure and the page, each written whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tmkt_data.files import write_bytes
from tmkt_train.errors import RunError
from tmkt_train.experiments.panel_png import panels_png
from tmkt_train.experiments.panel_svg import panel_svg
from tmkt_train.experiments.panels import Line, Panel, Point
from tmkt_train.experiments.search_space import Choices, Dimension, Range, Value
from tmkt_train.experiments.sweep import Sweep, Trial, best_trial, sweep_csv, sweep_notes
from tmkt_train.experiments.table import spread
from tmkt_train.recipe.recipe import toml_value
from tmkt_train.report.html import Html, element, figure, joined, percent, table
from tmkt_train.report.overview import figures
from tmkt_train.report.page import document

_TITLE = "validation accuracy (%)"


def write_trials(sweep: Sweep, trials: Sequence[Trial]) -> Path:
    """Write `sweep.csv`.

    Raises:
        RunError: It cannot be written.
    """
    path = sweep.out / "sweep.csv"
    write_bytes(path, sweep_csv(sweep, trials).encode(), error=RunError)
    return path


def write_sweep(sweep: Sweep, trials: Sequence[Trial]) -> list[Path]:
    """Write `sweep.csv`, and where a trial has a value `figure.png` and `report.html`.

    Returns:
        The files.

    Raises:
        RunError: One cannot be written.
    """
    files = [write_trials(sweep, trials)]
    if best_trial(trials) is None:
        return files
    panels = [_panel(sweep, dimension, trials) for dimension in sweep.dimensions]
    contents = {"figure.png": panels_png(panels), "report.html": _page(sweep, trials, panels).encode()}
    for name, data in contents.items():
        write_bytes(sweep.out / name, data, error=RunError)
    return [*files, *(sweep.out / name for name in contents)]


def _panel(sweep: Sweep, dimension: Dimension, trials: Sequence[Trial]) -> Panel:
    known = [trial for trial in trials if trial.value is not None]
    alone = len(sweep.dimensions) == 1
    points: list[Point] = []
    places: set[float] = set()
    for trial in known:
        x = _place(dimension, trial.values[dimension.key])
        if alone and x in places:
            continue
        places.add(x)
        points.append(Point(x, tuple(100 * accuracy for accuracy in trial.accuracies.values())))
    ticks = None
    if isinstance(dimension, Choices):
        ticks = tuple((float(k), str(value)) for k, value in enumerate(dimension.values))
    return Panel(
        x_title=dimension.key,
        y_title=_TITLE,
        lines=(Line("trials", tuple(sorted(points, key=lambda point: point.x))),),
        ticks=ticks,
        is_log=isinstance(dimension, Range) and dimension.is_log,
        is_whole=isinstance(dimension, Range) and dimension.is_whole,
        is_joined=alone,
        shows_values=True,
    )


def _place(dimension: Dimension, value: Value) -> float:
    match dimension:
        case Choices():
            return float(dimension.values.index(value))
        case Range():
            return float(value)


def _page(sweep: Sweep, trials: Sequence[Trial], panels: Sequence[Panel]) -> str:
    recipe = sweep.recipe
    title = f"{recipe.name} over {', '.join(dimension.key for dimension in sweep.dimensions)}"
    how = "even grid" if sweep.is_grid else "tree-structured Parzen estimator (Optuna)"
    seeds = f"seed{'s' if sweep.num_seeds > 1 else ''} {', '.join(map(str, sweep.seeds))}"
    facts = [recipe.method.name, recipe.data.dataset, recipe.data.protocol, seeds, how]
    head = element(
        "header",
        element("p", "tmkt sweep", class_="kind"),
        element("h1", title),
        element("p", " · ".join(facts), class_="about"),
        element("p", f"set for all: {', '.join(sweep.settings)}", class_="description") if sweep.settings else None,
    )
    notes = [element("p", f"{note[0].upper()}{note[1:]}.", class_="notice") for note in sweep_notes(sweep, trials)]
    drawn = figures(*(figure(panel_svg(panel, _told(panel)), _caption(panel)) for panel in panels))
    main = element(
        "main",
        _headline(trials),
        *notes,
        element("section", element("h2", "Sensitivity"), drawn),
        element("section", element("h2", "Trials"), _table(sweep, trials)),
    )
    return document(title, joined([head, main]))


def _headline(trials: Sequence[Trial]) -> Html | None:
    best = best_trial(trials)
    if best is None:
        return None
    lead = element(
        "div",
        element("span", "best validation accuracy", class_="name"),
        element("span", percent(best.value), class_="big"),
        element("span", f"{best.words}, trial {best.number} of {len(trials)}", class_="detail"),
        class_="lead",
    )
    warning = (
        "The best of several trials, each the best of its epochs, is higher than the validation accuracy of a new run "
        "would be. The test part was not looked at: compare the chosen values with others on it once."
    )
    return joined([element("div", lead, class_="headline"), element("p", warning, class_="note")])


def _caption(panel: Panel) -> str:
    return f"{panel.x_title}: mean of each trial, and one paler point per seed where there are several."


def _told(panel: Panel) -> str:
    names = dict(panel.ticks or ())
    points = (f"{point.mean:.2f} at {names.get(point.x, f'{point.x:.4g}')}" for point in panel.lines[0].points)
    return f"{_TITLE} over {panel.x_title}: {', '.join(points)}."


def _table(sweep: Sweep, trials: Sequence[Trial]) -> Html:
    keys = [dimension.key for dimension in sweep.dimensions]
    several = len(sweep.seeds) > 1
    best = best_trial(trials)
    body = []
    for trial in trials:
        sd = spread(list(trial.accuracies.values())).sd
        cells = [str(trial.number), *(toml_value(trial.values[key]) for key in keys), percent(trial.value)]
        cells += [None if sd is None else f"{100 * sd:.2f}"] if several else []
        cells += [percent(trial.accuracies.get(seed)) for seed in sweep.seeds] if several else []
        remark = f"failed: {trial.problem}" if trial.problem else ("best" if trial is best else "")
        body.append((*cells, remark))
    seeds = ["sd", *(f"seed {seed}" for seed in sweep.seeds)] if several else []
    heads = ["trial", *keys, "validation", *seeds, "remark"]
    return table(heads, body, caption="Trials: best validation accuracy, mean over seeds")
