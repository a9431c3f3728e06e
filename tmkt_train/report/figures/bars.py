"""Column charts, bar charts and dot charts."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tmkt_train.report.figures.axes import (
    BOTTOM,
    MIDDLE,
    TOP,
    Axis,
    drawable,
    place_axes,
    set_axes,
    text_width,
    write,
    write_keys,
)
from tmkt_train.report.figures.drawing import WIDTH, About, Drawing
from tmkt_train.report.palette import LIGHT
from tmkt_train.report.statistics import spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

_BAR, _GAP, _GROUP, _LINE, _TOP = 8.0, 5.0, 20.0, 11.0, 5.0
_LETTERS = 58
"""Characters per line."""
Interval = tuple[float, float]


def column_chart(
    about: About,
    values: Sequence[float],
    x_axis: Axis,
    y_axis: Axis,
    color: str = "event",
    expected: Sequence[tuple[float, float]] = (),
) -> Drawing:
    """Draw one column per value, at 0, 1, 2, ...; `expected` is a mean and a standard deviation for each column."""

    def draw(figure: FigureBase) -> None:
        axes, _, _ = place_axes(figure, 6)
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
    keys: Mapping[str, str] | None = None,
) -> Drawing:
    """Draw horizontal bars: for each color of `bars`, a value and its label per row.

    A row has one `interval` at most, for which a line is drawn; `keys` say what the colors mean.
    """
    shown = [drawable(name, 28) for name in names]
    row, top = len(bars) * _BAR + _GAP, TOP if keys else _TOP
    height = top + row * len(names) + BOTTOM

    def draw(figure: FigureBase) -> None:
        behind = text_width(text for series in bars.values() for _, text in series)
        axes, _, inner = place_axes(figure, 8 + behind, 9 + text_width(shown), height, top)
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
                    write(axes, text, (end, place), (4, MIDDLE))
        _set_rows(axes, axis, inner)
        axes.set_yticks(rows + row / 2, shown)
        write_keys(axes, keys or {}, (0, 1), (0, 6))

    return Drawing(about, draw, (WIDTH, height))


def _set_rows(axes: Axes, axis: Axis, height: float) -> None:
    """Set the x axis; y counts points from the top."""
    axis.put_on(axes, "x")
    axes.set_xlabel(axis.title)
    axes.set_ylim(height, 0)
    axes.grid(axis="x")
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", length=0)


def _axis_of(values: Sequence[float], title: str) -> Axis:
    """Return the axis of some values, one unit to each side where they are all the same."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    return Axis(title, low - 1, high + 1) if high - low < 1e-6 else Axis(title)


def dot_chart(about: About, groups: Sequence[tuple[str, Sequence[float], str]], title: str) -> Drawing:
    """Draw one dot per value, and mean ± standard deviation, of each group (name, values, color)."""
    spreads = [spread(values) for _, values, _ in groups]
    texts = [found.text or "" for found in spreads]
    names = [textwrap.wrap(drawable(name, 200), _LETTERS) or [""] for name, _, _ in groups]
    ends = np.cumsum([_GROUP + _LINE * len(lines) for lines in names]).tolist()
    height = _TOP + (ends[-1] if ends else _GROUP) + BOTTOM

    def draw(figure: FigureBase) -> None:
        room = 14 + text_width(texts)
        axes, width, inner = place_axes(figure, room, 6, height, _TOP)
        to_width = axes.get_yaxis_transform()
        for lines, (_, values, color), found, text, end in zip(names, groups, spreads, texts, ends, strict=True):
            at = end - 0.45 * _GROUP
            for k, line in enumerate(reversed(lines)):
                axes.text(0, end - _GROUP - _LINE * k, line, transform=to_width)
            mean, sd = found.mean or 0.0, found.sd or 0.0
            axes.errorbar(mean, at, 6, sd, ecolor=LIGHT[color], fmt="none", capsize=0, elinewidth=1.2)
            axes.plot(values, [at] * len(values), "o", color=LIGHT[color], alpha=0.5, markersize=5.5, clip_on=False)
            axes.text(1 + (room - 2) / width, at - MIDDLE, text, ha="right", transform=to_width)
        _set_rows(axes, _axis_of([value for _, values, _ in groups for value in values], title), inner)
        axes.set_yticks([])

    return Drawing(about, draw, (WIDTH, height))
