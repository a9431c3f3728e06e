"""Heat maps, confusion matrices, scatter plots and strips of frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tmkt_train.report.figures.axes import (
    BOTTOM,
    MIDDLE,
    TEXT,
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

MOST_NUMBERED = 20
"""Up to this many classes, a confusion matrix shows counts and names."""
_MOST_COLUMNS = 12
"""Up to this many columns, a heat map shows its values."""
_DARK_FROM = 0.65
"""Shade from which text in a cell is light, in light mode; a compromise with dark mode."""
_LEVELS = 12
_ROW = 15.0
_LEAST_FRAME_PX = 72
_GAP_PX = 2


def heat_map(
    about: About, values: NDArray[np.float64], names: Sequence[str], high: float, color: str = "event"
) -> Drawing:
    """Draw values, shape (layers, time steps), as shades; `high` is the value of the darkest shade."""
    num_rows, num_columns = values.shape
    shown = [drawable(name, 24) for name in names]
    height = 5 + num_rows * _ROW + BOTTOM

    def draw(figure: FigureBase) -> None:
        from matplotlib.colors import to_rgb

        axes, _, _ = place_axes(figure, 3, 9 + text_width(shown), height, 5)
        shares = np.clip(values / high, 0, 1)
        shades = np.dstack([np.broadcast_to(to_rgb(LIGHT[color]), (*values.shape, 3)), 0.06 + 0.94 * shares])
        axes.pcolormesh(shades, edgecolors=LIGHT["paper"], linewidth=0.7)
        if num_columns <= _MOST_COLUMNS:
            for (i, j), value in np.ndenumerate(values):
                _write(axes, j, i, f"{value:.2f}".replace("0.", ".", 1), is_dark=bool(shares[i, j] > _DARK_FROM))
        steps = range(1, num_columns + 1) if num_columns <= 20 else range(10, num_columns + 1, 10)
        axes.set_xticks([step - 0.5 for step in steps], [str(step) for step in steps])
        axes.set_yticks([i + 0.5 for i in range(num_rows)], shown)
        axes.set(ylim=(num_rows, 0), xlabel="time step")
        _clear(axes)

    return Drawing(about, draw, (WIDTH, height))


def _write(axes: Axes, column: int, row: int, text: str, *, is_dark: bool) -> None:
    color = LIGHT["paper" if is_dark else "ink"]
    write(axes, text, (column + 0.5, row + 0.5), (0, MIDDLE), ha="center", color=color)


def _clear(axes: Axes) -> None:
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="both", length=0)


def confusion_map(about: About, counts: NDArray[np.int64], names: Sequence[str]) -> Drawing:
    """Draw counts, shape (K, K) with true classes as rows; the shade is the share of the row."""
    num, is_small = len(counts), len(counts) <= MOST_NUMBERED
    step = 1 if is_small else 10 if num <= 120 else 10 ** (len(str(num)) - 1)
    shown = [drawable(names[i], 14) if is_small else str(i) for i in range(0, num, step)]
    longest = text_width(shown)
    left, right = 22 + longest, 4.0
    cell = (WIDTH - left - right) / num
    is_upright = is_small and longest > cell - 3
    top = 23 + (longest if is_upright else TEXT)
    height = top + cell * num + 16

    def draw(figure: FigureBase) -> None:
        axes, side, _ = place_axes(figure, right, left, height, top, 16)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        _draw_cells(axes, shares, cell)
        if is_small:
            for row, column in np.argwhere(counts):
                _write(axes, column, row, str(counts[row, column]), is_dark=bool(shares[row, column] > _DARK_FROM))
        axes.set(xlim=(0, num), ylim=(num, 0), facecolor=LIGHT["ground"])
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.set_xticks(np.arange(0, num, step) + 0.5, shown, rotation=90 if is_upright else 0)
        axes.set_yticks(np.arange(0, num, step) + 0.5, shown)
        axes.set_xlabel("predicted class", labelpad=6)
        axes.set_ylabel("true class")
        axes.yaxis.set_label_coords((9 - left) / side, 0.5)
        write_keys(axes, {"event": "correct", "image": "wrong"}, (0, 0), (0, -12))
        _clear(axes)

    return Drawing(about, draw, (WIDTH, height))


def _draw_cells(axes: Axes, shares: NDArray[np.float64], cell: float) -> None:
    """Draw all cells of one shade as one path of wide strokes, which keeps the file small with many classes."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    levels = np.ceil(shares * _LEVELS).astype(int)
    gap = min(0.7, 0.1 * cell)
    for color, mask in (("event", np.eye(len(shares), dtype=bool)), ("image", ~np.eye(len(shares), dtype=bool))):
        for level in range(1, _LEVELS + 1):
            rows, columns = np.nonzero(mask & (levels == level))
            if len(rows):
                ends = np.stack([columns, rows + 0.5, columns + 1 - gap / cell, rows + 0.5], axis=1).reshape(-1, 2)
                path = Path(ends, np.tile([Path.MOVETO, Path.LINETO], len(rows)))
                # Even a single error is visible.
                shade = round(0.14 + 0.86 * level / _LEVELS, 2)
                look = {"linewidth": cell - gap, "capstyle": "butt", "fill": False, "alpha": shade}
                axes.add_patch(PathPatch(path, edgecolor=LIGHT[color], **look))


def scatter(
    about: About, clouds: Mapping[str, NDArray[np.float64]], titles: Sequence[str], keys: Mapping[str, str]
) -> Drawing:
    """Draw points, shape (N, 2), of each color; `keys` say what the colors mean."""

    def draw(figure: FigureBase) -> None:
        axes, _, _ = place_axes(figure)
        for color, cloud in clouds.items():
            axes.plot(*cloud.T, "o", color=LIGHT[color], alpha=0.5, markersize=4.6, clip_on=False)
        points = np.concatenate(list(clouds.values()))
        margin = 0.04 * np.ptp(points, axis=0) + 1e-9
        ends = zip(titles, points.min(axis=0) - margin, points.max(axis=0) + margin, strict=True)
        set_axes(axes, *(Axis(*end) for end in ends))
        write_keys(axes, keys, (1, 1), (-sum(text_width([text], 700) + TEXT for text in keys.values()) + TEXT, 9))

    return Drawing(about, draw)


def strip(about: About, frames: NDArray[np.float32], names: Sequence[str]) -> Drawing:
    """Draw the frames of one sample, shape (R, T, H, W, 3) in [0, 1]: a row for each of R names, a column per step."""
    sheet = strip_sheet(frames)
    left, right, top = 68.0, 2.0, 14.0
    height = top + (WIDTH - left - right) * sheet.shape[0] / sheet.shape[1] + 2

    def draw(figure: FigureBase) -> None:
        axes, _, _ = place_axes(figure, right, left, height, top, 2)
        num_rows, num_time_steps = frames.shape[:2]
        axes.imshow(sheet, interpolation="none", aspect="auto", extent=(0, num_time_steps, num_rows, 0))
        axes.xaxis.tick_top()
        axes.set_xticks(np.arange(num_time_steps) + 0.5, [str(t + 1) for t in range(num_time_steps)])
        axes.set_yticks(np.arange(num_rows) + 0.5, names)
        _clear(axes)

    return Drawing(about, draw, (WIDTH, height))


def strip_sheet(frames: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Lay frames, shape (R, T, H, W, 3), out in an RGBA grid, shape (height, width, 4), with transparent gaps.

    Values are clipped to [0, 1], NaN is 0. Frames are enlarged by an integer factor so that viewers do not blur them.
    """
    num_rows, num_time_steps, height, width, _ = frames.shape
    factor = max(1, -(-_LEAST_FRAME_PX // max(height, width)))
    pixels = np.round(np.clip(np.nan_to_num(frames), 0, 1) * 255).astype(np.uint8)
    large = pixels.repeat(factor, axis=2).repeat(factor, axis=3)
    padded = ((0, 0), (0, 0), (0, _GAP_PX), (0, _GAP_PX))
    colors = np.pad(large, (*padded, (0, 0)))
    alpha = np.pad(np.full(large.shape[:4], 255, np.uint8), padded)[..., None]
    sheet = np.concatenate([colors, alpha], axis=4).transpose(0, 2, 1, 3, 4)
    return sheet.reshape(num_rows * sheet.shape[1], num_time_steps * sheet.shape[3], 4)[:-_GAP_PX, :-_GAP_PX]
