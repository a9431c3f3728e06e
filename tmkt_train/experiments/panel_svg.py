"""Panels as inline SVG, in the style of the reports of runs."""

from __future__ import annotations

from collections.abc import Sequence

from tmkt_train.experiments.panels import Line, Panel, Point
from tmkt_train.report.axis import Axis, linear_axis, log_axis, spread_apart
from tmkt_train.report.charts import WIDTH, drawing, frame, label
from tmkt_train.report.html import Html, element

COLORS = ("event", "image", "extra", "mixed", "ink", "soft")
_DASHES = (None, "dashed", "dotted")
_HEIGHT, _TOP, _BOTTOM, _LEFT = 290.0, 26.0, 40.0, 46.0
_CHAR_PX = 7.4
_APART_PX = 3.0


def panel_svg(panel: Panel, summary: str) -> Html:
    """Draw one panel.

    Args:
        panel: The panel.
        summary: The panel in one sentence, for who cannot see it.
    """
    named = len(panel.lines) > 1
    right = WIDTH - (16 + _CHAR_PX * max(len(line.label) for line in panel.lines) if named else 14)
    x_axis = _x_axis(panel, right)
    y_axis = linear_axis(panel.covered, (_HEIGHT - _BOTTOM, _TOP))
    middle = (len(panel.lines) - 1) / 2
    return drawing(
        _HEIGHT,
        summary,
        frame(x_axis, y_axis, panel.x_title, panel.y_title),
        *(_line(panel, k, x_axis, y_axis, (k - middle) * _APART_PX) for k in range(len(panel.lines))),
        *(_names(panel.lines, y_axis, right + 12) if named else ()),
    )


def _x_axis(panel: Panel, right: float) -> Axis:
    places = panel.places
    span = (_LEFT, right)
    if panel.ticks is None:
        return log_axis(places, span) if panel.is_log else linear_axis(places, span, num_ticks=6, whole=panel.is_whole)
    marked = [place for place, _ in panel.ticks]
    low, high = min(*places, *marked), max(*places, *marked)
    margin = 1.12 if panel.is_log else (high - low) * 0.06 or 0.5
    ends = (low / margin, high * margin) if panel.is_log else (low - margin, high + margin)
    return Axis(*ends, *span, panel.ticks, is_log=panel.is_log)


def _line(panel: Panel, index: int, x_axis: Axis, y_axis: Axis, shift: float) -> Html:
    line = panel.lines[index]
    dash = _DASHES[index // len(COLORS) % len(_DASHES)]
    at = [(x_axis(point.x) + shift, y_axis(point.mean)) for point in line.points]
    path = "".join(f"{'L' if k else 'M'}{x:.1f} {y:.1f}" for k, (x, y) in enumerate(at))
    return element(
        "g",
        element("path", d=path, class_=f"line {dash}" if dash else "line") if panel.is_joined else None,
        *(_marks(panel, point, x, y_axis) for point, (x, _) in zip(line.points, at, strict=True)),
        class_=COLORS[index % len(COLORS)],
    )


def _marks(panel: Panel, point: Point, x: float, y_axis: Axis) -> Html:
    pieces: list[Html] = [element("circle", cx=x, cy=y_axis(point.mean), r=3.2)]
    if panel.shows_values:
        dots = (element("circle", cx=x, cy=y_axis(value), r=2.2) for value in point.values)
        pieces += [element("g", *dots, class_="points")] if len(point.values) > 1 else []
    elif point.sd is not None:
        low, high = y_axis(point.mean - point.sd), y_axis(point.mean + point.sd)
        pieces.append(element("line", x1=x, x2=x, y1=low, y2=high, class_="whisker"))
        pieces += [element("line", x1=x - 3, x2=x + 3, y1=end, y2=end, class_="whisker") for end in (low, high)]
    return element("g", *pieces)


def _names(lines: Sequence[Line], y_axis: Axis, x: float) -> list[Html]:
    places = spread_apart([y_axis(line.points[-1].mean) for line in lines], 14, _TOP, _HEIGHT - _BOTTOM)
    return [
        element("g", label(x, y + 4, line.label, class_="name"), class_=COLORS[k % len(COLORS)])
        for k, (line, y) in enumerate(zip(lines, places, strict=True))
    ]
