"""Where axes stand in a figure, what they say, and labels that do not overlap."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tmkt_train.report.figures.drawing import HEIGHT, WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

TEXT = 8.5
"""Size of all text, points; `font.size` of the style."""
BELOW_MIDDLE = -0.36 * TEXT
"""From the middle of a line of text to its base line."""
LEFT, TOP, BOTTOM = 34.0, 20.0, 30.0
"""Margins of a chart with two axes, points: the same in all, so that the axes of neighbors align."""

_WIDE_LETTERS = re.compile("[^ -~\xa0-\xff\u2212\u2026]")
"""Letters that the font may lack."""
_NOT_DRAWN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Axis:
    """What an axis says.

    Attributes:
        title: Its title, with the unit.
        low: Fixed lower end; None takes it from the values.
        high: Fixed upper end.
        ticks: Marked places with their names; None marks round values.
        is_log: Whether equal distances are equal ratios; needs both ends, positive.
        is_whole: Whether only whole numbers are marked.
    """

    title: str
    low: float | None = None
    high: float | None = None
    ticks: Mapping[int, str] | Mapping[float, str] | None = None
    is_log: bool = False
    is_whole: bool = False

    def put_on(self, axes: Axes, which: str) -> None:
        """Set scale, ticks and ends of the axis "x" or "y" of axes that everything is drawn on."""
        from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

        axis, known = (axes.xaxis, axes.dataLim.intervalx) if which == "x" else (axes.yaxis, axes.dataLim.intervaly)
        known = known if np.isfinite(known).all() else (0.0, 1.0)
        low, high = (value if end is None else end for value, end in zip(known, (self.low, self.high), strict=True))
        if self.is_log:
            axes.set(**{f"{which}scale": "log"})
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter("{x:g}")
            places = LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,)).tick_values(low, high)
        else:
            locator = MaxNLocator(5, steps=[1, 2, 5, 10], integer=self.is_whole, min_n_ticks=1)
            places = locator.tick_values(low, max(low, high))
            low, high = places[0] if self.low is None else low, places[-1] if self.high is None else high
        axes.set(**{f"{which}lim": (low, high)})
        slack = 0.0 if self.is_log else 1e-9 * (high - low)
        shown = [float(place) for place in places if low - slack <= place <= high + slack]
        texts = axis.get_major_formatter().format_ticks(shown)
        rounded = {place: text if place else "0" for place, text in zip(shown, texts, strict=True)}
        ticks = rounded if self.ticks is None else self.ticks
        axis.set_ticks(list(ticks), list(ticks.values()))


def place_axes(
    figure: FigureBase, left: float, right: float, height: float = HEIGHT, top: float = TOP, bottom: float = BOTTOM
) -> tuple[Axes, float, float]:
    """Add axes with margins in points to a figure of a height in points; give them, their width and their height."""
    inner_width, inner_height = WIDTH - left - right, height - top - bottom
    axes = figure.add_axes((left / WIDTH, bottom / height, inner_width / WIDTH, inner_height / height))
    return axes, inner_width, inner_height


def set_axes(axes: Axes, x_axis: Axis, y_axis: Axis) -> None:
    """Set both axes of a chart that everything is drawn on; the title of y stands above it."""
    x_axis.put_on(axes, "x")
    y_axis.put_on(axes, "y")
    axes.set_xlabel(x_axis.title)
    axes.annotate(y_axis.title, (0, 1), (2 - LEFT, 9), xycoords="axes fraction", textcoords="offset points")
    axes.grid(axis="y")


def finite(values: Iterable[float]) -> list[float]:
    """Keep the values that are numbers."""
    return [v for v in values if math.isfinite(v)]


def drawable(text: str, most: int = 80) -> str:
    """Make a name fit to be drawn: at most so many letters, and a replacement for what is no letter."""
    text = _NOT_DRAWN.sub("\ufffd", text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def text_width(texts: Iterable[str], weight: int = 400) -> float:
    """Give the width of the longest text in points, 0 of none, with room for the larger text of narrow pages."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family="DejaVu Sans", size=TEXT, weight=weight)
    known = (_WIDE_LETTERS.sub("W", text) for text in texts if text)
    widths = (text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] for text in known)
    return 1.12 * max(widths, default=0.0)


def spread_apart(places: Sequence[float], gap: float, high: float) -> list[float]:
    """Move labels apart so that none overlaps, in their order and by the least squares of the moves.

    Args:
        places: Wanted places from 0 to `high`, any order.
        gap: Least distance.
        high: Largest place allowed, where there is room for all.

    Example:
        >>> spread_apart([12.0, 10.0, 50.0], 10.0, 60.0)
        [16.0, 6.0, 50.0]
    """
    from scipy.optimize import isotonic_regression

    order = np.argsort(places, kind="stable")
    steps = gap * np.arange(len(places))
    moved = isotonic_regression(np.asarray(places, np.float64)[order] - steps).x
    result = np.empty(len(places))
    result[order] = np.clip(moved, 0, max(0, high - gap * (len(places) - 1))) + steps
    return [float(place) for place in result]
