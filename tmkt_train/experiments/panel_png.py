"""Panels as a PNG file, for papers and slides."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tmkt_train.experiments.panels import Line, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = ("#0067a8", "#c14f00", "#007a58", "#a1437b", "#1b1d20", "#63686e")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES: tuple[str, ...] = ("-", "--", ":")
_DPI = 160
_WIDTH_IN, _HEIGHT_IN = 6.4, 4.2
_APART = 0.008


def panels_png(panels: Sequence[Panel]) -> bytes:
    """Draw panels side by side, at most three in a row; the same panels give the same picture."""
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    width = _WIDTH_IN if columns == 1 else 4.4 * columns
    figure = _figure(width, _HEIGHT_IN * rows if columns == 1 else 3.6 * rows)
    for number, panel in enumerate(panels, 1):
        axes = figure.add_subplot(rows, columns, number)
        _draw(axes, panel)
    return _png(figure)


def groups_png(groups: Sequence[tuple[str, Sequence[float]]], title: str) -> bytes:
    """Draw a row of dots for each group, one dot per value, with mean and standard deviation.

    Args:
        groups: Names and values.
        title: Title of the axis, with its unit.
    """
    from tmkt_train.experiments.table import spread

    figure = _figure(_WIDTH_IN, 1.2 + 0.45 * len(groups))
    axes = figure.add_subplot()
    for row, (_, values) in enumerate(groups):
        color = _COLORS[row % len(_COLORS)]
        axes.plot(values, [row] * len(values), "o", color=color, alpha=0.45, markersize=5)
        found = spread(values)
        if found.mean is not None:
            axes.errorbar(found.mean, row, xerr=found.sd, fmt="|", color=color, capsize=3, markersize=14)
    axes.set_yticks(range(len(groups)), [name for name, _ in groups])
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlabel(title)
    _clear(axes, "x")
    return _png(figure)


def _figure(width: float, height: float) -> Figure:
    # Not pyplot, which keeps figures and looks for a screen. matplotlib takes a second to load.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def _png(figure: Figure) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()


def _draw(axes: Axes, panel: Panel) -> None:
    middle = (len(panel.lines) - 1) / 2
    if panel.is_log:
        axes.set_xscale("log")
    for index, line in enumerate(panel.lines):
        _draw_line(axes, panel, line, index, (index - middle))
    if panel.ticks is not None:
        axes.set_xticks([place for place, _ in panel.ticks], [name for _, name in panel.ticks])
        axes.set_xticks([], minor=True)
    elif panel.is_whole and not panel.is_log:
        axes.locator_params(axis="x", integer=True)
    axes.margins(x=0.06)
    axes.set_xlabel(panel.x_title)
    axes.set_ylabel(panel.y_title)
    _clear(axes, "y")
    if len(panel.lines) > 1:
        axes.legend(frameon=False, fontsize="small")


def _draw_line(axes: Axes, panel: Panel, line: Line, index: int, steps: float) -> None:
    points = line.points
    color, marker = _COLORS[index % len(_COLORS)], _MARKERS[index % len(_MARKERS)]
    dash = _DASHES[index // len(_COLORS) % len(_DASHES)] if panel.is_joined else "none"
    x = [_beside(panel, point.x, steps) for point in points]
    means, sds = [point.mean for point in points], [point.sd or 0.0 for point in points]
    if panel.shows_values:
        for place, point in zip(x, points, strict=True):
            axes.plot([place] * len(point.values), point.values, "o", color=color, markersize=3.5, alpha=0.45)
    look: dict[str, Any] = {"color": color, "markersize": 5, "linewidth": 1.4, "capsize": 3, "label": line.label}
    axes.errorbar(x, means, yerr=None if panel.shows_values else sds, fmt=marker, linestyle=dash, **look)


def _beside(panel: Panel, x: float, steps: float) -> float:
    """Move a place by some hundredths of the axis, so that bars at the same place can be told apart."""
    low, high = panel.places[0], panel.places[-1]
    part = _APART * steps
    return x * (high / low) ** part if panel.is_log else x + (high - low) * part


def _clear(axes: Axes, grid: str) -> None:
    """Take away what is no data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y" if grid == "y" else "x", color="#d9dce0", linewidth=0.6)
    axes.set_axisbelow(True)
