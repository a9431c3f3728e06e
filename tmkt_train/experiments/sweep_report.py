"""Files of a sweep: table of trials, figure and page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tmkt_train.experiments.search_space import Choices, Dimension
from tmkt_train.experiments.sweep import Sweep, Trial, best_trial, sweep_csv, sweep_notes
from tmkt_train.recipe.recipe import toml_value
from tmkt_train.report.figures.axes import Axis
from tmkt_train.report.figures.drawing import About, Drawing, side_by_side
from tmkt_train.report.figures.lines import Line, line_chart
from tmkt_train.report.page import render, write_files
from tmkt_train.report.statistics import spread

_TITLE = "validation accuracy (%)"


def write_trials(sweep: Sweep, trials: Sequence[Trial]) -> Path:
    """Write `sweep.csv`.

    Raises:
        RunError: It cannot be written.
    """
    return write_files(sweep.out, {"sweep.csv": sweep_csv(sweep, trials).encode()})[0]


def write_sweep(sweep: Sweep, trials: Sequence[Trial]) -> list[Path]:
    """Write `sweep.csv` and, if a trial has a value, `figure.png`, `figure.pdf`, `figure.svg` and `report.html`.

    Returns:
        The files.

    Raises:
        RunError: A file cannot be written.
    """
    files = [write_trials(sweep, trials)]
    if best_trial(trials) is None:
        return files
    panels = [_panel(sweep, dimension, trials) for dimension in sweep.dimensions]
    png, pdf, svg = side_by_side("sweep", panels).saved("png", "pdf", "svg")
    page = render(
        "sweep.html.j2",
        sweep=sweep,
        trials=trials,
        best=best_trial(trials),
        notes=sweep_notes(sweep, trials),
        panels=zip(sweep.dimensions, panels, strict=True),
        spread=spread,
        seed_heads=[f"seed {seed}" for seed in sweep.seeds],
        toml_value=toml_value,
    )
    contents = {"figure.png": png, "figure.pdf": pdf, "figure.svg": svg, "report.html": page.html.encode()}
    return [*files, *write_files(sweep.out, contents)]


def _panel(sweep: Sweep, dimension: Dimension, trials: Sequence[Trial]) -> Drawing:
    """Draw the value of each trial over one dimension; a single dimension has a line, with one trial per value."""
    is_alone = len(sweep.dimensions) == 1
    points: list[tuple[float, Trial]] = []
    for trial in trials:
        value = trial.values[dimension.key]
        x = float(dimension.values.index(value) if isinstance(dimension, Choices) else value)
        if trial.value is not None and not (is_alone and x in dict(points)):
            points.append((x, trial))
    points.sort(key=lambda point: point[0])
    places = [x for x, _ in points]
    if isinstance(dimension, Choices):
        last = len(dimension.values) - 1
        ticks = {float(k): str(value) for k, value in enumerate(dimension.values)}
        axis = Axis(dimension.key, -0.06 * last or -0.5, 1.06 * last or 0.5, ticks)
    elif dimension.is_log:
        axis = Axis(dimension.key, 0.9 * places[0], 1.1 * places[-1], is_log=True)
    else:
        axis = Axis(dimension.key, is_whole=dimension.is_whole)
    means = [100 * (trial.value or 0.0) for _, trial in points]
    seeds = [(x, 100 * v) for x, trial in points if len(trial.accuracies) > 1 for v in trial.accuracies.values()]
    line = Line("", places, means, "event", "-" if is_alone else "", dots=seeds)
    told = ", ".join(
        f"{mean:.2f} at {trial.values[dimension.key]}" for mean, (_, trial) in zip(means, points, strict=True)
    )
    about = About(f"sweep-{dimension.key.replace('.', '-')}", f"{_TITLE} over {dimension.key}: {told}.")
    return Drawing(about, line_chart([line], axis, Axis(_TITLE)))
