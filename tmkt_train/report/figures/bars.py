"""Charts of bars: columns over a few places, rows with long names, and dots per group."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tmkt_train.report.figures.axes import (
    BELOW_MIDDLE,
    BOTTOM,
    LEFT,
    Axis,
    drawable,
    place_axes,
    set_axes,
    text_width,
)
from tmkt_train.report.figures.drawing import WIDTH, About, Drawing
from tmkt_train.report.palette import LIGHT
from tmkt_train.report.statistics import mean_sd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

_BAR, _GAP, _GROUP, _LINE, _TOP = 8.0, 5.0, 20.0, 11.0, 5.0
_LETTERS = 58
"""Letters that fit in a line."""
Interval = tuple[float, float]


def column_chart(
    about: About,
    values: Sequence[float],
    x_axis: Axis,
    y_axis: Axis,
    color: str = "event",
    expected: Sequence[tuple[float, float]] = (),
) -> Drawing:
    """Draw one column per value, and where a distribution says what to expect, its mean and two standard deviations.

    Args:
        about: Its name and what it shows.
        values: Heights, 0 or more.
        x_axis: The x axis; the columns stand at 0, 1, 2, ...
        y_axis: The y axis.
        color: Color of the columns.
        expected: Expected value and standard deviation of each column.
    """

    def draw(figure: FigureBase) -> None:
        axes, _, _ = place_axes(figure, LEFT, 6)
        places, room = np.arange(len(values)), 0.78 if len(values) <= 40 else 1.0
        axes.bar(places, values, room, color=LIGHT[color], alpha=0.72)
        if expected:
            mean, sd = np.array(expected).T
            axes.vlines(places, np.maximum(mean - 2 * sd, 0), mean + 2 * sd, color=LIGHT["ink"], linewidth=0.7)
            axes.hlines(mean, places - room / 2, places + room / 2, color=LIGHT["ink"], linewidth=1.4)
        set_axes(axes, x_axis, y_axis)
        axes.tick_params(axis="x", length=0)

    return Drawing(about, draw)


def bar_chart(
    about: About,
    names: Sequence[str],
    bars: Mapping[str, Sequence[tuple[float, str]]],
    axis: Axis,
    intervals: Sequence[Interval | None] = (),
) -> Drawing:
    """Draw rows of bars, the name of a row before it.

    Args:
        about: Its name and what it shows.
        names: Name of each row.
        bars: Length of the bar in each row, and what stands behind it, of each color.
        axis: The axis of the values.
        intervals: Confidence interval of each row.
    """
    shown = [drawable(name, 28) for name in names]
    row = len(bars) * _BAR + _GAP
    height = _TOP + row * len(names) + BOTTOM

    def draw(figure: FigureBase) -> None:
        behind = text_width(text for series in bars.values() for _, text in series)
        axes, _, inner = place_axes(figure, 9 + text_width(shown), 8 + behind, height, _TOP)
        rows = row * np.arange(len(names))
        known = intervals or [None] * len(names)
        for k, (color, series) in enumerate(bars.items()):
            places = rows + _GAP / 2 + (k + 0.5) * _BAR
            axes.barh(places, [value for value, _ in series], _BAR - 1.4, color=LIGHT[color], alpha=0.72)
            for place, (value, text), interval in zip(places, series, known, strict=True):
                end = max(value, interval[1]) if interval else value
                if interval:
                    axes.hlines(place, *interval, color=LIGHT["ink"], linewidth=0.9, clip_on=False)
                if math.isfinite(end):
                    axes.annotate(text, (end, place), (4, BELOW_MIDDLE), textcoords="offset points")
        _set_rows(axes, axis, inner)
        axes.set_yticks(rows + row / 2, shown)

    return Drawing(about, draw, (WIDTH, height))


def _set_rows(axes: Axes, axis: Axis, height: float) -> None:
    """Let y be points from the top, with rules along x alone."""
    axis.put_on(axes, "x")
    axes.set_xlabel(axis.title)
    axes.set_ylim(height, 0)
    axes.grid(axis="x")
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", length=0)


def dot_chart(about: About, groups: Sequence[tuple[str, Sequence[float], str]], title: str) -> Drawing:
    """Draw one dot per value of each group, with mean and standard deviation.

    Args:
        about: Its name and what it shows.
        groups: Name, values and color of each group.
        title: Title of the axis, with its unit.
    """
    spreads = [mean_sd(values) for _, values, _ in groups]
    texts = [f"{mean:.2f}" + ("" if sd is None else f" ± {sd:.2f}") for mean, sd in spreads]
    names = [textwrap.wrap(drawable(name, 200), _LETTERS) or [""] for name, _, _ in groups]
    ends = np.cumsum([_GROUP + _LINE * len(lines) for lines in names]).tolist()
    height = _TOP + (ends[-1] if ends else _GROUP) + BOTTOM

    def draw(figure: FigureBase) -> None:
        room = 14 + text_width(texts)
        axes, width, inner = place_axes(figure, 6, room, height, _TOP)
        to_width = axes.get_yaxis_transform()
        for lines, (_, values, color), (mean, sd), text, end in zip(names, groups, spreads, texts, ends, strict=True):
            at = end - 0.45 * _GROUP
            for k, line in enumerate(reversed(lines)):
                axes.text(0, end - _GROUP - _LINE * k, line, transform=to_width)
            axes.errorbar(mean, at, 6, sd or 0.0, ecolor=LIGHT[color], fmt="none", capsize=0, elinewidth=1.2)
            axes.plot(values, [at] * len(values), "o", color=LIGHT[color], alpha=0.5, markersize=5.5, clip_on=False)
            axes.text(1 + (room - 2) / width, at - BELOW_MIDDLE, text, ha="right", transform=to_width)
        _set_rows(axes, Axis(title), inner)
        axes.set_yticks([])

    return Drawing(about, draw, (WIDTH, height))
