"""Charts whose rows have long names: bars per layer or class, points per run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tmkt_train.report.axis import Axis, linear_axis
from tmkt_train.report.charts import WIDTH, drawing, label
from tmkt_train.report.html import Html, element, joined
from tmkt_train.report.statistics import mean_sd

_CHAR_PX = 6.5
_TOP, _BOTTOM = 8.0, 40.0
_BAR_PX = 11.0


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        value: Its length; NaN draws none.
        color: Class of its color.
        text: What stands behind it.
        interval: Ends of a whisker.
    """

    value: float
    color: str
    text: str
    interval: tuple[float, float] | None = None


def bar_chart(
    rows: Sequence[tuple[str, Sequence[Bar]]],
    *,
    x_title: str,
    summary: str,
    bounds: tuple[float | None, float | None] = (0.0, None),
) -> Html:
    """Draw rows of bars, the name of a row before it.

    Args:
        rows: Name and bars of each row.
        x_title: Title of the axis, with its unit.
        summary: The chart in one sentence.
        bounds: Fixed ends of the axis.

    Returns:
        The drawing.
    """
    left = min(170.0, 10 + _CHAR_PX * max((len(name) for name, _ in rows), default=0))
    room = 12 + _CHAR_PX * max((len(b.text) for _, bars in rows for b in bars), default=0)
    pieces: list[Html] = []
    values = [v for _, bars in rows for b in bars for v in (b.value, *(b.interval or ()))]
    axis = linear_axis(values, (left, WIDTH - room), bounds=bounds)
    y = _TOP
    for name, bars in rows:
        height = len(bars) * _BAR_PX
        pieces.append(label(left - 7, y + height / 2 + 4, _shortened(name, left), anchor="end"))
        pieces.extend(_bar(bar, axis, y + k * _BAR_PX) for k, bar in enumerate(bars) if math.isfinite(bar.value))
        y += height + 7
    return drawing(y + _BOTTOM, summary, _ground(axis, _TOP - 4, y, x_title), *pieces)


def _shortened(name: str, room_px: float) -> str:
    most = int((room_px - 10) / _CHAR_PX)
    return name if len(name) <= most else name[: most - 1] + "…"


def _bar(bar: Bar, axis: Axis, y: float) -> Html:
    start, end, middle = axis(max(axis.low, 0.0)), axis(bar.value), y + _BAR_PX / 2
    whisker, text_at = None, end
    if bar.interval:
        low, high = (axis(v) for v in bar.interval)
        whisker = element("line", x1=low, x2=high, y1=middle, y2=middle, class_="whisker")
        text_at = max(end, high)
    return element(
        "g",
        element("rect", x=start, y=y + 1, width=max(0.0, end - start), height=_BAR_PX - 2, class_="bar"),
        whisker,
        label(text_at + 5, middle + 4, bar.text, class_="value"),
        class_=bar.color,
    )


def _ground(axis: Axis, top: float, bottom: float, title: str) -> Html:
    return joined(
        [
            element(
                "g",
                *(element("line", x1=axis(v), x2=axis(v), y1=top, y2=bottom) for v, _ in axis.ticks),
                class_="grid",
            ),
            *(label(axis(v), bottom + 15, text, anchor="middle") for v, text in axis.ticks),
            label((axis.start_px + axis.end_px) / 2, bottom + 33, title, anchor="middle", class_="title"),
        ]
    )


def point_chart(groups: Sequence[tuple[str, Sequence[float], str]], *, x_title: str, summary: str) -> Html:
    """Draw one point per value of each group, with mean and standard deviation.

    Args:
        groups: Name, values and color class of each group.
        x_title: Title of the axis, with its unit.
        summary: The chart in one sentence.

    Returns:
        The drawing.
    """
    pieces: list[Html] = []
    spans = [mean_sd(values) for _, values, _ in groups]
    covered = [m + s * (sd or 0.0) for m, sd in spans for s in (-1, 1)]
    values_px = (8.0, WIDTH - 104)
    axis = linear_axis([*(v for _, values, _ in groups for v in values), *covered], values_px)
    for k, (name, values, color) in enumerate(groups):
        y = _TOP + 16 + 46 * k
        mean, sd = spans[k]
        mean_text = f"{mean:.2f}" + ("" if sd is None else f" ± {sd:.2f}")
        half = sd or 0.0
        points = joined(element("circle", cx=axis(v), cy=y + 12, r=4) for v in values)
        pieces += [
            label(0, y - 2, name, class_="row"),
            element(
                "g",
                element("line", x1=axis(mean - half), x2=axis(mean + half), y1=y + 12, y2=y + 12, class_="whisker"),
                element("line", x1=axis(mean), x2=axis(mean), y1=y + 4, y2=y + 20, class_="whisker"),
                element("g", points, class_="points"),
                label(WIDTH, y + 16, mean_text, anchor="end", class_="value"),
                class_=color,
            ),
        ]
    bottom = _TOP + 46 * len(groups) + 2
    return drawing(bottom + _BOTTOM, summary, _ground(axis, _TOP, bottom, x_title), *pieces)
