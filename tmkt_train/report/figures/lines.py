"""Line charts, with labels at the ends of the lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tmkt_train.report.figures.axes import (
    MIDDLE,
    TEXT,
    Axis,
    drawable,
    finite,
    place_axes,
    set_axes,
    spread_apart,
    text_width,
    write,
)
from tmkt_train.report.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

_MOST_MARKED = 12
"""Up to this many values, each has a marker."""


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        label: Name, written at the end of the line.
        x: Positions, increasing.
        y: Values, one per position; NaN leaves a gap.
        color: Name of a color of the palette.
        dash: Line style, "-", "--" or ":"; "" draws markers only.
        band: Half the height of a band around the line, one per position; NaN leaves a gap.
        bars: Half the height of an error bar, one per position.
        dots: Further points (x, y), drawn pale.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    color: str
    dash: str = "-"
    band: Sequence[float] | None = None
    bars: Sequence[float] | None = None
    dots: Sequence[tuple[float, float]] = ()


def line_chart(
    lines: Sequence[Line], x_axis: Axis, y_axis: Axis, mark: tuple[float, str] | None = None
) -> Callable[[FigureBase], None]:
    """Return a function that draws lines on a figure, those with a finite value, and a labeled `mark` along x."""
    shown = [line for line in lines if finite(line.y)]
    labels = [drawable(line.label, 32) for line in shown]

    def draw(figure: FigureBase) -> None:
        axes, width, height = place_axes(figure, 8 + text_width(labels, 700))
        for line in shown:
            _draw_line(axes, line)
        set_axes(axes, x_axis, y_axis)
        if mark:
            _draw_mark(axes, *mark)
        named = [(line, label) for line, label in zip(shown, labels, strict=True) if label]
        ends = [next(v for v in reversed(line.y) if math.isfinite(v)) for line, _ in named]
        shares = [axes.transAxes.inverted().transform(axes.transData.transform((1, end)))[1] for end in ends]
        places = spread_apart([height * share for share in shares], 1.2 * TEXT, height)
        for (line, label), place in zip(named, places, strict=True):
            at = (1 + 7 / width, (place + MIDDLE) / height)
            axes.text(*at, label, transform=axes.transAxes, color=LIGHT[line.color], weight="bold")

    return draw


def _draw_line(axes: Axes, line: Line) -> None:
    x, y, color = np.asarray(line.x, float), np.asarray(line.y, float), LIGHT[line.color]
    known = np.isfinite(y)
    if line.band is not None:
        half = np.asarray(line.band, float)
        has_band = known & np.isfinite(half)
        axes.fill_between(x, y - half, y + half, has_band, color=color, alpha=0.16, linewidth=0)
        if has_band.sum() == 1:
            axes.errorbar(x[has_band], y[has_band], half[has_band], ecolor=color, fmt="none", capsize=0)
    if line.dots:
        axes.plot(*zip(*line.dots, strict=True), "o", color=color, alpha=0.4, markersize=3.8, clip_on=False)
    if line.bars is not None and finite(line.bars):
        look: dict[str, Any] = {"ecolor": color, "elinewidth": 1.1, "capthick": 1.1, "clip_on": False}
        axes.errorbar(x, y, np.nan_to_num(line.bars), fmt="none", **look)
    axes.plot(x, y, color=color, linestyle=line.dash or "none", clip_on=False)
    padded = np.pad(known, 1)
    is_alone = known & ~padded[:-2] & ~padded[2:]
    marked = known if len(y) <= _MOST_MARKED or not line.dash else is_alone
    size = 3.4 if line.dash and line.bars is None else 4.8
    axes.plot(x[marked], y[marked], "o", color=color, markersize=size, clip_on=False)


def _draw_mark(axes: Axes, place: float, name: str) -> None:
    is_late = place > sum(axes.get_xlim()) / 2
    axes.axvline(place, color=LIGHT["soft"], linestyle=(0, (1.4, 2.2)), linewidth=0.7)
    align, shift = ("right", -3) if is_late else ("left", 3)
    write(axes, name, (place, 0), (shift, 4), ("data", "axes fraction"), ha=align, color=LIGHT["soft"])
