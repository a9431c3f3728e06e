"""Charts as inline SVG: data in, one string out; colors and type come from `report.css`.

A color is a class of the stylesheet: `event`, `image`, `mixed`, `extra`, `ink`, `soft`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tmkt_train.report.axis import Axis, finite, linear_axis, log_axis, spread_apart
from tmkt_train.report.html import Html, element, joined

WIDTH = 460.0
_HEIGHT = 270.0
_CHAR_PX = 6.5
_TOP, _BOTTOM, _LEFT = 26.0, 40.0, 46.0


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        label: Its name, written at its end.
        values: One value per x; NaN leaves a gap.
        color: Class of its color.
        dash: Class of its stroke besides solid: `dashed` or `dotted`.
        spread: Half height of a band around it, one value per x; None draws none.
    """

    label: str
    values: Sequence[float]
    color: str
    dash: str | None = None
    spread: Sequence[float] | None = None


def drawing(height: float, summary: str, *children: Html | None) -> Html:
    """Frame a drawing `WIDTH` units wide; `summary` is what a screen reader says."""
    return element(
        "svg",
        *children,
        viewBox=f"0 0 {WIDTH:.0f} {height:.0f}",
        role="img",
        aria_label=summary,
        class_="chart",
    )


def label(x: float, y: float, text: str, *, anchor: str = "start", class_: str | None = None) -> Html:
    """Write text into a drawing; `y` is its base line."""
    return element("text", text, x=x, y=y, text_anchor=None if anchor == "start" else anchor, class_=class_)


def line_chart(
    x: Sequence[float],
    series: Sequence[Series],
    *,
    x_title: str,
    y_title: str,
    summary: str,
    bounds: tuple[float | None, float | None] = (None, None),
    is_log: bool = False,
    mark: tuple[float, str] | None = None,
) -> Html:
    """Draw lines over a common x, each named at its end.

    Args:
        x: Places along x, increasing.
        series: The lines; those without a finite value are left out.
        x_title: Title of the x axis, with its unit.
        y_title: Title of the y axis, with its unit.
        summary: The chart in one sentence, for who cannot see it.
        bounds: Fixed ends of the y axis.
        is_log: Logarithmic y axis; needs positive values.
        mark: A place along x to mark, and its name.

    Returns:
        The drawing.
    """
    lines = [s for s in series if finite(s.values)]
    right = 12 + 7.4 * max((len(s.label) for s in lines), default=0)
    span_y = (_HEIGHT - _BOTTOM, _TOP)
    covered = [v for s in lines for v in _covered(s)]
    y_axis = log_axis(covered, span_y) if is_log else linear_axis(covered, span_y, bounds=bounds)
    x_axis = linear_axis(x, (_LEFT, WIDTH - right), num_ticks=6, whole=True, snug=True)
    last = [_last_point(x, s.values) for s in lines]
    places = spread_apart([y_axis(v) for _, v in last], 14, _TOP, _HEIGHT - _BOTTOM)
    names = (
        element("g", label(WIDTH - right + 9, y + 4, s.label, class_="name"), class_=s.color)
        for s, y in zip(lines, places, strict=True)
    )
    return drawing(
        _HEIGHT,
        summary,
        frame(x_axis, y_axis, x_title, y_title),
        _mark(x_axis, mark) if mark else None,
        *(_line(x, s, x_axis, y_axis) for s in lines),
        *names,
    )


def _covered(series: Series) -> list[float]:
    spread = series.spread or [0.0] * len(series.values)
    known = [(v, s if math.isfinite(s) else 0.0) for v, s in zip(series.values, spread, strict=True)]
    return finite([end for v, s in known for end in (v - s, v + s)])


def _last_point(x: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    return next((a, v) for a, v in zip(reversed(x), reversed(values), strict=True) if math.isfinite(v))


def frame(x_axis: Axis, y_axis: Axis, x_title: str, y_title: str) -> Html:
    """Draw the rules, ticks and titles of two axes."""
    x0, x1, y0, y1 = x_axis.start_px, x_axis.end_px, y_axis.start_px, y_axis.end_px
    rules = joined(element("line", x1=x0, x2=x1, y1=y_axis(v), y2=y_axis(v)) for v, _ in y_axis.ticks)
    marks = joined(element("line", x1=x_axis(v), x2=x_axis(v), y1=y0, y2=y0 + 4) for v, _ in x_axis.ticks)
    return joined(
        [
            element("g", rules, class_="grid"),
            element("g", element("line", x1=x0, x2=x1, y1=y0, y2=y0), marks, class_="axis"),
            *(label(x0 - 7, y_axis(v) + 4, text, anchor="end") for v, text in y_axis.ticks),
            *(label(x_axis(v), y0 + 17, text, anchor="middle") for v, text in x_axis.ticks),
            label(2, y1 - 13, y_title, class_="title"),
            label((x0 + x1) / 2, y0 + 34, x_title, anchor="middle", class_="title"),
        ]
    )


def _mark(x_axis: Axis, mark: tuple[float, str]) -> Html:
    place, name = mark
    at = x_axis(place)
    is_late = at > (x_axis.start_px + x_axis.end_px) / 2
    return joined(
        [
            element("line", x1=at, x2=at, y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="mark"),
            label(
                at - 4 if is_late else at + 4,
                _HEIGHT - _BOTTOM - 6,
                name,
                anchor="end" if is_late else "start",
            ),
        ]
    )


def _line(x: Sequence[float], series: Series, x_axis: Axis, y_axis: Axis) -> Html:
    points = [(x_axis(a), y_axis(v)) if math.isfinite(v) else None for a, v in zip(x, series.values, strict=True)]
    alone = [
        p
        for before, p, after in zip([None, *points[:-1]], points, [*points[1:], None], strict=True)
        if p and (len(points) <= 12 or (before is None and after is None))
    ]
    return element(
        "g",
        _band(x, series, x_axis, y_axis) if series.spread else None,
        element("path", d=_path(points), class_=f"line {series.dash}" if series.dash else "line"),
        *(element("circle", cx=px, cy=py, r=2.5) for px, py in alone),
        class_=series.color,
    )


def _path(points: Sequence[tuple[float, float] | None]) -> str:
    pieces, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        pieces.append(f"{pen}{point[0]:.1f} {point[1]:.1f}")
        pen = "L"
    return "".join(pieces)


def _band(x: Sequence[float], series: Series, x_axis: Axis, y_axis: Axis) -> Html | None:
    known = [
        (x_axis(a), y_axis(v - s), y_axis(v + s))
        for a, v, s in zip(x, series.values, series.spread or (), strict=True)
        if math.isfinite(v) and math.isfinite(s)
    ]
    if not known:
        return None
    if len(known) == 1:
        at, low, high = known[0]
        return element("line", x1=at, x2=at, y1=low, y2=high, class_="whisker")
    edge = [(at, high) for at, _, high in known] + [(at, low) for at, low, _ in reversed(known)]
    return element("path", d=_path(edge) + "Z", class_="band")


def column_chart(
    values: Sequence[float],
    names: Sequence[str],
    *,
    x_title: str,
    y_title: str,
    summary: str,
    color: str = "event",
    expected: Sequence[tuple[float, float]] | None = None,
    bounds: tuple[float | None, float | None] = (0.0, None),
    gap: float = 0.22,
) -> Html:
    """Draw one column per value; where a law says what to expect, its value and two standard deviations.

    Args:
        values: Heights, 0 or more.
        names: What stands below each column; may be empty.
        x_title: Title of the x axis.
        y_title: Title of the y axis, with its unit.
        summary: The chart in one sentence.
        color: Class of the columns' color.
        expected: Expected value and standard deviation per column.
        bounds: Fixed ends of the y axis.
        gap: Space between columns as a share of their distance.

    Returns:
        The drawing.
    """
    tops = [e + 2 * sd for e, sd in expected or ()]
    y_axis = linear_axis([*values, *tops], (_HEIGHT - _BOTTOM, _TOP), bounds=bounds)
    x_axis = Axis(-0.5, len(values) - 0.5, _LEFT, WIDTH - 8, ())
    width = (x_axis(1) - x_axis(0)) * (1 - gap)
    ground = y_axis(max(y_axis.low, 0.0))
    bars = joined(
        element("rect", x=x_axis(i) - width / 2, y=y_axis(v), width=width, height=ground - y_axis(v))
        for i, v in enumerate(values)
        if math.isfinite(v)
    )
    named = (label(x_axis(i), ground + 17, n, anchor="middle") for i, n in enumerate(names) if n)
    return drawing(
        _HEIGHT,
        summary,
        frame(x_axis, y_axis, x_title, y_title),
        element("g", bars, class_=f"{color} bar"),
        element("g", *_expectations(expected or (), x_axis, y_axis, width / 2), class_="expected"),
        *named,
    )


def _expectations(expected: Sequence[tuple[float, float]], x_axis: Axis, y_axis: Axis, half: float) -> list[Html]:
    marks = []
    for i, (value, sd) in enumerate(expected):
        at, high, low = x_axis(i), y_axis(value + 2 * sd), y_axis(max(0.0, value - 2 * sd))
        marks.append(element("line", x1=at, x2=at, y1=low, y2=high))
        marks.append(element("line", x1=at - half, x2=at + half, y1=y_axis(value), y2=y_axis(value), class_="level"))
    return marks
