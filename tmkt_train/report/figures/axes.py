"""Axes of figures: their place, scale, ticks and labels."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tmkt_train.report.figures.drawing import HEIGHT, WIDTH
from tmkt_train.report.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

TEXT = 8.5
"""Size of all text, points; `font.size` of the style."""
MIDDLE = -0.36 * TEXT
"""Shift of the baseline that centers a line of text vertically, points."""
LEFT, TOP, BOTTOM = 34.0, 20.0, 30.0
"""Default margins, points. Charts with two axes share them, so that neighbors align."""

_FLAT, _ROOM = 1e-4, 0.05
"""Relative span below which a curve counts as flat, and the room above and below it."""

Point = tuple[float, float]
_WIDE_LETTERS = re.compile("[^ -~\xa0-\xff\u2212\u2026]")
"""Characters that the font may lack."""
_NOT_DRAWN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Axis:
    """Title, ends and ticks of an axis.

    Attributes:
        title: Its title, with the unit.
        low: Fixed lower end; None takes it from the values.
        high: Fixed upper end.
        ticks: Positions and labels of the ticks; None places them at round values.
        is_log: Whether the scale is logarithmic; needs both ends, positive.
        is_whole: Whether ticks are placed at integers only.
    """

    title: str
    low: float | None = None
    high: float | None = None
    ticks: Mapping[int, str] | Mapping[float, str] | None = None
    is_log: bool = False
    is_whole: bool = False

    def put_on(self, axes: Axes, which: str) -> None:
        """Set scale, limits and ticks of the axis "x" or "y"; call it after plotting."""
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
            if self.low is None and self.high is None and high - low < _FLAT * abs(high):
                # Ticks of a curve that does not move would have a dozen digits.
                low, high = low - _ROOM * abs(high), high + _ROOM * abs(high)
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
    figure: FigureBase,
    right: float = 8,
    left: float = LEFT,
    height: float = HEIGHT,
    top: float = TOP,
    bottom: float = BOTTOM,
) -> tuple[Axes, float, float]:
    """Add axes with margins in points to a figure of the given height; return them, their width and their height."""
    inner_width, inner_height = WIDTH - left - right, height - top - bottom
    axes = figure.add_axes((left / WIDTH, bottom / height, inner_width / WIDTH, inner_height / height))
    return axes, inner_width, inner_height


def set_axes(axes: Axes, x_axis: Axis, y_axis: Axis) -> None:
    """Set both axes after plotting; the title of the y axis is placed above it."""
    x_axis.put_on(axes, "x")
    y_axis.put_on(axes, "y")
    axes.set_xlabel(x_axis.title)
    write(axes, y_axis.title, (0, 1), (2 - LEFT, 9), "axes fraction")
    axes.grid(axis="y")


def write(axes: Axes, text: str, at: Point, shift: Point, coordinates: Any = "data", **look: Any) -> None:
    """Write text at a position of the axes, shifted by points."""
    axes.annotate(text, at, shift, xycoords=coordinates, textcoords="offset points", **look)


def write_keys(axes: Axes, keys: Mapping[str, str], at: Point, shift: Point) -> None:
    """Write the meaning of each color in that color, in a row that starts at a position of the axes."""
    x, y = shift
    for color, text in keys.items():
        write(axes, text, at, (x, y), "axes fraction", color=LIGHT[color], weight="bold")
        x += text_width([text], 700) + TEXT


def finite(values: Iterable[float]) -> list[float]:
    """Drop NaN and infinite values."""
    return [v for v in values if math.isfinite(v)]


def drawable(text: str, most: int = 80) -> str:
    """Shorten a name in the middle to `most` characters, and replace control characters and surrogates."""
    text, head = _NOT_DRAWN.sub("\ufffd", text), most // 2
    return text if len(text) <= most else f"{text[:head]}…{text[head + 1 - most :]}"


def text_width(texts: Iterable[str], weight: int = 400) -> float:
    """Return the width of the longest text in points, with room for the larger text of narrow pages; 0 without text."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family="DejaVu Sans", size=TEXT, weight=weight)
    known = (_WIDE_LETTERS.sub("W", text) for text in texts if text)
    widths = (text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] for text in known)
    return 1.12 * max(widths, default=0.0)


def spread_apart(places: Sequence[float], gap: float, high: float) -> list[float]:
    """Move labels from their places in [0, high] apart by at least `gap`: the least-squares solution in their order.

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
