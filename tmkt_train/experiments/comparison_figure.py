"""The figure of a comparison: accuracy over the share of event data, or a row of dots where there is one share."""

from __future__ import annotations

from collections.abc import Sequence

from tmkt_train.experiments.panel_png import groups_png, panels_png
from tmkt_train.experiments.panel_svg import COLORS, panel_svg
from tmkt_train.experiments.panels import Line, Panel, Point, short_labels
from tmkt_train.experiments.table import GroupRow, share_text
from tmkt_train.report.html import Html, figure
from tmkt_train.report.rows import point_chart

_LOG_FROM = 5.0


def comparison_svg(groups: Sequence[GroupRow]) -> Html | None:
    """Draw the figure for the page; None where no run is finished."""
    title = _title(groups)
    if _num_shares(groups) > 1:
        panel = _panel(groups)
        told = "; ".join(f"{line.label}: {_told(line)}" for line in panel.lines)
        caption = "Mean over seeds, with one standard deviation up and down."
        return figure(panel_svg(panel, f"{title} over the share of event data. {told}."), caption)
    known = [group for group in groups if group.accuracies]
    if not known:
        return None
    names = _labels(groups)
    rows = [
        (names[group.recipe], _percents(group), COLORS[k % len(COLORS)])
        for k, group in enumerate(groups)
        if group.accuracies
    ]
    told = "; ".join(f"{name}: " + ", ".join(f"{value:.2f}" for value in values) for name, values, _ in rows)
    return figure(
        point_chart(rows, x_title=title, summary=f"{title} of each run. {told}."),
        "One point per seed, with mean and standard deviation.",
    )


def comparison_png(groups: Sequence[GroupRow]) -> bytes:
    """Draw the figure as a PNG file."""
    if _num_shares(groups) > 1:
        return panels_png([_panel(groups)])
    names = _labels(groups)
    return groups_png([(names[group.recipe], _percents(group)) for group in groups], _title(groups))


def _num_shares(groups: Sequence[GroupRow]) -> int:
    return len({group.share for group in groups if group.accuracies})


def _title(groups: Sequence[GroupRow]) -> str:
    return "test accuracy (%)" + (", optimistic" if any(group.optimistic for group in groups) else "")


def _labels(groups: Sequence[GroupRow]) -> dict[str, str]:
    methods = {group.recipe: group.method for group in groups}
    return dict(zip(methods, short_labels(list(methods), list(methods.values())), strict=True))


def _percents(group: GroupRow) -> list[float]:
    return [100 * accuracy for accuracy in group.accuracies.values()]


def _panel(groups: Sequence[GroupRow]) -> Panel:
    shares = sorted({group.share for group in groups})
    lines = []
    for recipe, name in _labels(groups).items():
        known = sorted((g for g in groups if g.recipe == recipe and g.accuracies), key=lambda group: group.share)
        if known:
            lines.append(Line(name, tuple(Point(group.share, tuple(_percents(group))) for group in known)))
    return Panel(
        x_title="share of the training recordings",
        y_title=_title(groups),
        lines=tuple(lines),
        ticks=tuple((share, share_text(share)) for share in shares),
        is_log=shares[-1] / shares[0] >= _LOG_FROM,
    )


def _told(line: Line) -> str:
    return ", ".join(f"{point.mean:.2f} at {share_text(point.x)}" for point in line.points)
